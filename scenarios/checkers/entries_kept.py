"""Persistence entries survive a reload of the balancer: every source meets its node again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from scenarios.checkers.residents import ACKNOWLEDGED
from scenarios.findings import Finding, Numbers, failed, passed, unknown


def judge_entries_kept(
    operations: pl.DataFrame, before: Mapping[str, str], after: Mapping[str, str], reloaded_ns: int, *, sources_at_least: int
) -> Finding:  # fmt: skip
    """Judge the persistence of one VIP over a reload.

    Parameters
    ----------
    operations : frame of operations
        Sources that each connected before the reload and again after it.
    before, after : mapping of source to node
        Their entries in the persistence table just before the reload, and some seconds after it.
    reloaded_ns : int
        Between the two halves (`monotonic_ns`).
    sources_at_least : int
        How many sources it takes.

    Returns
    -------
    Finding
        `measured.chance_by_luck` is the chance that as many sources met their node again without any entry, if they were led
        to one of two nodes at random.
    """
    met = _met(operations.filter(pl.col("ended_ns") <= reloaded_ns))
    again = _met(operations.filter(pl.col("begun_ns") > reloaded_ns))
    both = sorted(met.keys() & again.keys())
    gone = sorted(before.keys() - after.keys())
    changed = [source for source in before if source in after and after[source] != before[source]]
    moved = [source for source in both if met[source] != again[source]]
    measured: dict[str, Any] = {
        "sources": len(both),
        "entries_before": len(before),
        "entries_after": len(before.keys() & after.keys()),
        "entries_changed": len(changed),
        "sources_that_met_another_node": len(moved),
        "nodes_met": sorted(set(met.values())),
        "chance_by_luck": 2.0 ** -len(both) if both else 1.0,
    }
    numbers: Numbers = {
        "measured": measured,
        "limit": {
            "sources_at_least": sources_at_least, "entries_lost": 0, "entries_changed": 0, "sources_that_met_another_node": 0,
            "nodes_met_at_least": 2,
        },
    }  # fmt: skip
    if gone or changed or moved:
        return failed(
            "balancer",
            f"of {len(before)} entries {len(gone)} were gone after the reload and {len(changed)} named another server; "
            f"{len(moved)} of {len(both)} sources met another node. A table survives a reload only where it names a `peers` "
            "section (stick-table … peers NAME) with this balancer in it",
            **numbers,
        )
    if len(both) < sources_at_least or len(before) < sources_at_least:
        return unknown(f"{len(both)} sources were answered before and after, {len(before)} of them had an entry", **numbers)
    if len(measured["nodes_met"]) < 2:
        return unknown(f"all {len(both)} sources met one node: nothing was shown", **numbers)
    return passed(
        f"{len(both)} sources: every entry was there after the reload, and every source met its node again", **numbers
    )


def _met(operations: pl.DataFrame) -> dict[str, str]:
    """Return the node that each source met last."""
    answered = operations.filter(ACKNOWLEDGED).sort("ended_ns").select(pl.col("source", "node").cast(pl.String))
    return {source: node for source, node in answered.iter_rows() if node}
