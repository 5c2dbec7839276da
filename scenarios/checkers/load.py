"""A load is carried: each class of operations within its limit, nothing failed, nothing left undone.

LOAD-1 (the site's peak times 1.5) and LOAD-3 (one node alone) are judged alike. Latency counts from the intended start, so
that a slow answer cannot hide the ones that wait behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import polars as pl

from lbconfig.site import Vip
from lbconfig.traffic_log import Connection
from scenarios.checkers import generator
from scenarios.checkers.calm import disturbed, in_calm, shared
from scenarios.checkers.latency import CONFIDENCE, ClassLatency, class_name, latencies
from scenarios.checkers.recorded import damage, failed_of, failures, not_cut, refused_of
from scenarios.checkers.refusals import refuser
from scenarios.checkers.saturation import Evidence, at_their_limit, told
from scenarios.findings import Finding, Subject, Values, failed, listed, passed, unknown
from scenarios.frames import Frame, columns
from scenarios.load.records import Fate, WaitedFor
from scenarios.load_runs.parts_seen import PartsSeen
from simulators.operations import Kind, Service

CUT_SHARE = 0.01  # of the arrivals: more of them unfinished at the end, and the load was not carried through
OPERATIONS_OF_A_CLASS = 1000
OPERATIONS_IN_CALM = 100  # of a class: fewer, and nothing is said to be slow because of them
LARGE_IN_CALM = 20  # the same of large images, of which a minute at the peak has less than a hundred
_CHANCE = (1 - CONFIDENCE) / 2
_WEB_REQUESTS = "web requests"  # logins, pages and notes alike: to HTTP each is one request
_COLUMNS = ("service", "kind", "size_bytes", "outcome", "phase", "intended_ns", "begun_ns", "ended_ns", "node")


class ClassSeen(NamedTuple):
    """One class of operations: its latency from the intended start, and its limit.

    `served_p99_s` counts from when the operation began: what is more in p99 was spent waiting for a free client.
    """

    latency: ClassLatency
    is_large: bool
    limit_s: float
    served_p99_s: float


def judge_load(
    vip: Vip, operations: Frame, arrivals: pl.DataFrame, parts: PartsSeen, *, intended: int,
    load: str = "the site's peak times 1.5", at_least: int = OPERATIONS_OF_A_CLASS,
    connections: Sequence[Connection] | None = None,
) -> Finding:  # fmt: skip
    """Judge one VIP under load.

    Parameters
    ----------
    vip : Vip
        Whose limits hold: `p99_s`, and `large_p99_s` for images above 1 MiB.
    operations : frame of operations
        Those of the VIP in this load run, of every kind.
    arrivals : frame of arrivals
        Of all generators of this load run (`load_frames.arrivals_frame`), of any service.
    parts : PartsSeen
        What was seen meanwhile, the generators' pulses included.
    intended : int
        How many arrivals the plan asks for on this VIP (`scenarios.load.intended`).
    load : str
        What the load was, in words.
    at_least : int
        How many operations of a class it takes to pass. Large images may be fewer: where they are too few for an upper end
        of their p99, the reason says that they were not judged.
    connections : sequence of Connection or None
        The balancer's log of this VIP in that time, None where it cannot be read: it tells whose a refusal is.

    Returns
    -------
    Finding
        p99 is judged by its distribution-free 95 % interval: a fail has its lower end above the limit, also of what was
        measured in calm (`checkers.calm`), a pass has its upper end within it, so that either is wrong by a chance of 2.5 %
        at most for each class. Whatever a generator measured that fell behind is unknown, and so is a latency on a machine
        that others used meanwhile; a refused operation is a fail all the same. Nothing passes on torn records, or without
        the balancer seen.
    """
    own = arrivals.filter(pl.col("service") == int(Service[vip.service.upper()]))
    every = columns(operations, *_COLUMNS)
    seen = not_cut(every, own, vip.limits.operation_s)
    if not own.height or not seen.height:
        return unknown(f"{load}: no arrival or no operation was recorded, so nothing was seen of it")
    window_ns = (int(own["intended_ns"].min()), int(own["intended_ns"].max()))  # type: ignore[arg-type]
    meanwhile, p99_s = parts.during(*window_ns), vip.limits.p99_s
    classes, by_node = classes_of(vip, seen), _p99_by_node(vip, seen)
    generators = sorted(set(own["generator"].to_list()))
    verdict = _of_failures(vip, seen, meanwhile, connections, refused_of(seen)) or _of_doubts(
        seen, damage(every, own, intended), generator.suspicions(parts, generators, arrivals, window_ns, p99_s)
    )
    if verdict is None:
        evidence, spans = at_their_limit(meanwhile, vip), disturbed(parts, p99_s)
        calm = {one.latency.name: one.latency for one in classes_of(vip, in_calm(seen, spans))}
        verdict = (
            _of_failures(vip, seen, meanwhile, connections, failed_of(seen))
            or _of_arrivals(own, classes, evidence, shared(parts, window_ns, spans))
            or _of_latencies(classes, calm, by_node, evidence, at_least, shared(parts, window_ns, spans))
        )
        verdict = _without_the_cut(verdict, own)
        verdict = verdict if meanwhile.balancer else _without_the_balancer(verdict)
    measured = _measured(seen, own, classes, by_node, window_ns, intended) | generator.figures(
        meanwhile, arrivals, generators
    )
    return msgspec.structs.replace(
        verdict, reason=f"{load}: {verdict.reason}", measured=measured,
        limit=_limits(vip, at_least) | generator.limits(p99_s),
    )  # fmt: skip


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


def _p99_by_node(vip: Vip, operations: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Return for each class the p99 of what each node answered, in seconds: which of them is slow, if not all are."""
    found: dict[str, dict[str, float]] = {}
    for (node,), own in sorted(operations.group_by("node"), key=lambda group: str(group[0][0])):
        for seen in classes_of(vip, own):
            found.setdefault(seen.latency.name, {})[str(node)] = seen.latency.p99_s
    return found


def _told_nodes(p99_s: Mapping[str, float]) -> str:
    return ", ".join(f"{node or 'not named'} {seconds * 1000:.1f} ms" for node, seconds in p99_s.items())


def _of_failures(
    vip: Vip, seen: pl.DataFrame, parts: PartsSeen, connections: Sequence[Connection] | None, bad: pl.DataFrame
) -> Finding | None:
    """Judge operations that failed; None without any."""
    if not bad.height:
        return None
    evidence = at_their_limit(parts, vip)
    subject = "balancer" if _blamed(evidence) == "balancer" else refuser(bad, vip, parts, connections)
    return failed(subject, listed(failures(seen)) + _because(evidence))


def _of_doubts(seen: pl.DataFrame, torn: list[str], doubts: list[str]) -> Finding | None:
    """Say that the records, or the generators, cannot be believed; None when they can."""
    trouble = failures(seen)
    found = f"; {listed(trouble)}" if trouble else ""
    if torn:
        return unknown(f"the records are not those of the load that was intended: {listed(torn)}{found}")
    if doubts:
        return unknown(f"the generator was at its limit, so its figures are its own: {listed(doubts)}{found}")
    return None


def _of_arrivals(
    own: pl.DataFrame, classes: list[ClassSeen], evidence: tuple[Evidence, ...], strangers: str
) -> Finding | None:
    """Judge what was never begun; None when everything was."""
    dropped = own.filter(pl.col("fate") == int(Fate.DROPPED)).height
    if not dropped:
        return None
    reason = f"{dropped} of {own.height} arrivals were dropped, because every client was busy until their time was over"
    if classes and all(seen.served_p99_s <= seen.limit_s for seen in classes):
        return unknown(f"{reason}, though each was answered in time: there were too few clients for this rate")
    if strangers:
        return unknown(f"{reason}; but {strangers}{_because(evidence)}")
    return failed(_blamed(evidence), reason + _because(evidence))


def _of_latencies(
    classes: list[ClassSeen], calm: dict[str, ClassLatency], by_node: Mapping[str, Mapping[str, float]],
    evidence: tuple[Evidence, ...], at_least: int, strangers: str,
) -> Finding:  # fmt: skip
    """Judge p99; what is too slow must be so in calm (`checkers.calm`), what is in time must be so in all."""
    chance = f"each wrong by a chance of {_CHANCE:.1%} at most"
    above = [seen for seen in classes if _is_above(seen, seen.latency)]
    slow = [seen for seen in above if _is_above(seen, calm.get(seen.latency.name))]
    told_above = f"p99 above its limit: {listed(list(map(_told, slow or above)))}"
    if slow and strangers:
        return unknown(f"{told_above}; but {strangers}{_because(evidence)}")
    if slow:
        where = "".join(f"; {seen.latency.name} by node: {_told_nodes(by_node[seen.latency.name])}" for seen in slow)
        return failed(_blamed(evidence), f"{told_above}, {chance}{where}{_because(evidence)}")
    if above:
        when = listed([_told_in_calm(seen, calm.get(seen.latency.name)) for seen in above])
        return unknown(f"{told_above}; but {when}{_because(evidence)}")
    judged = [seen for seen in classes if _is_judged(seen, at_least)]
    few = [seen for seen in classes if seen not in judged]
    too_few = listed([f"{seen.latency.name}: {seen.latency.n}" for seen in few]) or "none"
    if not judged or any(not seen.is_large for seen in few):
        return unknown(f"too few operations of a class to judge its p99 ({too_few}; it takes {at_least})")
    near = [seen for seen in judged if (high := seen.latency.p99_interval_s[1]) is None or high > seen.limit_s]
    if near:
        return unknown(f"p99 too near to its limit to tell: {listed(list(map(_told, near)))}")
    n = sum(seen.latency.n for seen in classes)
    unjudged = f"; not judged, being too few, and not seen to be slow: {listed(list(map(_told, few)))}" if few else ""
    return passed(f"{n} operations, none failed or left undone; {listed(list(map(_told, judged)))}, {chance}{unjudged}")


def _without_the_cut(verdict: Finding, own: pl.DataFrame) -> Finding:
    """Return what remains of a verdict where many arrivals were cut off at the end: what came of them nobody knows."""
    cut = own.filter(pl.col("fate") == int(Fate.CUT)).height
    if verdict.verdict != "pass" or cut <= CUT_SHARE * own.height:
        return verdict
    return unknown(f"{cut} of {own.height} arrivals were cut off at the end of the run, unfinished; {verdict.reason}")


def _without_the_balancer(verdict: Finding) -> Finding:
    """Return what remains of a verdict where nothing was seen of the balancer: no pass."""
    if verdict.verdict != "pass":
        return verdict
    return unknown(f"the balancer was not seen meanwhile, so that nothing is known of its limits; {verdict.reason}")


def _is_judged(seen: ClassSeen, at_least: int) -> bool:
    """Say whether there are enough of a class to pass: of large images, as many as give an upper end of p99."""
    return seen.latency.n >= at_least or (seen.is_large and seen.latency.p99_interval_s[1] is not None)


def _is_above(seen: ClassSeen, latency: ClassLatency | None) -> bool:
    """Say whether the p99 of a class, of all its operations or of those in calm, is certainly above its limit."""
    if latency is None or latency.n < _in_calm(seen):
        return False
    low = latency.p99_interval_s[0]
    return low is not None and low > seen.limit_s


def _in_calm(seen: ClassSeen) -> int:
    return LARGE_IN_CALM if seen.is_large else OPERATIONS_IN_CALM


def _told_in_calm(seen: ClassSeen, calm: ClassLatency | None) -> str:
    met = seen.latency.n - (calm.n if calm else 0)
    rest = "too few to tell" if calm is None or calm.n < _in_calm(seen) else f"p99 {calm.p99_s * 1000:.1f} ms"
    return f"{met} of {seen.latency.n} met a generator that woke late, or a machine without a free core (the others: {rest})"


def _told(seen: ClassSeen) -> str:
    latency = seen.latency
    ends = " to ".join("?" if end is None else f"{end * 1000:.1f}" for end in latency.p99_interval_s)
    waited = ""
    if latency.p99_s > seen.limit_s >= seen.served_p99_s:
        waited = f"; {seen.served_p99_s * 1000:.1f} ms once a client was free"
    return f"{latency.name} {latency.p99_s * 1000:.1f} ms ({ends}, limit {seen.limit_s * 1000:g} ms, n = {latency.n}{waited})"


def _blamed(evidence: tuple[Evidence, ...]) -> Subject:
    """Return whose failure a slow answer is: the balancer's where something says so, else the node's that answered."""
    return "balancer" if evidence and evidence[0].subject == "balancer" else "node"


def _because(evidence: tuple[Evidence, ...]) -> str:
    return f"; at their limit: {told(evidence)}" if evidence else ""


def _measured(
    operations: pl.DataFrame, own: pl.DataFrame, classes: list[ClassSeen], by_node: Mapping[str, Mapping[str, float]],
    window_ns: tuple[int, int], intended: int,
) -> Values:  # fmt: skip
    span_s = max((window_ns[1] - window_ns[0]) / 1e9, 1e-9)
    fates = {fate: own.filter(pl.col("fate") == int(fate)).height for fate in Fate}
    return {
        "operations": operations.height,
        "operations_failed": failed_of(operations).height,
        "arrivals_intended": intended,
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
                "p99_by_node_s": {node: round(p99_s, 6) for node, p99_s in by_node[seen.latency.name].items()},
            }
            for seen in classes
        },
    }  # fmt: skip


def _limits(vip: Vip, at_least: int) -> Values:
    return {
        "p99_s": vip.limits.p99_s, "large_p99_s": vip.limits.large_p99_s, "operations_of_a_class_at_least": at_least,
        "operations_failed": 0, "arrivals_dropped": 0, "chance_of_error_at_most": _CHANCE,
    }  # fmt: skip
