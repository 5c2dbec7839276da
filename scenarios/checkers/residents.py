"""Who lived where: sticky and established sources by the node that answered them last, and the sessions that they keep."""

from __future__ import annotations

import polars as pl

from scenarios.episodes import Episode, Role
from simulators.operations import Outcome, Phase

ACKNOWLEDGED = pl.col("outcome") == int(Outcome.ACKNOWLEDGED)
ANSWERED = ACKNOWLEDGED | (
    pl.col("phase") == int(Phase.DONE)
)  # refused by a node's own answer too, as a web session is that it forgot


def node_before(episode: Episode, operations: pl.DataFrame, address: str) -> str:
    """Return the node that gave a source its last answer before the fault; empty when none did."""
    own = operations.filter((pl.col("source") == address) & ACKNOWLEDGED & (pl.col("ended_ns") < episode.begun_ns))
    return str(own.sort("ended_ns")["node"][-1]) if own.height else ""


def residents_on(node: str, episode: Episode, operations: pl.DataFrame, vip: str, role: Role) -> list[str]:
    """Return the sources of one VIP and role that were on a node when the fault began."""
    return [address for address in episode.addresses(vip, role) if node_before(episode, operations, address) == node]


def cut_sessions(operations: pl.DataFrame, addresses: list[str], begun_ns: int, until_ns: int) -> list[str]:
    """Return the sources that did not keep, from one moment to another, the session that they had before.

    Kept means: everything that began in between was acknowledged, on the session of the last operation before.
    """
    cut = []
    for address in addresses:
        own = operations.filter(pl.col("source") == address).sort("begun_ns")
        before = own.filter(pl.col("ended_ns") < begun_ns)
        between = own.filter((pl.col("begun_ns") >= begun_ns) & (pl.col("begun_ns") < until_ns))
        kept = ACKNOWLEDGED & (pl.col("session") == (int(before["session"][-1]) if before.height else 0))
        if between.filter(~kept).height:
            cut.append(address)
    return cut


def new_sessions_on(node: str, operations: pl.DataFrame, after_ns: int, before_ns: int) -> pl.DataFrame:
    """Return the connections that were opened to a node in a span of time: `source`, `session`, `begun_ns`."""
    first = (
        operations.filter(pl.col("session") > 0)
        .sort("begun_ns")
        .group_by("source", "session", maintain_order=True)
        .agg(pl.col("begun_ns").first(), (ACKNOWLEDGED & (pl.col("node") == node)).any().alias("answered"))
    )
    return first.filter(pl.col("answered") & (pl.col("begun_ns") > after_ns) & (pl.col("begun_ns") < before_ns))
