"""Each source meets one node only, and all witnesses agree which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from scenarios.checkers.witnesses import Heard
from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from scenarios.frames import Frame
from simulators.operations import Outcome


def judge_same_node(
    operations: Frame,
    receipts: Frame | None,
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
        One operation or more for each connection, in the order they were made; `node` is what the client was told.
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
    answered = operations.lazy().filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    attempts = int(operations.lazy().select(pl.len()).collect().item())
    heard = Heard(answered, receipts, table, log)
    refused, refused_at_most = attempts - heard.connections, attempts // 20
    numbers: Numbers = {
        "measured": _measured(heard, table) | {
            "refused_or_lost": refused, "dropped_log_lines": dropped_log_lines,
        },
        "limit": {
            "sources_at_least": sources_at_least, "connections_of_a_source_at_least": connections_at_least,
            "nodes_of_a_source": 1, "nodes_met_at_least": nodes_at_least, "sources_without_entry": 0, "witnesses_disagree": 0,
            "refused_or_lost": refused_at_most,
        },
    }  # fmt: skip
    if broken := _broken(heard, table):
        return failed("balancer", broken, **numbers)
    n, fewest = len(heard.sources), numbers["measured"]["connections_of_a_source_at_least"]
    silent = _silent(heard, dropped_log_lines)
    if n < sources_at_least or fewest < connections_at_least or silent or refused > refused_at_most:
        told = f"; of {heard.connections} connections {', '.join(silent)}" if silent else ""
        return unknown(
            f"{n} sources with at least {fewest} answered connections each, {refused} refused or lost{told}", **numbers
        )
    if len(heard.nodes) < nodes_at_least:
        return failed("balancer", f"all {n} sources met {heard.nodes[0]}: nothing was shared out", **numbers)
    return passed(
        f"{n} sources, {heard.connections} connections in random order, one node each; {', '.join(heard.statements)} agree",
        **numbers,
    )


def _measured(heard: Heard, table: Mapping[str, str]) -> dict[str, Any]:
    return {
        "sources": len(heard.sources),
        "connections": heard.connections,
        "connections_of_a_source_at_least": min((sum(met.values()) for met in heard.sources.values()), default=0),
        "sources_that_met_several_nodes": len(_wandering(heard)),
        "sources_without_entry": len(_without_entry(heard, table)),
        "sources_by_node": {node: sum(node in met for met in heard.sources.values()) for node in heard.nodes},
        "witness_statements": heard.statements,
        "witnesses_disagree": heard.disagreements,
        "chance_by_luck": _chance(heard),
    }


def _broken(heard: Heard, table: Mapping[str, str]) -> str:
    """Say what contradicts persistence; empty when nothing does."""
    n, wandering, without_entry = len(heard.sources), _wandering(heard), _without_entry(heard, table)
    if wandering:
        examples = [f"{source} met {' then '.join(heard.changes_of(source, 4))}" for source in wandering[:2]]
        return f"{len(wandering)} of {n} sources met several nodes: {_shown(examples, len(wandering))}"
    if heard.disagreements:
        return f"witnesses disagree: {_shown(heard.contradictions, heard.disagreements)}"
    if without_entry:
        return f"{len(without_entry)} of {n} sources have no table entry: {listed(without_entry, 3)}"
    elsewhere = sorted(source for source, met in heard.sources.items() if met and set(met) != {table[source]})
    return f"the table names another node than was met by {listed(elsewhere, 3)}" if elsewhere else ""


def _wandering(heard: Heard) -> list[str]:
    return sorted(source for source, met in heard.sources.items() if len(met) > 1)


def _without_entry(heard: Heard, table: Mapping[str, str]) -> list[str]:
    return sorted(source for source in heard.sources if source not in table)


def _silent(heard: Heard, dropped_log_lines: int) -> list[str]:
    """Say which witnesses named the node of fewer connections than they must have seen."""
    missing = {"log": min(dropped_log_lines, heard.connections // 20)}
    expected = {name: heard.connections - missing.get(name, 0) for name in heard.statements}
    return [f"the {name} named {count}" for name, count in heard.statements.items() if count < expected[name]]


def _shown(examples: list[str], of: int) -> str:
    rest = of - len(examples)
    return "; ".join(examples) + (f"; and {rest} more" if rest > 0 else "")


def _chance(heard: Heard) -> float:
    """Return the chance that every source met one node only if each connection met one of the nodes at random."""
    if len(heard.nodes) < 2:
        return 1.0
    exponent = sum(sum(met.values()) - 1 for met in heard.sources.values())
    return float(len(heard.nodes)) ** -min(exponent, 1000)
