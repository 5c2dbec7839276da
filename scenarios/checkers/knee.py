"""LOAD-4: how much a VIP carries before it bends, and which part bent.

The offered rate rises step by step. The *knee* is the last step that was carried: at least 95 % of what was due was done, and
p99 was not above the site's limit beyond doubt (a step has few operations, and one of them alone is its p99). What was at its
limit in the step behind it is named from evidence (`saturation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import polars as pl

from lbconfig.site import Vip
from scenarios.checkers import generator
from scenarios.checkers.latency import ClassLatency
from scenarios.checkers.load import classes_of
from scenarios.checkers.saturation import Evidence, at_their_limit, told
from scenarios.findings import Finding, Values, failed, passed, unknown
from scenarios.frames import Frame, columns
from scenarios.load.records import Fate, WaitedFor
from scenarios.parts_seen import PartsSeen
from simulators.operations import Outcome, Service

CARRIED_SHARE = 0.95
_COLUMNS = ("service", "kind", "size_bytes", "outcome", "intended_ns", "begun_ns", "ended_ns")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a rising load: rates in arrivals a second.

    `offered_per_s` is the rate that was intended; of it, `achieved_per_s` is the share that was done in the step's time and a
    little beyond (`steps_of`). `p99_s` is of its operations up to 1 MiB, `large_p99_s` of larger ones, from their intended
    start, and the `low` ones are the lower ends of their 95 % intervals; None without any, or with too few. `failed` counts
    operations, `late_by_…` are shares of the step's arrivals. `parts` is what was seen of the parts in this step.
    """

    begun_ns: int
    ended_ns: int
    offered_per_s: float
    achieved_per_s: float
    p99_s: float | None
    large_p99_s: float | None
    p99_low_s: float | None
    large_p99_low_s: float | None
    failed: int
    late_by_generator: float
    late_by_clients: float
    parts: PartsSeen


def steps_of(vip: Vip, operations: Frame, arrivals: pl.DataFrame, parts: PartsSeen) -> tuple[Step, ...]:
    """Cut a stepped load run of one VIP into its steps.

    Parameters
    ----------
    vip : Vip
        Whose.
    operations : frame of operations
        Those of the VIP in this run.
    arrivals : frame of arrivals
        Of all generators, of any service. A step is what was due while one rate was intended (`rate_milli`).
    parts : PartsSeen
        What was seen meanwhile.

    Notes
    -----
    An arrival counts as achieved when it was done, without a failure, by the end of its step and the time that one takes when
    little is going on: the median of the first step, and the VIP's p99 limit.
    """
    own = arrivals.filter(pl.col("service") == int(Service[vip.service.upper()])).sort("intended_ns")
    if not own.height:
        return ()
    seen = columns(operations, *_COLUMNS)
    due = [step for _, step in own.group_by("rate_milli", maintain_order=True)]
    first = due[0].filter(pl.col("fate") == int(Fate.DONE))
    usual_ns = float(np.median((first["ended_ns"] - first["begun_ns"]).to_numpy())) if first.height else 0.0
    grace_ns = round(usual_ns + vip.limits.p99_s * 1e9)
    begins = [int(step["intended_ns"][0]) for step in due]
    last = due[-1]
    gaps = (last["intended_ns"][-1] - begins[-1]) // max(last.height - 1, 1)
    ends = [*begins[1:], int(last["intended_ns"][-1]) + int(gaps)]
    return tuple(
        _step(vip, seen, step, parts, (begin_ns, end_ns), grace_ns)
        for step, begin_ns, end_ns in zip(due, begins, ends, strict=True)
    )


def judge_knee(vip: Vip, steps: Sequence[Step], *, required_per_s: float) -> Finding:
    """Judge how much one VIP carries.

    Parameters
    ----------
    vip : Vip
        Whose limits hold.
    steps : sequence of Step
        In rising order of the offered rate.
    required_per_s : float
        What it has to carry, in the arrivals of the steps: the site's peak times 1.5.

    Returns
    -------
    Finding
        Pass when the knee is at or above what is required and the part that bent is named (or nothing bent up to the last
        step). Fail when it is below, and balancer or node bent. Unknown when the generator, or a machine that all parts
        share, bent below it, or when nothing can be named. No verdict rests on chance beyond that of p99 in one step.
    """
    if not steps:
        return unknown("no step of a rising load was recorded, so that no knee can be found")
    good = [place for place, step in enumerate(steps) if _is_carried(vip, step)]
    knee = good[-1] if good else None
    carried_per_s = steps[knee].offered_per_s if knee is not None else 0.0
    beyond = steps[knee + 1 if knee is not None else 0 :]
    evidence = next(filter(None, (_evidence(vip, step) for step in beyond)), ())  # what is slight shows in a later step
    measured: Values = {
        "knee_per_s": round(carried_per_s, 3),
        "saturated": evidence[0].part if evidence else None,
        "evidence": [f"{sign.part}: {sign.words}" for sign in evidence],
        "steps": [_figures(step) for step in steps],
    }
    limit: Values = {
        "required_per_s": round(required_per_s, 3), "achieved_share_at_least": CARRIED_SHARE, "p99_s": vip.limits.p99_s,
        "large_p99_s": vip.limits.large_p99_s,
    }  # fmt: skip
    verdict = _verdict(vip, carried_per_s, required_per_s, beyond, evidence)
    return msgspec.structs.replace(verdict, measured=measured, limit=limit)


def _verdict(
    vip: Vip, carried_per_s: float, required_per_s: float, beyond: Sequence[Step], evidence: tuple[Evidence, ...]
) -> Finding:
    enough = carried_per_s >= required_per_s
    rates = f"{carried_per_s:.1f} arrivals a second on {vip.name} (required: {required_per_s:.1f})"
    if not beyond:
        if enough:
            return passed(f"the balancer carries at least {rates}: the last step was still carried")
        return unknown(f"the last step was still carried, at {rates}: the steps end below what is required")
    bent = f"at {beyond[0].offered_per_s:.1f} a second {_bend(vip, beyond[0])}"
    if not evidence:
        return unknown(f"carried: {rates}; {bent}, and nothing was seen to be at its limit")
    first, others = evidence[0], evidence[1:]
    subject, named = first.subject, f"{first.part} was at the limit: {first.words}"
    if others:
        named += f" (seen besides: {told(others)})"
    if enough and subject == "harness":
        return passed(f"the balancer carries at least {rates}; {bent}, where {named}")
    if enough:
        return passed(f"the knee is at {rates}; {bent}, where {named}")
    if subject == "harness":
        return unknown(f"carried: {rates}; {bent}, where {named}: not the balancer, nor a node")
    return failed(subject, f"the knee is at {rates}; {bent}, where {named}")


def _is_carried(vip: Vip, step: Step) -> bool:
    in_time = (step.p99_low_s or 0.0) <= vip.limits.p99_s and (step.large_p99_low_s or 0.0) <= vip.limits.large_p99_s
    return step.achieved_per_s >= CARRIED_SHARE * step.offered_per_s > 0 and in_time and not step.failed


def _bend(vip: Vip, step: Step) -> str:
    words = [f"{step.achieved_per_s:.1f} were achieved"]
    for what, low_s, p99_s, limit_s in (
        ("p99", step.p99_low_s, step.p99_s, vip.limits.p99_s),
        ("p99 of large images", step.large_p99_low_s, step.large_p99_s, vip.limits.large_p99_s),
    ):
        if low_s is not None and p99_s is not None and low_s > limit_s:
            words.append(f"{what} was {p99_s * 1000:.1f} ms (limit {limit_s * 1000:g} ms)")
    if step.failed:
        words.append(f"{step.failed} operations failed")
    return ", ".join(words)


def _evidence(vip: Vip, step: Step) -> tuple[Evidence, ...]:
    return at_their_limit(
        step.parts, vip, late_by_generator=step.late_by_generator, late_by_clients=step.late_by_clients
    )  # fmt: skip


def _step(
    vip: Vip, operations: pl.DataFrame, due: pl.DataFrame, parts: PartsSeen, window_ns: tuple[int, int], grace_ns: int
) -> Step:
    begin_ns, end_ns = window_ns
    offered_per_s = due["rate_milli"][0] / 1000
    own = operations.filter(pl.col("intended_ns").is_between(begin_ns, end_ns, closed="left"))
    classes = [(seen.is_large, seen.latency) for seen in classes_of(vip, own)]
    p99 = _slowest(latency for is_large, latency in classes if not is_large)
    large_p99 = _slowest(latency for is_large, latency in classes if is_large)
    done = due.filter(
        (pl.col("fate") == int(Fate.DONE)) & (pl.col("failed") == 0) & (pl.col("ended_ns") <= end_ns + grace_ns)
    )
    return Step(
        begun_ns=begin_ns, ended_ns=end_ns, offered_per_s=offered_per_s,
        achieved_per_s=offered_per_s * done.height / due.height,
        p99_s=p99[0], large_p99_s=large_p99[0], p99_low_s=p99[1], large_p99_low_s=large_p99[1],
        failed=own.filter(pl.col("outcome") != int(Outcome.ACKNOWLEDGED)).height,
        late_by_generator=generator.late_share(due), late_by_clients=generator.late_share(due, WaitedFor.CLIENT),
        parts=parts.during(begin_ns, end_ns),
    )  # fmt: skip


def _slowest(classes: Iterable[ClassLatency]) -> tuple[float | None, float | None]:
    """Return the highest p99 of some classes, and the highest of the lower ends of its intervals."""
    seen = list(classes)
    lows = [latency.p99_interval_s[0] for latency in seen]
    return max((latency.p99_s for latency in seen), default=None), max((low for low in lows if low is not None), default=None)


def _figures(step: Step) -> Values:
    cpu = {part: round(cores, 3) for part, cores in step.parts.mean_cores().items()}
    idle = [moment.idle_share for moment in step.parts.balancer]
    return {
        "offered_per_s": round(step.offered_per_s, 3), "achieved_per_s": round(step.achieved_per_s, 3),
        "p99_s": None if step.p99_s is None else round(step.p99_s, 6),
        "large_p99_s": None if step.large_p99_s is None else round(step.large_p99_s, 6),
        "failed": step.failed, "late_by_generator_share": round(step.late_by_generator, 4),
        "late_for_clients_share": round(step.late_by_clients, 4), "cpu_cores": cpu,
        "balancer_idle_share": round(sum(idle) / len(idle), 3) if idle else None,
    }  # fmt: skip
