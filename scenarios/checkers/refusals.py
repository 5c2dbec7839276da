"""Whose failure it is when operations fail: the balancer's where it let nobody through, else the node's that answered."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from lbconfig.site import Vip
from lbconfig.traffic_log import Connection
from scenarios.findings import Subject
from scenarios.load_runs.parts_seen import PartsSeen
from simulators.operations import Outcome, Phase

_BEFORE_A_NODE_SPEAKS = (int(Phase.NEGOTIATE), int(Phase.SEND))


def refuser(bad: pl.DataFrame, vip: Vip, parts: PartsSeen, connections: Sequence[Connection] | None) -> Subject:
    """Return whose failure most failed operations are.

    Parameters
    ----------
    bad : frame of operations
        Those that failed: `outcome`, `phase`.
    vip : Vip
        Whose.
    parts : PartsSeen
        Of the time in question: the balancer's counts of connections that it could not bring to a server.
    connections : sequence of Connection or None
        The balancer's log of the VIP in that time; None where it cannot be read, then the counts decide.

    Notes
    -----
    Without a connection it was never a node's turn. What is refused next, before a node has spoken, is the balancer's where
    it says that it turned connections away: it accepts them first, so that a client finds out only then.
    """
    without_a_node = pl.col("phase") == int(Phase.CONNECT)
    if _turned_away(vip, parts, connections):
        early = (pl.col("outcome") == int(Outcome.REFUSED)) & pl.col("phase").is_in(_BEFORE_A_NODE_SPEAKS)
        without_a_node = without_a_node | early
    return "balancer" if 2 * bad.filter(without_a_node).height > bad.height else "node"


def _turned_away(vip: Vip, parts: PartsSeen, connections: Sequence[Connection] | None) -> bool:
    """Say whether the balancer turned connections away.

    In the log those end with `P` (the proxy itself: `PR` is a reject), or have no server though the client stayed (HAProxy
    manual, 8.5).
    """
    if connections:
        return any(
            entry.termination.startswith("P") or (entry.server is None and not entry.termination.startswith(("C", "c")))
            for entry in connections
        )
    errors = [counts.connection_errors for moment in parts.balancer for counts in moment.vips if counts.vip == vip.name]
    return bool(errors) and max(errors) > min(errors)
