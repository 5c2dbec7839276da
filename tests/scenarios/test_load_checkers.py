from pathlib import Path

import polars as pl
import pytest

from lbconfig.traffic_log import Connection, parse_line
from scenarios.checkers.added import Pair, judge_added
from scenarios.checkers.calm import shared
from scenarios.checkers.load import judge_load
from scenarios.findings import Finding
from scenarios.load.records import Arrival, Fate, WaitedFor
from scenarios.load_runs.parts_seen import PartsSeen
from simulators.operations import Kind, Operation, Outcome, Phase, Service
from tests.scenarios.conftest import SECOND, History, operation
from tests.scenarios.load_histories import (
    MS,
    VIP,
    arrival,
    arrivals,
    balancer,
    due_ns,
    machine,
    messages,
    parts,
    process,
    written,
)

STARVED = process(cpu=0.4, lag_ms=12)


def judged(operations: pl.DataFrame, due: pl.DataFrame, seen: PartsSeen, **fields: object) -> Finding:
    """Judge HL7; unless the number of arrivals that were intended is given, it is the number of those recorded."""
    own = due.filter(pl.col("service") == int(Service.HL7)).height
    return judge_load(VIP, operations, due, seen, **{"intended": own, **fields})  # type: ignore[arg-type]


def test_a_load_that_was_carried_passes_with_its_interval_and_its_chance_of_error(history: History, tmp_path: Path) -> None:
    finding = judged(history(*messages()), arrivals(tmp_path), parts())
    assert (finding.verdict, finding.subject) == ("pass", None)
    assert finding.reason == (
        "the site's peak times 1.5: 1200 operations, none failed or left undone; "
        "HL7 message 5.0 ms (5.0 to 5.0, limit 15 ms, n = 1200), each wrong by a chance of 2.5% at most"
    )
    seen = finding.measured["classes"]["HL7 message"]
    assert (seen["n"], seen["p99_s"], seen["p99_interval_s"]) == (1200, 0.005, [0.005, 0.005])
    assert (finding.measured["arrivals_due"], finding.measured["generator_lag_p99_s"]) == (1200, 0.001)


def test_nothing_observed_is_never_a_pass(history: History, tmp_path: Path) -> None:
    assert judged(history(), arrivals(tmp_path, count=0), PartsSeen()).verdict == "unknown"
    assert judged(history(), arrivals(tmp_path), parts()).verdict == "unknown"


def test_a_node_slowed_by_20_ms_fails(history: History, tmp_path: Path) -> None:
    finding = judged(history(*messages(latency_ms=24)), arrivals(tmp_path), parts())
    assert (finding.verdict, finding.subject) == ("fail", "node")
    assert "p99 above its limit: HL7 message 24.0 ms (24.0 to 24.0, limit 15 ms, n = 1200" in finding.reason


def test_the_node_that_is_slow_is_named(history: History, tmp_path: Path) -> None:
    slow = messages(latency_ms=24)
    mixed = [
        one._replace(node=b"n2") if number % 2 else two
        for number, (one, two) in enumerate(zip(slow, messages(), strict=True))
    ]
    finding = judged(history(*mixed), arrivals(tmp_path), parts())
    assert finding.measured["classes"]["HL7 message"]["p99_by_node_s"] == {"mach7-1": 0.005, "n2": 0.024}
    assert finding.reason.endswith("; HL7 message by node: mach7-1 5.0 ms, n2 24.0 ms")


def test_another_vip_is_not_touched_by_the_arrivals_of_a_slow_one(history: History, tmp_path: Path) -> None:
    foreign = [arrival(n, service=Service.DICOM, fate=Fate.DROPPED, intended_ns=due_ns(n) + 1) for n in range(50)]
    assert judged(history(*messages()), arrivals(tmp_path, *foreign), parts()).verdict == "pass"


def test_a_p99_whose_interval_holds_the_limit_is_unknown(history: History, tmp_path: Path) -> None:
    slow = [one._replace(ended_ns=one.intended_ns + 20 * MS) for one in messages()[:12]]
    finding = judged(history(*slow, *messages()[12:]), arrivals(tmp_path), parts())
    assert finding.verdict == "unknown"
    assert "p99 too near to its limit to tell: HL7 message 5.0 ms (5.0 to 20.0, limit 15 ms, n = 1200)" in finding.reason


def test_fewer_than_a_thousand_operations_of_a_class_are_too_few(history: History, tmp_path: Path) -> None:
    few = [
        operation(n + 5000, kind=Kind.ECHO, intended_ns=due_ns(n), begun_ns=due_ns(n), ended_ns=due_ns(n) + MS)
        for n in range(30)
    ]
    finding = judged(history(*messages(), *few), due_of(tmp_path, *messages(), *few), parts())
    assert (finding.verdict, "HL7 echo: 30" in finding.reason) == ("unknown", True)


def test_logins_pages_and_notes_are_one_class(history: History, tmp_path: Path) -> None:
    pages = messages(kind=Kind.QUERY, service=Service.HTTPS)
    notes = [one._replace(kind=Kind.NOTE) for one in pages[:30]]
    finding = judged(history(*notes, *pages[30:]), arrivals(tmp_path), parts())
    assert (finding.verdict, list(finding.measured["classes"])) == ("pass", ["web requests"])


def images(count: int, size_bytes: int, latency_ms: float) -> list[Operation]:
    return messages(
        count, latency_ms, kind=Kind.INSTANCE, service=Service.DICOM, size_bytes=size_bytes, digest=bytes([count % 256] * 16)
    )


SMALL = images(1200, 8192, 5)


def due_of(directory: Path, *operations: Operation) -> pl.DataFrame:
    """Return arrivals of HL7, each with as many of the operations as it takes to name them all."""
    each, rest = divmod(len(operations), 1200)
    return arrivals(directory, *(arrival(n, operations=each + (n < rest)) for n in range(1200)))


def test_too_few_large_images_to_judge_are_named_in_the_pass(history: History, tmp_path: Path) -> None:
    every = [*SMALL, *images(40, 2 << 20, 600)]
    finding = judged(history(*every), due_of(tmp_path, *every), parts())
    assert finding.verdict == "pass"
    few = (
        "not judged, being too few, and not seen to be slow: C-STORE above 1 MiB 600.0 ms (600.0 to ?, limit 1000 ms, n = 40)"
    )
    assert few in finding.reason
    assert finding.measured["classes"]["C-STORE above 1 MiB"]["n"] == 40


@pytest.mark.parametrize("count", [40, 900])
def test_slow_large_images_fail_also_where_they_are_few(history: History, tmp_path: Path, count: int) -> None:
    every = [*SMALL, *images(count, 2 << 20, 9000)]
    finding = judged(history(*every), due_of(tmp_path, *every), parts())
    assert (finding.verdict, finding.subject) == ("fail", "node")
    assert (
        f"p99 above its limit: C-STORE above 1 MiB 9000.0 ms (9000.0 to {'?' if count == 40 else '9000.0'}" in finding.reason
    )


def test_large_images_alone_are_no_pass(history: History, tmp_path: Path) -> None:
    finding = judged(history(*images(40, 2 << 20, 600)), arrivals(tmp_path, count=40), parts())
    assert (finding.verdict, "C-STORE above 1 MiB: 40" in finding.reason) == ("unknown", True)


def test_a_single_failed_operation_fails_and_says_how(history: History, tmp_path: Path) -> None:
    lost = messages()[7]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE)
    finding = judged(history(*messages()[:7], lost, *messages()[8:]), arrivals(tmp_path), parts())
    assert (finding.verdict, finding.subject) == ("fail", "node")
    assert "1 operations indeterminate (response)" in finding.reason


def test_clients_that_are_not_let_in_are_the_failure_of_the_balancer(history: History, tmp_path: Path) -> None:
    refused = messages()[7]._replace(outcome=Outcome.REFUSED, phase=Phase.CONNECT)
    finding = judged(history(*messages()[:7], refused, *messages()[8:]), arrivals(tmp_path), parts())
    assert (finding.verdict, finding.subject) == ("fail", "balancer")


def test_many_arrivals_that_the_end_of_the_run_cut_are_no_pass(history: History, tmp_path: Path) -> None:
    cut = [arrival(n, fate=Fate.CUT, ended_ns=61 * SECOND) for n in range(1100, 1200)]
    finding = judged(history(*messages()), arrivals(tmp_path, *cut), parts())
    assert (finding.verdict, "100 of 1200 arrivals were cut off at the end" in finding.reason) == ("unknown", True)


def test_what_the_end_of_the_run_cut_is_no_failure(history: History, tmp_path: Path) -> None:
    last = messages()[-1]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE)
    cut = arrival(1199, fate=Fate.CUT, ended_ns=last.ended_ns)
    finding = judged(history(*messages()[:-1], last), arrivals(tmp_path, cut), parts())
    assert (finding.verdict, finding.measured["arrivals_cut_at_the_end"]) == ("pass", 1)


def test_what_had_hung_for_long_when_the_run_ended_is_a_failure(history: History, tmp_path: Path) -> None:
    hung = messages()[900]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE, ended_ns=61 * SECOND)
    cut = arrival(900, fate=Fate.CUT, ended_ns=61 * SECOND)
    finding = judged(history(*messages()[:900], hung, *messages()[901:]), arrivals(tmp_path, cut), parts())
    assert finding.verdict == "fail"


def test_a_dropped_arrival_fails_where_answers_were_slow(history: History, tmp_path: Path) -> None:
    dropped = arrival(1199, fate=Fate.DROPPED, waited_for=WaitedFor.CLIENT, operations=0)
    finding = judged(history(*messages(latency_ms=24)[:-1]), arrivals(tmp_path, dropped), parts())
    assert (finding.verdict, "1 of 1200 arrivals were dropped" in finding.reason) == ("fail", True)


def test_a_dropped_arrival_is_the_harness_s_where_answers_were_swift(history: History, tmp_path: Path) -> None:
    dropped = arrival(1199, fate=Fate.DROPPED, waited_for=WaitedFor.CLIENT, operations=0)
    finding = judged(history(*messages()[:-1]), arrivals(tmp_path, dropped), parts())
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
        finding = judged(history(*messages(latency_ms=latency_ms)), arrivals(tmp_path), seen)
        assert (finding.verdict, finding.subject) == ("unknown", "harness")
        assert why in finding.reason


def test_more_late_arrivals_than_chance_explains_make_it_unknown(history: History, tmp_path: Path) -> None:
    late = [arrival(n, waited_for=WaitedFor.GENERATOR) for n in range(20)]  # of 1,200 at 1 %, 20 or more are 2.2 % likely
    finding = judged(history(*messages()), arrivals(tmp_path, *late), parts())
    assert finding.verdict == "unknown"
    assert "generator/1: 20 of 1200 arrivals began late though a client was free, 1.7% (at most 1%)" in finding.reason
    assert judged(history(*messages()), arrivals(tmp_path, *late[:19]), parts()).verdict == "pass"


FEW = messages(84)  # as many as studies in a minute of LOAD-1


def with_foreign(directory: Path, *own: Arrival) -> pl.DataFrame:
    """Return 84 arrivals of HL7, but for those given, and 1,000 of another service, of the same generator."""
    foreign = [arrival(n, service=Service.DMWL, intended_ns=due_ns(n) + 1) for n in range(1000)]
    given = {one.intended_ns: one for one in own}
    return written(directory, [*(given.get(due_ns(n), arrival(n)) for n in range(84)), *foreign])


def test_an_arrival_that_was_late_hides_no_failure(history: History, tmp_path: Path) -> None:
    late = arrival(9, waited_for=WaitedFor.GENERATOR, begun_ns=due_ns(9) + 60 * MS)
    lost = FEW[7]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE)
    finding = judged(history(*FEW[:7], lost, *FEW[8:]), with_foreign(tmp_path, late), parts())
    assert (finding.verdict, "1 operations indeterminate (response)" in finding.reason) == ("fail", True)
    assert judged(history(*FEW), with_foreign(tmp_path, late), parts(), at_least=84).reason.count("late") == 0


def test_lateness_is_counted_over_all_services_of_a_generator(history: History, tmp_path: Path) -> None:
    late = [arrival(n, waited_for=WaitedFor.GENERATOR) for n in range(12)]  # 14 % of its own, 1.1 % of all
    assert "began late" not in judged(history(*FEW), with_foreign(tmp_path, *late), parts(), at_least=84).reason


def test_a_refusal_is_a_failure_whatever_the_generator_did(history: History, tmp_path: Path) -> None:
    refused = messages()[7]._replace(outcome=Outcome.REFUSED, phase=Phase.NEGOTIATE)
    finding = judged(history(*messages()[:7], refused, *messages()[8:]), arrivals(tmp_path), parts(STARVED))
    assert (finding.verdict, finding.subject, "1 operations refused (negotiate)" in finding.reason) == ("fail", "node", True)


def test_failures_while_the_generator_starved_are_counted_and_unknown(history: History, tmp_path: Path) -> None:
    lost = messages()[7]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE)
    finding = judged(history(*messages()[:7], lost, *messages()[8:]), arrivals(tmp_path), parts(STARVED))
    assert (finding.verdict, "1 operations indeterminate (response)" in finding.reason) == ("unknown", True)


def test_slow_answers_on_a_machine_without_a_free_core_are_nobody_s_failure(history: History, tmp_path: Path) -> None:
    crowded = parts(machine=machine(busy=3.9))
    finding = judged(history(*messages(latency_ms=24)), arrivals(tmp_path), crowded)
    assert finding.verdict == "unknown"
    met = "1200 of 1200 met a generator that woke late, or a machine without a free core (the others: too few to tell)"
    assert met in finding.reason
    assert "processes that are no part of this run: it used 2.85 of the machine's 4 cores, all busy (98%)" in finding.reason
    assert judged(history(*messages()), arrivals(tmp_path), crowded).verdict == "pass"


def with_strangers(cores: float) -> PartsSeen:
    """Return what is usual, and others that use some of the machine's cores."""
    return parts(machine=machine(busy=1.05 + cores))


def test_slow_answers_on_a_machine_that_others_used_are_nobody_s_proven_failure(history: History, tmp_path: Path) -> None:
    slow = history(*messages(latency_ms=24))
    finding = judged(slow, arrivals(tmp_path), with_strangers(0.25))
    assert finding.verdict == "unknown"
    told = "the machine was shared with others: processes that are no part of this run used 0.25 cores on average"
    assert told in finding.reason
    assert judged(slow, arrivals(tmp_path), with_strangers(0.15)).verdict == "fail"
    assert judged(history(*messages()), arrivals(tmp_path), with_strangers(0.25)).verdict == "pass"


def test_others_on_the_machine_excuse_no_failed_operation(history: History, tmp_path: Path) -> None:
    lost = messages()[7]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE)
    finding = judged(history(*messages()[:7], lost, *messages()[8:]), arrivals(tmp_path), with_strangers(0.9))
    assert finding.verdict == "fail"


def test_others_that_come_after_a_stall_are_seen_in_the_calm_part() -> None:
    seen = parts(machine=machine(busy=1.05, seconds=40) + machine(busy=1.45)[40:])
    assert shared(seen, (0, 60 * SECOND)) == ""
    told = shared(seen, (0, 60 * SECOND), [(0, 30 * SECOND)])
    assert told.endswith("used 0.27 cores on average (at most 0.2)")


def test_a_machine_that_was_not_seen_excuses_nothing() -> None:
    assert shared(parts(machine=()), (0, 60 * SECOND)) == ""


@pytest.mark.parametrize(
    ("operations", "own", "intended", "why"),
    [
        (slice(None, None, 2), slice(None, None, 2), 1200, "600 arrivals were recorded, of 1200 that were intended"),
        (slice(0, 400), slice(0, 400), 1200, "400 arrivals were recorded, of 1200 that were intended"),
        (slice(0, 1050), slice(None), 1200, "1050 operations were recorded, where the arrivals count 1200"),
    ],
    ids=["one generator of two", "a third of the time", "operations missing"],
)
def test_a_load_that_is_not_wholly_recorded_is_unknown(
    history: History, tmp_path: Path, operations: slice, own: slice, intended: int, why: str
) -> None:
    due = written(tmp_path, [arrival(n) for n in range(1200)][own])
    finding = judged(history(*messages()[operations]), due, parts(), intended=intended, at_least=300)
    assert (finding.verdict, why in finding.reason) == ("unknown", True)


def test_operations_that_no_arrival_names_are_unknown(history: History, tmp_path: Path) -> None:
    finding = judged(history(*messages(), *messages()), arrivals(tmp_path), parts())
    assert finding.verdict == "unknown"
    assert "2400 operations were recorded, where the arrivals count 1200" in finding.reason


def test_arrivals_that_were_done_without_an_operation_are_unknown(history: History, tmp_path: Path) -> None:
    idle = [arrival(n, operations=0) for n in range(150)]
    finding = judged(history(*messages()[150:]), arrivals(tmp_path, *idle), parts())
    assert (finding.verdict, "150 arrivals were done without an operation" in finding.reason) == ("unknown", True)


@pytest.mark.parametrize("begun_ms", [-60, 10], ids=["before it was due", "after it had ended"])
def test_a_clock_that_runs_backwards_is_unknown(history: History, tmp_path: Path, begun_ms: int) -> None:
    odd = messages()[9]._replace(begun_ns=due_ns(9) + begun_ms * MS)
    finding = judged(history(*messages()[:9], odd, *messages()[10:]), arrivals(tmp_path), parts())
    assert (finding.verdict, "a clock is broken" in finding.reason) == ("unknown", True)


def test_a_load_without_the_balancer_seen_is_no_pass(history: History, tmp_path: Path) -> None:
    unseen = parts(balancer=(), machine=machine(busy=0.8))
    finding = judged(history(*messages()), arrivals(tmp_path), unseen)
    assert (finding.verdict, "the balancer was not seen meanwhile" in finding.reason) == ("unknown", True)
    assert judged(history(*messages(latency_ms=24)), arrivals(tmp_path), unseen).verdict == "fail"


REFUSED = [
    one._replace(outcome=Outcome.REFUSED, phase=Phase.NEGOTIATE) if n % 200 == 7 else one for n, one in enumerate(messages())
]


def logged(server: str, end: str) -> Connection:
    entry = parse_line(
        f"127.1.1.1:4000 [23/Nov/2026:10:00:00.000] HL7 HL7/{server} 0/3/90 120 {end} 4/4/3/2/0 0/0 "
        "300 127.0.110.10:5000 127.0.110.21:6667 1790000000"
    )
    assert isinstance(entry, Connection)
    return entry


@pytest.mark.parametrize(
    ("server", "end", "subject"),
    [("<NOSRV>", "PR", "balancer"), ("<NOSRV>", "SC", "balancer"), ("HL71", "SD", "node"), ("<NOSRV>", "CC", "node")],
)
def test_the_balancer_s_log_tells_whose_a_refusal_is(
    history: History, tmp_path: Path, server: str, end: str, subject: str
) -> None:
    connections = [logged("HL71", "--"), logged(server, end)]
    finding = judged(history(*REFUSED), arrivals(tmp_path), parts(), connections=connections)
    assert (finding.verdict, finding.subject) == ("fail", subject)


def test_without_a_log_the_balancer_s_counts_tell_whose_a_refusal_is(history: History, tmp_path: Path) -> None:
    grown = balancer()[:30] + tuple(
        moment._replace(vips=(moment.vips[0]._replace(connection_errors=6), *moment.vips[1:])) for moment in balancer()[30:]
    )
    assert judged(history(*REFUSED), arrivals(tmp_path), parts(balancer=grown)).subject == "balancer"
    assert judged(history(*REFUSED), arrivals(tmp_path), parts()).subject == "node"


STALLED = process()._replace(moments=tuple(
    moment._replace(lag_max_s=0.13) if place in (10, 30) else moment for place, moment in enumerate(process().moments)
))  # fmt: skip


def test_answers_that_were_slow_only_while_the_generator_stalled_are_unknown(history: History, tmp_path: Path) -> None:
    stalled = [
        one._replace(ended_ns=one.intended_ns + 60 * MS) if n // 20 in (10, 30) else one for n, one in enumerate(messages())
    ]
    finding = judged(history(*stalled), arrivals(tmp_path), parts(STALLED))
    assert finding.verdict == "unknown"
    met = "40 of 1200 met a generator that woke late, or a machine without a free core (the others: p99 5.0 ms)"
    assert met in finding.reason


def test_a_slow_node_fails_also_where_the_generator_stalled_twice(history: History, tmp_path: Path) -> None:
    finding = judged(history(*messages(latency_ms=24)), arrivals(tmp_path), parts(STALLED))
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
