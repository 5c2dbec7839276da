"""A median with an interval that holds for any distribution, from the order of the values alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scenarios.checkers.latency import CONFIDENCE, enclosing_places


class Estimate(NamedTuple):
    """A median of n values, and the interval that encloses the true one; None for an end that n is too small for."""

    n: int
    value: float
    low: float | None
    high: float | None


def median(values: Sequence[float] | npt.NDArray[np.float64], confidence: float = CONFIDENCE) -> Estimate:
    """Return the median of n >= 1 values with its interval; each end is beyond the true median by half of what is left."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    low, high = enclosing_places(len(ordered), 0.5, confidence)
    return Estimate(
        len(ordered), float(np.median(ordered)), None if low is None else float(ordered[low]),
        None if high is None else float(ordered[high]),
    )  # fmt: skip
