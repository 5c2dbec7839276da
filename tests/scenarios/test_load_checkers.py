from pathlib import Path

import pytest

from scenarios.checkers.added import Pair, judge_added
from scenarios.checkers.load import judge_load
from scenarios.load.records import Fate, WaitedFor
from scenarios.parts_seen import PartsSeen
from simulators.operations import Kind, Outcome, Phase, Service
from tests.scenarios.conftest import SECOND, History, operation
from tests.scenarios.load_histories import (
    MS,
    VIP,
    arrival,
    arrivals,
    due_ns,
    machine,
    messages,
    parts,
    process,
)

STARVED = process(cpu=0.4, lag_ms=12)


def test_a_load_that_was_carried_passes_with_its_interval_and_its_chance_of_error(history: History, tmp_path: Path) -> None:
    finding = judge_load(VIP, history(*messages()), arrivals(tmp_path), parts())
    assert (finding.verdict, finding.subject) == ("pass", None)
    assert finding.reason == (
        "the site's peak times 1.5: 1200 operations, none failed or left undone; "
        "HL7 message 5.0 ms (5.0 to 5.0, limit 15 ms, n = 1200), each wrong by a chance of 2.5% at most"
    )
    seen = finding.measured["classes"]["HL7 message"]
    assert (seen["n"], seen["p99_s"], seen["p99_interval_s"]) == (1200, 0.005, [0.005, 0.005])
    assert (finding.measured["arrivals_due"], finding.measured["generator_lag_p99_s"]) == (1200, 0.001)


def test_nothing_observed_is_never_a_pass(history: History, tmp_path: Path) -> None:
    assert judge_load(VIP, history(), arrivals(tmp_path, count=0), PartsSeen()).verdict == "unknown"
    assert judge_load(VIP, history(), arrivals(tmp_path), parts()).verdict == "unknown"


def test_a_node_slowed_by_20_ms_fails(history: History, tmp_path: Path) -> None:
    finding = judge_load(VIP, history(*messages(latency_ms=24)), arrivals(tmp_path), parts())
    assert (finding.verdict, finding.subject) == ("fail", "node")
    assert "p99 above its limit: HL7 message 24.0 ms (24.0 to 24.0, limit 15 ms, n = 1200" in finding.reason


def test_another_vip_is_not_touched_by_the_arrivals_of_a_slow_one(history: History, tmp_path: Path) -> None:
    foreign = [arrival(n, service=Service.DICOM, fate=Fate.DROPPED, intended_ns=due_ns(n) + 1) for n in range(50)]
    assert judge_load(VIP, history(*messages()), arrivals(tmp_path, *foreign), parts()).verdict == "pass"


def test_a_p99_whose_interval_holds_the_limit_is_unknown(history: History, tmp_path: Path) -> None:
    slow = [one._replace(ended_ns=one.intended_ns + 20 * MS) for one in messages()[:12]]
    finding = judge_load(VIP, history(*slow, *messages()[12:]), arrivals(tmp_path), parts())
    assert finding.verdict == "unknown"
    assert "p99 too near to its limit to tell: HL7 message 5.0 ms (5.0 to 20.0, limit 15 ms, n = 1200)" in finding.reason


def test_fewer_than_a_thousand_operations_of_a_class_are_too_few(history: History, tmp_path: Path) -> None:
    few = [
        operation(n + 5000, kind=Kind.ECHO, intended_ns=due_ns(n), begun_ns=due_ns(n), ended_ns=due_ns(n) + MS)
        for n in range(30)
    ]
    finding = judge_load(VIP, history(*messages(), *few), arrivals(tmp_path), parts())
    assert (finding.verdict, "HL7 echo: 30" in finding.reason) == ("unknown", True)


def test_logins_pages_and_notes_are_one_class(history: History, tmp_path: Path) -> None:
    pages = messages(kind=Kind.QUERY, service=Service.HTTPS)
    notes = [one._replace(kind=Kind.NOTE) for one in pages[:30]]
    finding = judge_load(VIP, history(*notes, *pages[30:]), arrivals(tmp_path), parts())
    assert (finding.verdict, list(finding.measured["classes"])) == ("pass", ["web requests"])


def test_few_large_images_are_reported_and_do_not_decide(history: History, tmp_path: Path) -> None:
    images = messages(kind=Kind.INSTANCE, service=Service.DICOM)
    large = [
        one._replace(key=one.key + 5000, size_bytes=2 << 20, ended_ns=one.intended_ns + 3 * SECOND) for one in images[:40]
    ]
    finding = judge_load(VIP, history(*images, *large), arrivals(tmp_path), parts())
    assert finding.verdict == "pass"
    assert finding.measured["classes"]["C-STORE above 1 MiB"]["n"] == 40
    large_alone = judge_load(VIP, history(*large), arrivals(tmp_path), parts())
    assert (large_alone.verdict, "C-STORE above 1 MiB: 40" in large_alone.reason) == ("unknown", True)


def test_a_single_failed_operation_fails_and_says_how(history: History, tmp_path: Path) -> None:
    lost = messages()[7]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE)
    finding = judge_load(VIP, history(*messages()[:7], lost, *messages()[8:]), arrivals(tmp_path), parts())
    assert (finding.verdict, finding.subject) == ("fail", "node")
    assert "1 operations indeterminate (response)" in finding.reason


def test_clients_that_are_not_let_in_are_the_failure_of_the_balancer(history: History, tmp_path: Path) -> None:
    refused = messages()[7]._replace(outcome=Outcome.REFUSED, phase=Phase.CONNECT)
    finding = judge_load(VIP, history(*messages()[:7], refused, *messages()[8:]), arrivals(tmp_path), parts())
    assert (finding.verdict, finding.subject) == ("fail", "balancer")


def test_what_the_end_of_the_run_cut_is_no_failure(history: History, tmp_path: Path) -> None:
    last = messages()[-1]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE)
    cut = arrival(1199, fate=Fate.CUT, ended_ns=last.ended_ns)
    finding = judge_load(VIP, history(*messages()[:-1], last), arrivals(tmp_path, cut), parts())
    assert (finding.verdict, finding.measured["arrivals_cut_at_the_end"]) == ("pass", 1)


def test_what_had_hung_for_long_when_the_run_ended_is_a_failure(history: History, tmp_path: Path) -> None:
    hung = messages()[900]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE, ended_ns=61 * SECOND)
    cut = arrival(900, fate=Fate.CUT, ended_ns=61 * SECOND)
    finding = judge_load(VIP, history(*messages()[:900], hung, *messages()[901:]), arrivals(tmp_path, cut), parts())
    assert finding.verdict == "fail"


def test_a_dropped_arrival_fails_where_answers_were_slow(history: History, tmp_path: Path) -> None:
    dropped = arrival(1199, fate=Fate.DROPPED, waited_for=WaitedFor.CLIENT)
    finding = judge_load(VIP, history(*messages(latency_ms=24)[:-1]), arrivals(tmp_path, dropped), parts())
    assert (finding.verdict, "1 of 1200 arrivals were dropped" in finding.reason) == ("fail", True)


def test_a_dropped_arrival_is_the_harness_s_where_answers_were_swift(history: History, tmp_path: Path) -> None:
    dropped = arrival(1199, fate=Fate.DROPPED, waited_for=WaitedFor.CLIENT)
    finding = judge_load(VIP, history(*messages()[:-1]), arrivals(tmp_path, dropped), parts())
    assert (finding.verdict, "there were too few clients for this rate" in finding.reason) == ("unknown", True)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (parts(STARVED), "generator/1 woke up to 12.0 ms late (p99), more than a third of the limit of 15 ms"),
        (parts(process(cpu=0.97, lag_ms=4)), "used more than 0.9 of a core in 100% of the time"),
        (parts(process("generator/2")), "generator/1 left no pulse while it should have run"),
        (parts(process(seconds=[*range(1, 20), *range(24, 61)])), "generator/1 was silent for 5.0 s"),
        (parts(process(seconds=range(1, 50))), "generator/1 was silent for 10.9 s"),
    ],
    ids=["lag", "cpu", "no pulse", "gap", "silent end"],
)
def test_a_generator_at_its_limit_makes_it_unknown_whatever_was_measured(
    history: History, tmp_path: Path, seen: PartsSeen, why: str
) -> None:
    if "left no pulse" in why:
        seen = PartsSeen(processes=seen.of("generator/2"), balancer=seen.balancer, machine=seen.machine)
    for latency_ms in (5, 24):
        finding = judge_load(VIP, history(*messages(latency_ms=latency_ms)), arrivals(tmp_path), seen)
        assert (finding.verdict, finding.subject) == ("unknown", "harness")
        assert why in finding.reason


def test_arrivals_late_by_the_generator_itself_make_it_unknown(history: History, tmp_path: Path) -> None:
    late = [arrival(n, waited_for=WaitedFor.GENERATOR) for n in range(13)]
    finding = judge_load(VIP, history(*messages()), arrivals(tmp_path, *late), parts())
    assert finding.verdict == "unknown"
    assert "1.1% of the arrivals began late though a client was free" in finding.reason
    assert judge_load(VIP, history(*messages()), arrivals(tmp_path, *late[:12]), parts()).verdict == "pass"


def test_failures_while_the_generator_starved_are_counted_and_unknown(history: History, tmp_path: Path) -> None:
    lost = messages()[7]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE)
    finding = judge_load(VIP, history(*messages()[:7], lost, *messages()[8:]), arrivals(tmp_path), parts(STARVED))
    assert (finding.verdict, "1 operations indeterminate (response)" in finding.reason) == ("unknown", True)


def test_slow_answers_on_a_machine_without_a_free_core_are_nobody_s_failure(history: History, tmp_path: Path) -> None:
    crowded = parts(machine=machine(busy=3.9))
    finding = judge_load(VIP, history(*messages(latency_ms=24)), arrivals(tmp_path), crowded)
    assert finding.verdict == "unknown"
    met = "1200 of 1200 met a generator that woke late, or a machine without a free core (the others: too few to tell)"
    assert met in finding.reason
    assert "processes that are no part of this run: it used 2.85 of the machine's 4 cores, all busy (98%)" in finding.reason
    assert judge_load(VIP, history(*messages()), arrivals(tmp_path), crowded).verdict == "pass"


STALLED = process()._replace(moments=tuple(
    moment._replace(lag_max_s=0.13) if place in (10, 30) else moment for place, moment in enumerate(process().moments)
))  # fmt: skip


def test_answers_that_were_slow_only_while_the_generator_stalled_are_unknown(history: History, tmp_path: Path) -> None:
    stalled = [
        one._replace(ended_ns=one.intended_ns + 60 * MS) if n // 20 in (10, 30) else one for n, one in enumerate(messages())
    ]
    finding = judge_load(VIP, history(*stalled), arrivals(tmp_path), parts(STALLED))
    assert finding.verdict == "unknown"
    met = "40 of 1200 met a generator that woke late, or a machine without a free core (the others: p99 5.0 ms)"
    assert met in finding.reason


def test_a_slow_node_fails_also_where_the_generator_stalled_twice(history: History, tmp_path: Path) -> None:
    finding = judge_load(VIP, history(*messages(latency_ms=24)), arrivals(tmp_path), parts(STALLED))
    assert (finding.verdict, finding.subject) == ("fail", "node")


def pairs(added_ms: float, count: int = 40) -> list[Pair]:
    """Return pairs whose straight half takes 2 to 3.95 ms."""
    straight = [2 * MS + n * MS // 20 for n in range(count)]
    return [Pair(took, took + round(added_ms * MS), n % 2 == 0) for n, took in enumerate(straight)]


def test_what_the_balancer_adds_is_told_in_seconds_and_as_a_ratio() -> None:
    finding = judge_added(VIP, {"messages": pairs(1.0)})
    assert finding.verdict == "pass"
    seen = finding.measured["classes"]["messages"]
    assert (seen["pairs"], seen["added_s"], seen["added_interval_s"]) == (40, 0.001, [0.001, 0.001])
    assert seen["ratio_interval"][0] < seen["ratio"] < seen["ratio_interval"][1]
    assert seen["straight_median_s"] == 0.002975


def test_a_balancer_that_adds_more_than_its_limit_fails() -> None:
    finding = judge_added(VIP, {"messages": pairs(1.0), "large messages": pairs(6.0)})
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert "adds more than 5 ms" in finding.reason


def test_pairs_that_scatter_around_the_limit_are_unknown() -> None:
    mixed = [pair for two in zip(pairs(1.0), pairs(9.0), strict=True) for pair in two]
    assert judge_added(VIP, {"messages": mixed}).verdict == "unknown"


@pytest.mark.parametrize("seen", [{}, {"messages": []}, {"messages": pairs(1.0, 29)}], ids=["nothing", "no pair", "few"])
def test_too_few_pairs_are_unknown(seen: dict[str, list[Pair]]) -> None:
    assert judge_added(VIP, seen).verdict == "unknown"


def test_pairs_in_one_order_alone_are_unknown() -> None:
    ordered = [pair._replace(vip_first=False) for pair in pairs(1.0)]
    assert "not in random order" in judge_added(VIP, {"messages": ordered}).reason
