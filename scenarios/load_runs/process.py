"""Locust as a process of its own: importing it would patch the process that judges.

The plan goes in as a file; histories, arrivals and pulses come out as files, beside what was seen of the parts meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import polars as pl

from compose.keeper_client import KeeperClient
from compose.lab import CanSteerBalancer, Lab, LabError
from lbconfig.site import ServiceKind
from scenarios.faults import MissingAbilityError
from scenarios.load.plan import PLAN_VARIABLE, SERVICE_OF_USER, LoadPlan, write_plan
from scenarios.load_runs.frames import arrivals_frame
from scenarios.load_runs.parts import PartsSeen, PartsWatch
from scenarios.options import ROOT
from scenarios.targets import SERVICE_OF

LOCUST_FILE = ROOT / "scenarios" / "load" / "mixed.py"
STARTS_WITHIN_S = 60.0  # Locust's own start, its workers', and the wait for all of them
ENDS_WITHIN_S = 90.0  # what is under way when the time is over may still end
PAGE_HOST = "127.0.0.1"  # Locust's page is for the person at this machine
_LOCUST = "locust"
_LOG = "locust.log"
_LOG_LINES = 15


class LoadError(Exception):
    """A load run could not be played; the message says what was expected, what was found and where its log is."""


class LoadRun(msgspec.Struct, frozen=True, kw_only=True):
    """One load run that was played. Times are `monotonic_ns` of the harness's host.

    `name` is for people, `records` the folder of its generators' files, `parts` what was seen of generators, balancer and
    nodes, `processes` how many generators took part.
    """

    name: str
    plan: LoadPlan
    records: Path
    started_ns: int
    ended_ns: int
    parts: PartsSeen
    processes: int

    @property
    def workload(self) -> int:
        """The number of its operations in the history."""
        return self.plan.workload

    def arrivals(self) -> pl.DataFrame:
        """Return the arrivals of all generators."""
        return arrivals_frame(sorted(self.records.glob("generator-*.arrivals")))

    def clients(self, service: ServiceKind) -> int:
        """Return how many clients of a service took part."""
        return max((user.clients for user in self.plan.users if SERVICE_OF_USER[user.kind] == service), default=0)

    def generators(self) -> list[int]:
        """Return the numbers of the generators."""
        return list(range(self.plan.first_generator, self.plan.first_generator + self.processes))

    def last_intended_ns(self, service: ServiceKind) -> int:
        """Return when the last arrival of a service was due: of a storm, the instant at which all come back."""
        own = self.arrivals().filter(pl.col("service") == int(SERVICE_OF[service]))
        return int(own["intended_ns"].max() or 0)  # type: ignore[arg-type]


def play_load(
    lab: Lab, plan: LoadPlan, name: str, *, processes: int = 1, page: int | None = None, workers: int = 0
) -> LoadRun:  # fmt: skip
    """Play a plan to its end and return what was seen. Nothing of it is left running, whatever happens.

    Parameters
    ----------
    lab : Lab
        A lab that is up and whose balancer can be asked.
    plan : LoadPlan
        What is played; its records folder must be new.
    name : str
        For people.
    processes : int
        Generators; from two on Locust's master gives out the work.
    page : int or None
        The port of Locust's page on 127.0.0.1; None: headless.
    workers : int
        Generators on hosts of their own, which look for their master here; none are started then.

    Raises
    ------
    LoadError
        When Locust ends with an error, does not end in time, or leaves no records.
    MissingAbilityError
        When the lab's balancer cannot be watched.
    """
    if not isinstance(lab, CanSteerBalancer):
        raise MissingAbilityError("watch the balancer")
    records = Path(plan.records)
    records.mkdir(parents=True)
    write_plan(plan, records / "plan.json")
    with PartsWatch(lab, plan.duration_s) as watch:
        started_ns = time.monotonic_ns()
        with _locust(records, _several(processes, workers), page) as keeper:
            _wait(keeper, plan, records)
        ended_ns = time.monotonic_ns()
    check_generators(name, records, workers or processes)
    return LoadRun(
        name=name, plan=plan, records=records, started_ns=started_ns, ended_ns=ended_ns, parts=watch.seen(records),
        processes=workers or processes,
    )  # fmt: skip


def check_generators(name: str, records: Path, processes: int) -> None:
    """Raise LoadError unless all generators left records: Locust plays on without one that died before it had its part."""
    found = len(list(records.glob("generator-*.operations")))
    if found != processes:
        raise LoadError(
            f"{name}: expected the records of {processes} generators in {records}, found {found}. {_log(records)}"
        )


@contextlib.contextmanager
def _locust(records: Path, several: Sequence[str], page: int | None) -> Iterator[KeeperClient]:
    """Start Locust under a keeper of its own, and end it in the end.

    Whatever happens to this process, the keeper ends Locust and all of its workers: those that are stopped, too, which hear
    no signal but the one that cannot be caught.
    """
    shown = ["--web-host", PAGE_HOST, "--web-port", str(page), "--autostart", "--autoquit", "1"] if page else ["--headless"]
    command = [sys.executable, "-m", "locust", "-f", str(LOCUST_FILE), *shown, *several, "--skip-log-setup"]
    environment = {**os.environ, PLAN_VARIABLE: str(records / "plan.json"), "PYTHONPATH": str(ROOT)}
    with KeeperClient() as keeper:
        keeper.start(_LOCUST, command, directory=records, log=records / _LOG, environment=environment)
        try:
            yield keeper
        finally:
            if keeper.signal([_LOCUST], signal.SIGTERM):
                with contextlib.suppress(LabError):  # it hangs: the keeper ends it with all the rest
                    keeper.wait([_LOCUST], ENDS_WITHIN_S)


def _several(processes: int, workers: int) -> list[str]:
    """Return the options of Locust's master: of workers elsewhere, or of processes of its own; none for a single process."""
    if workers:
        return ["--master", "--expect-workers", str(workers), "--expect-workers-max-wait", str(round(STARTS_WITHIN_S))]
    return ["--processes", str(processes), *_own_master()] if processes > 1 else []


def _own_master() -> list[str]:
    """Return options that keep Locust's master on loopback, at a port that was free a moment ago: its own may be taken."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    here = "127.0.0.1"
    return [
        "--master-bind-host", here, "--master-bind-port", port, "--master-host", here, "--master-port", port,
    ]  # fmt: skip


def _wait(keeper: KeeperClient, plan: LoadPlan, records: Path) -> None:
    limit_s = STARTS_WITHIN_S + plan.duration_s + ENDS_WITHIN_S
    try:
        keeper.wait([_LOCUST], limit_s)
    except LabError as error:
        raise LoadError(f"Locust: {error}. {_log(records)}") from error
    ended = keeper.exit_of(_LOCUST)
    if ended is None or ended.code != 0:
        raise LoadError(f"Locust: expected exit code 0, found {ended.code if ended else 'none'}. {_log(records)}")


def _log(records: Path) -> str:
    path = records / _LOG
    lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return f"The end of {path}:\n" + "\n".join(lines)
