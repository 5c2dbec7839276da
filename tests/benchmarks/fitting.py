"""What each part costs for each thing that it does, by least squares with intervals. Pure: points in, prices out.

A point is a short run at steady rates: how often everything happened a second, and how many cores each part used. A part's
CPU is taken to be a sum: what it costs to stand there, and a price for everything that happens. A price is in CPU seconds for
one of its units (an association, an image, a byte, …), which is cores for one unit a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

STANDING = "standing"  # the unit that happens once a second, always: its price is what a part costs without traffic
CONFIDENCE = 0.95
_LEAST_CORES = 0.01  # below, a point counts as if its part had used so much: a tick of the kernel's clock is no finer
_Floats = npt.NDArray[np.float64]


class FitError(Exception):
    """Prices cannot be found; the message says why."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One run at steady rates.

    `happened` is how often each unit happened a second, `cores` what each part used, `strange_cores` what was used by
    whatever is no part of the run, each on average over `over_s` seconds. A point that is `held_out` checks prices, and
    makes none.
    """

    name: str
    over_s: float
    happened: dict[str, float]
    cores: dict[str, float]
    strange_cores: float
    held_out: bool = False


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds for one unit, and the interval that encloses the true price with 95 % confidence, if the model is right."""

    cpu_s: float
    low_s: float
    high_s: float


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of one part.

    `relative_error` is the root of the mean square of (predicted - measured) / measured over the points that made it.
    `untold` are units whose price could not be told from 0: they are left out.
    """

    part: str
    prices: dict[str, Price]
    points: int
    relative_error: float
    untold: tuple[str, ...] = ()

    def cores(self, happened: Mapping[str, float]) -> float:
        """Return the cores that the part uses when everything happens so often a second."""
        often = {STANDING: 1.0, **happened}
        return sum(price.cpu_s * often.get(unit, 0.0) for unit, price in self.prices.items())


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One held-out point: cores of a part as predicted and as measured."""

    point: str
    part: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """By which fraction of what was measured the prediction is too high."""
        return self.predicted / self.measured - 1


def tariff_of(part: str, points: Sequence[Point], units: Sequence[str]) -> Tariff:
    """Find the prices of one part.

    Each point weighs as the inverse square of what was measured there, so that the sum of squared *relative* errors is least:
    a price must hold at a tenth of a core as at a whole one. A price below 0 is none: the unit is left out, and the rest is
    found again without it.

    Parameters
    ----------
    part : str
        Whose; points that did not see it, and held-out ones, take no part.
    points : sequence of Point
        At least one more than units.
    units : sequence of str
        What it may cost something for; STANDING among them, if it is to have a standing price.

    Raises
    ------
    FitError
        When there are too few points, or a unit happens in none of them, or only ever together with others.
    """
    seen = [point for point in points if part in point.cores and not point.held_out]
    left = list(units)
    while True:
        prices, error = _prices(part, seen, left)
        least = min(left, key=lambda unit: prices[unit].cpu_s)
        if prices[least].cpu_s >= 0:
            untold = tuple(unit for unit in units if unit not in left)
            return Tariff(part=part, prices=prices, points=len(seen), relative_error=error, untold=untold)
        left.remove(least)
        if not left:
            raise FitError(f"{part}: expected a price above 0, found none")


def check(tariffs: Sequence[Tariff], points: Sequence[Point]) -> list[Checked]:
    """Return what the tariffs predict of every held-out point, beside what was measured."""
    return [
        Checked(
            point=point.name, part=tariff.part, predicted=tariff.cores(point.happened), measured=point.cores[tariff.part]
        )
        for point in points
        if point.held_out
        for tariff in tariffs
        if tariff.part in point.cores
    ]  # fmt: skip


def calm(points: Sequence[Point], most_cores: float) -> list[Point]:
    """Return the points at which others used no more than so many cores."""
    return [point for point in points if point.strange_cores <= most_cores]


def _prices(part: str, points: Sequence[Point], units: Sequence[str]) -> tuple[dict[str, Price], float]:
    spare = len(points) - len(units)
    if spare < 1:
        raise FitError(f"{part}: expected at least {len(units) + 1} points for {len(units)} prices, found {len(points)}")
    measured = np.array([point.cores[part] for point in points])
    often = np.array([[1.0 if unit == STANDING else point.happened.get(unit, 0.0) for unit in units] for point in points])
    largest = often.max(axis=0)
    for unit, most in zip(units, largest, strict=True):
        if most <= 0:
            raise FitError(f"{part}: expected a point at which {unit} happens, found none")
    weights = 1 / np.maximum(measured, _LEAST_CORES)
    design = often / largest * weights[:, np.newaxis]
    if np.linalg.matrix_rank(design) < len(units):
        raise FitError(f"{part}: expected points that tell {', '.join(units)} apart, found that they always come together")
    found = np.linalg.lstsq(design, measured * weights)[0]
    misses = design @ found - measured * weights
    half = _half_widths(design, misses, spare) / largest
    values = found / largest
    prices = {
        unit: Price(cpu_s=float(value), low_s=float(value - width), high_s=float(value + width))
        for unit, value, width in zip(units, values, half, strict=True)
    }
    return prices, float(np.sqrt(np.mean(misses**2)))


def _half_widths(design: _Floats, misses: _Floats, spare: int) -> _Floats:
    """Return half the width of each price's interval: Student's t times its standard error."""
    variance = float(misses @ misses) / spare
    spread: _Floats = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    return student(spare) * spread


def student(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return how many standard errors wide an interval is to each side.

    Student's t, from the normal quantile: exact for 1 and 2 degrees of freedom, right to 1 % from 3 on (Abramowitz and
    Stegun, 26.7.5).
    """
    share = (1 + confidence) / 2
    if freedom == 1:
        return math.tan(math.pi * (share - 0.5))
    if freedom == 2:
        return (2 * share - 1) * math.sqrt(2 / (4 * share * (1 - share)))
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(float(term / freedom**power) for power, term in enumerate(terms, 1))
