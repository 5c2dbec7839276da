"""A load is carried: each class of operations within its limit, nothing failed, nothing left undone.

LOAD-1 (the site's peak times 1.5) and LOAD-3 (one node alone) are judged alike. Latency counts from the intended start, so
that a slow answer cannot hide the ones that wait behind it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import polars as pl

from lbconfig.site import Vip
from scenarios.checkers import generator
from scenarios.checkers.saturation import Evidence, at_their_limit, is_full, told
from scenarios.checkers.swiftness import LARGE_BYTES
from scenarios.findings import Finding, Subject, Values, failed, listed, passed, unknown
from scenarios.frames import Frame, columns
from scenarios.load.records import Fate, WaitedFor
from scenarios.order_statistics import CONFIDENCE, Estimate, quantile
from scenarios.parts_seen import PartsSeen
from simulators.operations import Kind, Outcome, Phase, Service

OPERATIONS_OF_A_CLASS = 1000
_CHANCE = (1 - CONFIDENCE) / 2
_KINDS = {Kind.INSTANCE: "images", Kind.MESSAGE: "messages", Kind.NOTE: "notes", Kind.ECHO: "echoes", Kind.QUERY: "queries"}
_COLUMNS = ("kind", "size_bytes", "outcome", "phase", "intended_ns", "begun_ns", "ended_ns")


class ClassSeen(NamedTuple):
    """One class of operations: its name, its limit, and the quantiles of its latencies in seconds from the intended start.

    `served_p99_s` counts from when the operation began: what is more in `p99` was spent waiting for a free client.
    """

    name: str
    is_large: bool
    limit_s: float
    p50_s: float
    p99: Estimate
    served_p99_s: float


def judge_load(
    vip: Vip, operations: Frame, arrivals: pl.DataFrame, parts: PartsSeen, *, load: str = "the site's peak times 1.5",
    at_least: int = OPERATIONS_OF_A_CLASS,
) -> Finding:  # fmt: skip
    """Judge one VIP under load.

    Parameters
    ----------
    vip : Vip
        Whose limits hold: `p99_s`, and `large_p99_s` for images above 1 MiB.
    operations : frame of operations
        Those of the VIP in this load run.
    arrivals : frame of arrivals
        Of all generators of this load run (`load_frames.arrivals_frame`), of any service.
    parts : PartsSeen
        What was seen meanwhile, the generators' pulses included.
    load : str
        What the load was, in words.
    at_least : int
        How many operations of a class it takes. A class of large images may have fewer, and is then reported only.

    Returns
    -------
    Finding
        p99 is judged by its distribution-free 95 % interval: a fail has its lower end above the limit, a pass its upper end
        within it, so that either is wrong by a chance of 2.5 % at most for each class. Whatever a generator measured that
        fell behind is unknown.
    """
    own = arrivals.filter(pl.col("service") == int(Service[vip.service.upper()]))
    seen = _not_cut(columns(operations, *_COLUMNS), own, vip.limits.operation_s)
    if not own.height or not seen.height:
        return unknown(f"{load}: no arrival or no operation was recorded, so nothing was seen of it")
    window_ns = (int(own["intended_ns"].min()), int(own["intended_ns"].max()))  # type: ignore[arg-type]
    meanwhile, late, p99_s = parts.during(*window_ns), generator.late_share(own), vip.limits.p99_s
    classes = classes_of(vip, seen)
    doubts = generator.suspicions(parts, sorted(set(own["generator"].to_list())), late, window_ns, p99_s)
    evidence = at_their_limit(meanwhile, vip, late_by_generator=late)
    measured = _measured(seen, own, classes, window_ns) | generator.figures(meanwhile, late)
    limit = _limits(vip, at_least) | generator.limits(p99_s)
    trouble = _failures(seen)
    if doubts:
        found = f"; {listed(trouble)}" if trouble else ""
        reason = f"{load}: the generator was at its limit, so its figures are its own: {listed(doubts)}{found}"
        return unknown(reason, measured=measured, limit=limit)
    if trouble:
        subject = "balancer" if _blamed(evidence) == "balancer" else _refuser(seen)
        return failed(subject, f"{load}: {listed(trouble)}{_because(evidence)}", measured=measured, limit=limit)
    verdict = _of_arrivals(own, classes, evidence) or _of_latencies(classes, evidence, is_full(meanwhile), at_least)
    return msgspec.structs.replace(verdict, reason=f"{load}: {verdict.reason}", measured=measured, limit=limit)


def classes_of(vip: Vip, operations: pl.DataFrame) -> list[ClassSeen]:
    """Return the classes of a VIP's acknowledged operations, by kind and size, with their latencies."""
    done = operations.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED)).with_columns(
        is_large=(pl.col("kind") == int(Kind.INSTANCE)) & (pl.col("size_bytes") > LARGE_BYTES),
        latency_s=(pl.col("ended_ns") - pl.col("intended_ns")) / 1e9,
        served_s=(pl.col("ended_ns") - pl.col("begun_ns")) / 1e9,
    )
    found = []
    for (kind, is_large), own in sorted(done.group_by("kind", "is_large"), key=lambda group: group[0]):
        name = _KINDS.get(Kind(int(kind)), Kind(int(kind)).name.lower())
        if kind == int(Kind.INSTANCE):
            name += " above 1 MiB" if is_large else " up to 1 MiB"
        latencies = own["latency_s"].to_numpy()
        limit_s = vip.limits.large_p99_s if is_large else vip.limits.p99_s
        found.append(
            ClassSeen(
                name, bool(is_large), limit_s, quantile(latencies, 0.5).value, quantile(latencies, 0.99),
                quantile(own["served_s"].to_numpy(), 0.99).value,
            )
        )  # fmt: skip
    return found


def _of_arrivals(own: pl.DataFrame, classes: list[ClassSeen], evidence: tuple[Evidence, ...]) -> Finding | None:
    """Judge what was never begun; None when everything was."""
    dropped = own.filter(pl.col("fate") == int(Fate.DROPPED)).height
    if not dropped:
        return None
    reason = f"{dropped} of {own.height} arrivals were dropped, because every client was busy until their time was over"
    if classes and all(seen.served_p99_s <= seen.limit_s for seen in classes):
        return unknown(f"{reason}, though each was answered in time: there were too few clients for this rate")
    return failed(_blamed(evidence), reason + _because(evidence))


def _of_latencies(classes: list[ClassSeen], evidence: tuple[Evidence, ...], full: bool, at_least: int) -> Finding:
    few = [f"{seen.name}: {seen.p99.n}" for seen in classes if seen.p99.n < at_least and not seen.is_large]
    if few or not any(seen.p99.n >= at_least for seen in classes):
        found = listed(few) or listed([f"{seen.name}: {seen.p99.n}" for seen in classes]) or "none"
        return unknown(f"too few operations of a class to judge its p99 ({found}; it takes {at_least})")
    judged = [seen for seen in classes if seen.p99.n >= at_least]
    chance = f"each wrong by a chance of {_CHANCE:.1%} at most"
    slow = [seen for seen in judged if seen.p99.low is not None and seen.p99.low > seen.limit_s]
    if slow:
        reason = f"p99 above its limit: {listed(list(map(_told, slow)))}, {chance}"
        if full:
            return unknown(f"{reason}; but {told(evidence, 1)}, so that it may be the machine that is slow")
        return failed(_blamed(evidence), reason + _because(evidence))
    open_ones = [seen for seen in judged if seen.p99.high is None or seen.p99.high > seen.limit_s]
    if open_ones:
        return unknown(f"p99 too near to its limit to tell: {listed(list(map(_told, open_ones)))}")
    n = sum(seen.p99.n for seen in classes)
    return passed(f"{n} operations, none failed or left undone; {listed(list(map(_told, judged)))}, {chance}")


def _told(seen: ClassSeen) -> str:
    low, value, high = (None if end is None else end * 1000 for end in (seen.p99.low, seen.p99.value, seen.p99.high))
    ends = f"{'?' if low is None else f'{low:.1f}'} to {'?' if high is None else f'{high:.1f}'}"
    waited = ""
    if seen.p99.value > seen.limit_s >= seen.served_p99_s:
        waited = f"; {seen.served_p99_s * 1000:.1f} ms once a client was free"
    return f"{seen.name} {value:.1f} ms ({ends}, limit {seen.limit_s * 1000:g} ms, n = {seen.p99.n}{waited})"


def _not_cut(operations: pl.DataFrame, own: pl.DataFrame, patience_s: float) -> pl.DataFrame:
    """Leave out what failed because the run ended while it was under way, unless it had been under way for too long."""
    cut_ns = own.filter(pl.col("fate") == int(Fate.CUT))["ended_ns"].min()
    if cut_ns is None:
        return operations
    was_cut = (pl.col("outcome") != int(Outcome.ACKNOWLEDGED)) & (pl.col("ended_ns") >= cut_ns)
    return operations.filter(~(was_cut & (pl.col("ended_ns") - pl.col("begun_ns") < patience_s * 1e9)))


def _failures(operations: pl.DataFrame) -> list[str]:
    """Return what failed, by how and in which phase, the most frequent first."""
    bad = operations.filter(pl.col("outcome") != int(Outcome.ACKNOWLEDGED)).group_by("outcome", "phase").len()
    return [
        f"{count} operations {Outcome(outcome).name.lower()} ({Phase(phase).name.lower()})"
        for outcome, phase, count in bad.sort("len", "outcome", "phase", descending=[True, False, False]).rows()
    ]


def _refuser(operations: pl.DataFrame) -> Subject:
    """Return whose failure most failures are: without a connection it was never a node's turn."""
    bad = operations.filter(pl.col("outcome") != int(Outcome.ACKNOWLEDGED))
    unconnected = bad.filter(pl.col("phase") == int(Phase.CONNECT)).height
    return "balancer" if 2 * unconnected > bad.height else "node"


def _blamed(evidence: tuple[Evidence, ...]) -> Subject:
    """Return whose failure a slow answer is: the balancer's where something says so, else the node's that answered."""
    return "balancer" if evidence and evidence[0].subject == "balancer" else "node"


def _because(evidence: tuple[Evidence, ...]) -> str:
    return f"; at their limit: {told(evidence)}" if evidence else ""


def _measured(
    operations: pl.DataFrame, own: pl.DataFrame, classes: list[ClassSeen], window_ns: tuple[int, int]
) -> Values:
    span_s = max((window_ns[1] - window_ns[0]) / 1e9, 1e-9)
    fates = {fate: own.filter(pl.col("fate") == int(fate)).height for fate in Fate}
    return {
        "operations": operations.height,
        "operations_failed": operations.filter(pl.col("outcome") != int(Outcome.ACKNOWLEDGED)).height,
        "arrivals_due": own.height,
        "arrivals_dropped": fates[Fate.DROPPED],
        "arrivals_cut_at_the_end": fates[Fate.CUT],
        "arrivals_late_for_clients_share": round(generator.late_share(own, WaitedFor.CLIENT), 6),
        "offered_per_s": round(own.height / span_s, 3),
        "done_per_s": round(fates[Fate.DONE] / span_s, 3),
        "classes": {
            seen.name: {
                "n": seen.p99.n, "p50_s": round(seen.p50_s, 6), "p99_s": round(seen.p99.value, 6),
                "p99_interval_s": [_rounded(seen.p99.low), _rounded(seen.p99.high)],
                "p99_from_begin_s": round(seen.served_p99_s, 6),
            }
            for seen in classes
        },
    }  # fmt: skip


def _limits(vip: Vip, at_least: int) -> Values:
    return {
        "p99_s": vip.limits.p99_s, "large_p99_s": vip.limits.large_p99_s, "operations_of_a_class_at_least": at_least,
        "operations_failed": 0, "arrivals_dropped": 0, "chance_of_error_at_most": _CHANCE,
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
