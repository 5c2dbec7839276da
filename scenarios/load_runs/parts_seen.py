"""What was seen of every part of a load run while it ran: generators, balancer, the nodes' services, and the machine.

Values only: `parts` fills them, the checkers of load read them. All times are `monotonic_ns` of the harness's host.
A moment tells of the span that ended at `at_ns` and lasted `over_s`. CPU is in cores: 1.0 is one whole core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import polars as pl

GENERATOR, NODE = "generator/", "node/"
BALANCER, MACHINE, HARNESS = "balancer", "machine", "harness"
_NS = 1e9
_LEAST_S = 1e-6


class ProcessMoment(NamedTuple):
    """One process of a generator or of a node's service, from its pulse.

    `lag_max_s` and `lag_mean_s`: by how much the `beats` wake-ups of its event loop came too late. `connections` are open at
    the end of the span, `handled` counts operations since the process began.
    """

    at_ns: int
    over_s: float
    cpu_cores: float
    lag_max_s: float
    lag_mean_s: float
    beats: int
    rss_bytes: int
    connections: int
    handled: int


class ProcessSeen(NamedTuple):
    """The moments of one process: `part` is `generator/<n>` or `node/<name>/<service>`; a part may have several."""

    part: str
    pid: int
    moments: tuple[ProcessMoment, ...]


class VipMoment(NamedTuple):
    """One VIP of the balancer: sessions now and at most, connections that wait for a server, and errors since its start."""

    vip: str
    sessions: int
    session_limit: int
    queued: int
    connection_errors: int
    response_errors: int
    redispatches: int


class BalancerMoment(NamedTuple):
    """The balancer. `cpu_cores`, `rss_bytes` (of all workers) and `open_files` are None where its host cannot be looked into.

    `idle_share` is its own word on its threads, 0 to 1; `threads` is how many cores it could use. `connections` and `maxconn`
    are of the process, as `open_files` and `file_limit` are. `run_queue` are tasks that wait for a thread.
    """

    at_ns: int
    over_s: float
    idle_share: float
    cpu_cores: float | None
    threads: int
    connections: int
    maxconn: int
    connections_per_s: int
    tasks: int
    run_queue: int
    pipes: int
    open_files: int | None
    file_limit: int
    rss_bytes: int | None
    vips: tuple[VipMoment, ...]


class MachineMoment(NamedTuple):
    """The machine that the harness is on.

    `busy_cores` of `cores` were in use, `harness_cores` by the harness's own process. `overflows`: connections dropped in
    this span because an accept queue was full. `accept_queues`: connections that wait to be accepted, by part and place
    (`node/mach7-1/hl7`, `balancer/HL7`). `ports_at_most`: ports taken by one source address towards one destination, or an
    upper bound of that, of `port_range` that there are; `ports_source` is the address where it is known.
    """

    at_ns: int
    over_s: float
    cores: int
    busy_cores: float
    harness_cores: float
    overflows: int
    accept_queues: tuple[tuple[str, int], ...]
    ports_at_most: int
    port_range: int
    ports_source: str


class PartsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Everything seen of every part. Empty where nothing was, as for nodes that write no pulses."""

    processes: tuple[ProcessSeen, ...] = ()
    balancer: tuple[BalancerMoment, ...] = ()
    machine: tuple[MachineMoment, ...] = ()

    def during(self, begin_ns: int, end_ns: int) -> PartsSeen:
        """Return what was seen between two times: moments that reach beyond them are cut there.

        Rates hold for the part that is left; of the wake-ups as many are taken. Processes without any moment are left out.
        """
        inside = [ProcessSeen(seen.part, seen.pid, _beats_cut(seen.moments, begin_ns, end_ns)) for seen in self.processes]
        return PartsSeen(
            processes=tuple(seen for seen in inside if seen.moments), balancer=_cut(self.balancer, begin_ns, end_ns),
            machine=_cut(self.machine, begin_ns, end_ns),
        )  # fmt: skip

    def with_pulses(self, pulses: pl.DataFrame) -> PartsSeen:
        """Return the same with more processes: those of a frame of pulses (`load_frames.pulses_frame`)."""
        return msgspec.structs.replace(self, processes=(*self.processes, *processes_of(pulses)))

    def of(self, prefix: str) -> tuple[ProcessSeen, ...]:
        """Return the processes whose part begins so: GENERATOR, NODE, or one part's whole name."""
        return tuple(seen for seen in self.processes if seen.part.startswith(prefix))

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts that wrote pulses, sorted."""
        return tuple(sorted({seen.part for seen in self.processes}))

    def mean_cores(self) -> dict[str, float]:
        """Return the CPU of every part that was seen, in cores on average over `span_s`; `harness` is the judging process."""
        span_s = self.span_s
        if not span_s:
            return {}
        used = dict.fromkeys(self.parts, 0.0)
        for seen in self.processes:
            used[seen.part] += sum(moment.cpu_cores * moment.over_s for moment in seen.moments)
        if any(moment.cpu_cores is not None for moment in self.balancer):
            used[BALANCER] = sum((moment.cpu_cores or 0.0) * moment.over_s for moment in self.balancer)
        if self.machine:
            used[HARNESS] = sum(moment.harness_cores * moment.over_s for moment in self.machine)
        return {part: cpu_s / span_s for part, cpu_s in used.items()}

    @property
    def span_s(self) -> float:
        """How long was looked: at the machine, else at the process that was seen longest."""
        if self.machine:
            return sum(moment.over_s for moment in self.machine)
        return max((sum(moment.over_s for moment in seen.moments) for seen in self.processes), default=0.0)

    def strange_cores(self) -> float | None:
        """Return how many cores were used by what is no part of the run, on average; None where the machine was not seen.

        Right only where every part is on this machine; never below 0.
        """
        if not self.machine or not self.span_s:
            return None
        busy_s = sum(moment.busy_cores * moment.over_s for moment in self.machine)
        return max(0.0, busy_s / self.span_s - sum(self.mean_cores().values()))


_M = TypeVar("_M", BalancerMoment, MachineMoment)


def processes_of(pulses: pl.DataFrame) -> tuple[ProcessSeen, ...]:
    """Return what pulses tell of their processes.

    Parameters
    ----------
    pulses : frame
        Of `load_frames.pulses_frame`. The first pulse of a process only says where its CPU time began to be counted.
    """
    found = []
    for (part, pid), own in pulses.sort("at_ns").group_by(["part", "pid"], maintain_order=True):
        found.append(ProcessSeen(str(part), int(pid), _moments(own)))
    return tuple(sorted(found))


def mean_cpu(moments: Sequence[ProcessMoment]) -> float:
    """Return the mean CPU of a process, in cores; 0 when nothing was seen of it."""
    over_s = sum(moment.over_s for moment in moments)
    return sum(moment.cpu_cores * moment.over_s for moment in moments) / over_s if over_s else 0.0


def share_of_time(moments: Iterable[tuple[bool, float]]) -> float:
    """Return for which share of the time something held, given whether it did and for how many seconds; 0 of nothing."""
    known = list(moments)
    total = sum(over_s for _, over_s in known)
    return sum(over_s for held, over_s in known if held) / total if total else 0.0


def lag_quantile_s(moments: Sequence[ProcessMoment], share: float = 0.99) -> float:
    """Return by how much the given share of an event loop's wake-ups came too late at most.

    A pulse keeps the latest of its `beats` wake-ups. Of independent ones the latest of k lies below the quantile q with
    probability q ** k, so that the quantile of single wake-ups is found at that quantile of the latest ones. Lag that comes
    in one burst is understated so: it shows in late arrivals.
    """
    heard = [moment for moment in moments if moment.beats]
    if not heard:
        return 0.0
    beats = float(np.mean([moment.beats for moment in heard]))
    return float(np.quantile([moment.lag_max_s for moment in heard], share**beats, method="higher"))


def accept_queue_lengths(machine: Sequence[MachineMoment]) -> Mapping[str, list[int]]:
    """Return, for each listening socket, how many connections waited to be accepted, sample by sample."""
    lengths: dict[str, list[int]] = {}
    for moment in machine:
        for name, waiting in moment.accept_queues:
            lengths.setdefault(name, []).append(waiting)
    return lengths


def _moments(own: pl.DataFrame) -> tuple[ProcessMoment, ...]:
    at = own["at_ns"].to_numpy()
    over = np.diff(at) / _NS
    beats = own["beats"].to_numpy()[1:].astype(np.int64)
    lag_mean = own["lag_sum_ns"].to_numpy()[1:] / np.maximum(beats, 1) / _NS
    cpu = np.diff(own["cpu_ns"].to_numpy().astype(np.int64)) / _NS / np.where(over > 0, over, np.inf)
    columns = (
        at[1:], over, cpu, own["lag_max_ns"].to_numpy()[1:] / _NS, lag_mean, beats, own["rss_bytes"].to_numpy()[1:],
        own["connections"].to_numpy()[1:], own["handled"].to_numpy()[1:],
    )  # fmt: skip
    return tuple(ProcessMoment(*values) for values in zip(*(column.tolist() for column in columns), strict=True))


def _beats_cut(moments: tuple[ProcessMoment, ...], begin_ns: int, end_ns: int) -> tuple[ProcessMoment, ...]:
    return tuple(
        moment._replace(over_s=overlap_s, beats=round(moment.beats * overlap_s / moment.over_s))
        for moment in moments
        if (overlap_s := _overlap_s(moment.at_ns, moment.over_s, begin_ns, end_ns))
    )


def _cut(moments: tuple[_M, ...], begin_ns: int, end_ns: int) -> tuple[_M, ...]:
    return tuple(
        moment._replace(over_s=overlap_s)
        for moment in moments
        if (overlap_s := _overlap_s(moment.at_ns, moment.over_s, begin_ns, end_ns))
    )


def _overlap_s(at_ns: int, over_s: float, begin_ns: int, end_ns: int) -> float:
    """Return how much of a moment lies between two times; 0 for what is no more than the rounding of a span."""
    overlap_s = (min(at_ns, end_ns) - max(at_ns - over_s * _NS, begin_ns)) / _NS
    return min(overlap_s, over_s) if overlap_s > _LEAST_S else 0.0
