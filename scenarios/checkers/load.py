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
from scenarios.checkers.calm import disturbed, in_calm
from scenarios.checkers.latency import CONFIDENCE, ClassLatency, class_name, latencies
from scenarios.checkers.saturation import Evidence, at_their_limit, told
from scenarios.findings import Finding, Subject, Values, failed, listed, passed, unknown
from scenarios.frames import Frame, columns
from scenarios.load.records import Fate, WaitedFor
from scenarios.parts_seen import PartsSeen
from simulators.operations import Kind, Outcome, Phase, Service

OPERATIONS_OF_A_CLASS = 1000
OPERATIONS_IN_CALM = 100  # of a class: fewer, and nothing is said to be slow because of them
_CHANCE = (1 - CONFIDENCE) / 2
_WEB_REQUESTS = "web requests"  # logins, pages and notes alike: to HTTP each is one request
_COLUMNS = ("service", "kind", "size_bytes", "outcome", "phase", "intended_ns", "begun_ns", "ended_ns")


class ClassSeen(NamedTuple):
    """One class of operations: its latency from the intended start, and its limit.

    `served_p99_s` counts from when the operation began: what is more in p99 was spent waiting for a free client.
    """

    latency: ClassLatency
    is_large: bool
    limit_s: float
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
        p99 is judged by its distribution-free 95 % interval: a fail has its lower end above the limit, also of what was
        measured in calm (`checkers.calm`), a pass has its upper end within it, so that either is wrong by a chance of 2.5 %
        at most for each class. Whatever a generator measured that fell behind is unknown.
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
    calm = {one.latency.name: one.latency for one in classes_of(vip, in_calm(seen, disturbed(parts, p99_s)))}
    verdict = _of_arrivals(own, classes, evidence) or _of_latencies(classes, calm, evidence, at_least)
    return msgspec.structs.replace(verdict, reason=f"{load}: {verdict.reason}", measured=measured, limit=limit)


def classes_of(vip: Vip, operations: pl.DataFrame) -> list[ClassSeen]:
    """Return the classes of a VIP's acknowledged operations, with their latencies; what goes over HTTPS is one class."""
    large = class_name(Service.DICOM, Kind.INSTANCE, is_large=True)
    is_web = pl.col("service") == int(Service.HTTPS)
    alike = operations.with_columns(kind=pl.when(is_web).then(int(Kind.QUERY)).otherwise(pl.col("kind")).cast(pl.UInt8))
    served = {seen.name: seen.p99_s for seen in latencies(alike.with_columns(intended_ns=pl.col("begun_ns")))}
    found = []
    for seen in latencies(alike):
        is_large = seen.name == large
        named = msgspec.structs.replace(seen, name=_WEB_REQUESTS) if seen.service is Service.HTTPS else seen
        limit_s = vip.limits.large_p99_s if is_large else vip.limits.p99_s
        found.append(ClassSeen(named, is_large, limit_s, served[seen.name]))
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


def _of_latencies(
    classes: list[ClassSeen], calm: dict[str, ClassLatency], evidence: tuple[Evidence, ...], at_least: int
) -> Finding:
    """Judge p99; what is too slow must be so in calm (`checkers.calm`), what is in time must be so in all."""
    judged = [seen for seen in classes if seen.latency.n >= at_least]
    few = [f"{seen.latency.name}: {seen.latency.n}" for seen in classes if seen not in judged]
    if not judged or any(seen.latency.n < at_least and not seen.is_large for seen in classes):
        found = listed(few) or "none"
        return unknown(f"too few operations of a class to judge its p99 ({found}; it takes {at_least})")
    chance = f"each wrong by a chance of {_CHANCE:.1%} at most"
    above = [seen for seen in judged if _is_above(seen.latency, seen.limit_s)]
    slow = [seen for seen in above if _is_above(calm.get(seen.latency.name), seen.limit_s)]
    if slow:
        reason = f"p99 above its limit: {listed(list(map(_told, slow)))}, {chance}"
        return failed(_blamed(evidence), reason + _because(evidence))
    if above:
        when = listed([_told_in_calm(seen, calm.get(seen.latency.name)) for seen in above])
        reason = f"p99 above its limit: {listed(list(map(_told, above)))}; but {when}{_because(evidence)}"
        return unknown(reason)
    near = [seen for seen in judged if (high := seen.latency.p99_interval_s[1]) is None or high > seen.limit_s]
    if near:
        return unknown(f"p99 too near to its limit to tell: {listed(list(map(_told, near)))}")
    n = sum(seen.latency.n for seen in classes)
    return passed(f"{n} operations, none failed or left undone; {listed(list(map(_told, judged)))}, {chance}")


def _is_above(latency: ClassLatency | None, limit_s: float) -> bool:
    """Say whether p99 is certainly above a limit."""
    if latency is None or latency.n < OPERATIONS_IN_CALM:
        return False
    low = latency.p99_interval_s[0]
    return low is not None and low > limit_s


def _told_in_calm(seen: ClassSeen, calm: ClassLatency | None) -> str:
    met = seen.latency.n - (calm.n if calm else 0)
    rest = "too few to tell" if calm is None or calm.n < OPERATIONS_IN_CALM else f"p99 {calm.p99_s * 1000:.1f} ms"
    return f"{met} of {seen.latency.n} met a generator that woke late, or a machine without a free core (the others: {rest})"


def _told(seen: ClassSeen) -> str:
    latency = seen.latency
    ends = " to ".join("?" if end is None else f"{end * 1000:.1f}" for end in latency.p99_interval_s)
    waited = ""
    if latency.p99_s > seen.limit_s >= seen.served_p99_s:
        waited = f"; {seen.served_p99_s * 1000:.1f} ms once a client was free"
    return f"{latency.name} {latency.p99_s * 1000:.1f} ms ({ends}, limit {seen.limit_s * 1000:g} ms, n = {latency.n}{waited})"


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


def _measured(operations: pl.DataFrame, own: pl.DataFrame, classes: list[ClassSeen], window_ns: tuple[int, int]) -> Values:
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
            seen.latency.name: {
                "n": seen.latency.n, "p50_s": round(seen.latency.p50_s, 6), "p99_s": round(seen.latency.p99_s, 6),
                "p99_interval_s": [None if end is None else round(end, 6) for end in seen.latency.p99_interval_s],
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
