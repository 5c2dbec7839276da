"""When a node returns nobody is forced back to it, and nothing flaps."""

from __future__ import annotations

from typing import Any

import polars as pl

from lbconfig.site import Vip
from scenarios.checkers.residents import node_before
from scenarios.episodes import Episode, Role, seconds
from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from simulators.operations import Outcome


def judge_failback(vip: Vip, episode: Episode, operations: pl.DataFrame, *, observed_at_least_s: float) -> Finding:
    """Judge the sources that left the victim of one VIP after the victim came back.

    Parameters
    ----------
    vip : Vip
        The virtual service.
    episode : Episode
        The fault that ended.
    operations : frame of operations
        Those of the episode's workload on this VIP.
    observed_at_least_s : float
        How long the traffic must have gone on after the victim's server was UP again.
    """
    label, changes, _, up_ns = episode.story(vip)
    acknowledged = operations.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED)).sort("begun_ns")
    moved, returned, heard = _moves(vip, episode, acknowledged, up_ns)
    after = acknowledged.filter(pl.col("begun_ns") >= (up_ns or episode.observed_ns))
    by_node = {str(node): int(count) for node, count in after.group_by("node").len().sort("node").iter_rows()}
    observed_s = seconds(episode.observed_ns - up_ns) if up_ns else 0.0
    measured: dict[str, Any] = {
        "sources_moved": moved,
        "moved_sources_heard_after_up": heard,
        "sources_forced_back": len(returned),
        "observed_after_up_s": observed_s,
        "operations_by_node_after_up": by_node,
        "changes": [status for _, status in changes],
    }
    numbers: Numbers = {
        "measured": measured,
        "limit": {"sources_forced_back": 0, "observed_after_up_s_at_least": observed_at_least_s, "changes_at_most": 2},
    }
    if len(changes) > 3:
        return failed("balancer", f"{label} flapped: {', '.join(status for _, status in changes)}", **numbers)
    if returned:
        return failed(
            "balancer",
            f"{len(returned)} of {moved} sources were forced back to {episode.node}: {listed(returned, 3)}",
            **numbers,
        )
    if up_ns is None or observed_s < observed_at_least_s:
        return unknown(f"{label} was observed UP again for only {observed_s:.1f} s", **numbers)
    if not moved or heard < moved:
        return unknown(f"{moved} sources had moved, and {heard} of them were heard after the return", **numbers)
    shares = ", ".join(f"{count} on {node}" for node, count in by_node.items())
    return passed(f"{moved} sources had moved and all stayed; operations since: {shares} (the imbalance stays)", **numbers)


def _moves(vip: Vip, episode: Episode, acknowledged: pl.DataFrame, up_ns: int | None) -> tuple[int, list[str], int]:
    """Return how many sources had moved, which of them went back, and how many of them were heard after the return.

    Going back counts from the fault's end: between that and UP nobody can have wanted it either.
    """
    moved, heard = 0, 0
    returned: list[str] = []
    for address in episode.addresses(vip.name, Role.STICKY) + episode.addresses(vip.name, Role.ESTABLISHED):
        own = acknowledged.filter(pl.col("source") == address)
        during = own.filter((pl.col("begun_ns") >= episode.begun_ns) & (pl.col("begun_ns") < episode.ended_ns))[
            "node"
        ].to_list()
        if node_before(episode, acknowledged, address) != episode.node or not during or during[-1] == episode.node:
            continue
        moved += 1
        heard += own.filter(pl.col("begun_ns") >= (up_ns or episode.observed_ns)).height > 0
        if episode.node in own.filter(pl.col("begun_ns") >= episode.ending_ns)["node"].to_list():
            returned.append(address)
    return moved, returned, heard
