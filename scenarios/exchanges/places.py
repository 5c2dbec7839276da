"""Where an exchange is tried: straight at every real server first (the baseline), then through the VIP."""

from __future__ import annotations

import msgspec
import polars as pl

from lbconfig.site import ServiceKind, Vip
from scenarios.checkers.cases import THROUGH_VIP
from scenarios.kit import Kit
from scenarios.run import Run
from simulators.client import Attempt, Target, Timeouts
from simulators.operations import Kind, Operation


class Place(msgspec.Struct, frozen=True):
    """One target by name (a real server's label, or the VIP), with a source address of its own."""

    name: str
    target: Target
    source: str


class Desk(msgspec.Struct, frozen=True):
    """What an exchange needs: the run, the samples, the time-outs, and the number of the workload that it belongs to."""

    run: Run
    kit: Kit
    timeouts: Timeouts
    workload: int

    def attempt(self, kind: Kind) -> Attempt:
        """Take a new identity, and make its first attempt."""
        return Attempt(self.run.identities.next(kind), workload=self.workload)

    def operations(self, service: ServiceKind) -> pl.DataFrame:
        """Return the operations of this workload on one service so far, echoes aside."""
        return self.run.operations(service, [self.workload])

    def record(self, operation: Operation) -> Operation:
        """Write an operation into the history."""
        return self.run.record(operation)


def places(run: Run, vip: Vip) -> list[Place]:
    """Return every real server of a VIP, then the VIP itself."""
    sources = run.straight_sources(len(vip.real_server))
    straight = [
        Place(server.label, run.straight(vip, server), source)
        for server, source in zip(vip.real_server, sources, strict=True)
    ]
    return [*straight, Place(THROUGH_VIP, run.through(vip), run.lab.source_addresses(1)[0])]
