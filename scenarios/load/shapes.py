"""How many arrivals a second one user plan asks for at which moment, as data. Pure: no clock runs here.

Times are in seconds after the start of the run, rates in arrivals a second over all generators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .plan import PlanError, UserPlan

_HOURS_A_DAY = 24
_LEISURE_SHARE = 0.6  # of a storm's time, in which its clients connect one after the other
_LONGEST_LEISURE_S = 10.0
_HUSH_SHARE = 0.1  # of a storm's time, between the last client's hanging up and the instant at which all come back
_LONGEST_HUSH_S = 1.5


class Piece(NamedTuple):
    """A stretch of time with one rate."""

    begins_s: float
    ends_s: float
    rate: float


class Storm(NamedTuple):
    """A storm: clients connect from `begins_s` on, all hang up at `hush_s`, all come back at `instant_s`."""

    begins_s: float
    hush_s: float
    instant_s: float

    def connects_s(self, number: int, clients: int) -> float:
        """Return when client `number` of `clients`, counted from 0, connects at its leisure."""
        return self.begins_s + (self.hush_s - self.begins_s) * number / clients


def pieces_of(plan: UserPlan) -> tuple[Piece, ...]:
    """Return the rates of a plan in their order; none for shapes that know no rate (`storm`, `closed`).

    Raises
    ------
    PlanError
        When a day has not 24 hourly factors, or steps do not lead anywhere.
    """
    shape, begins_s, ends_s = plan.shape, plan.starts_s, plan.starts_s + plan.lasts_s
    if shape.kind == "steady":
        return (Piece(begins_s, ends_s, plan.rate),)
    if shape.kind == "day":
        if len(shape.hours) != _HOURS_A_DAY or min(shape.hours) < 0:
            raise PlanError(f"{plan.kind}: shape.hours: expected {_HOURS_A_DAY} factors of 0 or more, found {shape.hours}")
        hour_s = plan.lasts_s / _HOURS_A_DAY
        return tuple(
            Piece(begins_s + hour * hour_s, begins_s + (hour + 1) * hour_s, plan.rate * factor)
            for hour, factor in enumerate(shape.hours)
        )
    if shape.kind == "steps":
        return tuple(_steps(plan, begins_s, ends_s))
    return ()


def rate_at(pieces: Sequence[Piece], at_s: float) -> float:
    """Return the rate at a moment; 0 outside of all pieces."""
    return next((piece.rate for piece in pieces if piece.begins_s <= at_s < piece.ends_s), 0.0)


def storm_of(plan: UserPlan) -> Storm:
    """Return the moments of a storm: 60 % of its time (10 s at most) to connect at leisure, and a short hush.

    Raises
    ------
    PlanError
        When the plan is none.
    """
    if plan.shape.kind != "storm":
        raise PlanError(f"{plan.kind}: expected a storm, found the shape {plan.shape.kind}")
    hush_s = plan.starts_s + min(_LONGEST_LEISURE_S, _LEISURE_SHARE * plan.lasts_s)
    return Storm(plan.starts_s, hush_s, hush_s + min(_LONGEST_HUSH_S, _HUSH_SHARE * plan.lasts_s))


def _steps(plan: UserPlan, begins_s: float, ends_s: float) -> list[Piece]:
    shape = plan.shape
    if shape.step_s <= 0 or shape.factor <= 0:
        raise PlanError(
            f"{plan.kind}: shape: expected step_s and factor above 0, found step_s {shape.step_s:g}, factor {shape.factor:g}"
        )
    found: list[Piece] = []
    while begins_s + len(found) * shape.step_s < ends_s:
        at_s = begins_s + len(found) * shape.step_s
        found.append(Piece(at_s, min(at_s + shape.step_s, ends_s), plan.rate * shape.factor ** len(found)))
    return found
