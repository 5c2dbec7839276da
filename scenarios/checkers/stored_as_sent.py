"""Every image that was sent lies in some node's journal, bit for bit as sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from simulators.operations import Outcome


def judge_stored_as_sent(
    operations: pl.DataFrame, receipts: pl.DataFrame, names: Mapping[int, str], *, required: int
) -> Finding:
    """Judge one image of each kind and size, straight and through the VIP.

    Parameters
    ----------
    operations : frame of operations
        One store for each image.
    receipts : frame of receipts
        The run's own receipts of all nodes.
    names : mapping of key to name
        What each image is.
    required : int
        How many images had to be sent.
    """
    refused = operations.filter(pl.col("outcome") != int(Outcome.ACKNOWLEDGED))
    joined = operations.join(receipts.select("key", "digest_a", "digest_b", "node"), on="key", how="left", suffix="_stored")
    absent = joined.filter(pl.col("digest_a_stored").is_null() & (pl.col("outcome") == int(Outcome.ACKNOWLEDGED)))
    changed = joined.filter(
        (pl.col("digest_a") != pl.col("digest_a_stored")) | (pl.col("digest_b") != pl.col("digest_b_stored"))
    )
    measured: dict[str, Any] = {
        "images": operations.height,
        "not_acknowledged": refused.height,
        "not_stored": absent.height,
        "changed": changed.height,
        "kinds": sorted(set(names.values())),
        "largest_bytes": int(operations["size_bytes"].max() or 0),  # type: ignore[arg-type]
        "smallest_bytes": int(operations["size_bytes"].min() or 0),  # type: ignore[arg-type]
    }
    numbers: Numbers = {
        "measured": measured,
        "limit": {"images": required, "not_acknowledged": 0, "not_stored": 0, "changed": 0},
    }

    def named(frame: pl.DataFrame) -> str:
        return listed([names.get(key, str(key)) for key in frame["key"].unique(maintain_order=True).to_list()], 3)

    if changed.height:
        return failed("network", f"stored with another content than sent: {named(changed)}", **numbers)
    if absent.height:
        return failed("node", f"acknowledged and in no journal: {named(absent)}", **numbers)
    if refused.height:
        return failed("node", f"not acknowledged: {named(refused)}", **numbers)
    if operations.height < required or not operations.height:
        return unknown(f"only {operations.height} of {required} images were sent", **numbers)
    return passed(
        f"{operations.height} images of {len(set(names.values()))} kinds, each stored with the digest of what was sent",
        **numbers,
    )
