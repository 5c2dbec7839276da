"""Nothing acknowledged is lost, nothing is there that nobody sent, nothing is changed, nothing is there too often."""

from __future__ import annotations

from typing import Any

import polars as pl

from scenarios.findings import Finding, Values, failed, passed, unknown
from simulators.operations import Outcome


def judge_loss(operations: pl.DataFrame, receipts: pl.DataFrame, *, at_least: int, payload: str) -> Finding:
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
    sent = _sent(operations)
    stored = receipts.group_by("key").agg(pl.len().alias("receipts"), *_DIGEST_SETS)
    acknowledged = sent.filter(pl.col("acknowledged"))
    both = sent.join(stored, on="key", how="inner")
    lost = acknowledged.join(stored, on="key", how="anti").height
    unexpected = stored.join(sent, on="key", how="anti").height
    corrupt = both.filter(pl.col("size_bytes") > 0).filter(~_SAME_DIGEST).height
    too_often = both.filter(pl.col("receipts") > pl.col("attempts")).height
    n = acknowledged.height
    measured: dict[str, Any] = {
        "acknowledged": n,
        "attempted": sent.height,
        "lost": lost,
        "unexpected": unexpected,
        "corrupt": corrupt,
        "duplicate_defects": too_often,
        "duplicates_expected": both.filter((pl.col("receipts") > 1) & (pl.col("receipts") <= pl.col("attempts"))).height,
        "indeterminate": sent.filter(~pl.col("acknowledged") & pl.col("indeterminate")).height,
        "recovered": both.filter(~pl.col("acknowledged") & pl.col("indeterminate")).height,
    }
    if n and not lost:
        measured["loss_rate_upper_bound_95"] = round(1 - 0.05 ** (1 / n), 6)
    limit = {"lost": 0, "unexpected": 0, "corrupt": 0, "duplicate_defects": 0, "acknowledged_at_least": at_least}
    defects = [
        f"{count} {what}"
        for count, what in (
            (lost, "acknowledged and not stored"),
            (unexpected, "stored and never sent"),
            (corrupt, "stored with another content"),
            (too_often, "stored more often than sent"),
        )
        if count
    ]
    if defects:
        return failed("node", f"of {n} acknowledged {payload}: {', '.join(defects)}", measured=measured, limit=limit)
    if n < at_least:
        return unknown(f"only {n} {payload} were acknowledged, too few to judge", measured=measured, limit=limit)
    bound = measured["loss_rate_upper_bound_95"]
    return passed(
        f"{n} {payload} acknowledged, none lost, none added, none changed (loss rate below {bound:.4%} with 95 % confidence)",
        measured=measured,
        limit=limit,
    )


_DIGEST_SETS = (pl.col("digest_a").unique().alias("stored_a"), pl.col("digest_b").unique().alias("stored_b"))
_SAME_DIGEST = (
    (pl.col("stored_a").list.len() == 1)
    & (pl.col("stored_b").list.len() == 1)
    & (pl.col("stored_a").list.first() == pl.col("digest_a"))
    & (pl.col("stored_b").list.first() == pl.col("digest_b"))
)


def _sent(operations: pl.DataFrame) -> pl.DataFrame:
    """One row for each identity: how often tried, whether ever acknowledged, its digest where a payload was made."""
    return (
        operations.sort("size_bytes", descending=True)
        .group_by("key")
        .agg(
            pl.len().alias("attempts"),
            (pl.col("outcome") == int(Outcome.ACKNOWLEDGED)).any().alias("acknowledged"),
            (pl.col("outcome") == int(Outcome.INDETERMINATE)).any().alias("indeterminate"),
            pl.col("digest_a").first(),
            pl.col("digest_b").first(),
            pl.col("size_bytes").first(),
        )
    )


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
    measured["loss_rate_upper_bound_95"] = round(1 - 0.05 ** (1 / n), 6)
    return passed(f"{n} orders acknowledged, every one shown by {', '.join(visible)}", measured=measured, limit=limit)
