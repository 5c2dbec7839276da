"""One run: its number and seed, the lab it runs on, the history that it writes, and the numbers of its workloads."""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import polars as pl

from compose.lab import CanReadJournals, HasStraightSources, Lab
from lbconfig.site import RealServer, ServiceKind, Vip
from scenarios.frames import own_receipts, scan_operations, scan_receipts
from scenarios.targets import SERVICE_OF, straight, through, timeouts_of
from simulators.client import Target, Timeouts
from simulators.journal import Flag, journal_path
from simulators.operations import HEADER_BYTES, IdentitySource, Kind, Operation, operation_file

LOAD_DIRECTORY = "load"  # in a run's directory: what the generators of load runs wrote
STORED_KINDS = (Kind.INSTANCE, Kind.MESSAGE, Kind.NOTE)


class PlacedOrder(NamedTuple):
    """An order that a message carried: its accession number, and the station on whose worklist it belongs."""

    accession: str
    station_ae: str


class Run:
    """The state of one run that scenarios share. Everything random comes from `seed`.

    Parameters
    ----------
    lab : Lab
        A lab that is up.
    directory : Path
        Where the history is written.
    seed : int
        Of every random choice.
    number : int
        The run's number, 32 bits: the mark of its identities.
    """

    def __init__(self, lab: Lab, directory: Path, seed: int, number: int) -> None:
        self.lab = lab
        self.site = lab.site
        self.directory = directory
        self.seed = seed
        self.number = number
        self.identities = IdentitySource(number, 0)
        self.started_ns = time.monotonic_ns()
        self.orders: dict[int, PlacedOrder] = {}  # by the key of the message that ordered it
        self._history = operation_file(directory / "history.operations")
        self._workloads = itertools.count(1)
        self.workload_names: dict[int, str] = {}

    @property
    def history_path(self) -> Path:
        """The file of the operations of this process."""
        return self._history.path

    @property
    def history_paths(self) -> list[Path]:
        """The files of all operations: this process's, and those of every generator of every load run."""
        generators = sorted((self.directory / LOAD_DIRECTORY).glob("**/generator-*.operations"))
        return [self.history_path, *(path for path in generators if path.stat().st_size >= HEADER_BYTES)]

    def close(self) -> None:
        """Close the history."""
        self._history.close()

    def record(self, operation: Operation) -> Operation:
        """Write an operation into the history, and return it."""
        self._history.append((operation,))
        return operation

    def workload(self, name: str) -> int:
        """Give a new workload its number."""
        number = next(self._workloads)
        self.workload_names[number] = name
        return number

    def random(self, purpose: str) -> random.Random:
        """Return a random generator of this run for one purpose: the same seed and purpose, the same choices."""
        digest = hashlib.sha256(f"{self.seed}:{purpose}".encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))

    def timeouts(self) -> Timeouts:
        """Return the site's time-outs for clients."""
        return timeouts_of(self.site)

    def through(self, vip: Vip) -> Target:
        """Return the VIP as a target."""
        return through(vip)

    def straight(self, vip: Vip, server: RealServer) -> Target:
        """Return a real server itself as a target: the baseline."""
        return straight(self.site, vip, server)

    def straight_sources(self, count: int) -> list[str]:
        """Return addresses from which real servers are reached straight: where not everybody may, of those who may."""
        if isinstance(self.lab, HasStraightSources):
            return self.lab.straight_source_addresses(count)
        return self.lab.source_addresses(count)

    def operations(
        self, service: ServiceKind, workloads: Collection[int] | None = None, *, kinds: Collection[Kind] | None = None
    ) -> pl.DataFrame:
        """Return the operations of one service so far, of some workloads (None: all) and kinds (None: all but echoes)."""
        return self.scan_operations(service, workloads, kinds=kinds).collect()

    def scan_operations(
        self, service: ServiceKind, workloads: Collection[int] | None = None, *, kinds: Collection[Kind] | None = None
    ) -> pl.LazyFrame:
        """Return what `operations` returns as a lazy frame, for load runs: a checker reads only what it needs of it."""
        frame = scan_operations(self.history_paths).filter(pl.col("service") == int(SERVICE_OF[service]))
        if workloads is not None:
            frame = frame.filter(pl.col("workload").is_in(list(workloads)))
        if kinds is None:
            return frame.filter(pl.col("kind") != int(Kind.ECHO))
        return frame.filter(pl.col("kind").is_in([int(kind) for kind in kinds]))

    def scan_all_operations(self) -> pl.LazyFrame:
        """Return all operations so far, of every service and kind, as a lazy frame."""
        return scan_operations(self.history_paths)

    def receipts(self, service: ServiceKind, *, observations: bool = False) -> pl.DataFrame:
        """Return this run's own receipts of one service from every node's journal; with observations, those too."""
        return self.scan_receipts(service, observations=observations).collect()

    def scan_receipts(self, service: ServiceKind, *, observations: bool = False) -> pl.LazyFrame:
        """Return what `receipts` returns as a lazy frame, for load runs."""
        frame = self.scan_all_receipts(service)
        if observations:
            return frame.filter((pl.col("run") == self.number) & (pl.col("flags") & int(Flag.FOREIGN) == 0))
        return own_receipts(frame, self.number)

    def scan_all_receipts(self, *services: ServiceKind) -> pl.LazyFrame:
        """Return all receipts of some services (none named: of all four), foreign ones included, as a lazy frame."""
        return scan_receipts(self.journal_paths(*services))

    def journal_paths(self, *services: ServiceKind) -> list[Path]:
        """Return the journals that exist. A target without readable journals has none."""
        if not isinstance(self.lab, CanReadJournals):
            return []
        wanted = services or tuple(SERVICE_OF)
        paths = [
            journal_path(folder, SERVICE_OF[service]) for folder in self.lab.node_directories().values() for service in wanted
        ]
        return [path for path in paths if path.exists() and path.stat().st_size]
