"""The open-loop clock: when each arrival is due, and whose fault it is when it begins later. Pure.

The arrivals of a user plan are drawn once, from the plan's seed, before the run: arrival i belongs to generator i mod n, and
there the client that has been free longest takes it. So the same seed gives the same arrivals whatever the number of
generators, and whatever the answers take: an arrival that finds no client free waits, and its waiting counts as latency.

Studies, messages and web sessions arrive as a Poisson process (many people who know nothing of each other); worklists are
asked for by clocks: each client has its period, and a phase that the seed gives it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .plan import UserPlan
from .records import WaitedFor
from .shapes import Piece, pieces_of

LATE_NS = 50_000_000  # by so much an arrival may begin late and still count as in time: people and machines notice no less
_KIND_NUMBERS = {"modality": 1, "worklist": 2, "engine": 3, "viewer": 4}  # part of the seed: never to be changed
_AT_ONCE = 512
_Floats = NDArray[np.float64]


class Schedule(NamedTuple):
    """The arrivals of one plan at one generator, in their order; each array has one entry for each of them.

    `due_s` are seconds after the start of the run; `choices` lie in [0, 1) and decide what arrives; `rates` are what the
    plan intends then, in arrivals a second over all generators.
    """

    due_s: _Floats
    choices: _Floats
    rates: _Floats

    def each(self) -> Iterator[tuple[float, float, float]]:
        """Yield arrival by arrival, a part of them at a time: as numbers of Python all would take four times the memory."""
        for begin in range(0, len(self.due_s), _AT_ONCE):
            yield from zip(*(values[begin : begin + _AT_ONCE].tolist() for values in self), strict=True)


def schedule_of(plan: UserPlan, seed: int, place: int, *, index: int = 0, generators: int = 1) -> Schedule:
    """Return a generator's share of the arrivals of a user plan.

    Parameters
    ----------
    plan : UserPlan
        Of a shape with a rate.
    seed, place : int
        The run's seed, and the place of the plan among all of the run: they alone make the random choices.
    index, generators : int
        The arrivals `index`, `index` + `generators`, … are its own.

    Raises
    ------
    PlanError
        When the shape cannot be played.
    """
    pieces = pieces_of(plan)
    edges_s, expected = _cumulative(pieces)
    chance = np.random.default_rng((seed, place, _KIND_NUMBERS[plan.kind]))
    total = float(expected[-1])
    units = _clocks(chance, total, plan.clients) if plan.kind == "worklist" else _poisson(chance, total)
    due_s = np.interp(units, expected, edges_s)
    choices = chance.random(len(due_s))
    mine = slice(index, None, generators)
    which = np.clip(np.searchsorted(edges_s, due_s, side="right") - 1, 0, len(pieces) - 1)
    rates = np.array([piece.rate for piece in pieces])[which] if pieces else np.empty(0)
    return Schedule(due_s[mine], choices[mine], rates[mine])


def waited_for(due_ns: int, handed_ns: int, free_ns: int, begun_ns: int) -> WaitedFor:
    """Say why an arrival began when it did.

    Parameters
    ----------
    due_ns : int
        When it was due.
    handed_ns : int
        When the generator woke for it, and offered it to its clients.
    free_ns : int
        Since when the client that took it had been free.
    begun_ns : int
        When it began.

    Returns
    -------
    WaitedFor
        NOTHING up to 50 ms. GENERATOR when the generator itself used up those: it woke late for the arrival, or let a free
        client wait. CLIENT when it was the wait for a client to be free.
    """
    if begun_ns - due_ns <= LATE_NS:
        return WaitedFor.NOTHING
    of_generator_ns = (handed_ns - due_ns) + (begun_ns - max(handed_ns, free_ns))
    return WaitedFor.GENERATOR if of_generator_ns > LATE_NS else WaitedFor.CLIENT


def _cumulative(pieces: tuple[Piece, ...]) -> tuple[_Floats, _Floats]:
    """Return the edges of all pieces, and how many arrivals are expected up to each."""
    if not pieces:
        return np.zeros(1), np.zeros(1)
    edges = np.array([pieces[0].begins_s, *(piece.ends_s for piece in pieces)])
    each = [piece.rate * (piece.ends_s - piece.begins_s) for piece in pieces]
    return edges, np.concatenate(([0.0], np.cumsum(each)))


def _poisson(chance: np.random.Generator, total: float) -> _Floats:
    """Return the points below `total` of a Poisson process of rate 1."""
    found, last = [np.empty(0)], 0.0
    while last < total:
        some = last + np.cumsum(chance.exponential(size=1024))
        found.append(some)
        last = float(some[-1])
    points = np.concatenate(found)
    return points[points < total]


def _clocks(chance: np.random.Generator, total: float, clients: int) -> _Floats:
    """Return the points below `total` of as many clocks as there are clients, each with its phase and the same period."""
    phases = chance.random(clients) * clients
    points = (phases + clients * np.arange(int(total / clients) + 1)[:, np.newaxis]).ravel()
    return np.sort(points[points < total])
