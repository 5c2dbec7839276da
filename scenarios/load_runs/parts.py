"""Looks at every part of a load run while it runs: twice a second at the balancer and the machine, afterwards at the pulses.

Generators and the nodes' services write their own pulses (`simulators.pulse`), wherever they are. The balancer is asked over
its socket; its CPU, memory and open files, and the sockets of the machine, are seen only where the harness is on the same
machine, as in the native lab. What is seen is `scenarios.load_runs.parts_seen`.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from compose.lab import CanReadJournals
from lbconfig.runtime_api import BalancerError, BalancerInfo, RuntimeApi, VipCounters
from lbconfig.site import Site
from scenarios.load_runs import kernel_figures as kernel
from scenarios.load_runs.frames import pulse_paths, pulses_frame
from scenarios.load_runs.parts_seen import BALANCER, BalancerMoment, MachineMoment, PartsSeen, VipMoment
from scenarios.repeated import Repeated

SAMPLE_EVERY_S = 0.5
MOST_SAMPLES = 7200  # of one run, at 3 KB: it must not grow with the run, and of more than an hour less is seen a second
_BALANCER_PROGRAM = "haproxy"  # a process id of another machine may be some other program's here
_PORTS_LEFT = 0.5  # of the range: as long as all sockets together take less, no pair of addresses is near its end
_SIBLINGS_EVERY = 20  # samples: workers come and go with reloads alone

__all__ = ["SAMPLE_EVERY_S", "PartsSeen", "PartsWatch"]


class WatchedLab(Protocol):
    """What is needed of a lab: its site, and its balancer's socket."""

    site: Site

    @property
    def balancer(self) -> RuntimeApi:
        """The balancer's run-time API."""


class _Used(NamedTuple):
    """What the balancer's workers have used so far: CPU time and memory; None when they are not on this machine."""

    cpu_s: float
    rss_bytes: int


class _Counted(NamedTuple):
    """The kernel's counters at one time; the moments are their differences."""

    at_ns: int
    processors: kernel.Processors
    overflows: int
    harness_cpu_s: float


class _PortsTaken:
    """How many ports the busiest source has taken towards one place, read from all sockets only where that may be many.

    A port is taken by whoever begins a connection. So since the last reading no source can have taken more of them than
    connections were begun on this machine: as long as that bound is low, nothing needs to be read.
    """

    def __init__(self, port_range: int) -> None:
        self._many = port_range * _PORTS_LEFT
        self._read: tuple[int, int] | None = None  # ports of the busiest source, and the connections begun until then

    def look(self) -> tuple[str, int]:
        """Return source and ports; without a source, a bound of any source's: below half of the range, or nobody can tell."""
        sockets, begun = kernel.sockets(), kernel.active_opens()  # before a reading, so that none is missed
        bound = sockets.in_use + sockets.waiting
        if self._read is not None:
            bound = min(bound, self._read[0] + begun - self._read[1])
        if bound < self._many:
            return "", bound
        source, ports = kernel.busiest_source()
        if not source:
            return "", bound
        self._read = ports, begun
        return source, ports


class PartsWatch(Repeated):
    """Samples balancer and machine until it is left.

    Parameters
    ----------
    lab : WatchedLab
        A lab that is up; its nodes' pulses are read where it lets their folders be read (`CanReadJournals`).
    expected_s : float
        For how long it will watch.
    """

    def __init__(self, lab: WatchedLab, expected_s: float = 0.0) -> None:
        self.every_s = max(SAMPLE_EVERY_S, expected_s / MOST_SAMPLES)
        super().__init__("parts watch", self.every_s)
        self._lab = lab
        self._listeners = _listeners(lab.site)
        self._port_range = kernel.port_range()
        self._ports = _PortsTaken(self._port_range)
        self._balancer: list[BalancerMoment] = []
        self._machine: list[MachineMoment] = []
        self._workers: list[int] = []
        self._samples = 0
        self._used: _Used | None = None
        self._asked_ns = self._began_ns = self._ended_ns = 0
        self._counted = _count()

    def __enter__(self) -> Self:
        self._began_ns = time.monotonic_ns()
        self._look()  # the first sample says where to count from
        self._balancer.clear()
        self._machine.clear()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._look()
        self._ended_ns = time.monotonic_ns()

    def seen(self, records: Path | None = None) -> PartsSeen:
        """Return everything seen, from the entry to the exit.

        Parameters
        ----------
        records : Path, optional
            The folder of a load run's records, for the pulses of its generators.

        Raises
        ------
        RecordError
            When a pulse is no pulse.
        """
        folders = list(self._lab.node_directories().values()) if isinstance(self._lab, CanReadJournals) else []
        paths = [path for folder in (*folders, *([records] if records else [])) for path in pulse_paths(folder)]
        seen = PartsSeen(balancer=tuple(self._balancer), machine=tuple(self._machine)).with_pulses(pulses_frame(paths))
        return seen.during(self._began_ns, self._ended_ns or time.monotonic_ns())

    def _step(self) -> None:
        self._look()

    def _look(self) -> None:
        with contextlib.suppress(BalancerError):  # a reload interrupts it for a moment; the next span is longer then
            self._look_at_balancer(self._lab.balancer.info(), self._lab.balancer.vip_counters())
        self._look_at_machine()
        self._samples += 1

    def _look_at_balancer(self, info: BalancerInfo, vips: list[VipCounters]) -> None:
        now_ns = time.monotonic_ns()
        over_s = (now_ns - self._asked_ns) / 1e9
        used = self._used_by(info.pid)
        known = self._used is not None and used is not None
        moment = BalancerMoment(
            at_ns=now_ns, over_s=over_s, idle_share=info.idle_share,
            cpu_cores=max(0.0, used.cpu_s - self._used.cpu_s) / over_s if known and used and self._used else None,
            threads=info.threads, connections=info.current_connections, maxconn=info.maxconn,
            connections_per_s=info.connections_per_s, tasks=info.tasks, run_queue=info.run_queue, pipes=info.pipes,
            open_files=kernel.open_files(info.pid) if used else None, file_limit=info.fd_limit,
            rss_bytes=used.rss_bytes if used else None, vips=tuple(map(_vip_moment, vips)),
        )  # fmt: skip
        self._balancer.append(moment)
        self._asked_ns, self._used = now_ns, used

    def _used_by(self, pid: int) -> _Used | None:
        """Return what the worker and its siblings used: the old ones, after a reload, still serve their connections."""
        if pid not in self._workers or self._samples % _SIBLINGS_EVERY == 0:
            own = kernel.process(pid)
            self._workers = kernel.siblings(pid) if own is not None and own.name == _BALANCER_PROGRAM else []
        found = [process for process in map(kernel.process, self._workers) if process is not None]
        if not found:
            return None
        return _Used(sum(process.cpu_s for process in found), sum(process.rss_bytes for process in found))

    def _look_at_machine(self) -> None:
        before, now = self._counted, _count()
        over_s = (now.at_ns - before.at_ns) / 1e9
        busy_s, idle_s = now.processors.busy_s - before.processors.busy_s, now.processors.idle_s - before.processors.idle_s
        if over_s <= 0 or busy_s + idle_s <= 0:
            return
        cores = now.processors.cores
        queues = kernel.accept_queues(self._listeners.values())
        source, ports = self._ports.look()
        moment = MachineMoment(
            at_ns=now.at_ns, over_s=over_s, cores=cores, busy_cores=cores * busy_s / (busy_s + idle_s),
            harness_cores=(now.harness_cpu_s - before.harness_cpu_s) / over_s, overflows=now.overflows - before.overflows,
            accept_queues=tuple((name, queues[place]) for name, place in self._listeners.items() if place in queues),
            ports_at_most=ports, port_range=self._port_range, ports_source=source,
        )  # fmt: skip
        self._machine.append(moment)
        self._counted = now


def _count() -> _Counted:
    return _Counted(time.monotonic_ns(), kernel.processors(), kernel.listen_overflows(), kernel.own_cpu_s())


def _listeners(site: Site) -> dict[str, kernel.Endpoint]:
    """Return where the balancer and the nodes listen, by part and place."""
    found: dict[str, kernel.Endpoint] = {}
    for vip in site.vip:
        found[f"{BALANCER}/{vip.name}"] = (vip.address, vip.port)
        for server in vip.real_server:
            found[f"node/{server.node}/{vip.service}"] = (site.node_named(server.node).address, server.port)
    return found


def _vip_moment(counters: VipCounters) -> VipMoment:
    return VipMoment(
        counters.vip, counters.current_sessions, counters.session_limit, counters.queued, counters.connection_errors,
        counters.response_errors, counters.redispatches,
    )  # fmt: skip
