"""What the report draws of load runs: from operations, arrivals and what was seen of the parts, to pictures.

Pure, and cheap for runs of any size: operations are read column by column and summed up; a picture holds at most some hundred
points a line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from lbconfig.site import Site, Vip
from reports.load_picture import Added, ArrivalTally, Knee, LatencyClass, LoadPicture, NodeShare, Step, Storm, VipRates
from scenarios.checkers import knee as checked
from scenarios.checkers.added import Pair
from scenarios.checkers.latency import (
    ClassLatency,
    ClassOverTime,
    ShareOverTime,
    class_name,
    classes_over_time,
    latencies,
    node_shares,
)
from scenarios.findings import Finding
from scenarios.frames import Frame
from scenarios.load.records import Fate, WaitedFor
from scenarios.load_runs.order_statistics import Estimate, median
from scenarios.load_runs.part_pictures import Grid, part_series
from scenarios.load_runs.parts_seen import PartsSeen
from simulators.operations import Kind, Outcome, Service

MOST_STEPS = 180  # of a line: finer than a page can show
_MOST_RATIOS = 300
_MOST_SERVED = 200
_ENOUGH_FOR_P999 = 1000  # of fewer operations the largest is all that can be said of p99.9
_LARGE_IMAGE = class_name(Service.DICOM, Kind.INSTANCE, is_large=True)
_UNITS = {"dicom": "studies", "hl7": "messages", "dmwl": "queries", "https": "sessions"}


def load_picture(
    site: Site, operations: Frame, arrivals: pl.DataFrame, parts: PartsSeen, *, check: str, title: str, what: str,
    began_ns: int, ended_ns: int, memory: bool = False,
) -> LoadPicture:  # fmt: skip
    """Return the picture of one load run.

    Parameters
    ----------
    site : Site
        The site under test: its VIPs, their order and their limits.
    operations : frame of operations
        Those of this run, of all services.
    arrivals : frame of arrivals
        Of all generators of this run (`load_frames.arrivals_frame`).
    parts : PartsSeen
        What was seen meanwhile, the generators' pulses included.
    check, title, what : str
        What it was played for (`LOAD-1`), its name for people, and in a sentence or two what was played.
    began_ns, ended_ns : int
        `monotonic_ns` of its first and last moment: the zero of all time axes, and their end.
    memory : bool
        Whether the memory of each part is drawn too, as for a soak.
    """
    duration_s = max(ended_ns - began_ns, 0) / 1e9
    grid = Grid(began_ns, duration_s, MOST_STEPS)
    over_time = classes_over_time(operations, began_ns, grid.step_s)
    timed, shares = latencies(operations), node_shares(operations, began_ns, grid.step_s)
    return LoadPicture(
        check=check, title=title, what=what, duration_s=duration_s,
        rates=[rates for vip in site.vip if (rates := _rates(vip, over_time, arrivals, grid)) is not None],
        latencies=[_latency(vip, each) for vip in site.vip for each in timed if each.service == _service(vip)],
        shares=[_share(vip, each) for vip in site.vip for each in shares if each.service == _service(vip)],
        parts=part_series(parts, grid, memory=memory),
        arrivals=[_tally(vip, own) for vip in site.vip if (own := _own(arrivals, vip)).height],
    )  # fmt: skip


def knee_of(vip: Vip, steps: Sequence[checked.Step], finding: Finding) -> Knee:
    """Return what is drawn of a VIP's rising load.

    Parameters
    ----------
    vip : Vip
        Whose.
    steps : sequence of checkers.knee.Step
        In rising order, as they were judged.
    finding : Finding
        What `judge_knee` made of them.
    """
    knee_per_s = float(finding.measured.get("knee_per_s", 0.0))
    last_per_s = steps[-1].offered_per_s if steps else 0.0
    return Knee(
        vip=vip.name, unit=_UNITS[vip.service], knee_per_s=knee_per_s or None, bent=knee_per_s < round(last_per_s, 3),
        required_per_s=finding.limit.get("required_per_s"), p99_limit_s=vip.limits.p99_s,
        saturated=finding.measured.get("saturated") or "", evidence=list(finding.measured.get("evidence", [])),
        steps=[
            Step(
                offered_per_s=step.offered_per_s, achieved_per_s=step.achieved_per_s,
                p99_s=math.nan if step.p99_s is None else step.p99_s, errors=step.failed,
            )
            for step in steps
        ],
    )  # fmt: skip


def added_of(vip: Vip, pairs: Mapping[str, Sequence[Pair]]) -> list[Added]:
    """Return what is drawn of a VIP's pairs, by class of operations (the mapping's keys); a class without any is left out."""
    return [_added(vip, name, own) for name, own in pairs.items() if own]


def storm_of(vip: Vip, operations: Frame, *, clients: int, instant_ns: int) -> Storm:
    """Return what is drawn of a storm on one VIP.

    Parameters
    ----------
    vip : Vip
        Whose.
    operations : frame of operations
        Those of the storm on this VIP.
    clients : int
        How many came; each has a source address of its own.
    instant_ns : int
        When all of them came back.
    """
    back = operations.lazy().filter((pl.col("begun_ns") >= instant_ns) & (pl.col("outcome") == int(Outcome.ACKNOWLEDGED)))
    first = back.group_by("source").agg(pl.col("ended_ns").min()).select("ended_ns").collect()
    at_s = np.sort((first["ended_ns"].to_numpy() - instant_ns) / 1e9)
    places = np.unique(np.linspace(0, len(at_s) - 1, min(_MOST_SERVED, len(at_s))).round().astype(int))
    served = [(float(at_s[place]), int(place) + 1) for place in places]
    return Storm(vip=vip.name, clients=clients, served=served, limit_s=vip.limits.storm_s)


def _rates(vip: Vip, over_time: Sequence[ClassOverTime], arrivals: pl.DataFrame, grid: Grid) -> VipRates | None:
    """Return what a VIP was asked and what it answered; None when it was no part of the run."""
    classes, own = [each for each in over_time if each.service == _service(vip)], _own(arrivals, vip)
    if not classes and not own.height:
        return None
    done = own.filter(pl.col("fate") == int(Fate.DONE))
    return VipRates(
        vip=vip.name, step_s=grid.step_s,
        offered_per_s=(grid.counts(own["intended_ns"].to_numpy()) / grid.step_s).tolist(),
        done_per_s=(grid.counts(done["ended_ns"].to_numpy()) / grid.step_s).tolist(),
        operations_per_s=_total([each.operations_per_s for each in classes], grid.steps),
        errors_per_s=_total([each.errors_per_s for each in classes], grid.steps),
        mb_per_s=[moved / 1e6 for moved in _total([each.bytes_per_s for each in classes], grid.steps)],
    )  # fmt: skip


def _total(series: Sequence[Sequence[float]], steps: int) -> list[float]:
    """Return the sum of series, as long as the run: after the last operation there is nothing."""
    total = np.zeros(steps)
    for values in series:
        inside = values[:steps]
        total[: len(inside)] += inside
    return [float(value) for value in total]


def _latency(vip: Vip, seen: ClassLatency) -> LatencyClass:
    low, high = seen.p99_interval_s
    return LatencyClass(
        vip=vip.name, name=seen.name, n=seen.n, p50_s=seen.p50_s, p90_s=seen.p90_s, p95_s=seen.p95_s, p99_s=seen.p99_s,
        p99_interval_s=(_or_nan(low), _or_nan(high)), p999_s=seen.p999_s if seen.n >= _ENOUGH_FOR_P999 else math.nan,
        max_s=seen.max_s, p99_limit_s=vip.limits.large_p99_s if seen.name == _LARGE_IMAGE else vip.limits.p99_s,
        curve=list(seen.curve),
    )  # fmt: skip


def _share(vip: Vip, seen: ShareOverTime) -> NodeShare:
    return NodeShare(
        vip=vip.name, node=seen.name or "not told", step_s=seen.step_s, share=list(seen.share), whole_share=seen.whole_share
    )  # fmt: skip


def _tally(vip: Vip, own: pl.DataFrame) -> ArrivalTally:
    counts = {(fate, waited_for): count for fate, waited_for, count in own.group_by("fate", "waited_for").len().iter_rows()}

    def begun(waited_for: WaitedFor) -> int:
        return sum(counts.get((int(fate), int(waited_for)), 0) for fate in (Fate.DONE, Fate.CUT))

    by_generator = counts.get((int(Fate.DROPPED), int(WaitedFor.GENERATOR)), 0)
    dropped = sum(count for (fate, _), count in counts.items() if fate == int(Fate.DROPPED))
    return ArrivalTally(
        vip=vip.name, due=own.height, in_time=begun(WaitedFor.NOTHING), late_for_clients=begun(WaitedFor.CLIENT),
        late_for_generator=begun(WaitedFor.GENERATOR), dropped_for_clients=dropped - by_generator,
        dropped_for_generator=by_generator,
        cut=sum(count for (fate, _), count in counts.items() if fate == int(Fate.CUT)),
    )  # fmt: skip


def _added(vip: Vip, name: str, pairs: Sequence[Pair]) -> Added:
    ratios = np.sort([pair.through_vip_ns / max(pair.straight_ns, 1) for pair in pairs])
    ratio, added = median(ratios), median([(pair.through_vip_ns - pair.straight_ns) / 1e9 for pair in pairs])
    places = np.unique(np.linspace(0, len(ratios) - 1, min(_MOST_RATIOS, len(ratios))).round().astype(int))
    return Added(
        vip=vip.name, name=name, n=len(pairs), ratios=ratios[places].tolist(), ratio=ratio.value, ratio_interval=_ends(ratio),
        added_s=added.value, added_interval_s=_ends(added), added_limit_s=vip.limits.added_s,
    )  # fmt: skip


def _ends(estimate: Estimate) -> tuple[float, float]:
    return _or_nan(estimate.low), _or_nan(estimate.high)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _own(arrivals: pl.DataFrame, vip: Vip) -> pl.DataFrame:
    return arrivals.filter(pl.col("service") == int(_service(vip)))


def _service(vip: Vip) -> Service:
    return Service[vip.service.upper()]
