from __future__ import annotations

import numpy as np
import pytest

from scenarios.load.arrivals import Schedule, schedule_of, waited_for
from scenarios.load.plan import Shape, UserKind, UserPlan
from scenarios.load.records import WaitedFor

MS = 1_000_000


def plan(kind: UserKind = "modality", *, rate: float = 50.0, shape: Shape | None = None, clients: int = 8) -> UserPlan:
    return UserPlan(kind=kind, clients=clients, rate=rate, starts_s=3.0, lasts_s=40.0, shape=shape or Shape())


def merged(parts: list[Schedule]) -> np.ndarray:
    return np.sort(np.concatenate([part.due_s for part in parts]))


def test_the_same_seed_gives_the_same_arrivals() -> None:
    first, second = schedule_of(plan(), 7, 0), schedule_of(plan(), 7, 0)
    assert np.array_equal(first.due_s, second.due_s)
    assert np.array_equal(first.choices, second.choices)


@pytest.mark.parametrize("other", [(8, 0), (7, 1)])
def test_another_seed_or_place_gives_other_arrivals(other: tuple[int, int]) -> None:
    assert not np.array_equal(schedule_of(plan(), 7, 0).due_s[:10], schedule_of(plan(), *other).due_s[:10])


@pytest.mark.parametrize("kind", ["modality", "worklist"])
@pytest.mark.parametrize("generators", [2, 3, 7])
def test_the_arrivals_do_not_depend_on_the_number_of_generators(kind: UserKind, generators: int) -> None:
    alone = schedule_of(plan(kind), 7, 0)
    parts = [schedule_of(plan(kind), 7, 0, index=index, generators=generators) for index in range(generators)]
    assert np.array_equal(merged(parts), alone.due_s)
    assert parts[1].choices[0] == alone.choices[1]


def test_arrivals_lie_within_their_plan_and_in_order() -> None:
    due_s = schedule_of(plan(), 7, 0).due_s
    assert due_s[0] >= 3.0
    assert due_s[-1] < 43.0
    assert np.all(np.diff(due_s) >= 0)


def test_the_number_of_arrivals_is_that_of_a_poisson_process() -> None:
    counts = [len(schedule_of(plan(), seed, 0).due_s) for seed in range(200)]
    assert 1990 < np.mean(counts) < 2010  # 2,000 expected, its error is 3.2
    assert 35 < np.std(counts) < 55  # the root of 2,000 is 44.7


def test_steps_bring_arrivals_at_the_rate_of_each_step() -> None:
    shape = Shape(kind="steps", step_s=20.0, factor=4.0)
    schedule = schedule_of(plan(shape=shape), 7, 0)
    first, second = np.count_nonzero(schedule.due_s < 23.0), np.count_nonzero(schedule.due_s >= 23.0)
    assert 850 < first < 1150
    assert 3700 < second < 4300
    assert set(schedule.rates[:first]) == {50.0}
    assert set(schedule.rates[first:]) == {200.0}


def test_an_hour_without_a_rate_brings_nothing() -> None:
    shape = Shape(kind="day", hours=(0.0,) * 12 + (1.0,) * 12)
    assert schedule_of(plan(shape=shape), 7, 0).due_s[0] >= 23.0


def test_each_worklist_client_asks_by_its_own_clock() -> None:
    due_s = schedule_of(plan("worklist", rate=2.0, clients=4), 7, 0).due_s
    assert len(due_s) == 80
    assert np.allclose(due_s[4:] - due_s[:-4], 2.0)
    assert len(set(np.round(np.diff(due_s[:5]), 6))) > 1  # the phases are not a comb


def test_a_plan_without_a_rate_has_no_arrivals() -> None:
    assert len(schedule_of(plan(rate=0.0), 7, 0).due_s) == 0
    assert len(schedule_of(plan(shape=Shape(kind="closed")), 7, 0).due_s) == 0


@pytest.mark.parametrize(
    ("due_ns", "handed_ns", "free_ns", "begun_ns", "expected"),
    [
        (1000 * MS, 1000 * MS, 0, 1050 * MS, WaitedFor.NOTHING),
        (1000 * MS, 1060 * MS, 0, 1060 * MS, WaitedFor.GENERATOR),  # it woke late
        (1000 * MS, 1001 * MS, 0, 1061 * MS, WaitedFor.GENERATOR),  # it woke in time, and let a free client wait
        (1000 * MS, 1001 * MS, 1200 * MS, 1201 * MS, WaitedFor.CLIENT),  # all were busy until then
        (1000 * MS, 1100 * MS, 1200 * MS, 1201 * MS, WaitedFor.GENERATOR),  # both: it is not to be trusted
        (1000 * MS, 1030 * MS, 1100 * MS, 1101 * MS, WaitedFor.CLIENT),
    ],
)
def test_a_late_start_is_the_generators_fault_when_it_alone_took_more_than_50_ms(
    due_ns: int, handed_ns: int, free_ns: int, begun_ns: int, expected: WaitedFor
) -> None:
    assert waited_for(due_ns, handed_ns, free_ns, begun_ns) is expected


@pytest.mark.parametrize("seconds", [0.0, 40.0, 400.0])
def test_each_arrival_of_a_schedule_comes_once_and_in_order(seconds: float) -> None:
    user = UserPlan(kind="engine", clients=4, rate=50.0, starts_s=3.0, lasts_s=seconds, shape=Shape())
    schedule = schedule_of(user, 7, 0)
    each = list(schedule.each())
    assert each == list(zip(schedule.due_s.tolist(), schedule.choices.tolist(), schedule.rates.tolist(), strict=True))
    assert len(each) == pytest.approx(50 * seconds, rel=0.1)
