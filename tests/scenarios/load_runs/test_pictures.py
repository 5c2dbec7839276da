"""Pictures of load runs, from handwritten operations and arrivals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lbconfig.site_file import load_site
from reports.load_picture import ArrivalTally, LoadPicture, Step
from scenarios.checkers import knee as checked
from scenarios.checkers.added import Pair
from scenarios.checkers.knee import judge_knee
from scenarios.load.records import Arrival, Fate, WaitedFor, arrival_file
from scenarios.load_runs.frames import arrivals_frame
from scenarios.load_runs.parts_seen import PartsSeen, ProcessMoment, ProcessSeen
from scenarios.load_runs.pictures import added_of, knee_of, load_picture, storm_of
from simulators.operations import Kind, Operation, Outcome, Service
from tests.scenarios.conftest import SECOND, History, operation

SITE = load_site(Path(__file__).parents[3] / "lbconfig/sites/loopback.toml")
HL7, DICOM = SITE.vip_of("hl7"), SITE.vip_of("dicom")
BEGAN = 50 * SECOND
MS = SECOND // 1000


def _message(key: int, at_s: float, took_ms: float, **fields: object) -> Operation:
    """Return a message that was answered so many seconds after the run's begin."""
    ended_ns = BEGAN + round(at_s * SECOND)
    due_ns = ended_ns - round(took_ms * MS)
    return operation(key, intended_ns=due_ns, begun_ns=due_ns, ended_ns=ended_ns, **fields)


def _arrival(
    at_s: float, fate: Fate = Fate.DONE, waited_for: WaitedFor = WaitedFor.NOTHING, *, service: Service = Service.HL7
) -> Arrival:
    due_ns = BEGAN + round(at_s * SECOND)
    return Arrival(1, 1, service, fate, waited_for, due_ns, due_ns, due_ns + 10 * MS, 1, 0, 1000)


def _picture(tmp_path: Path, history: History, operations: list[Operation], arrivals: list[Arrival]) -> LoadPicture:
    path = tmp_path / "generator-1.arrivals"
    with arrival_file(path) as file:
        file.append(arrivals)
    moment = ProcessMoment(BEGAN + 2 * SECOND, 2.0, 0.5, 0.01, 0.005, 40, 1_000_000, 1, 1)
    return load_picture(
        SITE, history(*operations), arrivals_frame([path]), PartsSeen(processes=(ProcessSeen("generator/1", 7, (moment,)),)),
        check="LOAD-1", title="the peak", what="In a test.", began_ns=BEGAN, ended_ns=BEGAN + 3 * SECOND,
    )  # fmt: skip


def test_each_second_has_what_was_due_done_acknowledged_and_failed(tmp_path: Path, history: History) -> None:
    operations = [
        _message(1, 0.5, 5, size_bytes=2_000_000),
        _message(2, 0.9, 5, size_bytes=1_000_000),
        _message(3, 2.5, 5, outcome=Outcome.REFUSED),
    ]
    arrivals = [_arrival(0.2), _arrival(0.995), _arrival(2.4, Fate.CUT)]
    [rates] = _picture(tmp_path, history, operations, arrivals).rates
    assert (rates.vip, rates.step_s) == ("HL7", 1.0)
    assert rates.offered_per_s == [2.0, 0.0, 1.0]
    assert rates.done_per_s == [1.0, 1.0, 0.0]  # the second one ended in the next second
    assert rates.operations_per_s == [2.0, 0.0, 0.0]
    assert rates.errors_per_s == [0.0, 0.0, 1.0]
    assert rates.mb_per_s == [3.0, 0.0, 0.0]


def test_vips_stand_in_the_order_of_the_site_and_only_those_that_took_part(tmp_path: Path, history: History) -> None:
    operations = [_message(1, 0.5, 5), _message(2, 0.5, 5, service=Service.DICOM, kind=Kind.INSTANCE)]
    picture = _picture(tmp_path, history, operations, [])
    assert [rates.vip for rates in picture.rates] == ["DICOM", "HL7"]
    assert [(each.vip, each.name) for each in picture.latencies] == [("DICOM", "C-STORE up to 1 MiB"), ("HL7", "HL7 message")]


def test_latencies_are_those_of_every_operation_with_the_limit_of_their_size(tmp_path: Path, history: History) -> None:
    operations = [_message(ms, 2, ms) for ms in range(1, 1001)]
    operations.append(_message(2001, 1, 7, service=Service.DICOM, kind=Kind.INSTANCE, size_bytes=(1 << 20) + 1))
    large, message = _picture(tmp_path, history, operations, []).latencies
    assert (message.n, message.p50_s, message.p99_s, message.p999_s, message.max_s) == (1000, 0.5, 0.99, 0.999, 1.0)
    assert message.p99_interval_s[0] < 0.99 < message.p99_interval_s[1]
    assert message.p99_limit_s == HL7.limits.p99_s
    assert large.p99_limit_s == DICOM.limits.large_p99_s


def test_of_few_operations_neither_p999_nor_the_upper_end_of_the_interval_is_told(tmp_path: Path, history: History) -> None:
    [message] = _picture(tmp_path, history, [_message(1, 1, 5)], []).latencies
    assert math.isnan(message.p999_s)
    assert message.p99_interval_s[0] == 0.005
    assert math.isnan(message.p99_interval_s[1])


def test_a_million_values_make_a_curve_of_some_hundred_points(tmp_path: Path, history: History) -> None:
    operations = [_message(ms, 2, ms / 10) for ms in range(1, 10_001)]
    [message] = _picture(tmp_path, history, operations, []).latencies
    assert len(message.curve) < 300


def test_every_node_has_its_share_of_the_whole_and_of_each_second(tmp_path: Path, history: History) -> None:
    operations = [_message(1, 0.5, 5), _message(2, 0.6, 5, node=b"mach7-2"), _message(3, 1.5, 5), _message(4, 1.6, 5)]
    first, second = _picture(tmp_path, history, operations, []).shares
    assert (first.vip, first.node, first.whole_share, first.share) == ("HL7", "mach7-1", 0.75, [0.5, 1.0])
    assert (second.node, second.whole_share, second.share) == ("mach7-2", 0.25, [0.5, 0.0])


def test_every_arrival_is_counted_once_and_whoever_made_it_late_is_named(tmp_path: Path, history: History) -> None:
    arrivals = [
        _arrival(0.1),
        _arrival(0.2, Fate.CUT),
        _arrival(0.3, Fate.DONE, WaitedFor.CLIENT),
        _arrival(0.4, Fate.CUT, WaitedFor.GENERATOR),
        _arrival(0.5, Fate.DROPPED, WaitedFor.CLIENT),
        _arrival(0.6, Fate.DROPPED, WaitedFor.CLIENT),
        _arrival(0.7, Fate.DROPPED, WaitedFor.GENERATOR),
    ]
    [tally] = _picture(tmp_path, history, [], arrivals).arrivals
    assert tally == ArrivalTally(
        vip="HL7", due=7, in_time=2, late_for_clients=1, late_for_generator=1, dropped_for_clients=2,
        dropped_for_generator=1, cut=2,
    )  # fmt: skip


def test_parts_are_drawn_over_the_time_of_the_run(tmp_path: Path, history: History) -> None:
    [part] = _picture(tmp_path, history, [], []).parts
    assert (part.kind, part.name, part.at_s) == ("generator", "1", [0.5, 1.5, 2.5])
    assert part.cpu_share[:2] == pytest.approx([0.5, 0.5])


def test_nothing_recorded_is_nothing_drawn(tmp_path: Path, history: History) -> None:
    picture = _picture(tmp_path, history, [], [])
    assert (picture.rates, picture.latencies, picture.shares, picture.arrivals, picture.duration_s) == ([], [], [], [], 3.0)


def _step(offered: float, achieved: float, p99_s: float | None = 0.001, failed: int = 0) -> checked.Step:
    return checked.Step(
        begun_ns=0, ended_ns=SECOND, offered_per_s=offered, achieved_per_s=achieved, p99_s=p99_s, large_p99_s=None,
        p99_low_s=p99_s, large_p99_low_s=None, failed=failed, late_by_generator=0.0, late_by_clients=0.0, parts=PartsSeen(),
    )  # fmt: skip


def test_the_knee_is_the_one_that_was_judged() -> None:
    steps = [_step(10, 10), _step(20, 20), _step(40, 25, None, 3)]
    knee = knee_of(HL7, steps, judge_knee(HL7, steps, required_per_s=15.0))
    assert (knee.vip, knee.unit, knee.knee_per_s, knee.bent, knee.required_per_s) == ("HL7", "messages", 20.0, True, 15.0)
    assert knee.steps[1] == Step(offered_per_s=20, achieved_per_s=20, p99_s=0.001, errors=0)
    assert math.isnan(knee.steps[2].p99_s)
    assert (knee.saturated, knee.evidence) == ("", [])


def test_a_load_that_bent_nothing_has_no_knee_but_a_bound() -> None:
    steps = [_step(10, 10), _step(1000 / 3, 1000 / 3)]
    knee = knee_of(HL7, steps, judge_knee(HL7, steps, required_per_s=15.0))
    assert (knee.knee_per_s, knee.bent) == (333.333, False)


def test_a_load_that_was_never_carried_has_no_rate() -> None:
    steps = [_step(10, 1)]
    knee = knee_of(HL7, steps, judge_knee(HL7, steps, required_per_s=15.0))
    assert (knee.knee_per_s, knee.bent) == (None, True)


def test_pairs_become_ratios_with_their_medians() -> None:
    pairs = [Pair(1_000_000, 1_000_000 + extra * 10_000, vip_first=extra % 2 == 0) for extra in range(1, 52)]
    [added] = added_of(HL7, {"HL7 message": pairs, "nothing": []})
    assert (added.vip, added.name, added.n, len(added.ratios)) == ("HL7", "HL7 message", 51, 51)
    assert added.ratio == pytest.approx(1.26)
    assert added.added_s == pytest.approx(0.00026)
    assert added.ratio_interval[0] < added.ratio < added.ratio_interval[1]
    assert added.added_limit_s == HL7.limits.added_s


def test_very_many_pairs_are_thinned_and_keep_their_ends() -> None:
    pairs = [Pair(1000, 1000 + extra, vip_first=True) for extra in range(5000)]
    [added] = added_of(HL7, {"HL7 message": pairs})
    assert (added.n, len(added.ratios), added.ratios[0], added.ratios[-1]) == (5000, 300, 1.0, 5.999)


def test_a_storm_counts_each_client_when_it_was_first_served(history: History) -> None:
    instant_s = 1.0
    operations = history(
        _message(1, 0.9, 5, source="127.1.0.1"),  # at its leisure, before all came back
        _message(2, 1.5, 5, source="127.1.0.1"),
        _message(3, 1.25, 5, source="127.1.0.2", outcome=Outcome.REFUSED),
        _message(4, 2.0, 5, source="127.1.0.2"),
        _message(5, 2.5, 5, source="127.1.0.2"),
    )
    storm = storm_of(HL7, operations, clients=3, instant_ns=BEGAN + round(instant_s * SECOND))
    assert storm.served == [(0.5, 1), (1.0, 2)]
    assert (storm.clients, storm.limit_s) == (3, HL7.limits.storm_s)


def test_a_storm_that_nobody_weathered_is_empty(history: History) -> None:
    assert storm_of(HL7, history(), clients=3, instant_ns=BEGAN).served == []
