"""The node sees the address that the site says: the balancer's own, or the client's."""

from __future__ import annotations

from typing import Any

import polars as pl

from scenarios.findings import Finding, failed, listed, passed, unknown


def judge_seen_source(
    operations: pl.DataFrame, receipts: pl.DataFrame, *, balancer: str, transparent: bool, at_least: int
) -> Finding:
    """Judge the peer addresses in the nodes' journals.

    Parameters
    ----------
    operations : frame of operations
        Those that went through one VIP.
    receipts : frame of receipts
        The nodes' receipts and observations of the same run.
    balancer : str
        The address that the balancer connects from.
    transparent : bool
        Whether the node must see the client's address instead.
    at_least : int
        How many receipts it takes.
    """
    seen = operations.group_by("key").agg(pl.col("source").unique().alias("sources")).join(
        receipts.select("key", "peer", "node"), on="key", how="inner"
    )  # fmt: skip
    right = pl.col("sources").list.contains(pl.col("peer")) if transparent else pl.col("peer") == balancer
    wrong = seen.filter(~right)
    peers = {str(peer): int(count) for peer, count in seen.group_by("peer").len().sort("peer").head(5).iter_rows()}
    measured: dict[str, Any] = {
        "receipts": seen.height,
        "wrong": wrong.height,
        "peers": peers,
        "nodes": seen["node"].n_unique(),
    }
    limit = {"wrong": 0, "receipts_at_least": at_least, "expected_peer": "the client's address" if transparent else balancer}
    if wrong.height:
        examples = sorted({str(peer) for peer in wrong["peer"].to_list()})
        expected = "the client's own address" if transparent else f"the balancer's address {balancer}"
        return failed("balancer", f"nodes saw {listed(examples, 3)} instead of {expected}", measured=measured, limit=limit)
    if seen.height < at_least:
        return unknown(f"only {seen.height} receipts name their peer", measured=measured, limit=limit)
    return passed(
        f"{seen.height} receipts on {measured['nodes']} nodes, all from {'the clients' if transparent else balancer}",
        measured=measured, limit=limit,
    )  # fmt: skip
