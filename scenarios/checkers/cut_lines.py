"""Connections that ended although their client wanted to keep them, though no operation failed by it.

Something on the way that cuts idle lines is hard to see: the client finds its line dead before it sends, opens another, and
all is well; and the balancer's log says of the old one that the client ended it (`CD`), which is what it says of every client
that just hangs up. What tells them apart is what the generators wrote down: a client that hung up itself was done with what
it did, or had failed; one whose next message left on another connection was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from lbconfig.site import ServiceKind, Vip
from lbconfig.traffic_log import Connection
from scenarios.findings import Subject
from simulators.operations import SEQUENCE_BITS, Kind, Outcome

COLUMNS = ("key", "kind", "patient", "outcome", "begun_ns", "ended_ns", "source", "source_port", "session")
BY_THE_CLIENT = "CD"  # as the balancer sees it, and clients that hang up look so
_IN_ORDER = "--"
# Whether an operation belongs to what its client did before, on the same connection (`scenarios.load.clients`): a line of an
# engine is kept, a study and a web session have one connection each, a worklist query has its own.
_GOES_ON: dict[ServiceKind, pl.Expr] = {
    "hl7": pl.lit(True),
    "dicom": pl.col("patient") == pl.col("patient").shift(1).over("generator", "source"),
    "https": pl.col("kind") != int(Kind.ECHO),  # a login begins anew
    "dmwl": pl.lit(False),
}


class CutLine(NamedTuple):
    """One connection that a client found dead: its source, and when it was last used and missed (`monotonic_ns`).

    `end` is what the balancer's log says of it; empty where that says nothing.
    """

    source: str
    port: int
    used_ns: int
    missed_ns: int
    end: str

    @property
    def subject(self) -> Subject:
        """Whose doing it is: who says that it was the other side is believed of itself."""
        if self.end == _IN_ORDER:
            return "node"
        return "network" if self.end in ("", BY_THE_CLIENT) else "balancer"

    def __str__(self) -> str:
        idle_s = (self.missed_ns - self.used_ns) / 1e9
        said = f", which ended {self.end}" if self.end else ""
        return f"{self.source}:{self.port}{said}, idle for {idle_s:.1f} s at most"


def cut_lines(vip: Vip, operations: pl.DataFrame, connections: Sequence[Connection] | None) -> list[CutLine]:
    """Return the connections that ended under clients that went on without an error, by time.

    Parameters
    ----------
    vip : Vip
        Whose.
    operations : frame of operations
        Those of a load run on the VIP: `COLUMNS`.
    connections : sequence of Connection or None
        The balancer's log of the VIP in that time; None where it cannot be read.
    """
    ends = {(entry.client, entry.client_port): entry.termination for entry in connections or ()}
    ordered = operations.with_columns(generator=pl.col("key") // (1 << SEQUENCE_BITS)).sort("generator", "source", "begun_ns")
    before = {
        name: pl.col(name).shift(1).over("generator", "source") for name in ("session", "outcome", "ended_ns", "source_port")
    }
    was_kept = (before["outcome"] == int(Outcome.ACKNOWLEDGED)) & (before["session"] > 0) & (pl.col("session") > 0)
    found = ordered.select(
        "source", "begun_ns", port=before["source_port"], used_ns=before["ended_ns"],
        is_cut=_GOES_ON[vip.service] & was_kept & (pl.col("session") != before["session"]),
    ).filter("is_cut").sort("begun_ns")  # fmt: skip
    return [
        CutLine(row["source"], row["port"], row["used_ns"], row["begun_ns"], ends.get((row["source"], row["port"]), ""))
        for row in found.iter_rows(named=True)
    ]


def unexplained(operations: pl.DataFrame, connections: Sequence[Connection]) -> list[Connection]:
    """Return the connections that a client ended by the balancer's log (`CD`), and on which no client did anything."""
    known = set(operations.select("source", "source_port").unique().iter_rows())
    ended = [entry for entry in connections if entry.termination == BY_THE_CLIENT]
    return [entry for entry in ended if (entry.client, entry.client_port) not in known]
