import itertools

import msgspec
import polars as pl
import pytest

from lbconfig.site import Fallback, Limits, RealServer, ServiceKind, Vip
from scenarios.checkers.blackout import judge_blackout
from scenarios.checkers.drained import judge_drained
from scenarios.checkers.entries_kept import judge_entries_kept
from scenarios.checkers.hung import judge_hung
from scenarios.checkers.isolated import judge_isolated
from scenarios.checkers.reloaded import Reload, judge_reloaded
from scenarios.episodes import Episode, Role, ServerSample, Source
from scenarios.findings import Finding, failed, passed, unknown
from scenarios.knocks import Knock
from simulators.operations import Operation, Outcome, Phase
from tests.scenarios.conftest import SECOND, History, operation

VIP = Vip(
    name="HL7",
    service="hl7",
    address="127.0.110.101",
    port=6667,
    fallback=Fallback(address="127.0.110.10", port=9081),
    limits=Limits(down_s=10, new_s=5, sticky_s=6, established_s=12, operation_s=10, drained_s=5, refused_s=2),
    real_server=(RealServer(label="HL71", node="n1", port=6667, id=1), RealServer(label="HL72", node="n2", port=6667, id=2)),
)
BEGIN, FINISH, END, LAST = 100, 103, 110, 130  # seconds: the fault, the end of existing work, the fault's end, the traffic's
ESTABLISHED, STICKY, NEW = 1, 2, 3  # the last number of each source's address
Frames = dict[ServiceKind, pl.DataFrame]
KEYS = itertools.count(1)
NOTHING_LOST = passed("none lost", measured={"acknowledged": 5, "lost": 0})


def samples(label: str, *changes: tuple[float, str, int]) -> tuple[ServerSample, ...]:
    """Sample a server every half second until the traffic's end, given what changed when: (second, status, sessions)."""
    moments = sorted({at for at, _, _ in changes} | {half / 2 for half in range(2 * int(changes[0][0]) + 1, 2 * LAST)})
    told = [(at, [change for change in changes if change[0] <= at][-1]) for at in moments]
    return tuple(ServerSample(int(at * SECOND), "HL7", label, status, 100, sessions) for at, (_, status, sessions) in told)


UP = samples("HL72", (90, "UP", 2))


def episode(n1: tuple[ServerSample, ...], n2: tuple[ServerSample, ...] = UP, **changes: object) -> Episode:
    roles = {ESTABLISHED: Role.ESTABLISHED, STICKY: Role.STICKY, NEW: Role.NEW}
    plain = Episode(
        workload=1,
        fault="something",
        node="n1",
        started_ns=80 * SECOND,
        begun_ns=BEGIN * SECOND,
        ending_ns=END * SECOND,
        ended_ns=END * SECOND,
        observed_ns=LAST * SECOND,
        sources=tuple(Source(f"127.1.0.{last}", "HL7", role) for last, role in roles.items()),
        samples=n1 + n2,
        generator_lag_s=0.1,
        work_finished_ns=FINISH * SECOND,
    )
    return msgspec.structs.replace(plain, **changes)


def said(last: int, at_s: float, node: bytes, session: int, outcome: Outcome = Outcome.ACKNOWLEDGED) -> Operation:
    return operation(
        next(KEYS), source=f"127.1.0.{last}", begun_ns=int(at_s * SECOND), ended_ns=int((at_s + 0.1) * SECOND), node=node,
        session=session, outcome=outcome, phase=Phase.DONE if outcome is Outcome.ACKNOWLEDGED else Phase.RESPONSE,
    )  # fmt: skip


BEFORE = [said(ESTABLISHED, 95, b"n1", 11), said(STICKY, 95, b"n1", 12)]


# DRAIN-1

DRAINED = samples("HL71", (95, "UP", 2), (100.1, "DRAIN", 1), (104, "DRAIN", 0), (110.5, "UP", 0))
WORK = [said(ESTABLISHED, 101, b"n1", 11), said(ESTABLISHED, 102, b"n1", 11)]
GONE = [said(STICKY, 101, b"n2", 13), said(ESTABLISHED, 104, b"n2", 14), said(STICKY, 108, b"n2", 15)]


def test_a_drained_server_that_finishes_its_work_and_is_left_passes(history: History) -> None:
    finding = judge_drained(VIP, episode(DRAINED), history(*BEFORE, *WORK, *GONE), NOTHING_LOST)
    assert (finding.verdict, finding.measured["last_new_connection_s"]) == ("pass", None)
    assert (finding.measured["work_operations"], finding.measured["sticky_sources"]) == (2, 1)


def test_a_sticky_source_may_come_again_within_the_window_and_not_after_it(history: History) -> None:
    early, late = said(STICKY, 104, b"n1", 16), said(STICKY, 106, b"n1", 16)
    assert judge_drained(VIP, episode(DRAINED), history(*BEFORE, *WORK, early, *GONE), NOTHING_LOST).verdict == "pass"
    finding = judge_drained(VIP, episode(DRAINED), history(*BEFORE, *WORK, late), NOTHING_LOST)
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert "1 sources still came to HL71 with new connections, the last of them 6.0 s after" in finding.reason
    assert "in the site file clear_entries_on_drain = true" in finding.reason
    clears = msgspec.structs.replace(VIP, clear_entries_on_drain=True)
    pinned = judge_drained(clears, episode(DRAINED), history(*BEFORE, *WORK, late), NOTHING_LOST)
    assert "something else leads them there" in pinned.reason


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ([said(ESTABLISHED, 102.5, b"n1", 19)], "1 of 1 open sessions on HL71 did not finish"),
        ([said(ESTABLISHED, 102.5, b"", 11, Outcome.INDETERMINATE)], "1 of 1 open sessions on HL71 did not finish"),
        ([said(NEW, 101, b"n1", 20)], "1 sources that nobody had seen before"),
        ([said(STICKY, 105, b"", 0, Outcome.REFUSED)], "1 operations failed"),
    ],
)
def test_work_that_is_cut_a_new_source_or_a_failure_fails(history: History, wrong: list[Operation], reason: str) -> None:
    finding = judge_drained(VIP, episode(DRAINED), history(*BEFORE, *WORK, *wrong, *GONE), NOTHING_LOST)
    assert (finding.verdict, reason in finding.reason) == ("fail", True), finding.reason


def test_sessions_that_stay_on_a_drained_server_and_a_loss_fail(history: History) -> None:
    operations = history(*BEFORE, *WORK, *GONE)
    stays = samples("HL71", (95, "UP", 2), (100.1, "DRAIN", 1), (110.5, "UP", 0))
    assert "1 sessions were still on HL71" in judge_drained(VIP, episode(stays), operations, NOTHING_LOST).reason
    assert judge_drained(VIP, episode(DRAINED), operations, failed("node", "1 lost")).subject == "node"


def test_a_drain_that_was_not_seen_met_nobody_or_was_too_short_is_unknown(history: History) -> None:
    operations = history(*BEFORE, *WORK, *GONE)
    not_drained = episode(samples("HL71", (95, "UP", 1)))
    short = episode(DRAINED, ending_ns=104 * SECOND)
    for seen, said_then, loss in (
        (not_drained, operations, NOTHING_LOST),
        (short, operations, NOTHING_LOST),
        (episode(DRAINED, generator_lag_s=9.0), operations, NOTHING_LOST),
        (episode(DRAINED), operations, unknown("too few")),
        (episode(()), operations, NOTHING_LOST),
    ):
        assert judge_drained(VIP, seen, said_then, loss).verdict == "unknown"
    assert judge_drained(VIP, episode(DRAINED), history(), NOTHING_LOST).verdict == "unknown"


def test_a_cut_session_on_a_starved_machine_is_unknown_and_a_source_that_came_again_is_not(history: History) -> None:
    busy = episode(DRAINED, generator_lag_s=0.6)  # more than a quarter of the health check's two seconds
    crowded = episode(DRAINED, runnable_per_core=40.0)
    cut = history(*BEFORE, *WORK, said(ESTABLISHED, 102.5, b"n1", 19), *GONE)
    assert judge_drained(VIP, busy, cut, NOTHING_LOST).verdict == "unknown"
    assert "40 processes wanted each core" in judge_drained(VIP, crowded, cut, NOTHING_LOST).reason
    again = history(*BEFORE, *WORK, said(STICKY, 106, b"n1", 16))
    assert judge_drained(VIP, busy, again, NOTHING_LOST).verdict == "fail"


# FAILOVER-5

DARK = samples("HL71", (90, "UP", 1), (103, "DOWN", 0), (114, "UP", 1))
DARK_TOO = samples("HL72", (90, "UP", 1), (104, "DOWN", 0), (115, "UP", 1))
BACK = [said(ESTABLISHED, 114.5, b"n1", 21), said(STICKY, 115, b"n1", 22)]


def knocks(*answers: str, took_s: float = 0.1) -> list[Knock]:
    return [
        Knock("HL7", int(at * SECOND), int((at + took_s) * SECOND), answer)  # type: ignore[arg-type]
        for at, answer in zip((101, 105, 106, 107, 108), answers, strict=False)
    ]


CLOSED = knocks("closed", "closed", "refused", "closed", "closed")


def blackout(history: History, *said_then: Operation, knocked: list[Knock] = CLOSED, **changes: object) -> Finding:
    return judge_blackout(VIP, episode(DARK, DARK_TOO, node="", **changes), knocked, history(*BEFORE, *said_then))


def test_clients_that_are_refused_at_once_and_served_again_pass(history: History) -> None:
    finding = blackout(history, *BACK)
    assert (finding.verdict, finding.measured["knocks"], finding.measured["served_after_up_s"]) == ("pass", 4, 1.1)


def test_an_answer_in_http_fails_where_no_http_is_spoken(history: History) -> None:
    page = knocks("closed", "http", "http", "closed", "closed")
    finding = blackout(history, *BACK, knocked=page)
    assert (finding.verdict, finding.subject, finding.measured["answers_in_http"]) == ("fail", "balancer", 2)
    assert "2 of 5 clients" in finding.reason
    assert "127.0.110.10:9081 is a web page" in finding.reason
    web = msgspec.structs.replace(VIP, service="https")
    assert judge_blackout(web, episode(DARK, DARK_TOO, node=""), page, history(*BEFORE, *BACK)).verdict == "pass"


def test_a_slow_refusal_another_answer_or_a_late_return_fails(history: History) -> None:
    assert "only after 3.0 s" in blackout(history, *BACK, knocked=knocks(*["silence"] * 5, took_s=3)).reason
    assert "something unknown" in blackout(history, *BACK, knocked=knocks("other", *["closed"] * 4)).reason
    assert "1 of 2 sources were not served again" in blackout(history, BACK[0]).reason
    assert "only 6.1 s after" in blackout(history, BACK[0], said(STICKY, 120, b"n1", 22)).reason


def test_a_late_return_on_a_starved_machine_is_unknown_and_an_answer_in_http_is_not(history: History) -> None:
    assert blackout(history, BACK[0], generator_lag_s=0.6).verdict == "unknown"
    assert blackout(history, *BACK, knocked=knocks(*["http"] * 5), generator_lag_s=0.6).verdict == "fail"


def test_sessions_that_stay_on_the_fallback_fail(history: History) -> None:
    left = tuple(msgspec.structs.replace(sample, label="backup") for sample in samples("HL71", (105, "no", 1)))
    finding = judge_blackout(VIP, episode(DARK + left, DARK_TOO, node=""), CLOSED, history(*BEFORE, *BACK))
    assert (finding.verdict, "1 sessions stayed on the fallback" in finding.reason) == ("fail", True)


def test_a_blackout_that_was_not_whole_or_met_nobody_is_unknown(history: History) -> None:
    one_up = judge_blackout(VIP, episode(DARK, UP, node=""), CLOSED, history(*BEFORE, *BACK))
    assert (one_up.verdict, one_up.reason) == ("unknown", "not every real server was seen DOWN")
    assert blackout(history, said(STICKY, 106, b"n2", 30), *BACK).verdict == "unknown"
    assert blackout(history, *BACK, knocked=CLOSED[:2]).verdict == "unknown"
    assert judge_blackout(VIP, episode((), (), node="", sources=()), [], history()).verdict == "unknown"


# FAILOVER-3

FAILED = samples("HL71", (90, "UP", 2), (103, "DOWN", 0), (114, "UP", 0))
CALM = samples("HL71", (90, "UP", 2))
MOVED = [said(ESTABLISHED, 104, b"n2", 31), said(STICKY, 102, b"n2", 32)]
STAYED = [said(ESTABLISHED, 104, b"n1", 11), said(STICKY, 105, b"n1", 33)]


def isolated(history: History, own: list[Operation], other: list[Operation], n1: tuple[ServerSample, ...] = CALM) -> Finding:
    episodes: dict[ServiceKind, Episode] = {"hl7": episode(FAILED), "dicom": episode(n1)}
    frames: Frames = {"hl7": history(*BEFORE, *own), "dicom": history(*BEFORE, *other)}
    return judge_isolated(VIP, episodes, frames)


def test_a_vip_that_moves_for_its_own_service_and_stays_for_another_passes(history: History) -> None:
    finding = isolated(history, MOVED, STAYED)
    assert (finding.verdict, finding.measured["sources_moved"]) == ("pass", 2)
    assert finding.measured["sources_on_the_node_while_another_failed"] == {"dicom": 2}


def test_a_vip_that_moves_for_another_service_fails(history: History) -> None:
    finding = isolated(history, MOVED, [STAYED[0], said(STICKY, 105, b"n2", 33)])
    assert (finding.verdict, finding.reason) == ("fail", "1 sources of HL7 changed their node when only dicom failed")
    down = isolated(history, MOVED, STAYED, FAILED)
    assert down.reason == "HL71 was UP then DOWN then UP when only dicom failed on n1"
    assert "1 open sessions of HL7 were cut" in isolated(history, MOVED, [said(ESTABLISHED, 104, b"n1", 40)]).reason
    refused = said(STICKY, 105, b"", 0, Outcome.REFUSED)
    assert "1 operations of HL7 failed" in isolated(history, MOVED, [*STAYED, refused]).reason


def test_a_vip_whose_sources_do_not_move_with_their_own_service_fails(history: History) -> None:
    finding = isolated(history, MOVED[:1], STAYED)
    assert (finding.verdict, finding.reason) == ("fail", "1 of 2 sources of HL71 were never served elsewhere")


def test_a_disturbance_on_a_starved_machine_is_unknown(history: History) -> None:
    episodes: dict[ServiceKind, Episode] = {"hl7": episode(FAILED), "dicom": episode(FAILED, generator_lag_s=0.6)}
    frames: Frames = {"hl7": history(*BEFORE, *MOVED), "dicom": history(*BEFORE, *STAYED)}
    finding = judge_isolated(VIP, episodes, frames)
    assert (finding.verdict, "the machine was too busy" in finding.reason) == ("unknown", True)


def test_failures_that_met_nobody_or_were_not_played_are_unknown(history: History) -> None:
    assert judge_isolated(VIP, {}, {}).verdict == "unknown"
    empty: Frames = {"hl7": history(), "dicom": history()}
    assert judge_isolated(VIP, {"hl7": episode(FAILED), "dicom": episode(CALM)}, empty).verdict == "unknown"
    own_calm: Frames = {"hl7": history(*BEFORE, *MOVED), "dicom": history(*BEFORE, *STAYED)}
    assert judge_isolated(VIP, {"hl7": episode(CALM), "dicom": episode(CALM)}, own_calm).verdict == "unknown"


# RELOAD-1

KEEPS = [*BEFORE, said(ESTABLISHED, 101, b"n1", 11), said(STICKY, 101, b"n1", 41), said(ESTABLISHED, 112, b"n1", 11)]
STILL_DRAINED = samples("HL71", (95, "UP", 2), (99, "DRAIN", 1), (110, "UP", 1))
STILL_HALTED = samples("HL71", (95, "UP", 2), (99, "MAINT", 0), (110, "UP", 1))


def reloaded(
    history: History,
    plain: list[Operation],
    drained: tuple[ServerSample, ...] = STILL_DRAINED,
    halted: tuple[ServerSample, ...] = STILL_HALTED,
    loss: Finding = NOTHING_LOST,
) -> Finding:
    reloads = [Reload(episode(CALM), history(*plain)), Reload(episode(drained), history(*KEEPS))]
    return judge_reloaded(VIP, reloads[0], reloads[1], Reload(episode(halted), history(*BEFORE)), loss)


def test_a_reload_that_nobody_notices_passes(history: History) -> None:
    finding = reloaded(history, KEEPS)
    assert (finding.verdict, finding.measured["established_sources"]) == ("pass", 2)


def test_a_connection_that_a_reload_cuts_fails(history: History) -> None:
    cut = reloaded(history, [*KEEPS, said(ESTABLISHED, 113, b"n1", 50)])
    assert (cut.verdict, cut.reason) == ("fail", "1 of 2 open sessions did not live through it")
    refused = reloaded(history, [*KEEPS, said(STICKY, 102, b"", 0, Outcome.REFUSED)])
    assert (refused.verdict, "1 of 11 operations failed" in refused.reason) == ("fail", True)


def test_a_drained_or_halted_server_that_is_up_after_the_reload_fails(history: History) -> None:
    up = samples("HL71", (95, "UP", 2), (99, "DRAIN", 1), (100, "UP", 1))
    finding = reloaded(history, KEEPS, drained=up)
    assert (finding.verdict, "HL71 was drained before and UP after the reload" in finding.reason) == ("fail", True)
    assert "keep_server_states" in finding.reason
    assert "halted before and UP after" in reloaded(history, KEEPS, halted=up).reason
    assert reloaded(history, KEEPS, loss=failed("node", "1 lost")).subject == "node"


def test_a_cut_connection_on_a_starved_machine_is_unknown_and_a_lost_state_is_not(history: History) -> None:
    cut = Reload(episode(CALM, generator_lag_s=0.6), history(*KEEPS, said(ESTABLISHED, 113, b"n1", 50)))
    drained, halted = Reload(episode(STILL_DRAINED), history(*KEEPS)), Reload(episode(STILL_HALTED), history(*BEFORE))
    assert judge_reloaded(VIP, cut, drained, halted, NOTHING_LOST).verdict == "unknown"
    assert judge_reloaded(VIP, cut, drained, Reload(episode(CALM), history(*BEFORE)), NOTHING_LOST).verdict == "fail"


def test_a_source_that_strays_for_a_moment_is_told_and_is_no_lost_connection(history: History) -> None:
    finding = reloaded(history, [*KEEPS, said(STICKY, 101.5, b"n2", 42)])
    assert (finding.verdict, finding.measured["sources_that_changed_node"]) == ("pass", 1)
    assert "1 sources met another node" in finding.reason


def test_a_reload_that_nobody_met_or_watched_is_unknown(history: History) -> None:
    nobody = episode(STILL_DRAINED, sources=())
    empty = Reload(nobody, history())
    assert judge_reloaded(VIP, empty, empty, Reload(episode(STILL_HALTED), history()), NOTHING_LOST).verdict == "unknown"
    assert reloaded(history, KEEPS, drained=()).verdict == "unknown"
    assert reloaded(history, KEEPS, loss=unknown("too few")).verdict == "unknown"


# PERSIST-3

SOURCES = {f"127.1.0.{last}": "n1" if last % 2 else "n2" for last in range(1, 21)}


def met(at_s: float, nodes: dict[str, str]) -> list[Operation]:
    return [said(int(source.rpartition(".")[2]), at_s, node.encode(), 0) for source, node in nodes.items()]


def kept(history: History, again: dict[str, str], after: dict[str, str]) -> Finding:
    operations = history(*met(95, SOURCES), *met(105, again))
    return judge_entries_kept(operations, SOURCES, after, BEGIN * SECOND, sources_at_least=20)


def test_entries_that_survive_a_reload_pass(history: History) -> None:
    finding = kept(history, SOURCES, SOURCES)
    assert (finding.verdict, finding.measured["sources"], finding.measured["chance_by_luck"]) == ("pass", 20, 2.0**-20)


def test_an_entry_that_is_gone_or_a_source_that_moved_fails(history: History) -> None:
    assert "of 20 entries 20 were gone" in kept(history, SOURCES, {}).reason
    moved = SOURCES | {"127.1.0.1": "n2"}
    assert (kept(history, moved, SOURCES).verdict, kept(history, SOURCES, moved).verdict) == ("fail", "fail")
    assert "1 of 20 sources met another node" in kept(history, moved, SOURCES).reason


def test_too_few_sources_or_one_node_alone_are_unknown(history: History) -> None:
    assert judge_entries_kept(history(), {}, {}, 0, sources_at_least=20).verdict == "unknown"
    few = dict(list(SOURCES.items())[:19])
    assert kept(history, few, SOURCES).verdict == "unknown"
    alone = dict.fromkeys(SOURCES, "n1")
    operations = history(*met(95, alone), *met(105, alone))
    assert judge_entries_kept(operations, alone, alone, BEGIN * SECOND, sources_at_least=20).verdict == "unknown"


# HEALTH-2

QUEUES = {"n1": (9, 128), "n2": (0, 128)}
HUNG = episode(CALM, ending_ns=111 * SECOND)
TAKEN_OUT = episode(samples("HL71", (90, "UP", 2), (104, "DOWN", 0)))


def test_a_hung_server_that_is_taken_out_passes_and_connecting_is_called_no_guarantee() -> None:
    finding = judge_hung(VIP, TAKEN_OUT, TAKEN_OUT, QUEUES)
    assert (finding.verdict, finding.measured["down_idle_s"], finding.measured["down_under_traffic_s"]) == ("pass", 4.0, 4.0)
    assert "this is not guaranteed" in finding.reason


def test_a_hung_server_that_stays_up_fails_with_the_backlog_of_each_node() -> None:
    finding = judge_hung(VIP, HUNG, TAKEN_OUT, QUEUES)
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert "HL71 hung and idle it was called UP for 11.0 s." in finding.reason
    assert "n1 has room for 128, 9 waited; n2 has room for 128, 0 waited" in finding.reason
    assert "the backlog of each node is not known here" in judge_hung(VIP, TAKEN_OUT, HUNG, None).reason


def test_a_hung_server_that_is_taken_out_too_late_fails() -> None:
    late = episode(samples("HL71", (90, "UP", 2), (110.5, "DOWN", 0)), ending_ns=111 * SECOND)
    assert "idle it was DOWN only after 10.5 s" in judge_hung(VIP, late, TAKEN_OUT, QUEUES).reason
    starved = msgspec.structs.replace(late, generator_lag_s=0.6)
    assert judge_hung(VIP, starved, TAKEN_OUT, QUEUES).verdict == "unknown"
    assert judge_hung(VIP, starved, HUNG, QUEUES).verdict == "fail"


def test_a_hang_that_was_not_watched_or_too_short_is_unknown() -> None:
    assert judge_hung(VIP, episode((), ()), TAKEN_OUT, QUEUES).verdict == "unknown"
    assert judge_hung(VIP, episode(CALM, ending_ns=105 * SECOND), TAKEN_OUT, QUEUES).verdict == "unknown"
    slow = msgspec.structs.replace(TAKEN_OUT, generator_lag_s=9.0)
    assert judge_hung(VIP, slow, TAKEN_OUT, QUEUES).verdict == "unknown"
