"""All checkers together over the records of a load run: seconds, gigabytes, and how both grow with the run.

The records (8 generators, four services, receipts shuffled) are written first, by a process of their own, outside of the
time. Each run of the checkers is a process of its own too: its time runs from its first record to its last verdict, Python's
start and imports excluded; its memory is the peak resident set of the whole process, all included.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import polars as pl

from lbconfig.site import Limits, RealServer, Vip
from scenarios.checkers.coverage import Trial, resent_in, through_every_trial
from scenarios.checkers.health import judge_health
from scenarios.checkers.latency import busiest_source_shares, classes_over_time, latencies, node_shares, source_shares
from scenarios.checkers.loss import judge_loss
from scenarios.checkers.order import judge_order
from scenarios.checkers.same_node import judge_same_node
from scenarios.checkers.seen_source import judge_seen_source
from scenarios.checkers.spread import judge_spread
from scenarios.checkers.swiftness import within_limit
from scenarios.episodes import Episode, ServerSample
from scenarios.findings import Finding
from scenarios.frames import columns, own_receipts, scan_operations, scan_receipts
from simulators.journal import Flag, journal_path
from simulators.operations import Service

from .load_records import BALANCER, CONNECTIONS, FIRST_PORT, GENERATORS, NODES, RUN, SOURCES, Place, node_of, source_address
from .rows import Row, row_of_maximum

MILLIONS = (1, 5, 20)
SECOND = 10**9
SECONDS_MAX, GB_MAX, GROWTH_MAX = 20.0, 1.5, 1.25
_COLUMNS = (
    "key", "kind", "service", "outcome", "attempt", "workload", "intended_ns", "begun_ns", "ended_ns",
    "size_bytes", "digest_a", "digest_b", "source", "source_port", "node",
)  # fmt: skip


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One run of all checkers: how long it took, the peak of its memory, and every verdict."""

    seconds: float
    peak_bytes: int
    verdicts: dict[str, str]
    operations: int


def judge_all(directory: Path) -> Judged:
    """Run every checker that judges operations and receipts at load over the records below a folder."""
    begun_s = time.perf_counter()
    place = Place.below(directory)
    history = scan_operations(sorted(place.histories.glob("*.operations")))
    verdicts: dict[str, str] = {}
    operations = 0
    for service in Service:
        found, count = _of_service(service, history, place)
        verdicts |= {f"{name}/{service.name}": finding.verdict for name, finding in found.items()}
        operations += count
    return Judged(
        seconds=time.perf_counter() - begun_s,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        verdicts=verdicts,
        operations=operations,
    )


def _of_service(service: Service, history: pl.LazyFrame, place: Place) -> tuple[dict[str, Finding], int]:
    """Judge one service and sum it up; return the findings and how many operations it had.

    Order is judged piece by piece, in the memory that is free before what all others share is read.
    """
    operations = history.filter(pl.col("service") == int(service))
    receipts = scan_receipts([journal_path(place.nodes / node, service) for node in NODES])
    found: dict[str, Finding] = {}
    if service is Service.HL7:
        found["order"] = judge_order(operations, own_receipts(receipts, RUN), at_least=1000)
    shared = columns(operations, *_COLUMNS)
    found |= _verdicts(service, shared, receipts)
    _summarise(shared)
    return found, shared.height


def _verdicts(service: Service, operations: pl.DataFrame, receipts: pl.LazyFrame) -> dict[str, Finding]:
    """Judge one service by every checker that applies to it."""
    found: dict[str, Finding] = {}
    seen = receipts.filter((pl.col("run") == RUN) & (pl.col("flags") & int(Flag.FOREIGN) == 0))
    found["same node"] = judge_same_node(
        operations, seen, _table(service), _log(service), sources_at_least=20, connections_at_least=10
    )
    found["seen source"] = judge_seen_source(
        operations, seen, balancer=[BALANCER], transparent=False, nodes=[], at_least=1000
    )
    found["spread"] = _spread(operations)
    found["health"] = judge_health(_VIP, _EPISODE)
    found["swiftness"] = within_limit(found["same node"], operations, 10.0)
    found["trials"] = through_every_trial(found["same node"], operations, [_TRIAL])
    if service is not Service.DMWL:
        found["loss"] = judge_loss(operations, own_receipts(receipts, RUN), at_least=1000, payload="payloads")
        found["resends"] = resent_in(found["loss"], operations, [_TRIAL])
    return found


def _summarise(operations: pl.DataFrame) -> None:
    """Work out what the report draws of one service: exact latencies, and rates and shares for every second."""
    latencies(operations)
    classes_over_time(operations, 0)
    node_shares(operations, 0)
    busiest_source_shares(operations, 0)


def _spread(operations: pl.DataFrame) -> Finding:
    """Judge the spread of all sources, and the share of each in what was sent."""
    answered = operations.lazy().filter(pl.col("node") != "")
    first = answered.group_by("source").agg(pl.col("node").first()).collect()
    met = {str(node): int(count) for node, count in first.group_by("node").len().iter_rows()}
    return judge_spread(
        met, dict.fromkeys(NODES, 100), dict.fromkeys(NODES, True), 0, scheduler="leastconn", sources_at_least=20,
        busiest=source_shares(operations), busiest_share_limit=0.5,
    )  # fmt: skip


def _table(service: Service) -> dict[str, str]:
    """Return the balancer's table, in which every source stands."""
    return {
        source_address(generator, service, number): node_of(number)
        for generator in range(1, GENERATORS + 1)
        for number in range(SOURCES)
    }


def _log(service: Service) -> dict[tuple[str, int], str]:
    """Return the balancer's log of every connection of every source."""
    return {
        (source, FIRST_PORT + connection): node
        for source, node in _table(service).items()
        for connection in range(CONNECTIONS)
    }


_VIP = Vip(
    name="HL7", service="hl7", address="127.0.110.101", port=6667,
    limits=Limits(down_s=10, new_s=5, sticky_s=6, established_s=12, operation_s=10),
    real_server=tuple(RealServer(label=f"HL7{n}", node=node, port=6667, id=n) for n, node in enumerate(NODES, 1)),
)  # fmt: skip
_EPISODE = Episode(
    workload=1, fault="node died", node=NODES[0], started_ns=0, begun_ns=100 * SECOND, ending_ns=110 * SECOND,
    ended_ns=110 * SECOND, observed_ns=130 * SECOND, sources=(), generator_lag_s=0.0,
    samples=tuple(
        ServerSample(second * SECOND, "HL7", f"HL7{n}", "DOWN" if n == 1 and 104 <= second < 112 else "UP", 100, 0)
        for second in range(90, 131)
        for n in (1, 2)
    ),
)  # fmt: skip
_TRIAL = Trial("steady load", 1)


def run(rounds: int, quick: bool) -> list[Row]:
    """Measure, and return a row for time, one for memory and one for growth.

    Parameters
    ----------
    rounds : int
        How often each size is judged, in turns.
    quick : bool
        A fiftieth of the records: to see that it works, not to quote.
    """
    sizes = [million * (20_000 if quick else 1_000_000) for million in MILLIONS]
    judged: dict[int, list[Judged]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory(prefix="preflight-bench-") as directory:
        for size in sizes:
            _python("load_records", str(Path(directory) / str(size)), str(size))
        for _ in range(rounds):
            for size, figures in judged.items():
                figures.append(msgspec.json.decode(_python("checkers", str(Path(directory) / str(size))), type=Judged))
    small, middle, large = judged.values()
    return [
        row_of_maximum("checkers over 20 million operations: seconds", "s", [one.seconds for one in large], SECONDS_MAX),
        row_of_maximum("checkers over 20 million operations: GB", "GB", [one.peak_bytes / 1e9 for one in large], GB_MAX),
        row_of_maximum("checkers: seconds a million at 20 over 5 million", "x", _growth(middle, large), GROWTH_MAX),
        row_of_maximum("checkers: seconds a million at 20 over 1 million", "x", _growth(small, large), GROWTH_MAX),
    ]


def _growth(fewer: list[Judged], more: list[Judged]) -> list[float]:
    """Return, for each round, the time of one operation in the larger run over that in the smaller one."""
    return [(b.seconds / b.operations) / (a.seconds / a.operations) for a, b in zip(fewer, more, strict=True)]


def _python(module: str, *arguments: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-m", f"{__package__}.{module}", *arguments], check=True, stdout=subprocess.PIPE
    ).stdout


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(judge_all(Path(sys.argv[1]))))
