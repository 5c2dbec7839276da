"""Each source meets one node only, and all witnesses agree which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import polars as pl

from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from simulators.operations import Outcome


def judge_same_node(
    operations: pl.DataFrame,
    receipts: pl.DataFrame,
    table: Mapping[str, str],
    log: Mapping[tuple[str, int], str],
    *,
    sources_at_least: int,
    connections_at_least: int,
    nodes_at_least: int = 2,
) -> Finding:
    """Judge persistence by source address on one VIP.

    Parameters
    ----------
    operations : frame of operations
        One operation for each connection, in the order they were made; `node` is what the client was told.
    receipts : frame of receipts
        What the nodes wrote down of the same identities.
    table : mapping of source address to node
        The balancer's persistence table.
    log : mapping of (source address, source port) to node
        The balancer's traffic log. May be empty where the target has none to read.
    sources_at_least, connections_at_least : int
        How many sources, and connections of each, it takes.
    nodes_at_least : int
        How many nodes must be met: with one only, nothing was shown.

    Returns
    -------
    Finding
        `measured.chance_by_luck` is the chance that as many connections met one node each without any persistence, if the
        nodes were met at random.
    """
    answered = operations.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    by_key = dict(zip(receipts["key"].to_list(), receipts["node"].to_list(), strict=True))
    met: dict[str, list[str]] = defaultdict(list)
    disagreements: list[str] = []
    witnesses = dict.fromkeys(("client", "log", "node", "table"), 0)
    for key, source, port, told in answered.select("key", "source", "source_port", "node").iter_rows():
        seen = {
            "client": told,
            "log": log.get((source, port), ""),
            "node": by_key.get(key, ""),
            "table": table.get(source, ""),
        }
        for witness, node in seen.items():
            witnesses[witness] += node != ""
        words = {node for witness, node in seen.items() if node and witness != "table"}
        if len(words) > 1:
            disagreements.append(f"{source}:{port}: {', '.join(f'{w} says {n}' for w, n in seen.items() if n)}")
        met[source].append(sorted(words)[0] if words else "")
    n = len(met)
    fewest = min((len(nodes) for nodes in met.values()), default=0)
    nodes = sorted({node for nodes in met.values() for node in nodes if node})
    wandering = sorted(source for source, nodes in met.items() if len(set(nodes)) > 1)
    without_entry = sorted(source for source in met if source not in table)
    elsewhere = sorted(source for source, nodes in met.items() if source in table and set(nodes) != {table[source]})
    measured: dict[str, Any] = {
        "sources": n, "connections": answered.height, "connections_of_a_source_at_least": fewest,
        "refused_or_lost": operations.height - answered.height,
        "sources_that_met_several_nodes": len(wandering), "sources_without_entry": len(without_entry),
        "sources_by_node": {node: sum(node in found for found in met.values()) for node in nodes},
        "witness_statements": witnesses, "witnesses_disagree": len(disagreements),
        "chance_by_luck": _chance(met, len(nodes)),
    }  # fmt: skip
    limit = {
        "sources_at_least": sources_at_least, "connections_of_a_source_at_least": connections_at_least,
        "nodes_of_a_source": 1, "nodes_met_at_least": nodes_at_least, "sources_without_entry": 0, "witnesses_disagree": 0,
    }  # fmt: skip
    numbers: Numbers = {"measured": measured, "limit": limit}
    if wandering:
        examples = [f"{source} met {' then '.join(_changes(met[source])[:4])}" for source in wandering]
        return failed("balancer", f"{len(wandering)} of {n} sources met several nodes: {listed(examples, 2)}", **numbers)
    if n < sources_at_least or fewest < connections_at_least:
        return unknown(f"only {n} sources with at least {fewest} answered connections each", **numbers)
    if not any(witnesses[name] for name in ("client", "log", "node")):
        return unknown("no client, log or node told which node was met", **numbers)
    if disagreements:
        return failed("balancer", f"witnesses disagree: {listed(disagreements, 2)}", **numbers)
    if without_entry:
        return failed(
            "balancer", f"{len(without_entry)} of {n} sources have no table entry: {listed(without_entry, 3)}", **numbers
        )
    if elsewhere:
        return failed("balancer", f"the table names another node than was met by {listed(elsewhere, 3)}", **numbers)
    if len(nodes) < nodes_at_least:
        return failed("balancer", f"all {n} sources met {nodes[0]}: nothing was shared out", **numbers)
    return passed(
        f"{n} sources, {answered.height} connections in random order, one node each; client, table, log and node agree",
        **numbers,
    )


def _changes(nodes: list[str]) -> list[str]:
    return [node for place, node in enumerate(nodes) if place == 0 or nodes[place - 1] != node]


def _chance(met: Mapping[str, list[str]], nodes: int) -> float:
    """Return the chance that every source met one node only if each connection met one of the nodes at random."""
    if nodes < 2:
        return 1.0
    exponent = sum(len(found) - 1 for found in met.values())
    return float(nodes) ** -min(exponent, 1000)
