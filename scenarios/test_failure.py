"""HEALTH-1, FAILOVER-1, -2, -4 and HALT-1: a service stops, a node dies, vanishes, returns, an operator halts a node."""

import pytest

from lbconfig.site import Vip
from scenarios.checkers.failback import judge_failback
from scenarios.checkers.halted import judge_halted
from scenarios.checkers.health import judge_health
from scenarios.checkers.recovery import judge_recovery
from scenarios.episodes import Episode
from scenarios.maintenance import nothing_lost
from scenarios.run import Run
from scenarios.suite.session import Judge


@pytest.mark.check("HEALTH-1")
def test_a_stopped_service_is_down_in_time_and_up_again(services_stopped: Episode, vip: Vip, judge: Judge) -> None:
    """Stop every service of a node, wait for DOWN, start them again, wait for UP."""
    judge(judge_health(vip, services_stopped))


@pytest.mark.check("FAILOVER-1")
def test_sessions_recover_when_a_node_dies(run: Run, node_died: Episode, vip: Vip, judge: Judge) -> None:
    """Let a node die under new, sticky and established sessions on all VIPs, and time how long each went unanswered."""
    operations = run.operations(vip.service, [node_died.workload])
    judge(judge_recovery(vip, run.site.balancer, node_died, operations))


@pytest.mark.check("FAILOVER-2")
def test_sessions_recover_when_a_node_vanishes(run: Run, node_vanished: Episode, vip: Vip, judge: Judge) -> None:
    """Let a node vanish from the network under new, sticky and established sessions on all VIPs."""
    operations = run.operations(vip.service, [node_vanished.workload])
    judge(judge_recovery(vip, run.site.balancer, node_vanished, operations, silent=True))


@pytest.mark.check("FAILOVER-4")
def test_nobody_is_forced_back_when_the_node_returns(run: Run, node_died: Episode, vip: Vip, judge: Judge) -> None:
    """Revive the node and watch where those go who had left it."""
    operations = run.operations(vip.service, [node_died.workload])
    judge(judge_failback(vip, node_died, operations, observed_at_least_s=3))


@pytest.mark.check("HALT-1")
def test_a_halted_node_keeps_no_session_and_loses_nothing(run: Run, node_halted: Episode, vip: Vip, judge: Judge) -> None:
    """Halt a node's real servers under traffic: no session remains, the other node carries on."""
    operations = run.operations(vip.service, [node_halted.workload])
    judge(judge_halted(vip, node_halted, operations, nothing_lost(run, vip, [node_halted])))
