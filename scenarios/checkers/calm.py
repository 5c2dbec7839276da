"""What was measured in calm: while neither the generator was late nor all cores of the machine were busy.

On a machine that others use too, a stall of a tenth of a second makes whatever was under way look slow. That a service is
slow is therefore believed only of operations that met no such stall. The opposite is not done: nothing passes because its
slow moments were left out.

Others need not take every core to make a service slow: where they used more than a fifth of one, a latency above its limit
is nobody's proven failure (`shared`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from scenarios.checkers.generator import LAG_SHARE_OF_LIMIT
from scenarios.checkers.saturation import MACHINE_BUSY_SHARE, STRANGERS
from scenarios.load_runs.parts_seen import GENERATOR, PartsSeen

STRANGE_CORES = 0.2  # on average: a fifth of a core is a program at work, not a system that idles
Spans = list[tuple[int, int]]


def disturbed(parts: PartsSeen, limit_s: float) -> Spans:
    """Return when the measuring itself was disturbed: begins and ends, in order, none overlapping another.

    Parameters
    ----------
    parts : PartsSeen
        With the pulses of the generators.
    limit_s : float
        The latency that is judged; a generator that woke later than a third of it in some second disturbs that second.
    """
    late = [
        (moment.at_ns - round(moment.over_s * 1e9), moment.at_ns)
        for seen in parts.of(GENERATOR)
        for moment in seen.moments
        if moment.lag_max_s > limit_s * LAG_SHARE_OF_LIMIT
    ]
    crowded = [
        (moment.at_ns - round(moment.over_s * 1e9), moment.at_ns)
        for moment in parts.machine
        if moment.busy_cores >= MACHINE_BUSY_SHARE * moment.cores
    ]
    merged: Spans = []
    for begin_ns, end_ns in sorted(late + crowded):
        if merged and begin_ns <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_ns))
        else:
            merged.append((begin_ns, end_ns))
    return merged


def in_calm(operations: pl.DataFrame, spans: Spans) -> pl.DataFrame:
    """Return the operations no moment of which, from their intended start to their end, lies in one of the spans."""
    if not spans:
        return operations
    begins, ends = (np.array(column, dtype=np.int64) for column in zip(*spans, strict=True))
    return operations.filter(pl.Series(~_meets(operations, begins, ends)))


def shared(parts: PartsSeen, window_ns: tuple[int, int], spans: Spans = []) -> str:  # noqa: B006  never changed
    """Say in words that others used the machine, in a window or in the calm part of it; empty when they did not.

    Parameters
    ----------
    parts : PartsSeen
        What was seen. Where the machine was not, nothing is said: the parts are on others.
    window_ns : (int, int)
        First and last moment that is judged.
    spans : list of (int, int)
        What of it was disturbed, in order.
    """
    calm = _together([parts.during(*gap) for gap in _between(window_ns, spans)])
    used = max(seen.strange_cores() or 0.0 for seen in (parts.during(*window_ns), calm))
    if used <= STRANGE_CORES:
        return ""
    return f"the machine was shared with others: {STRANGERS} used {used:.2f} cores on average (at most {STRANGE_CORES:g})"


def _between(window_ns: tuple[int, int], spans: Spans) -> Spans:
    """Return the parts of a window that lie in no span."""
    edges = [window_ns[0], *(min(max(edge, window_ns[0]), window_ns[1]) for span in spans for edge in span), window_ns[1]]
    return [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if begin < end]


def _together(pieces: list[PartsSeen]) -> PartsSeen:
    return PartsSeen(
        processes=tuple(seen for piece in pieces for seen in piece.processes),
        balancer=tuple(moment for piece in pieces for moment in piece.balancer),
        machine=tuple(moment for piece in pieces for moment in piece.machine),
    )


def _meets(operations: pl.DataFrame, begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    intended, ended = operations["intended_ns"].to_numpy(), operations["ended_ns"].to_numpy()
    place = np.searchsorted(ends, intended, side="right")  # the first span that ends after the intended start
    found: npt.NDArray[np.bool_] = (place < len(ends)) & (begins[np.minimum(place, len(ends) - 1)] < ended)
    return found
