"""Under load too each source meets one node only, and every node that is there takes its part."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import polars as pl

from scenarios.findings import Finding, listed
from scenarios.frames import Frame, columns
from simulators.operations import Outcome

SOURCES_FOR_A_SPREAD = 8  # with fewer, one node may stay without any by luck


def met_as_expected(finding: Finding, operations: Frame, expected: Collection[str]) -> Finding:
    """Return a finding with the nodes that sources met; a pass in which persistence or spread did not hold becomes a failure.

    Parameters
    ----------
    finding : Finding
        What was judged of the same operations.
    operations : frame of operations
        Those of one VIP in one load run. The node is what the client was told; operations that were told none are left out.
    expected : collection of str
        The nodes that were there.

    Returns
    -------
    Finding
        Failed, by the balancer, when a source met several nodes, when a node was met that was not to be, or when one that was
        there took no source of eight or more.
    """
    seen = columns(operations, "source", "node", "outcome").filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    met = seen.select(pl.col("source").cast(pl.String), pl.col("node").cast(pl.String)).filter(pl.col("node") != "").unique()
    by_source = met.group_by("source").agg(pl.col("node").sort()).sort("source")
    wandering = by_source.filter(pl.col("node").list.len() > 1)
    by_node = dict(met.group_by("node").len().sort("node").iter_rows())
    measured = {
        "sources": by_source.height, "sources_by_node": by_node, "sources_that_met_several_nodes": wandering.height,
    }  # fmt: skip
    told = msgspec.structs.replace(
        finding, measured={**finding.measured, **measured}, limit={**finding.limit, "nodes_of_a_source": 1}
    )
    if finding.verdict != "pass":
        return told
    examples = [f"{source} met {', '.join(nodes)}" for source, nodes in wandering.head(3).iter_rows()]
    strange = sorted(set(by_node) - set(expected))
    idle = sorted(set(expected) - set(by_node)) if by_source.height >= SOURCES_FOR_A_SPREAD else []
    reasons = (
        (examples, f"{wandering.height} of {by_source.height} sources met several nodes: {listed(examples)}"),
        (strange, f"sources were led to {listed(strange)}, which was not to be met"),
        (idle, f"{by_source.height} sources, and none was led to {listed(idle)}"),
    )
    for found, words in reasons:
        if found:
            return msgspec.structs.replace(told, verdict="fail", subject="balancer", reason=f"{finding.reason}; but {words}")
    if not by_source.height:
        reason = "no operation was told by which node it was answered"
        return msgspec.structs.replace(told, verdict="unknown", subject="harness", reason=reason)
    return told
