"""Handwritten load runs: arrivals through real files, and what was seen of the parts, second by second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from lbconfig.site import Limits, RealServer, Vip
from scenarios.load.records import Arrival, Fate, WaitedFor, arrival_file
from scenarios.load_runs.frames import arrivals_frame
from scenarios.load_runs.parts_seen import BalancerMoment, MachineMoment, PartsSeen, ProcessMoment, ProcessSeen, VipMoment
from simulators.operations import Operation, Service
from tests.scenarios.conftest import SECOND, operation

MS = 1_000_000
RUN_S = 60
A_SECOND = 20  # arrivals
VIP = Vip(
    name="HL7", service="hl7", address="127.0.110.101", port=6667,
    limits=Limits(
        down_s=10, new_s=5, sticky_s=6, established_s=12, operation_s=10, p99_s=0.015, large_p99_s=1, added_s=0.005,
        storm_s=10,
    ),
    real_server=(RealServer(label="HL71", node="n1", port=6667, id=1), RealServer(label="HL72", node="n2", port=6667, id=2)),
)  # fmt: skip


def due_ns(number: int) -> int:
    """Return when an arrival is due: 20 a second, from second 0 on."""
    return number * SECOND // A_SECOND


def messages(count: int = RUN_S * A_SECOND, latency_ms: float = 5, **fields: object) -> list[Operation]:
    """Return one message for each arrival, each answered after the same time."""
    return [
        operation(
            number + 1, intended_ns=due_ns(number), begun_ns=due_ns(number), ended_ns=due_ns(number) + round(latency_ms * MS),
            **fields,
        )
        for number in range(count)
    ]  # fmt: skip


def arrival(number: int, **fields: object) -> Arrival:
    plain = Arrival(
        workload=1, generator=1, service=Service.HL7, fate=Fate.DONE, waited_for=WaitedFor.NOTHING,
        intended_ns=due_ns(number), begun_ns=due_ns(number), ended_ns=due_ns(number) + 5 * MS, operations=1, failed=0,
        rate_milli=A_SECOND * 1000,
    )  # fmt: skip
    return plain._replace(**fields)  # type: ignore[arg-type]


def arrivals(directory: Path, *changed: Arrival, count: int = RUN_S * A_SECOND) -> pl.DataFrame:
    """Return arrivals of the whole run; those given replace the ones that were due at the same time."""
    given = {one.intended_ns: one for one in changed}
    plain = [arrival(number) for number in range(count)]
    return written(directory, [given.pop(one.intended_ns, one) for one in plain] + list(given.values()))


def written(directory: Path, records: Sequence[Arrival]) -> pl.DataFrame:
    path = directory / "generator-1.arrivals"
    path.unlink(missing_ok=True)
    with arrival_file(path) as file:
        file.append(records)
    return arrivals_frame([path])


def process(
    part: str = "generator/1", *, cpu: float = 0.3, lag_ms: float = 1, rss: Sequence[int] = (),
    seconds: Sequence[int] = range(1, RUN_S + 1),
) -> ProcessSeen:  # fmt: skip
    sizes = rss or [60_000_000] * len(seconds)
    return ProcessSeen(part, 100, tuple(
        ProcessMoment(at * SECOND, float(at - before), cpu, lag_ms / 1000, lag_ms / 2000, 20, size, 4, at)
        for before, at, size in zip([0, *seconds], seconds, sizes, strict=False)
    ))  # fmt: skip


def balancer(
    *, idle: float = 0.8, cpu: float | None = 0.3, sessions: int = 4, limit: int = 1000, queued: int = 0, files: int = 100,
    seconds: int = RUN_S, rss: Sequence[int] = (),
) -> tuple[BalancerMoment, ...]:  # fmt: skip
    vips = (VipMoment("HL7", sessions, limit, queued, 0, 0, 0), VipMoment("DICOM", 2, 1000, 0, 0, 0, 0))
    sizes = rss or [9_000_000] * seconds
    return tuple(
        BalancerMoment(
            at_ns=at * SECOND, over_s=1.0, idle_share=idle, cpu_cores=cpu, threads=2, connections=sessions + 2, maxconn=2000,
            connections_per_s=10, tasks=30, run_queue=0, pipes=0, open_files=files, file_limit=4000,
            rss_bytes=sizes[at - 1], vips=vips,
        )
        for at in range(1, seconds + 1)
    )  # fmt: skip


def machine(
    *, busy: float = 1.1, cores: int = 4, waiting: int = 0, overflows: int = 0, ports: int = 100,
    source: str = "127.0.110.10", seconds: int = RUN_S,
) -> tuple[MachineMoment, ...]:  # fmt: skip
    queues = (("balancer/HL7", 0), ("node/n1/hl7", waiting))
    return tuple(
        MachineMoment(at * SECOND, 1.0, cores, busy, 0.05, overflows, queues, ports, 28000, source)
        for at in range(1, seconds + 1)
    )


def parts(*processes: ProcessSeen, **fields: object) -> PartsSeen:
    """Return a quiet machine with one generator and two nodes, but for what is given."""
    usual = (process(), process("node/n1/hl7", cpu=0.2), process("node/n2/hl7", cpu=0.2))
    given = {one.part for one in processes}
    known: dict[str, object] = {"balancer": balancer(), "machine": machine(), **fields}
    return PartsSeen(processes=(*processes, *(one for one in usual if one.part not in given)), **known)  # type: ignore[arg-type]
