"""The node sees the address that the site says: the balancer's own, or the client's."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from scenarios.checkers.places import Places
from scenarios.findings import Finding, failed, listed, passed, unknown
from scenarios.frames import Frame, columns


def judge_seen_source(operations: Frame, receipts: Frame, *, balancer: str, transparent: bool, at_least: int) -> Finding:
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
    sent = columns(operations, "key", "source")
    places = Places(sent["key"].to_numpy())
    seen = columns(receipts, "key", "peer", "node")
    seen = seen.filter(pl.Series(places.of(seen["key"].to_numpy()) >= 0, dtype=pl.Boolean))
    wrong = _of_nobody(seen, sent, places) if transparent else seen.filter(pl.col("peer") != balancer)
    peers = {str(peer): int(count) for peer, count in seen.group_by("peer").len().sort("peer").head(5).iter_rows()}
    measured: dict[str, Any] = {
        "receipts": seen.height,
        "wrong": wrong.height,
        "peers": peers,
        "nodes": seen["node"].n_unique(),
    }
    limit = {"wrong": 0, "receipts_at_least": at_least, "expected_peer": "the client's address" if transparent else balancer}
    if wrong.height:
        examples = sorted(map(str, wrong["peer"].unique().to_list()))
        expected = "the client's own address" if transparent else f"the balancer's address {balancer}"
        return failed("balancer", f"nodes saw {listed(examples, 3)} instead of {expected}", measured=measured, limit=limit)
    if seen.height < at_least:
        return unknown(f"only {seen.height} receipts name their peer", measured=measured, limit=limit)
    return passed(
        f"{seen.height} receipts on {measured['nodes']} nodes, all from {'the clients' if transparent else balancer}",
        measured=measured, limit=limit,
    )  # fmt: skip


def _of_nobody(seen: pl.DataFrame, sent: pl.DataFrame, places: Places) -> pl.DataFrame:
    """Return the receipts whose peer is the source of no attempt at the same identity.

    Nearly every identity has one source: those whose peer is its last one need no join.
    """
    last = np.zeros(places.count, np.uint32)
    last[places.of(sent["key"].to_numpy())] = sent["source"].to_physical().to_numpy()
    suspect = seen["peer"].to_physical().to_numpy() != last[places.of(seen["key"].to_numpy())]
    return seen.filter(pl.Series(suspect, dtype=pl.Boolean)).join(
        sent, left_on=["key", "peer"], right_on=["key", "source"], how="anti"
    )
