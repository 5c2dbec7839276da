"""What every part of a load run did over time, on one grid of equal steps, for the report to draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from reports.load_picture import PartKind, PartSeries
from scenarios.load_runs.parts_seen import GENERATOR, NODE, PartsSeen, ProcessSeen

STRANGERS = "not of this run"
Floats = npt.NDArray[np.float64]


class Grid:
    """Equal steps from the begin of a run to its end.

    Parameters
    ----------
    began_ns : int
        `monotonic_ns` of the run's begin.
    duration_s : float
        How long it lasted.
    most_steps : int
        How many steps there may be; a step is never shorter than a second, which is how often pulses come.
    """

    def __init__(self, began_ns: int, duration_s: float, most_steps: int) -> None:
        self.began_ns = began_ns
        self.step_s = float(max(1, math.ceil(duration_s / most_steps)))
        self.steps = max(1, math.ceil(duration_s / self.step_s))

    @property
    def middles_s(self) -> list[float]:
        """The middle of each step, in seconds from the begin."""
        return [(place + 0.5) * self.step_s for place in range(self.steps)]

    @property
    def edges_s(self) -> Floats:
        """Where the steps begin, and where the last one ends."""
        return np.arange(self.steps + 1, dtype=np.float64) * self.step_s

    def counts(self, at_ns: npt.NDArray[np.int64]) -> Floats:
        """Return how many of some moments fall into each step; those outside of all steps count nowhere."""
        places = (at_ns - self.began_ns) // round(self.step_s * 1e9)
        inside = places[(places >= 0) & (places < self.steps)]
        return np.bincount(inside, minlength=self.steps).astype(np.float64)


class _Moment(Protocol):
    @property
    def at_ns(self) -> int: ...
    @property
    def over_s(self) -> float: ...


_M = TypeVar("_M", bound=_Moment)


def part_series(parts: PartsSeen, grid: Grid, *, memory: bool = False) -> list[PartSeries]:
    """Return what each part did over time: the machine, the balancer, the generators, the nodes' services.

    Parameters
    ----------
    parts : PartsSeen
        What was seen.
    grid : Grid
        The steps.
    memory : bool
        Whether resident memory is told too.

    Notes
    -----
    The CPU of a part is the sum over its processes, its lag that of the process that woke latest. A step in which nothing
    was seen is nan.
    """
    names = parts.parts
    services = [(name, [seen for seen in parts.processes if seen.part == name]) for name in names]
    return [
        *_machine(parts, grid),
        *_balancer(parts, grid, memory),
        *(_processes("generator", name.removeprefix(GENERATOR), "", own, grid, memory) for name, own in services
          if name.startswith(GENERATOR)),
        *(_processes("node", name.rpartition("/")[2], name.split("/")[1], own, grid, memory) for name, own in services
          if name.startswith(NODE)),
    ]  # fmt: skip


def _machine(parts: PartsSeen, grid: Grid) -> list[PartSeries]:
    if not parts.machine:
        return []
    cores = float(parts.machine[-1].cores)
    busy = _mean(parts.machine, lambda moment: moment.busy_cores, grid)
    known = _mean(parts.machine, lambda moment: moment.harness_cores, grid)
    known += np.nan_to_num(_mean(parts.balancer, lambda moment: moment.cpu_cores or 0.0, grid))
    for seen in parts.processes:
        known += np.nan_to_num(_mean(seen.moments, lambda moment: moment.cpu_cores, grid))
    strange = np.maximum(busy - known, 0.0)
    return [
        PartSeries(
            kind="machine", name=name, capacity_cores=cores, at_s=grid.middles_s, cpu_share=[float(value) for value in cpu]
        )
        for name, cpu in (("", busy), (STRANGERS, strange))
    ]


def _balancer(parts: PartsSeen, grid: Grid, memory: bool) -> list[PartSeries]:
    seen = [moment for moment in parts.balancer if moment.cpu_cores is not None]
    if not seen:
        return []
    resident = _mean(seen, lambda moment: moment.rss_bytes or math.nan, grid) / 1e6
    return [
        PartSeries(
            kind="balancer", name="", capacity_cores=float(seen[-1].threads), at_s=grid.middles_s,
            cpu_share=_mean(seen, lambda moment: moment.cpu_cores or 0.0, grid).tolist(),
            memory_mb=resident.tolist() if memory else [],
        )
    ]  # fmt: skip


def _processes(
    kind: PartKind, name: str, node: str, seen: Sequence[ProcessSeen], grid: Grid, memory: bool
) -> PartSeries:  # fmt: skip
    cpu = _total(_mean(each.moments, lambda moment: moment.cpu_cores, grid) for each in seen)
    resident = _total(_mean(each.moments, lambda moment: moment.rss_bytes / 1e6, grid) for each in seen)
    lag = np.full(grid.steps, math.nan)
    for each in seen:
        lag = np.fmax(lag, _most(each.moments, lambda moment: moment.lag_max_s, grid))
    return PartSeries(
        kind=kind, name=name, node=node, capacity_cores=float(len(seen)), at_s=grid.middles_s, cpu_share=cpu.tolist(),
        lag_s=lag.tolist(), memory_mb=resident.tolist() if memory else [],
    )  # fmt: skip


def _total(series: Iterable[Floats]) -> Floats:
    """Return the sum of series; where some of them were not seen, that of the others, and nan where none was."""
    stacked = np.array(list(series))
    return np.where(np.isnan(stacked).all(axis=0), math.nan, np.nansum(stacked, axis=0))


def _mean(moments: Sequence[_M], value: Callable[[_M], float], grid: Grid) -> Floats:
    """Return the mean of a value over each step, which moments may cover in part; nan where no moment reaches."""
    if not moments:
        return np.full(grid.steps, math.nan)
    ends_s = np.array([(moment.at_ns - grid.began_ns) / 1e9 for moment in moments])
    lasted_s = np.array([moment.over_s for moment in moments])
    begins_s = np.maximum(ends_s - lasted_s, np.concatenate(([-np.inf], ends_s[:-1])))
    times_s = np.stack((begins_s, ends_s), axis=1).ravel()
    edges_s = grid.edges_s

    def over_steps(amounts: Floats) -> Floats:
        risen = np.cumsum(np.stack((np.zeros(len(amounts)), amounts), axis=1).ravel())
        return np.diff(np.interp(edges_s, times_s, risen))

    spans_s = ends_s - begins_s
    covered_s = over_steps(spans_s)
    amounts = over_steps(np.array([value(moment) for moment in moments]) * spans_s)
    return np.where(covered_s > 0.01 * grid.step_s, amounts / np.where(covered_s > 0, covered_s, 1.0), math.nan)


def _most(moments: Sequence[_M], value: Callable[[_M], float], grid: Grid) -> Floats:
    """Return the largest value of all moments that reach into each step; nan where none does."""
    most = np.full(grid.steps, math.nan)
    for moment in moments:
        end_s = (moment.at_ns - grid.began_ns) / 1e9
        first = max(0, math.floor((end_s - moment.over_s) / grid.step_s))
        beyond = min(grid.steps, math.ceil(end_s / grid.step_s))
        if first < beyond:
            most[first:beyond] = np.fmax(most[first:beyond], value(moment))
    return most
