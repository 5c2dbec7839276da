"""LOAD-4: each sign of saturation, the order in which they are believed, and the verdict that follows."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from scenarios.checkers.knee import Step, judge_knee, steps_of
from scenarios.checkers.saturation import STRANGERS, at_their_limit
from scenarios.load.records import Arrival, Fate, WaitedFor
from scenarios.load_runs.parts_seen import PartsSeen
from tests.scenarios.conftest import SECOND, History, operation
from tests.scenarios.load_histories import MS, VIP, arrival, balancer, machine, parts, process, written

QUIET = parts()


def step(offered: float, *, seen: PartsSeen = QUIET, **fields: object) -> Step:
    plain = Step(
        begun_ns=0, ended_ns=60 * SECOND, offered_per_s=offered, achieved_per_s=offered, p99_s=0.005, large_p99_s=None,
        p99_low_s=None, large_p99_low_s=None, failed=0, late_by_generator=0, late_by_clients=0, parts=seen,
    )  # fmt: skip
    made = msgspec.structs.replace(plain, **fields)
    return msgspec.structs.replace(made, **{"p99_low_s": made.p99_s, "large_p99_low_s": made.large_p99_s, **fields})


def bent(offered: float, seen: PartsSeen = QUIET, **fields: object) -> Step:
    return step(offered, seen=seen, **{"achieved_per_s": offered * 0.7, "p99_s": 0.9, **fields})


FULL_OF_SESSIONS = parts(balancer=balancer(sessions=8, limit=8))
BUSY_NODE = parts(process("node/n1/hl7", cpu=0.99))
BUSY_GENERATOR = parts(process(cpu=0.98))


def test_a_knee_above_what_is_required_passes_and_names_what_bent() -> None:
    finding = judge_knee(VIP, [step(20), step(40), bent(80, BUSY_NODE)], required_per_s=30)
    assert finding.verdict == "pass"
    assert finding.reason == (
        "the knee is at 40.0 arrivals a second on HL7 (required: 30.0); at 80.0 a second 56.0 were achieved, "
        "p99 was 900.0 ms (limit 15 ms), where node/n1/hl7 was at the limit: process 100 used 0.99 of its one core"
    )
    assert (finding.measured["knee_per_s"], finding.measured["saturated"]) == (40, "node/n1/hl7")


@pytest.mark.parametrize(("seen", "subject"), [(FULL_OF_SESSIONS, "balancer"), (BUSY_NODE, "node")], ids=["balancer", "node"])
def test_a_knee_below_what_is_required_is_the_failure_of_what_bent(seen: PartsSeen, subject: str) -> None:
    finding = judge_knee(VIP, [step(20), bent(40, seen)], required_per_s=30)
    assert (finding.verdict, finding.subject) == ("fail", subject)


def test_a_generator_that_bent_below_what_is_required_leaves_it_open() -> None:
    finding = judge_knee(VIP, [step(20), bent(40, BUSY_GENERATOR)], required_per_s=30)
    assert (finding.verdict, finding.subject) == ("unknown", "harness")
    assert "generator/1 was at the limit: used 0.98 of its one core: not the balancer, nor a node" in finding.reason


def test_a_generator_that_bent_above_it_says_that_the_balancer_carries_at_least_that() -> None:
    finding = judge_knee(VIP, [step(40), bent(80, BUSY_GENERATOR)], required_per_s=30)
    assert finding.verdict == "pass"
    assert finding.reason.startswith("the balancer carries at least 40.0 arrivals a second on HL7 (required: 30.0)")


def test_a_last_step_that_was_carried_is_a_lower_bound() -> None:
    assert judge_knee(VIP, [step(20), step(40)], required_per_s=40).reason.startswith("the balancer carries at least 40.0")
    assert judge_knee(VIP, [step(20), step(30)], required_per_s=40).verdict == "unknown"


def test_no_step_at_all_is_unknown() -> None:
    assert judge_knee(VIP, [], required_per_s=40).verdict == "unknown"


def test_a_bend_without_any_sign_is_unknown() -> None:
    finding = judge_knee(VIP, [step(40), bent(80)], required_per_s=30)
    assert (finding.verdict, "nothing was seen to be at its limit" in finding.reason) == ("unknown", True)


def test_what_was_late_but_done_beyond_what_is_required_wants_a_name_all_the_same() -> None:
    assert judge_knee(VIP, [step(40), step(80, p99_s=0.022)], required_per_s=30).verdict == "unknown"


def test_what_is_slight_in_the_first_step_that_bends_is_named_from_a_later_one() -> None:
    finding = judge_knee(VIP, [bent(20), bent(40, FULL_OF_SESSIONS)], required_per_s=20)
    assert (finding.verdict, finding.subject, finding.measured["saturated"]) == ("fail", "balancer", "balancer")


@pytest.mark.parametrize(
    "fields", [{"failed": 1}, {"p99_s": 0.016}, {"large_p99_s": 1.1}, {"achieved_per_s": 37.9}],
    ids=["failed", "p99", "large p99", "achieved"],
)  # fmt: skip
def test_a_step_is_not_carried_when(fields: dict[str, float]) -> None:
    finding = judge_knee(VIP, [step(20), step(40, seen=BUSY_NODE, **fields)], required_per_s=10)
    assert finding.measured["knee_per_s"] == 20


@pytest.mark.parametrize(
    ("seen", "part", "words"),
    [
        (FULL_OF_SESSIONS, "balancer", "8 of at most 8 sessions of HL7, full in 100% of the time"),
        (parts(balancer=balancer(sessions=1998, limit=4000)), "balancer", "2000 of at most 2000 connections of the process"),
        (parts(balancer=balancer(files=3950)), "balancer", "3950 of at most 4000 open files"),
        (parts(balancer=balancer(queued=3)), "balancer", "up to 3 connections of HL7 waited in its queue for a server"),
        (parts(balancer=balancer(idle=0.05)), "balancer", "its threads were idle for 5% of the time"),
        (parts(balancer=balancer(cpu=1.9)), "balancer", "using 1.90 cores of its 2 threads"),
        (parts(balancer=balancer(idle=0.05, cpu=None)), "balancer", "idle for 5%"),
        (BUSY_NODE, "node/n1/hl7", "process 100 used 0.99 of its one core"),
        (parts(process("node/n2/hl7", lag_ms=60)), "node/n2/hl7", "woke up to 60 ms late"),
        (parts(machine=machine(waiting=4, overflows=1)), "node/n1/hl7", "up to 4 connections waited to be accepted"),
        (BUSY_GENERATOR, "generator/1", "used 0.98 of its one core"),
        (parts(process(lag_ms=60)), "generator/1", "woke up to 60 ms late"),
        (parts(machine=machine(busy=3.9)), STRANGERS, "of the machine's 4 cores, all busy (98%)"),
        (parts(process(cpu=0.85), machine=machine(busy=1.95, cores=2)), "generator/1", "used 0.85 of the machine's 2 cores"),
    ],
)  # fmt: skip
def test_each_sign_of_saturation_is_told_in_words_and_numbers(seen: PartsSeen, part: str, words: str) -> None:
    evidence = at_their_limit(seen, VIP)
    assert evidence[0].part == part
    assert words in evidence[0].words


def test_a_quiet_run_shows_no_sign() -> None:
    assert at_their_limit(QUIET, VIP) == ()
    assert at_their_limit(PartsSeen(), VIP) == ()


def test_another_vip_s_node_is_no_sign() -> None:
    assert at_their_limit(parts(process("node/n1/dicom", cpu=0.99)), VIP) == ()


def test_the_shares_of_late_arrivals_are_signs_too() -> None:
    assert [sign.part for sign in at_their_limit(QUIET, VIP, late_by_generator=0.02)] == ["generator"]
    (clients,) = at_their_limit(QUIET, VIP, late_by_clients=0.5)
    assert (clients.subject, clients.words) == ("harness", "50% of the arrivals found no free client")


def test_too_few_clients_are_the_limit_only_where_arrivals_take_no_longer_than_usual() -> None:
    few = bent(80, late_by_clients=0.6, busy_clients=32, usual_clients=40)
    finding = judge_knee(VIP, [step(40), few], required_per_s=30)
    assert (finding.verdict, finding.measured["saturated"]) == ("pass", "generator")
    slow = bent(80, late_by_clients=0.6, busy_clients=32, usual_clients=4)
    finding = judge_knee(VIP, [step(40), slow], required_per_s=30)
    assert (finding.verdict, "nothing was seen to be at its limit" in finding.reason) == ("unknown", True)


def test_cores_that_are_nearly_all_busy_while_every_client_waits_are_the_limit() -> None:
    nearly = parts(machine=machine(busy=3.2))
    finding = judge_knee(
        VIP, [step(40), bent(80, nearly, late_by_clients=0.42, busy_clients=32, usual_clients=2)], required_per_s=30
    )
    assert finding.verdict == "pass"
    assert "of the machine's 4 cores, nearly all busy while every client waited (80%)" in finding.reason
    waiting_for_nobody_knows_what = bent(
        80, parts(machine=machine(busy=2.9)), late_by_clients=0.42, busy_clients=32, usual_clients=2
    )
    assert judge_knee(VIP, [step(40), waiting_for_nobody_knows_what], required_per_s=30).verdict == "unknown"
    with_free_clients = bent(80, nearly, late_by_clients=0.1, busy_clients=32, usual_clients=2)
    assert judge_knee(VIP, [step(40), with_free_clients], required_per_s=30).verdict == "unknown"


def test_busy_clients_are_counted_and_those_that_the_rate_would_keep_busy(history: History, tmp_path: Path) -> None:
    records = [
        one if one.rate_milli == 10_000 else one._replace(ended_ns=one.begun_ns + 100 * MS) for one in stepped()
    ]  # fmt: skip
    first, second = steps_from(history, tmp_path, records)
    assert (first.busy_clients, first.usual_clients) == pytest.approx((0.05, 0.05))
    assert (second.busy_clients, second.usual_clients) == pytest.approx((1.95, 0.1), rel=0.05)
    assert (first.has_too_few_clients, second.has_too_few_clients) == (True, False)


def test_a_count_at_its_limit_is_believed_before_any_shortage_of_cpu() -> None:
    crowded = parts(process(cpu=0.98), balancer=balancer(sessions=8, limit=8), machine=machine(busy=4.0))
    assert at_their_limit(crowded, VIP)[0].part == "balancer"


def test_a_generator_at_its_limit_is_believed_before_a_node_at_its_own() -> None:
    both = parts(process(cpu=0.91), process("node/n1/hl7", cpu=0.99))
    assert [sign.part for sign in at_their_limit(both, VIP)] == ["generator/1", "node/n1/hl7"]


def test_threads_that_wait_for_a_core_are_not_a_balancer_at_its_limit() -> None:
    waiting = parts(balancer=balancer(idle=0.05, cpu=0.3), machine=machine(busy=4.0))
    assert "balancer" not in [sign.part for sign in at_their_limit(waiting, VIP)]


def test_a_limit_touched_once_is_none() -> None:
    once = balancer()[:59] + balancer(sessions=1000)[59:]
    assert at_their_limit(parts(balancer=once), VIP) == ()


def test_steps_are_cut_from_what_was_intended_when(history: History, tmp_path: Path) -> None:
    due = [(n * 100 * MS, 10_000) for n in range(20)] + [(2 * SECOND + n * 50 * MS, 20_000) for n in range(40)]
    records = [
        arrival(0, intended_ns=at, begun_ns=at, ended_ns=at + 5 * MS, rate_milli=rate, waited_for=WaitedFor.NOTHING)
        for at, rate in due
    ]
    records[50:] = [one._replace(fate=Fate.DROPPED, waited_for=WaitedFor.CLIENT, operations=0) for one in records[50:]]
    records[40] = records[40]._replace(ended_ns=9 * SECOND)  # far beyond the end of its step
    done = [operation(n + 1, intended_ns=at, begun_ns=at, ended_ns=at + 5 * MS) for n, (at, _) in enumerate(due[:50])]
    first, second = steps_of(VIP, history(*done), written(tmp_path, records), parts(), intended={10_000: 20, 20_000: 40})
    assert (first.offered_per_s, first.achieved_per_s, first.p99_s, first.late_by_clients) == (10, 10, 0.005, 0)
    assert (second.offered_per_s, second.achieved_per_s, second.late_by_clients) == (20, 14.5, 0.25)
    assert (first.begun_ns, first.ended_ns, second.ended_ns) == (0, 2 * SECOND, 4 * SECOND)
    assert [moment.at_ns // SECOND for moment in first.parts.machine] == [1, 2]


def test_no_arrivals_are_no_steps(history: History, tmp_path: Path) -> None:
    assert steps_of(VIP, history(), written(tmp_path, []), PartsSeen(), intended={10_000: 20}) == ()


def test_a_step_of_few_operations_is_not_too_slow_because_of_one_of_them() -> None:
    steps = [step(10), step(20, p99_s=0.9, p99_low_s=0.004), step(40, p99_s=0.9, p99_low_s=None)]
    finding = judge_knee(VIP, steps, required_per_s=15)
    assert (finding.verdict, finding.measured["knee_per_s"]) == ("pass", 40)


def test_a_step_that_failed_is_not_made_good_by_a_later_one() -> None:
    finding = judge_knee(VIP, [step(20, failed=5), step(40, failed=9), step(80), step(160)], required_per_s=20)
    assert (finding.verdict, finding.measured["knee_per_s"]) == ("unknown", 0)
    finding = judge_knee(VIP, [step(20), step(40, failed=9), step(80), bent(160, BUSY_NODE)], required_per_s=20)
    assert (finding.measured["knee_per_s"], finding.measured["saturated"]) == (20, None)


def test_what_bent_after_a_step_was_carried_again_says_nothing_of_the_step_before() -> None:
    finding = judge_knee(VIP, [bent(20), step(40), step(80), bent(160, BUSY_NODE)], required_per_s=20)
    assert (finding.verdict, "nothing was seen to be at its limit" in finding.reason) == ("unknown", True)


def test_a_step_as_fast_as_records_can_tell_is_what_is_required() -> None:
    assert judge_knee(VIP, [step(2.345), bent(4.69, BUSY_NODE)], required_per_s=2.3454).verdict == "pass"


DOUBT = ("generator/1 left no pulse while it should have run",)


def test_doubts_of_what_decides_leave_the_knee_open() -> None:
    for steps in ([step(20, doubts=DOUBT), step(40)], [step(20), step(40, doubts=DOUBT)], [step(20), bent(40, doubts=DOUBT)]):
        finding = judge_knee(VIP, steps, required_per_s=30)
        assert finding.verdict == "unknown"
        assert "cannot be believed: at" in finding.reason


def test_what_was_carried_in_spite_of_a_slow_generator_was_carried() -> None:
    slow: dict[str, Any] = {"slow_generators": ("generator/1 woke up to 9.0 ms late (p99)",)}
    assert judge_knee(VIP, [step(20, **slow), step(40, **slow)], required_per_s=30).verdict == "pass"
    finding = judge_knee(VIP, [step(20), bent(40, BUSY_NODE, **slow)], required_per_s=30)
    assert (finding.verdict, "at 40.0 a second generator/1 woke up" in finding.reason) == ("unknown", True)


def test_doubts_above_what_is_required_take_nothing_from_it() -> None:
    assert judge_knee(VIP, [step(20), step(40), step(80, doubts=DOUBT)], required_per_s=30).verdict == "pass"


def test_a_count_of_the_balancer_at_its_limit_is_believed_also_of_a_starved_generator() -> None:
    finding = judge_knee(VIP, [step(20), bent(40, FULL_OF_SESSIONS, doubts=DOUBT)], required_per_s=30)
    assert (finding.verdict, finding.subject) == ("fail", "balancer")


def test_a_step_that_was_slow_while_others_used_the_machine_is_nobody_s_proven_failure() -> None:
    crowded = parts(process("node/n1/hl7", cpu=0.99), machine=machine(busy=2.2))
    finding = judge_knee(VIP, [step(20), bent(40, crowded)], required_per_s=30)
    assert (finding.verdict, "the machine was shared with others" in finding.reason) == ("unknown", True)
    assert judge_knee(VIP, [step(20), bent(40, crowded, failed=1)], required_per_s=30).verdict == "fail"


RATES = {10_000: 20, 20_000: 40}


def stepped(*, every: int = 1, **fields: object) -> list[Arrival]:
    """Return every so many of the arrivals of two seconds at 10 a second and two at 20."""
    due = [(n * 100 * MS, 10_000) for n in range(20)] + [(2 * SECOND + n * 50 * MS, 20_000) for n in range(40)]
    return [
        arrival(0, intended_ns=at, begun_ns=at, ended_ns=at + 5 * MS, rate_milli=rate, **fields) for at, rate in due[::every]
    ]


def steps_from(history: History, directory: Path, records: list[Arrival], seen: PartsSeen = QUIET) -> tuple[Step, ...]:
    done = [
        operation(n + 1, intended_ns=one.intended_ns, begun_ns=one.begun_ns, ended_ns=one.ended_ns)
        for n, one in enumerate(records)
    ]
    return steps_of(VIP, history(*done), written(directory, records), seen, intended=RATES)


def test_a_step_of_a_quiet_run_has_no_doubts(history: History, tmp_path: Path) -> None:
    steps = steps_from(history, tmp_path, stepped())
    assert [(one.achieved_per_s, one.doubts) for one in steps] == [(10, ()), (20, ())]
    assert judge_knee(VIP, steps, required_per_s=10).verdict == "pass"


def test_half_of_a_step_recorded_is_half_of_it_achieved(history: History, tmp_path: Path) -> None:
    steps = steps_from(history, tmp_path, stepped(every=2))
    assert [one.achieved_per_s for one in steps] == [5, 10]
    assert steps[0].doubts == ("10 arrivals were recorded, of 20 that were intended",)
    assert judge_knee(VIP, steps, required_per_s=10).verdict == "unknown"


def test_a_step_without_any_record_is_a_step_all_the_same(history: History, tmp_path: Path) -> None:
    for records, achieved in ((stepped()[:20], [10, 0]), (stepped()[20:], [0, 20])):
        steps = steps_from(history, tmp_path, records)
        assert [one.achieved_per_s for one in steps] == achieved


@pytest.mark.parametrize(
    ("seen", "fields", "why"),
    [
        (PartsSeen(), {}, "generator/1 left no pulse while it should have run"),
        (QUIET, {"waited_for": WaitedFor.GENERATOR}, "20 of 20 arrivals began late though a client was free"),
        (QUIET, {"operations": 2}, "60 operations were recorded, where the arrivals count 120"),
    ],
    ids=["no pulse", "late", "records"],
)
def test_a_step_is_doubted_when(history: History, tmp_path: Path, seen: PartsSeen, fields: dict[str, int], why: str) -> None:
    steps = steps_from(history, tmp_path, stepped(**fields), seen)
    assert why in "; ".join(steps[0].doubts)
    assert judge_knee(VIP, steps, required_per_s=10).verdict == "unknown"


def test_a_generator_that_woke_late_in_a_step_is_told(history: History, tmp_path: Path) -> None:
    steps = steps_from(history, tmp_path, stepped(), parts(process(lag_ms=9)))
    assert [one.doubts for one in steps] == [(), ()]
    assert "generator/1 woke up to 9.0 ms late" in steps[0].slow_generators[0]
