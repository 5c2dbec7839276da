import msgspec

from lbconfig.site import Balancer, Limits, RealServer, Vip
from scenarios.checkers.failback import judge_failback
from scenarios.checkers.halted import judge_halted
from scenarios.checkers.health import judge_health
from scenarios.checkers.recovery import judge_recovery
from scenarios.episodes import Episode, Role, ServerSample, Source
from scenarios.findings import failed, passed
from simulators.operations import Operation, Outcome
from tests.scenarios.conftest import SECOND, History, operation

VIP = Vip(
    name="HL7",
    service="hl7",
    address="127.0.110.101",
    port=6667,
    limits=Limits(down_s=10, new_s=5, sticky_s=6, established_s=12, operation_s=10, halted_s=5),
    real_server=(RealServer(label="HL71", node="n1", port=6667, id=1), RealServer(label="HL72", node="n2", port=6667, id=2)),
)
BALANCER = Balancer(address="127.0.110.10")
FAULT, END, LAST = 100, 110, 130  # seconds


def samples(label: str, *changes: tuple[float, str, int]) -> tuple[ServerSample, ...]:
    """Sample a server every second until the traffic's end, given what changed when: (second, status, sessions)."""
    moments = sorted({at for at, _, _ in changes} | set(range(int(changes[0][0]) + 1, LAST)))
    told = [(at, [change for change in changes if change[0] <= at][-1]) for at in moments]
    return tuple(ServerSample(int(at * SECOND), "HL7", label, status, 100, sessions) for at, (_, status, sessions) in told)


N2_UP = samples("HL72", (90, "UP", 2), (130, "UP", 2))
N1_FAILS = samples("HL71", (90, "UP", 2), (104, "DOWN", 0), (115, "UP", 0), (129, "UP", 0))


def episode(n1: tuple[ServerSample, ...] = N1_FAILS, **changes: object) -> Episode:
    sources = (
        Source("127.1.0.1", "HL7", Role.ESTABLISHED),
        Source("127.1.0.2", "HL7", Role.STICKY),
        Source("127.1.0.3", "HL7", Role.NEW),
    )
    plain = Episode(
        workload=1,
        fault="node died",
        node="n1",
        started_ns=80 * SECOND,
        begun_ns=FAULT * SECOND,
        ending_ns=END * SECOND,
        ended_ns=END * SECOND,
        observed_ns=LAST * SECOND,
        sources=sources,
        samples=n1 + N2_UP,
        generator_lag_s=0.1,
    )
    return msgspec.structs.replace(plain, **changes)


def said(
    key: int, last: int, begun_s: float, ended_s: float, node: bytes, outcome: Outcome = Outcome.ACKNOWLEDGED
) -> Operation:
    return operation(
        key,
        source=f"127.1.0.{last}",
        begun_ns=int(begun_s * SECOND),
        ended_ns=int(ended_s * SECOND),
        node=node,
        outcome=outcome,
    )


BEFORE = [said(1, 1, 95, 95.1, b"n1"), said(2, 2, 95, 95.1, b"n1")]
CUT = [said(3, 1, 99.9, 104, b"n1", Outcome.INDETERMINATE)]
AFTER = [said(3, 1, 104.2, 104.3, b"n2"), said(4, 2, 100.1, 102.2, b"n2"), said(5, 3, 101, 101.1, b"n2")]
LATER = [said(6, 1, 120, 120.1, b"n2"), said(7, 2, 121, 121.1, b"n2")]


def test_a_server_that_goes_down_and_up_in_time_passes() -> None:
    finding = judge_health(VIP, episode())
    assert (finding.verdict, finding.measured["down_s"], finding.measured["up_s"]) == ("pass", 4.0, 5.0)


def test_a_server_that_is_down_too_late_or_never_fails() -> None:
    late = samples("HL71", (90, "UP", 0), (111, "DOWN", 0), (115, "UP", 0))
    assert judge_health(VIP, episode(late)).verdict == "fail"
    assert "never marked DOWN" in judge_health(VIP, episode(samples("HL71", (90, "UP", 0), (129, "UP", 0)))).reason


def test_a_server_that_stays_down_comes_late_or_flaps_fails() -> None:
    assert judge_health(VIP, episode(samples("HL71", (90, "UP", 0), (104, "DOWN", 0)))).verdict == "fail"
    late = samples("HL71", (90, "UP", 0), (104, "DOWN", 0), (119, "UP", 0))
    assert judge_health(VIP, episode(late)).verdict == "fail"
    flapping = samples("HL71", (90, "UP", 0), (104, "DOWN", 0), (111, "UP", 0), (112, "DOWN", 0), (114, "UP", 0))
    assert "flapped" in judge_health(VIP, episode(flapping)).reason


def test_another_server_that_goes_down_too_fails() -> None:
    both = N1_FAILS + samples("HL72", (90, "UP", 0), (105, "DOWN", 0), (116, "UP", 0))
    assert judge_health(VIP, episode(samples=both)).verdict == "fail"


def test_a_server_that_went_down_on_a_starved_machine_is_unknown_and_one_that_never_did_is_not() -> None:
    both = N1_FAILS + samples("HL72", (90, "UP", 0), (105, "DOWN", 0), (116, "UP", 0))
    assert judge_health(VIP, episode(samples=both, runnable_per_core=40.0)).verdict == "unknown"
    never = samples("HL71", (90, "UP", 0), (129, "UP", 0))
    assert judge_health(VIP, episode(never, runnable_per_core=40.0)).verdict == "fail"


def test_a_watch_that_was_blind_for_seconds_is_unknown() -> None:
    blind = tuple(sample for sample in N1_FAILS if not 106 < sample.at_ns / SECOND < 111)
    assert judge_health(VIP, episode(blind)).verdict == "unknown"


def test_health_is_unknown_without_samples_or_with_a_late_generator() -> None:
    assert judge_health(VIP, episode(samples=())).verdict == "unknown"
    assert judge_health(VIP, episode(generator_lag_s=9.0)).verdict == "unknown"


def test_sources_that_recover_in_time_pass(history: History) -> None:
    finding = judge_recovery(VIP, BALANCER, episode(), history(*BEFORE, *CUT, *AFTER))
    assert finding.verdict == "pass"
    assert (finding.measured["new_s"], finding.measured["sticky_s"], finding.measured["established_s"]) == (0.1, 2.2, 4.3)


def test_an_established_source_that_never_recovers_fails(history: History) -> None:
    finding = judge_recovery(VIP, BALANCER, episode(), history(*BEFORE, *AFTER[1:]))
    assert (finding.verdict, "1 of 1 established sources never recovered" in finding.reason) == ("fail", True)


def test_a_sticky_source_that_recovers_too_late_fails(history: History) -> None:
    late = said(4, 2, 100.1, 106.5, b"n2")
    finding = judge_recovery(VIP, BALANCER, episode(), history(*BEFORE, AFTER[0], late, AFTER[2]))
    assert (finding.verdict, "sticky sources took 6.5 s" in finding.reason) == ("fail", True)


def test_a_late_recovery_on_a_starved_machine_is_unknown_and_none_at_all_is_not(history: History) -> None:
    crowded = episode(runnable_per_core=40.0)
    late = said(4, 2, 100.1, 106.5, b"n2")
    assert judge_recovery(VIP, BALANCER, crowded, history(*BEFORE, AFTER[0], late, AFTER[2])).verdict == "unknown"
    assert judge_recovery(VIP, BALANCER, crowded, history(*BEFORE, *AFTER[1:])).verdict == "fail"


def test_a_new_source_that_is_never_served_fails(history: History) -> None:
    refused = said(5, 3, 101, 101.1, b"", Outcome.REFUSED)
    assert judge_recovery(VIP, BALANCER, episode(), history(*BEFORE, *AFTER[:2], refused)).verdict == "fail"


def test_a_source_that_fails_again_after_it_recovered_fails(history: History) -> None:
    relapse = said(9, 2, 105, 105.1, b"", Outcome.REFUSED)
    finding = judge_recovery(VIP, BALANCER, episode(), history(*BEFORE, *AFTER, relapse))
    assert (finding.verdict, finding.measured["failures_after_recovery"]) == ("fail", 1)


def test_an_answer_without_a_name_is_no_recovery(history: History) -> None:
    unnamed = [said(3, 1, 104.2, 104.3, b""), said(4, 2, 100.1, 102.2, b""), AFTER[2]]
    assert judge_recovery(VIP, BALANCER, episode(), history(*BEFORE, *unnamed)).verdict == "fail"


def test_a_fault_without_effect_is_unknown(history: History) -> None:
    victim_answers = said(9, 2, 103, 103.1, b"n1")
    assert judge_recovery(VIP, BALANCER, episode(), history(*BEFORE, *AFTER, victim_answers)).verdict == "unknown"
    never_down = episode(samples("HL71", (90, "UP", 2)))
    assert judge_recovery(VIP, BALANCER, never_down, history(*BEFORE, *AFTER)).verdict == "unknown"


def test_recovery_is_unknown_when_nobody_was_on_the_victim_or_nothing_happened(history: History) -> None:
    elsewhere = [said(1, 1, 95, 95.1, b"n2"), said(2, 2, 95, 95.1, b"n2")]
    assert judge_recovery(VIP, BALANCER, episode(), history(*elsewhere, *AFTER)).verdict == "unknown"
    assert judge_recovery(VIP, BALANCER, episode(), history()).verdict == "unknown"
    assert judge_recovery(VIP, BALANCER, episode(generator_lag_s=9.0), history(*BEFORE, *AFTER)).verdict == "unknown"


def test_sessions_that_hang_at_a_node_that_vanished_fail_though_everybody_recovered(history: History) -> None:
    operations = history(*BEFORE, *AFTER)
    assert judge_recovery(VIP, BALANCER, episode(), operations, silent=True).verdict == "pass"
    hanging = samples("HL71", (90, "UP", 2), (104, "DOWN", 3), (109, "DOWN", 1))
    finding = judge_recovery(VIP, BALANCER, episode(hanging), operations, silent=True)
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert "3 sessions hung at n1 for 5 s after it was marked DOWN" in finding.reason
    assert judge_recovery(VIP, BALANCER, episode(hanging), operations).verdict == "pass"


def test_a_silent_node_is_predicted_to_cost_connect_timeouts(history: History) -> None:
    predicted = judge_recovery(VIP, BALANCER, episode(), history(), silent=True).predicted
    assert predicted["sticky_s_at_most"] == BALANCER.retries * BALANCER.connect_timeout_s


def test_sources_that_stay_where_they_moved_pass(history: History) -> None:
    finding = judge_failback(VIP, episode(), history(*BEFORE, *AFTER, *LATER), observed_at_least_s=3)
    assert (finding.verdict, finding.measured["sources_moved"]) == ("pass", 2)


def test_a_source_that_is_forced_back_fails(history: History) -> None:
    back = said(8, 2, 122, 122.1, b"n1")
    finding = judge_failback(VIP, episode(), history(*BEFORE, *AFTER, *LATER, back), observed_at_least_s=3)
    assert (finding.verdict, finding.measured["sources_forced_back"]) == ("fail", 1)


def test_one_moved_source_that_is_not_heard_again_leaves_it_unknown(history: History) -> None:
    finding = judge_failback(VIP, episode(), history(*BEFORE, *AFTER, LATER[0]), observed_at_least_s=3)
    assert (finding.verdict, finding.measured["moved_sources_heard_after_up"]) == ("unknown", 1)


def test_failback_is_unknown_when_nobody_moved_or_the_node_did_not_return(history: History) -> None:
    assert judge_failback(VIP, episode(), history(), observed_at_least_s=3).verdict == "unknown"
    gone = samples("HL71", (90, "UP", 0), (104, "DOWN", 0))
    moved = history(*BEFORE, *AFTER, *LATER)
    assert judge_failback(VIP, episode(gone), moved, observed_at_least_s=3).verdict == "unknown"


NOTHING_LOST = passed("none lost", measured={"acknowledged": 5, "lost": 0})
HALTED = samples("HL71", (95, "UP", 3), (100.1, "MAINT", 3), (100.5, "MAINT", 0), (109, "MAINT", 0), (111, "UP", 0))


def test_a_halted_server_without_sessions_passes(history: History) -> None:
    finding = judge_halted(VIP, episode(HALTED), history(*BEFORE, *AFTER), NOTHING_LOST)
    assert (finding.verdict, finding.measured["empty_after_s"]) == ("pass", 0.5)


def test_sessions_that_survive_the_halt_fail(history: History) -> None:
    kept = samples("HL71", (95, "UP", 3), (100.1, "MAINT", 3), (109, "MAINT", 2))
    finding = judge_halted(VIP, episode(kept), history(*BEFORE, *AFTER), NOTHING_LOST)
    assert (finding.verdict, finding.subject, "2 sessions were still" in finding.reason) == ("fail", "balancer", True)


def test_an_answer_of_the_halted_node_a_stuck_source_or_a_loss_fails(history: History) -> None:
    answered = said(9, 1, 106, 106.1, b"n1")
    assert judge_halted(VIP, episode(HALTED), history(*BEFORE, *AFTER, answered), NOTHING_LOST).verdict == "fail"
    assert judge_halted(VIP, episode(HALTED), history(*BEFORE, AFTER[0]), NOTHING_LOST).verdict == "fail"
    assert judge_halted(VIP, episode(HALTED), history(*BEFORE, *AFTER), failed("node", "1 lost")).verdict == "fail"


def test_an_old_operation_that_the_halted_node_answers_much_later_fails(history: History) -> None:
    late = said(9, 1, 99.5, 109, b"n1")
    assert judge_halted(VIP, episode(HALTED), history(*BEFORE, *AFTER, late), NOTHING_LOST).verdict == "fail"


def test_servers_that_go_online_one_after_the_other_do_not_blur_the_halt(history: History) -> None:
    """Let a server be put online, and answer, before the last of them is."""
    early = samples("HL71", (95, "UP", 3), (100.1, "MAINT", 3), (100.5, "MAINT", 0), (109.5, "UP", 1))
    answered = said(9, 1, 109.6, 109.7, b"n1")
    ending = episode(early, ending_ns=int(109.4 * SECOND))
    assert judge_halted(VIP, ending, history(*BEFORE, *AFTER, answered), NOTHING_LOST).verdict == "pass"


def test_a_halt_that_was_not_seen_or_met_no_session_is_unknown(history: History) -> None:
    operations = history(*BEFORE, *AFTER)
    assert (
        judge_halted(VIP, episode(samples("HL71", (95, "UP", 3), (105, "UP", 3))), operations, NOTHING_LOST).verdict
        == "unknown"
    )
    idle = samples("HL71", (95, "UP", 0), (101, "MAINT", 0))
    assert judge_halted(VIP, episode(idle), operations, NOTHING_LOST).verdict == "unknown"
    assert judge_halted(VIP, episode(samples=()), history(), NOTHING_LOST).verdict == "unknown"
