"""Each source meets one node only, and all witnesses agree which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from simulators.operations import Outcome


def judge_same_node(
    operations: pl.DataFrame,
    receipts: pl.DataFrame | None,
    table: Mapping[str, str],
    log: Mapping[tuple[str, int], str] | None,
    *,
    sources_at_least: int,
    connections_at_least: int,
    nodes_at_least: int = 2,
    dropped_log_lines: int = 0,
) -> Finding:
    """Judge persistence by source address on one VIP.

    Parameters
    ----------
    operations : frame of operations
        One operation for each connection, in the order they were made; `node` is what the client was told.
    receipts : frame of receipts
        What the nodes wrote down of the same identities; None where the target's journals cannot be read.
    table : mapping of source address to node
        The balancer's persistence table.
    log : mapping of (source address, source port) to node
        The balancer's traffic log; None where the target has none to read.
    sources_at_least, connections_at_least : int
        How many sources, and connections of each, it takes.
    nodes_at_least : int
        How many nodes must be met: with one only, nothing was shown.
    dropped_log_lines : int
        How many lines of its log the balancer says that it dropped; so many connections may be missing there, but never more
        than one in twenty.

    Returns
    -------
    Finding
        `measured.chance_by_luck` is the chance that as many connections met one node each without any persistence, if the
        nodes were met at random.
    """
    answered = operations.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    heard = _hear(answered, receipts, table, log)
    met = heard.met
    n, refused = len(met), operations.height - answered.height
    fewest = min((len(nodes) for nodes in met.values()), default=0)
    nodes = sorted({node for nodes in met.values() for node in nodes})
    wandering = sorted(source for source, nodes in met.items() if len(set(nodes)) > 1)
    without_entry = sorted(source for source in met if source not in table)
    elsewhere = sorted(source for source, nodes in met.items() if nodes and source in table and set(nodes) != {table[source]})
    measured: dict[str, Any] = {
        "sources": n, "connections": answered.height, "connections_of_a_source_at_least": fewest, "refused_or_lost": refused,
        "sources_that_met_several_nodes": len(wandering), "sources_without_entry": len(without_entry),
        "sources_by_node": {node: sum(node in found for found in met.values()) for node in nodes},
        "witness_statements": heard.statements, "dropped_log_lines": dropped_log_lines,
        "witnesses_disagree": len(heard.disagreements),
        "chance_by_luck": _chance(met, len(nodes)),
    }  # fmt: skip
    limit = {
        "sources_at_least": sources_at_least, "connections_of_a_source_at_least": connections_at_least,
        "nodes_of_a_source": 1, "nodes_met_at_least": nodes_at_least, "sources_without_entry": 0, "witnesses_disagree": 0,
        "refused_or_lost": operations.height // 20,
    }  # fmt: skip
    numbers: Numbers = {"measured": measured, "limit": limit}
    if wandering:
        examples = [f"{source} met {' then '.join(_changes(met[source])[:4])}" for source in wandering]
        return failed("balancer", f"{len(wandering)} of {n} sources met several nodes: {listed(examples, 2)}", **numbers)
    if heard.disagreements:
        return failed("balancer", f"witnesses disagree: {listed(heard.disagreements, 2)}", **numbers)
    if n and without_entry:
        return failed(
            "balancer", f"{len(without_entry)} of {n} sources have no table entry: {listed(without_entry, 3)}", **numbers
        )
    if elsewhere:
        return failed("balancer", f"the table names another node than was met by {listed(elsewhere, 3)}", **numbers)
    missing = {"log": min(dropped_log_lines, answered.height // 20)}
    silent = [
        f"the {name} named {count}"
        for name, count in heard.statements.items()
        if count < answered.height - missing.get(name, 0)
    ]
    if n < sources_at_least or fewest < connections_at_least or silent or refused > limit["refused_or_lost"]:
        told = f"; of {answered.height} connections {', '.join(silent)}" if silent else ""
        return unknown(
            f"{n} sources with at least {fewest} answered connections each, {refused} refused or lost{told}", **numbers
        )
    if len(nodes) < nodes_at_least:
        return failed("balancer", f"all {n} sources met {nodes[0]}: nothing was shared out", **numbers)
    return passed(
        f"{n} sources, {answered.height} connections in random order, one node each; {', '.join(heard.statements)} agree",
        **numbers,
    )


class _Heard(NamedTuple):
    """Whom each source met, connection by connection; how many connections each witness named a node of; contradictions."""

    met: dict[str, list[str]]
    statements: dict[str, int]
    disagreements: list[str]


def _hear(
    answered: pl.DataFrame,
    receipts: pl.DataFrame | None,
    table: Mapping[str, str],
    log: Mapping[tuple[str, int], str] | None,
) -> _Heard:
    """Ask every witness that the target has about every connection."""
    journal = {} if receipts is None else dict(zip(receipts["key"].to_list(), receipts["node"].to_list(), strict=True))
    has = {"client": True, "table": True, "log": log is not None, "journal": receipts is not None}
    heard = _Heard(defaultdict(list), {name: 0 for name, there in has.items() if there}, [])
    for key, source, port, told in answered.select("key", "source", "source_port", "node").iter_rows():
        said = {"client": told, "table": table.get(source, "")}
        said |= {"log": (log or {}).get((source, port), ""), "journal": journal.get(key, "")}
        for name in heard.statements:
            heard.statements[name] += said[name] != ""
        words = {node for name, node in said.items() if node and name != "table"}
        if len(words) > 1:
            heard.disagreements.append(
                f"{source}:{port}: {', '.join(f'{name} says {node}' for name, node in said.items() if node)}"
            )
        heard.met[source] += sorted(words)[:1]
    return heard


def _changes(nodes: list[str]) -> list[str]:
    return [node for place, node in enumerate(nodes) if place == 0 or nodes[place - 1] != node]


def _chance(met: Mapping[str, list[str]], nodes: int) -> float:
    """Return the chance that every source met one node only if each connection met one of the nodes at random."""
    if nodes < 2:
        return 1.0
    exponent = sum(len(found) - 1 for found in met.values())
    return float(nodes) ** -min(exponent, 1000)
