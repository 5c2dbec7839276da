"""DRAIN-1, RELOAD-1, PERSIST-3, HEALTH-2, FAILOVER-3 and FAILOVER-5: what operators do, and what else can fail."""

import pytest

from lbconfig.site import Vip
from scenarios.checkers.blackout import judge_blackout
from scenarios.checkers.drained import judge_drained
from scenarios.checkers.entries_kept import judge_entries_kept
from scenarios.checkers.hung import judge_hung
from scenarios.checkers.isolated import judge_isolated
from scenarios.checkers.reloaded import Reload, judge_reloaded
from scenarios.episodes import Episode
from scenarios.maintenance import RELOAD_SOURCES, Blackout, Hang, Reloads, Remembered, ServiceFailures, nothing_lost
from scenarios.run import Run
from scenarios.suite.session import Judge


@pytest.mark.check("PERSIST-3")
def test_entries_survive_a_reload(run: Run, around_reload: tuple[int, dict[str, Remembered]], vip: Vip, judge: Judge) -> None:
    """Let sources connect, reload the balancer, let them connect again in random order."""
    workload, tables = around_reload
    table = tables[vip.name]
    operations = run.operations(vip.service, [workload])
    judge(
        judge_entries_kept(operations, table.before, table.after, table.reloaded_ns, sources_at_least=RELOAD_SOURCES)
    )  # fmt: skip


@pytest.mark.check("HEALTH-2")
def test_a_process_that_accepts_and_never_answers_is_taken_out(node_hung: Hang, vip: Vip, judge: Judge) -> None:
    """Stop a node's processes where they stand, idle and under traffic, and wait for DOWN."""
    judge(judge_hung(vip, node_hung.idle, node_hung.busy, node_hung.queues.get(vip.service)))


@pytest.mark.check("FAILOVER-3")
def test_only_the_vip_of_the_failed_service_moves(
    run: Run, service_failures: ServiceFailures, vip: Vip, judge: Judge
) -> None:
    """Stop one service of a node after the other, under traffic on all VIPs."""
    episodes = service_failures.by_service
    operations = {service: run.operations(vip.service, [episode.workload]) for service, episode in episodes.items()}
    judge(judge_isolated(vip, episodes, operations))


@pytest.mark.check("FAILOVER-5")
def test_without_a_real_server_clients_are_refused_at_once_and_served_again(
    run: Run, blackout: Blackout, vip: Vip, judge: Judge
) -> None:
    """Stop every real server, knock at the VIP, start them again, and wait until everybody is served."""
    operations = run.operations(vip.service, [blackout.episode.workload])
    judge(judge_blackout(vip, blackout.episode, blackout.knocks, operations))


@pytest.mark.check("DRAIN-1")
def test_a_drained_server_finishes_its_work_and_sticky_sources_leave(
    run: Run, node_drained: Episode, vip: Vip, judge: Judge
) -> None:
    """Drain a node's real servers as the site does it: open sessions go on to their end, sticky sources go elsewhere."""
    operations = run.operations(vip.service, [node_drained.workload])
    judge(judge_drained(vip, node_drained, operations, nothing_lost(run, vip, [node_drained])))


@pytest.mark.check("RELOAD-1")
def test_a_reload_loses_no_connection_and_keeps_drained_and_halted_servers(
    run: Run, reloads: Reloads, vip: Vip, judge: Judge
) -> None:
    """Reload the balancer while everybody is busy: in plain service, with a node drained, with a node halted."""
    plain, drained, halted = (
        Reload(episode, run.operations(vip.service, [episode.workload])) for episode in reloads.episodes
    )  # fmt: skip
    judge(judge_reloaded(vip, plain, drained, halted, nothing_lost(run, vip, reloads.episodes)))
