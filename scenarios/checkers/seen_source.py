"""The node sees the address that the site says: the balancer's own, or the client's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from scenarios.checkers.places import Places
from scenarios.findings import Finding, failed, listed, passed, unknown
from scenarios.frames import Frame, batches, columns


def judge_seen_source(
    operations: Frame, receipts: Frame, *, balancer: Sequence[str], transparent: bool, nodes: Collection[str], at_least: int
) -> Finding:  # fmt: skip
    """Judge the peer addresses in the nodes' journals.

    Parameters
    ----------
    operations : frame of operations
        Those that went through one VIP.
    receipts : frame of receipts
        The nodes' receipts and observations of the same run.
    balancer : sequence of str
        The addresses that the balancer may connect from: of a pair, each unit's own.
    transparent : bool
        Whether the node must see the client's address instead.
    nodes : collection of str
        Who has to have been met: what the others see, nobody knows.
    at_least : int
        How many receipts it takes.
    """
    seen = _seen(operations, receipts, None if transparent else balancer)
    measured: dict[str, Any] = {
        "receipts": sum(seen.peers.values()),
        "wrong": sum(seen.wrong.values()),
        "peers": dict(sorted(seen.peers.items())[:5]),
        "nodes": len(seen.nodes),
    }
    own = " or ".join(balancer)
    limit = {"wrong": 0, "receipts_at_least": at_least, "expected_peer": "the client's address" if transparent else own}
    if seen.wrong:
        examples = sorted(seen.wrong)
        expected = "the client's own address" if transparent else f"the balancer's address {own}"
        return failed("balancer", f"nodes saw {listed(examples, 3)} instead of {expected}", measured=measured, limit=limit)
    if measured["receipts"] < at_least:
        return unknown(f"only {measured['receipts']} receipts name their peer", measured=measured, limit=limit)
    if unmet := sorted(set(nodes) - seen.nodes):
        return unknown(f"not observed: what {listed(unmet)} sees, to which nothing came", measured=measured, limit=limit)
    whom = "the clients" if transparent else own
    return passed(
        f"{measured['receipts']} receipts on {measured['nodes']} nodes, all from {whom}",
        measured=measured, limit=limit,
    )  # fmt: skip


class _Seen(NamedTuple):
    """How many receipts there are of what was sent, by the peer that they name; the wrong peers among them; the nodes."""

    peers: Counter[str]
    wrong: Counter[str]
    nodes: set[str]


def _seen(operations: Frame, receipts: Frame, expected: Sequence[str] | None) -> _Seen:
    """Count the receipts of what was sent, piece by piece; `expected` are the peers that may be, None for the sources."""
    sent = columns(operations, "key", "source")
    places = Places(sent["key"].to_numpy())
    last_source = None
    if expected is None:
        last_source = np.zeros(places.count, np.uint32)
        last_source[places.of(sent["key"].to_numpy())] = sent["source"].to_physical().to_numpy()
    seen = _Seen(Counter(), Counter(), set())
    for batch in batches(receipts, "key", "peer", "node"):
        at = places.of(batch["key"].to_numpy())
        own = batch.filter(pl.Series(at >= 0, dtype=pl.Boolean))
        if last_source is None:
            wrong = own.filter(~pl.col("peer").is_in(expected or ()))
        else:
            wrong = _of_nobody(own, last_source[at[at >= 0]], sent)
        seen.peers.update(_peers(own))
        seen.wrong.update(_peers(wrong))
        seen.nodes.update(own["node"].unique().to_list())
    return seen


def _of_nobody(own: pl.DataFrame, source: npt.NDArray[np.uint32], sent: pl.DataFrame) -> pl.DataFrame:
    """Return the receipts whose peer is the source of no attempt at the same identity.

    `source` is that of the last attempt, as its categorical's number. Nearly every identity has one source: those whose peer
    that is need no join.
    """
    suspect = pl.Series(own["peer"].to_physical().to_numpy() != source, dtype=pl.Boolean)
    return own.filter(suspect).join(sent, left_on=["key", "peer"], right_on=["key", "source"], how="anti")


def _peers(receipts: pl.DataFrame) -> dict[str, int]:
    return {str(peer): int(count) for peer, count in receipts.group_by("peer").len().iter_rows()}
