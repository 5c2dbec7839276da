"""LOAD-2: what the balancer adds to an operation, from pairs of operations, one straight and one through the VIP.

The two of a pair follow each other at once and in random order, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lbconfig.site import Vip
from scenarios.checkers.latency import CONFIDENCE
from scenarios.findings import Finding, Values, failed, listed, passed, unknown
from scenarios.load_runs.order_statistics import Estimate, median

PAIRS = 30
EITHER_FIRST = 0.25  # of the pairs at least in each order: else what the second one gains would be the balancer's
_CHANCE = (1 - CONFIDENCE) / 2


class Pair(NamedTuple):
    """How long one operation took straight to a node and its twin through the VIP, and which of them was first."""

    straight_ns: int
    through_vip_ns: int
    vip_first: bool


class Added(NamedTuple):
    """What the balancer added in one class of operations: seconds and ratio, medians over the pairs."""

    name: str
    added_s: Estimate
    ratio: Estimate
    straight_s: float
    vip_first_share: float


def judge_added(vip: Vip, pairs: Mapping[str, Sequence[Pair]]) -> Finding:
    """Judge one VIP.

    Parameters
    ----------
    vip : Vip
        Whose limit holds: `added_s`, what may be added to the median.
    pairs : mapping of str to sequence of Pair
        By class of operations ("images of 8 KiB").

    Returns
    -------
    Finding
        Medians of the differences and of the ratios within the pairs, with distribution-free 95 % intervals. A pass has the
        upper end of every class within the limit, a fail the lower end of some class above it: either is wrong by a chance
        of 2.5 % at most for each class.
    """
    classes = [_added(name, own) for name, own in pairs.items() if own]
    limit_s = vip.limits.added_s
    measured: Values = {"classes": {seen.name: _figures(seen) for seen in classes}}
    limit: Values = {"added_s": limit_s, "pairs_at_least": PAIRS, "chance_of_error_at_most": _CHANCE}
    few = [f"{seen.name}: {seen.added_s.n}" for seen in classes if seen.added_s.n < PAIRS]
    if few or not classes:
        reason = f"too few pairs to tell what the balancer adds ({listed(few) or 'none'}; it takes {PAIRS} of each class)"
        return unknown(reason, measured=measured, limit=limit)
    lopsided = [seen.name for seen in classes if not EITHER_FIRST <= seen.vip_first_share <= 1 - EITHER_FIRST]
    if lopsided:
        reason = f"the pairs are not in random order, so that what comes second has an advantage: {listed(lopsided)}"
        return unknown(reason, measured=measured, limit=limit)
    told = listed(list(map(_told, classes)))
    chance = f"each wrong by a chance of {_CHANCE:.1%} at most"
    if any(seen.added_s.low is not None and seen.added_s.low > limit_s for seen in classes):
        reason = f"the balancer adds more than {limit_s * 1000:g} ms to the median: {told}, {chance}"
        return failed("balancer", reason, measured=measured, limit=limit)
    if all(seen.added_s.high is not None and seen.added_s.high <= limit_s for seen in classes):
        return passed(f"what the balancer adds to the median: {told}, {chance}", measured=measured, limit=limit)
    return unknown(f"too near to the limit of {limit_s * 1000:g} ms to tell: {told}", measured=measured, limit=limit)


def _added(name: str, pairs: Sequence[Pair]) -> Added:
    return Added(
        name,
        median([(pair.through_vip_ns - pair.straight_ns) / 1e9 for pair in pairs]),
        median([pair.through_vip_ns / max(pair.straight_ns, 1) for pair in pairs]),
        median([pair.straight_ns / 1e9 for pair in pairs]).value,
        sum(pair.vip_first for pair in pairs) / len(pairs),
    )


def _told(seen: Added) -> str:
    return (
        f"{seen.name} {seen.added_s.value * 1000:+.3f} ms ({_ends(seen.added_s, 1000)}), "
        f"x {seen.ratio.value:.2f} ({_ends(seen.ratio, 1)}), {seen.added_s.n} pairs"
    )


def _ends(estimate: Estimate, factor: float) -> str:
    return " to ".join("?" if end is None else f"{end * factor:.3g}" for end in (estimate.low, estimate.high))


def _figures(seen: Added) -> Values:
    return {
        "pairs": seen.added_s.n, "straight_median_s": round(seen.straight_s, 6),
        "added_s": round(seen.added_s.value, 6), "added_interval_s": _interval(seen.added_s),
        "ratio": round(seen.ratio.value, 4), "ratio_interval": _interval(seen.ratio),
        "vip_first_share": round(seen.vip_first_share, 3),
    }  # fmt: skip


def _interval(estimate: Estimate) -> list[float | None]:
    return [None if end is None else round(end, 6) for end in (estimate.low, estimate.high)]
