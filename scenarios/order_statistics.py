"""Quantiles with intervals that hold for any distribution: from the order of the values alone.

The k-th smallest of n independent values lies above the true quantile q with the probability that a binomial variable of n
trials and chance q is below k (David and Nagaraja, Order Statistics, 7.1). Latencies of one run are not quite independent, so
an interval is as good as the run was long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95  # of an interval; each of its ends is beyond the true value by a chance of 2.5 % at most
Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A quantile of n values and the interval that encloses the true one; None for an end that n is too small for."""

    n: int
    value: float
    low: float | None
    high: float | None


def quantile(values: Sequence[float] | Floats, share: float, confidence: float = CONFIDENCE) -> Estimate:
    """Return a quantile with its interval.

    Parameters
    ----------
    values : array of n >= 1 numbers
        In any order.
    share : float
        0.99 for the 99th percentile: the smallest value that at least this share of the values do not exceed.
    confidence : float
        Of the interval; half of what is left is the chance for each of its ends.

    Raises
    ------
    ValueError
        Of no values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = int(ordered.size)
    if not n:
        raise ValueError("quantile: expected at least one value, found none")
    below = _binomial_below(n, share)  # below[k]: the chance of fewer than k
    chance = (1 - confidence) / 2
    low = int(np.searchsorted(below, chance, side="right")) - 1  # the last k whose chance is small enough
    high = int(np.searchsorted(below, 1 - chance, side="left"))  # the first one of which that holds from the other side
    return Estimate(
        n, float(ordered[max(math.ceil(n * share), 1) - 1]), float(ordered[low - 1]) if low >= 1 else None,
        float(ordered[high - 1]) if high <= n else None,
    )  # fmt: skip


def median(values: Sequence[float] | Floats, confidence: float = CONFIDENCE) -> Estimate:
    """Return the median with its interval; of an even number of values the mean of the middle two. See `quantile`."""
    estimate = quantile(values, 0.5, confidence)
    return estimate._replace(value=float(np.median(np.asarray(values, dtype=np.float64))))


def _binomial_below(n: int, share: float) -> Floats:
    """Return P(Binomial(n, share) < k) for k = 0 to n."""
    k = np.arange(n + 1, dtype=np.float64)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(k[1:]))))
    log_chance = log_factorial[n] - log_factorial - log_factorial[::-1] + k * math.log(share) + (n - k) * math.log1p(-share)
    return np.concatenate(([0.0], np.cumsum(np.exp(log_chance))[:-1]))
