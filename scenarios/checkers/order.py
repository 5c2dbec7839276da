"""No message of a patient is applied after a later message of that patient was acknowledged."""

from __future__ import annotations

from typing import Any

import polars as pl

from scenarios.findings import Finding, failed, passed, unknown
from simulators.operations import Outcome


def judge_order(operations: pl.DataFrame, receipts: pl.DataFrame, *, at_least: int) -> Finding:
    """Judge the order in which messages of each patient took effect.

    Clients send a patient's messages one after the other, each only after the one before was acknowledged, so a copy that a
    node takes after a later message was acknowledged puts old data over new. A message counts as acknowledged from the
    moment at which a node took it for good: its receipt is written just before the acknowledgement leaves, so what comes
    between the two is late as well.

    Parameters
    ----------
    operations : frame of operations
        Attempts to deliver messages; `patient` 0 (none) is left out.
    receipts : frame of receipts
        The journals of all nodes, of clocks that can be compared with the client's (one host).
    at_least : int
        How many messages with an acknowledged successor it takes to say anything.
    """
    messages = _messages(operations, receipts)
    overlapping = messages.filter(pl.col("begun_ns") < pl.col("settled_before_ns")).height
    followed = messages.filter(pl.col("later_taken_ns").is_not_null())
    copies = receipts.select("key", "received_ns", "node").join(followed, on="key", how="inner")
    late = copies.filter(pl.col("received_ns") > pl.col("later_taken_ns"))
    measured: dict[str, Any] = {
        "patients": messages["patient"].n_unique(),
        "messages": messages.height,
        "messages_followed": followed.height,
        "copies": copies.height,
        "applied_late": late.height,
    }
    limit = {"applied_late": 0, "messages_followed_at_least": at_least}
    if late.height:
        nodes = ", ".join(sorted(late["node"].unique().to_list()))
        worst_s = round(float((late["received_ns"] - late["later_taken_ns"]).max() or 0) / 1e9, 3)  # type: ignore[arg-type]
        return failed(
            "node",
            f"{late.height} of {copies.height} copies were applied after a later message of their patient was "
            f"acknowledged (by {nodes}; up to {worst_s} s late)",
            measured=measured,
            limit=limit,
        )
    if overlapping:
        return unknown(
            f"{overlapping} messages were sent before the one before was settled: the generator broke its own rule",
            measured=measured,
            limit=limit,
        )
    if followed.height < at_least or copies.height < at_least:
        return unknown(f"only {followed.height} messages had an acknowledged successor", measured=measured, limit=limit)
    return passed(
        f"{copies.height} copies of {followed.height} messages of {measured['patients']} patients, each applied before any "
        "later message of its patient was acknowledged",
        measured=measured,
        limit=limit,
    )


def _messages(operations: pl.DataFrame, receipts: pl.DataFrame) -> pl.DataFrame:
    """One row for each message, in each patient's own order, with when any later acknowledged message was first taken."""
    acknowledged = pl.when(pl.col("outcome") == int(Outcome.ACKNOWLEDGED)).then(pl.col("ended_ns"))
    taken = receipts.group_by("key").agg(pl.col("received_ns").min().alias("first_taken_ns"))
    return (
        operations.filter(pl.col("patient") > 0)
        .group_by("patient", "key")
        .agg(
            pl.col("begun_ns").min(),
            acknowledged.min().alias("acknowledged_ns"),
            pl.col("ended_ns").max().alias("settled_ns"),
        )
        .join(taken, on="key", how="left")
        .with_columns(
            pl.when(pl.col("acknowledged_ns").is_not_null())
            .then(pl.min_horizontal("acknowledged_ns", "first_taken_ns"))
            .otherwise(_NEVER)
            .alias("taken_ns")
        )
        .sort("patient", "begun_ns")
        .with_columns(
            pl.col("taken_ns").reverse().cum_min().reverse().shift(-1).over("patient").alias("later_taken_ns"),
            pl.col("settled_ns").shift(1).over("patient").fill_null(0).alias("settled_before_ns"),
        )
        .with_columns(pl.when(pl.col("later_taken_ns") < _NEVER).then(pl.col("later_taken_ns")).alias("later_taken_ns"))
    )


_NEVER = 2**62
