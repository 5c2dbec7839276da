"""What a benchmark hands over, and the statistics of paired rounds: medians of ratios, with intervals by order statistics."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

CONFIDENCE = 0.95


class BarError(Exception):
    """A benchmark cannot be judged; the message says why."""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One demand: ours is at least `ratio_min` times as good as a peer's figure (or as a limit).

    `ratio` is the median over the rounds of ours to theirs, or of theirs to ours where less is better. `interval` encloses
    its true value with at least 95 % confidence, and `met` compares the lower end of that: luck meets no bar.
    """

    against: str
    ratio_min: float
    ratio: float
    interval: tuple[float, float]
    met: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: ours, the peers' and the limit's in `unit` (medians over the rounds), and the bars that they decide.

    `met` is None where there is no bar. `less_is_better` is for seconds, bytes and shares: what costs.
    """

    name: str
    unit: str
    ours: float
    peers: dict[str, float]
    limit: float | None
    bars: list[Bar]
    met: bool | None
    less_is_better: bool = False


def row_of_rounds(
    name: str, unit: str, ours: Sequence[float], peers: dict[str, Sequence[float]], *, limit: Sequence[float] = (),
    ratio_min: dict[str, float] | None = None, less_is_better: bool = False,
) -> Row:  # fmt: skip
    """Make a row of interleaved rounds: the n-th figure of each sequence comes from the n-th round.

    Parameters
    ----------
    name, unit : str
        What was measured.
    ours : sequence of float
        One figure a round.
    peers : dict of str to sequence of float
        The same for each peer.
    limit : sequence of float
        The same for what the machine can do at most, or for what ours may be at most; empty when there is no such thing.
    ratio_min : dict of str to float
        The bars: how many times as good ours is at least as that of each peer named, or as "limit".
    less_is_better : bool
        Whether the figures are costs.

    Raises
    ------
    BarError
        When sequences differ in length, are empty, hold what is no positive figure, or a bar names what was not measured.
    """
    others = {**peers, "limit": limit} if limit else dict(peers)
    for against, figures in others.items():
        if not ours or len(figures) != len(ours):
            raise BarError(f"{name}: expected as many rounds of {against} as of ours, found {len(figures)} and {len(ours)}")
        if min(*ours, *figures) <= 0:
            raise BarError(f"{name}: expected figures above 0, found {min(ours)} of ours and {min(figures)} of {against}")
    bars = []
    for against, least in (ratio_min or {}).items():
        if against not in others:
            raise BarError(f"{name}: expected a bar against one of {sorted(others)}, found {against!r}")
        pairs = zip(ours, others[against], strict=True)
        ratios = [theirs / mine if less_is_better else mine / theirs for mine, theirs in pairs]
        interval = median_interval(ratios)
        ratio = statistics.median(ratios)
        bars.append(Bar(against=against, ratio_min=least, ratio=ratio, interval=interval, met=interval[0] >= least))
    return Row(
        name=name, unit=unit, ours=statistics.median(ours),
        peers={peer: statistics.median(figures) for peer, figures in peers.items()},
        limit=statistics.median(limit) if limit else None, bars=bars,
        met=all(bar.met for bar in bars) if bars else None, less_is_better=less_is_better,
    )  # fmt: skip


def row_of_maximum(
    name: str, unit: str, ours: Sequence[float], most: float, *, peers: dict[str, Sequence[float]] | None = None
) -> Row:
    """Make a row of a cost that has a maximum: met when `most` is, with its interval, no less than ours.

    Parameters
    ----------
    name, unit : str
        What was measured; less is better.
    ours : sequence of float
        One figure a round.
    most : float
        The maximum, in the same unit.
    peers : dict of str to sequence of float or None
        What others cost, to be shown beside it.
    """
    limit = [most] * len(ours)
    return row_of_rounds(name, unit, ours, peers or {}, limit=limit, ratio_min={"limit": 1.0}, less_is_better=True)


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return an interval for the true median: the tightest pair of order statistics with that confidence.

    The k-th smallest and the k-th largest of n independent values enclose the median with probability
    1 - 2 · P(Binomial(n, ½) < k), whatever their distribution. Below 6 values no pair reaches 95 %: then the extremes are
    returned, and their confidence is 1 - 2 / 2**n.
    """
    ordered = sorted(values)
    count = len(ordered)
    k = 1
    below = 1 / 2**count  # P(Binomial < 1)
    while k + 1 <= count // 2:
        below += math.comb(count, k) / 2**count
        if 1 - 2 * below < confidence:
            break
        k += 1
    return ordered[k - 1], ordered[count - k]
