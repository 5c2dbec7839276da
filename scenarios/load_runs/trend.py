"""How fast something grows: a robust slope with an interval that knows of serial correlation.

The slope is Theil's and Sen's (the median of the slopes of all pairs of points), which single steps and spikes do not move as
they would a least-squares line. It is taken over the medians of equal blocks of time, because memory is read every second
and changes every few minutes. The interval is Sen's (1968), from the variance of Kendall's S, which is widened for what
serial correlation of the residuals is left (Hamed and Rao, 1998, with the lag of one block).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BLOCKS = 24
CONFIDENCE = 0.95
_Floats = npt.NDArray[np.float64]


class Slope(NamedTuple):
    """Growth in units a second, with its interval, from so many blocks that together last `over_s`."""

    per_s: float
    low_per_s: float
    high_per_s: float
    blocks: int
    over_s: float


def slope(at_s: Sequence[float], values: Sequence[float], blocks: int = BLOCKS) -> Slope | None:
    """Return the slope of a series.

    Parameters
    ----------
    at_s : sequence of float
        When, in seconds, rising.
    values : sequence of float
        What was seen then.
    blocks : int
        Into how many equal spans the time is cut; one without any value is left out.

    Returns
    -------
    Slope or None
        None when fewer than half of the blocks hold a value: too little to tell.
    """
    if len(at_s) < blocks:
        return None
    times, seen = np.asarray(at_s, np.float64), np.asarray(values, np.float64)
    edges = np.linspace(times[0], times[-1], blocks + 1)
    place = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, blocks - 1)
    held = [block for block in range(blocks) if (place == block).any()]
    if len(held) < max(blocks / 2, 4):
        return None
    x = np.array([np.median(times[place == block]) for block in held])
    y = np.array([np.median(seen[place == block]) for block in held])
    later, earlier = np.tril_indices(len(x), -1)
    slopes = np.sort((y[later] - y[earlier]) / (x[later] - x[earlier]))
    middle = float(np.median(slopes))
    half = _half_width(y - middle * x, len(slopes))
    low, high = math.floor((len(slopes) - half) / 2), math.ceil((len(slopes) + half) / 2)
    return Slope(
        middle, float(slopes[max(low, 0)]), float(slopes[min(high, len(slopes) - 1)]), len(x), float(times[-1] - times[0])
    )


def _half_width(residuals: _Floats, pairs: int) -> float:
    """Return how many of the sorted slopes the interval spans: twice the deviation of Kendall's S that chance explains."""
    n = len(residuals)
    variance = n * (n - 1) * (2 * n + 5) / 18
    correlation = _lag_one(residuals)
    widened = variance * (1 + correlation) / (1 - correlation)
    return min(NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(widened), float(pairs))


def _lag_one(residuals: _Floats) -> float:
    """Return the correlation of neighbouring residuals, 0 to 0.9: what is negative narrows nothing."""
    centred = residuals - residuals.mean()
    total = float(centred @ centred)
    return min(max(float(centred[1:] @ centred[:-1]) / total, 0.0), 0.9) if total else 0.0
