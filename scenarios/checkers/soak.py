"""SOAK-1: at the average rate for long: nothing aborts without a reason, and no process grows.

What may grow: 128 MiB a day, or a tenth of the process's memory where that is more. Machines are patched, and so restarted,
about once a month: thirty times 128 MiB are 3.75 GiB, which a machine of 8 GiB can spare once. A leak of 1 KiB for each
operation at 10 operations a second is seven times that.

How well it can be seen: allocators take memory from the system in pieces, CPython's of 1 MiB. Growth that has not filled a
piece yet is not seen at all, so each end of the slope's interval is at least one piece over the time looked at away from it.
To pass, that time must therefore be 11.25 minutes at least; it is the second half of the run, for caches fill in the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import polars as pl

from lbconfig.site import Vip
from lbconfig.traffic_log import Connection
from scenarios.checkers import generator
from scenarios.checkers.cut_lines import BY_THE_CLIENT, CutLine, cut_lines, unexplained
from scenarios.checkers.cut_lines import COLUMNS as CUT_LINE_COLUMNS
from scenarios.checkers.recorded import damage, failed_of, not_cut
from scenarios.checkers.refusals import refuser
from scenarios.checkers.saturation import subject_of
from scenarios.findings import Finding, Values, failed, listed, passed, unknown
from scenarios.frames import Frame, columns
from scenarios.load_runs.parts_seen import BALANCER, GENERATOR, NODE, PartsSeen
from scenarios.load_runs.trend import CONFIDENCE, Slope, slope
from simulators.operations import Outcome, Phase, Service

DAY_S = 86400
MIB = 1 << 20
GROWTH_BYTES_A_DAY = 128 * MIB
GROWTH_SHARE_A_DAY = 0.1
PIECE_BYTES = 1 * MIB
CLEAN_ENDS = ("--", BY_THE_CLIENT)  # ended by both sides; or our own client hung up, as its records tell (`cut_lines`)
TENTHS = 10  # of the whole time: each has an operation, or nobody knows what held in it
_COLUMNS = ("phase", "intended_ns", *CUT_LINE_COLUMNS)
_LISTED_FAILURES = 20


class Memory(NamedTuple):
    """The memory of one process in the second half: its part, its last size, and how it grew, in bytes a day.

    None where it was not seen for long enough.
    """

    part: str
    pid: int
    rss_bytes: int
    growth: tuple[float, float, float] | None

    @property
    def bound(self) -> float:
        """How much it may grow, in bytes a day."""
        return max(GROWTH_BYTES_A_DAY, GROWTH_SHARE_A_DAY * self.rss_bytes)


class Soaked(NamedTuple):
    """What one VIP's soak left to judge: operations, the run's begin and end, failures, connections, memory, doubts.

    `ends` counts connections by how they ended, `strange` those that ended as if a client had hung up that did nothing on
    them, `cut` are those that clients found dead.
    """

    operations: pl.DataFrame
    lasted_ns: tuple[int, int]
    bad: pl.DataFrame
    ends: Counter[str]
    strange: int
    cut: list[CutLine]
    memory: list[Memory]
    torn: list[str]

    @property
    def aborts(self) -> dict[str, int]:
        """How many connections were cut without a reason, by how."""
        strange = {BY_THE_CLIENT: self.strange} if self.strange else {}
        return strange | {code: count for code, count in sorted(self.ends.items()) if code not in CLEAN_ENDS}


def judge_soak(
    vip: Vip, operations: Frame, arrivals: pl.DataFrame, parts: PartsSeen, *, intended: int,
    connections: Sequence[Connection] | None, begun_ns: int, ended_ns: int,
) -> Finding:  # fmt: skip
    """Judge one VIP after hours at the average rate.

    Parameters
    ----------
    vip : Vip
        Whose.
    operations : frame of operations
        Those of the VIP in this run, of every kind.
    arrivals : frame of arrivals
        Of all generators of this run, of any service.
    parts : PartsSeen
        What was seen meanwhile; of it, the memory of the VIP's service on every node, of the balancer and of the generators.
    intended : int
        How many arrivals the plan asks for on this VIP (`scenarios.load.intended`).
    connections : sequence of Connection or None
        The balancer's log of this VIP in that time; None where it cannot be read.
    begun_ns, ended_ns : int
        When the run began and ended.

    Returns
    -------
    Finding
        Growth is judged by the slope's 95 % interval (`load_runs.trend`): a pass has its upper end within what may grow, a
        fail its lower end above; between them the run was too short to tell. To pass, the whole load must be recorded, with
        operations in each tenth of the time, and the memory of every part and some connection in the log be seen.
    """
    own = arrivals.filter(pl.col("service") == int(Service[vip.service.upper()]))
    every = columns(operations, *_COLUMNS)
    seen = not_cut(every, own, vip.limits.operation_s)
    second_half = parts.during((begun_ns + ended_ns) // 2, ended_ns)
    soaked = Soaked(
        seen, (begun_ns, ended_ns), failed_of(seen), Counter(entry.termination for entry in connections or ()),
        len(unexplained(every, connections or ())), cut_lines(vip, every, connections), _memory(vip, second_half),
        damage(every, own, intended),
    )  # fmt: skip
    limit: Values = {
        "operations_failed": 0, "clean_connection_ends": list(CLEAN_ENDS), "growth_bytes_a_day": GROWTH_BYTES_A_DAY,
        "growth_share_a_day": GROWTH_SHARE_A_DAY, "confidence": CONFIDENCE,
    }  # fmt: skip
    measured = _measured(soaked, intended, own.height)
    if not seen.height:
        return unknown("no operation was recorded, so nothing was soaked", measured=measured, limit=limit)
    generators = sorted(set(own["generator"].to_list()))
    late = generator.late_words(arrivals)
    verdict = (
        _of_failures(vip, soaked, parts.during(begun_ns, ended_ns), connections, late)
        or _of_growth(soaked.memory)
        or _of_sight(vip, soaked, connections, generator.unseen(second_half, generators), late)
        or _of_memory(soaked)
    )
    return msgspec.structs.replace(verdict, measured=measured, limit=limit)


def _of_failures(
    vip: Vip, soaked: Soaked, parts: PartsSeen, connections: Sequence[Connection] | None, late: list[str]
) -> Finding | None:
    """Judge operations that failed and connections that were cut; None without any.

    A generator that fell behind leaves its associations without a word until the node gives them up: its own failure.
    """
    if failures := _failures(soaked):
        reason = f"{len(failures)} of {soaked.operations.height} operations failed: {listed(failures)}"
        if late:
            return unknown(f"{reason}; but the generator fell behind, and may have been the reason: {listed(late)}")
        return failed(refuser(soaked.bad, vip, parts, connections), reason)
    if soaked.aborts:
        told = listed([f"{count} ended {code}" for code, count in soaked.aborts.items()])
        return failed("balancer", f"connections were cut without a reason: {told}")
    if soaked.cut:
        told = listed(list(map(str, soaked.cut)))
        return failed(soaked.cut[0].subject, f"{len(soaked.cut)} connections were cut while their clients kept them: {told}")
    return None


def _of_growth(memory: list[Memory]) -> Finding | None:
    """Judge memory that certainly grows; None without any."""
    growing = [process for process in memory if process.growth is not None and process.growth[1] > process.bound]
    if not growing:
        return None
    return failed(subject_of(growing[0].part), f"memory grows: {listed(list(map(_told, growing)))}")


def _of_sight(
    vip: Vip, soaked: Soaked, connections: Sequence[Connection] | None, silent: list[str], late: list[str]
) -> Finding | None:
    """Say what was not seen, so that nothing can be said to have held; None when everything was."""
    if late:
        return unknown(f"the generator fell behind, so that this was not the load that was intended: {listed(late)}")
    if soaked.torn:
        return unknown(f"the records are not those of the load that was intended: {listed(soaked.torn)}")
    if empty := _empty_tenths(soaked):
        return unknown(f"nothing was done in {len(empty)} tenths of the time ({listed(empty)}), so that it was not soaked")
    known = {process.part for process in soaked.memory}
    missing = [server.label for server in vip.real_server if f"{NODE}{server.node}/{vip.service}" not in known]
    if BALANCER not in known:
        missing.append("the balancer")
    if missing:
        return unknown(f"memory was not seen of {listed(missing)}")
    if silent:
        return unknown(f"a generator was not seen: {listed(silent)}")
    if connections is None:
        return unknown("the balancer's log was not read, so that aborts may have gone unseen")
    if not connections:
        return unknown("the balancer's log names no connection of this time, so that aborts may have gone unseen")
    return None


def _of_memory(soaked: Soaked) -> Finding:
    """Judge memory that is not known to grow."""
    memory = soaked.memory
    vague = [process for process in memory if process.growth is None or process.growth[2] > process.bound]
    if vague:
        return unknown(f"too short to tell whether memory grows: {listed(list(map(_told, vague)))}")
    most = max(memory, key=lambda process: process.growth[2] / process.bound if process.growth else 0.0)
    done = f"{soaked.operations.height} operations, none failed, no connection cut"
    return passed(f"{done}; memory is flat, nearest to growing: {_told(most)}")


def _empty_tenths(soaked: Soaked) -> list[str]:
    """Return the tenths of the whole time in which no operation was due."""
    begun_ns, ended_ns = soaked.lasted_ns
    edges = [begun_ns + (ended_ns - begun_ns) * tenth // TENTHS for tenth in range(TENTHS + 1)]
    due = soaked.operations["intended_ns"]
    return [
        f"{(begin - begun_ns) / 1e9:.0f} to {(end - begun_ns) / 1e9:.0f} s"
        for begin, end in pairwise(edges)
        if not due.is_between(begin, end, closed="left").any()
    ]


def _measured(soaked: Soaked, intended: int, recorded: int) -> Values:
    begun_ns, ended_ns = soaked.lasted_ns
    return {
        "operations": soaked.operations.height, "operations_failed": soaked.bad.height,
        "failed": _failures(soaked)[:_LISTED_FAILURES], "arrivals_intended": intended, "arrivals_due": recorded,
        "lasted_s": round((ended_ns - begun_ns) / 1e9, 1), "connection_ends": dict(sorted(soaked.ends.items())),
        "connections_cut": len(soaked.cut),
        "memory": {f"{process.part} ({process.pid})": _figures(process) for process in soaked.memory},
    }  # fmt: skip


def _memory(vip: Vip, parts: PartsSeen) -> list[Memory]:
    found = []
    for seen in parts.processes:
        if seen.part.startswith(GENERATOR) or seen.part.endswith(f"/{vip.service}"):
            series = [(moment.at_ns / 1e9, moment.rss_bytes) for moment in seen.moments]
            found.append(_of_process(seen.part, seen.pid, series))
    series = [(moment.at_ns / 1e9, moment.rss_bytes) for moment in parts.balancer if moment.rss_bytes is not None]
    if series:
        found.append(_of_process(BALANCER, 0, series))
    return found


def _of_process(part: str, pid: int, series: list[tuple[float, int]]) -> Memory:
    trend = slope([at_s for at_s, _ in series], [size for _, size in series])
    return Memory(part, pid, series[-1][1], None if trend is None else _a_day(trend))


def _a_day(trend: Slope) -> tuple[float, float, float]:
    unseen = PIECE_BYTES / trend.over_s
    low, high = min(trend.low_per_s, trend.per_s - unseen), max(trend.high_per_s, trend.per_s + unseen)
    return trend.per_s * DAY_S, low * DAY_S, high * DAY_S


def _failures(soaked: Soaked) -> list[str]:
    """Return every operation that failed, in the order of their ends."""
    first_ns = soaked.operations["intended_ns"].min() if soaked.bad.height else None
    return [
        f"{Outcome(row['outcome']).name.lower()} in {Phase(row['phase']).name.lower()}, key {row['key']}, "
        f"{(row['ended_ns'] - first_ns) / 1e9:.1f} s into the run"
        for row in soaked.bad.sort("ended_ns").iter_rows(named=True)
    ]


def _told(process: Memory) -> str:
    size = f"{process.part} ({process.rss_bytes / MIB:.0f} MiB)"
    if process.growth is None:
        return f"{size} was seen too seldom"
    middle, low, high = (rate / MIB for rate in process.growth)
    return f"{size} by {middle:+.1f} MiB a day ({low:+.1f} to {high:+.1f}, at most {process.bound / MIB:.0f})"


def _figures(process: Memory) -> Values:
    growth = None if process.growth is None else [round(rate) for rate in process.growth]
    return {
        "rss_bytes": process.rss_bytes, "growth_bytes_a_day": growth[0] if growth else None,
        "growth_interval_bytes_a_day": growth[1:] if growth else None, "growth_limit_bytes_a_day": round(process.bound),
    }  # fmt: skip
