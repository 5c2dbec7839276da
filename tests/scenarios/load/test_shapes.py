from __future__ import annotations

import pytest

from scenarios.load.plan import PlanError, Shape, UserPlan
from scenarios.load.shapes import Piece, Storm, pieces_of, rate_at, storm_of


def plan(shape: Shape, *, rate: float = 4.0, starts_s: float = 2.0, lasts_s: float = 10.0) -> UserPlan:
    return UserPlan(kind="modality", clients=4, rate=rate, starts_s=starts_s, lasts_s=lasts_s, shape=shape)


def test_a_steady_plan_has_one_rate_from_its_start_to_its_end() -> None:
    assert pieces_of(plan(Shape())) == (Piece(2.0, 12.0, 4.0),)


def test_each_step_has_its_factor_times_the_rate_of_the_one_before_and_the_last_is_cut() -> None:
    pieces = pieces_of(plan(Shape(kind="steps", step_s=4.0, factor=2.0)))
    assert pieces == (Piece(2.0, 6.0, 4.0), Piece(6.0, 10.0, 8.0), Piece(10.0, 12.0, 16.0))


def test_a_day_is_squeezed_into_the_duration_hour_by_hour() -> None:
    hours = (0.0,) * 8 + (1.0, 0.5) + (0.25,) * 14
    pieces = pieces_of(plan(Shape(kind="day", hours=hours), lasts_s=24.0))
    assert len(pieces) == 24
    assert pieces[8] == Piece(10.0, 11.0, 4.0)
    assert pieces[9] == Piece(11.0, 12.0, 2.0)


def test_a_day_without_24_hours_is_refused() -> None:
    with pytest.raises(PlanError, match="expected 24 factors"):
        pieces_of(plan(Shape(kind="day", hours=(1.0,))))


def test_steps_that_take_no_time_are_refused() -> None:
    with pytest.raises(PlanError, match="step_s"):
        pieces_of(plan(Shape(kind="steps", step_s=0.0)))


def test_outside_of_a_plan_nothing_is_asked_for() -> None:
    pieces = pieces_of(plan(Shape()))
    assert [rate_at(pieces, at_s) for at_s in (1.9, 2.0, 11.9, 12.0)] == [0.0, 4.0, 4.0, 0.0]


@pytest.mark.parametrize("kind", ["storm", "closed"])
def test_storms_and_closed_loops_know_no_rate(kind: str) -> None:
    shape = Shape(kind="storm") if kind == "storm" else Shape(kind="closed")
    assert pieces_of(plan(shape)) == ()


def test_the_clients_of_a_storm_connect_within_six_tenths_of_its_time_and_come_back_after_a_hush() -> None:
    assert storm_of(plan(Shape(kind="storm"))) == Storm(2.0, 8.0, 9.0)


def test_the_leisure_of_a_storm_lasts_ten_seconds_at_most() -> None:
    assert storm_of(plan(Shape(kind="storm"), starts_s=0.0, lasts_s=100.0)) == Storm(0.0, 10.0, 11.5)


def test_the_clients_of_a_storm_connect_one_after_the_other() -> None:
    storm = Storm(2.0, 8.0, 9.0)
    assert [storm.connects_s(number, 4) for number in range(4)] == [2.0, 3.5, 5.0, 6.5]


def test_only_a_storm_has_the_moments_of_one() -> None:
    with pytest.raises(PlanError, match="expected a storm, found the shape steady"):
        storm_of(plan(Shape()))
