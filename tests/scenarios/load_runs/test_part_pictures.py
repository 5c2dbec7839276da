"""What parts did over time: moments of any length, laid upon equal steps."""

from __future__ import annotations

import math

import pytest

from scenarios.load_runs.part_pictures import Grid, part_series
from scenarios.load_runs.parts_seen import BalancerMoment, MachineMoment, PartsSeen, ProcessMoment, ProcessSeen
from tests.scenarios.conftest import SECOND

GRID = Grid(100 * SECOND, 4.0, 180)


def _process(at_s: float, over_s: float, cpu: float, *, lag_s: float = 0.001, rss: int = 50_000_000) -> ProcessMoment:
    """Return a moment that ended so many seconds after the run's begin."""
    at_ns = round((100 + at_s) * SECOND)
    return ProcessMoment(at_ns, over_s, cpu, lag_s, lag_s / 2, 20, rss, 3, 100)


def _machine(at_s: float, busy: float) -> MachineMoment:
    return MachineMoment(round((100 + at_s) * SECOND), 1.0, 2, busy, 0.1, 0, (), 10, 28000, "")


def _balancer(at_s: float, cpu: float | None) -> BalancerMoment:
    return BalancerMoment(round((100 + at_s) * SECOND), 1.0, 0.8, cpu, 2, 10, 1000, 5, 20, 0, 0, 40, 2000, 30_000_000, ())


def _seen(part: str, *moments: ProcessMoment, pid: int = 1) -> ProcessSeen:
    return ProcessSeen(part, pid, moments)


def test_a_step_is_a_second_and_longer_only_where_there_would_be_too_many() -> None:
    grids = [Grid(0, duration_s, 180) for duration_s in (0.0, 3.2, 180.0, 1800.0)]
    assert [(grid.step_s, grid.steps) for grid in grids] == [(1.0, 1), (1.0, 4), (1.0, 180), (10.0, 180)]


def test_a_moment_counts_in_each_step_for_as_long_as_it_lies_in_it() -> None:
    moments = [_process(1.5, 1.5, 0.2), _process(2.5, 1.0, 0.6), _process(4.0, 1.5, 1.0)]
    [part] = part_series(PartsSeen(processes=(_seen("generator/1", *moments),)), GRID)
    assert part.cpu_share == pytest.approx([0.2, 0.4, 0.8, 1.0])
    assert part.at_s == [0.5, 1.5, 2.5, 3.5]


def test_what_was_not_seen_is_not_a_number() -> None:
    [part] = part_series(PartsSeen(processes=(_seen("generator/1", _process(2.0, 1.0, 0.2)),)), GRID)
    assert [math.isnan(value) for value in part.cpu_share] == [True, False, True, True]
    assert [math.isnan(value) for value in part.lag_s] == [True, False, True, True]


def test_the_latest_wake_up_of_a_step_is_kept() -> None:
    moments = [_process(0.5, 0.5, 0.1, lag_s=0.003), _process(1.0, 0.5, 0.1, lag_s=0.2), _process(2.0, 1.0, 0.1, lag_s=0.01)]
    [part] = part_series(PartsSeen(processes=(_seen("generator/1", *moments),)), GRID)
    assert part.lag_s[:2] == [0.2, 0.01]


def test_the_processes_of_a_service_are_one_part() -> None:
    both = (
        _seen("node/mach7-1/dicom", _process(1.0, 1.0, 0.3, lag_s=0.01), pid=1),
        _seen("node/mach7-1/dicom", _process(1.0, 1.0, 0.5, lag_s=0.02), _process(2.0, 1.0, 0.4), pid=2),
    )
    [part] = part_series(PartsSeen(processes=both), GRID, memory=True)
    assert (part.kind, part.node, part.name, part.capacity_cores) == ("node", "mach7-1", "dicom", 2.0)
    assert part.cpu_share[:2] == pytest.approx([0.8, 0.4])
    assert part.lag_s[0] == 0.02
    assert part.memory_mb[:2] == pytest.approx([100.0, 50.0])


def test_memory_is_told_only_where_it_is_asked_for() -> None:
    [part] = part_series(PartsSeen(processes=(_seen("generator/1", _process(1.0, 1.0, 0.3)),)), GRID)
    assert part.memory_mb == []


def test_what_the_machine_did_for_others_is_told_apart() -> None:
    seen = PartsSeen(
        processes=(_seen("generator/1", _process(1.0, 1.0, 0.3)),),
        balancer=(_balancer(1.0, 0.2),),
        machine=(_machine(1.0, 1.7), _machine(2.0, 0.05)),
    )
    machine, strange, balancer, _ = part_series(seen, GRID)
    assert (machine.kind, machine.capacity_cores, strange.name) == ("machine", 2.0, "not of this run")
    assert machine.cpu_share[:2] == pytest.approx([1.7, 0.05])
    assert strange.cpu_share[:2] == pytest.approx([1.1, 0.0])  # 1.7 without 0.3, 0.2 and the harness's own 0.1
    assert (balancer.kind, balancer.capacity_cores) == ("balancer", 2.0)
    assert balancer.cpu_share[0] == pytest.approx(0.2)


def test_a_balancer_on_another_machine_is_not_drawn() -> None:
    assert part_series(PartsSeen(balancer=(_balancer(1.0, None),)), GRID) == []


def test_nothing_seen_is_nothing_drawn() -> None:
    assert part_series(PartsSeen(), GRID) == []
