"""Nothing acknowledged is lost, nothing is there that nobody sent, nothing is changed, nothing is there too often."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from scenarios.checkers.places import Places
from scenarios.findings import Finding, Values, failed, passed, unknown
from scenarios.frames import Frame, batches, columns
from simulators.operations import Outcome

_WRITTEN_OUT = 1e-5  # a smaller rate is given as a power of ten
_ONE = np.uint32(1)  # of the counters' own type: numpy adds that five times as fast


class Fates(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the identities of one service: how many there are of each sort.

    `duplicate_defects` are stored more often than they were sent, `duplicates_expected` more than once, but not more often
    than sent. `indeterminate` were never acknowledged and may be stored; `recovered` of them are.
    """

    acknowledged: int
    attempted: int
    lost: int
    unexpected: int
    corrupt: int
    duplicate_defects: int
    duplicates_expected: int
    indeterminate: int
    recovered: int


def judge_loss(operations: Frame, receipts: Frame, *, at_least: int, payload: str) -> Finding:
    """Judge one service's history against its nodes' journals.

    Parameters
    ----------
    operations : frame of operations
        All attempts of one service in one run, of stored kinds only.
    receipts : frame of receipts
        Those of the run's own stored payloads (`frames.own_receipts`), of all nodes.
    at_least : int
        How many acknowledged payloads it takes to say anything.
    payload : str
        What a payload is called in the reason, in the plural.

    Returns
    -------
    Finding
        `measured` states n (acknowledged) and the upper bound of the loss rate at 95 % confidence (Clopper-Pearson with no
        loss seen: 1 - 0.05^(1/n)).
    """
    fates = fates_of(operations, receipts)
    n = fates.acknowledged
    measured: dict[str, Any] = msgspec.structs.asdict(fates)
    if n and not fates.lost:
        measured["loss_rate_upper_bound_95"] = _loss_rate_bound(n)
    limit = {"lost": 0, "unexpected": 0, "corrupt": 0, "duplicate_defects": 0, "acknowledged_at_least": at_least}
    defects = _defects(fates)
    if defects:
        return failed("node", f"of {n} acknowledged {payload}: {', '.join(defects)}", measured=measured, limit=limit)
    if n < at_least:
        return unknown(f"only {n} {payload} were acknowledged, too few to judge", measured=measured, limit=limit)
    bound = measured["loss_rate_upper_bound_95"]
    rate = f"{bound:.4%}" if bound >= _WRITTEN_OUT else f"{bound * 100:.1e}%"
    return passed(
        f"{n} {payload} acknowledged, none lost, none added, none changed (loss rate below {rate} with 95 % confidence)",
        measured=measured,
        limit=limit,
    )


def fates_of(operations: Frame, receipts: Frame) -> Fates:
    """Join attempts with receipts by key, both piece by piece, and count. The arguments are those of `judge_loss`."""
    places = Places(columns(operations, "key")["key"].to_numpy())
    sent = _Sent(operations, places)
    copies = np.zeros(places.count, np.uint32)
    changed = np.zeros(places.count, np.bool_)
    strange = []
    for batch in batches(receipts, "key", "digest_a", "digest_b"):
        keys, digest_a, digest_b = (batch[name].to_numpy() for name in batch.columns)
        at = places.of(keys)
        known = at >= 0
        if not known.all():
            strange.append(np.unique(keys[~known]))
            at, digest_a, digest_b = at[known], digest_a[known], digest_b[known]
        np.add.at(copies, at, _ONE)
        changed[at[(sent.digest_a[at] != digest_a) | (sent.digest_b[at] != digest_b)]] = True
    unsure = sent.indeterminate & ~sent.acknowledged
    return Fates(
        acknowledged=_count(sent.acknowledged),
        attempted=places.count,
        lost=_count(sent.acknowledged & (copies == 0)),
        unexpected=len(np.unique(np.concatenate(strange))) if strange else 0,
        corrupt=_count(changed & sent.made),
        duplicate_defects=_count(copies > sent.attempts),
        duplicates_expected=_count((copies > 1) & (copies <= sent.attempts)),
        indeterminate=_count(unsure),
        recovered=_count(unsure & (copies > 0)),
    )


class _Sent:
    """One entry for each identity: how often tried, whether ever acknowledged, its digest where a payload was made."""

    def __init__(self, operations: Frame, places: Places) -> None:
        self.attempts = np.zeros(places.count, np.uint32)
        self.acknowledged, self.indeterminate, self.made = (np.zeros(places.count, np.bool_) for _ in range(3))
        self.digest_a, self.digest_b = (np.zeros(places.count, np.uint64) for _ in range(2))
        for batch in batches(operations, "key", "outcome", "size_bytes", "digest_a", "digest_b"):
            keys, outcome, size_bytes, digest_a, digest_b = (batch[name].to_numpy() for name in batch.columns)
            at = places.of(keys)
            made = size_bytes > 0
            np.add.at(self.attempts, at, _ONE)
            self.acknowledged[at[outcome == Outcome.ACKNOWLEDGED]] = True
            self.indeterminate[at[outcome == Outcome.INDETERMINATE]] = True
            self.made[at[made]] = True
            self.digest_a[at[made]], self.digest_b[at[made]] = digest_a[made], digest_b[made]


def _loss_rate_bound(acknowledged: int) -> float:
    """Return the upper bound of the loss rate at 95 % confidence when none of so many was lost; never rounded to nothing."""
    bound = -math.expm1(math.log(0.05) / acknowledged)
    return round(bound, 6) if bound >= _WRITTEN_OUT else float(f"{bound:.2e}")


def _count(flags: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(flags))


def _defects(fates: Fates) -> list[str]:
    sorts = (
        (fates.lost, "acknowledged and not stored"),
        (fates.unexpected, "stored and never sent"),
        (fates.corrupt, "stored with another content"),
        (fates.duplicate_defects, "stored more often than sent"),
    )
    return [f"{count} {what}" for count, what in sorts if count]


def judge_visible(
    acknowledged: set[str], attempted: set[str], visible: dict[str, set[str]], *, places_required: int, at_least: int
) -> Finding:
    """Judge whether every order that was acknowledged is shown by every node.

    Parameters
    ----------
    acknowledged, attempted : set of str
        The accession numbers that the site acknowledged, and all that it was sent.
    visible : dict of str to set of str
        For each place that answered (a node, the VIP): what it showed.
    places_required : int
        How many places had to answer.
    at_least : int
        How many acknowledged orders it takes to say anything.
    """
    n = len(acknowledged)
    missing = {place: len(acknowledged - shown) for place, shown in visible.items()}
    added = {place: len(shown - attempted) for place, shown in visible.items()}
    measured: Values = {"acknowledged": n, "attempted": len(attempted), "missing": missing, "unexpected": added}
    limit = {"missing": 0, "unexpected": 0, "acknowledged_at_least": at_least, "places": places_required}
    if any(missing.values()) or any(added.values()):
        worst = [f"{place}: {missing[place]} missing, {added[place]} unexpected" for place in visible]
        return failed("node", f"of {n} acknowledged orders: {'; '.join(worst)}", measured=measured, limit=limit)
    if n < at_least or len(visible) < places_required:
        reason = f"{n} orders acknowledged and {len(visible)} of {places_required} worklists answered: too little to judge"
        return unknown(reason, measured=measured, limit=limit)
    measured["loss_rate_upper_bound_95"] = _loss_rate_bound(n)
    return passed(f"{n} orders acknowledged, every one shown by {', '.join(visible)}", measured=measured, limit=limit)
