"""LOAD-4: how much a VIP carries before it bends, and which part bent.

The offered rate rises step by step. The *knee* is the last step before the first that was not carried. Carried is a step of
which at least 95 % of what was intended was done without a failure, and p99 was not above the site's limit beyond doubt (a
step has few operations, and one of them alone is its p99). What was at its limit behind the knee is named from evidence
(`saturation`), up to the next step that was carried: what bent there is over, and a later bend says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from lbconfig.site import Vip
from scenarios.checkers import generator
from scenarios.checkers.calm import shared
from scenarios.checkers.latency import ClassLatency
from scenarios.checkers.load import classes_of
from scenarios.checkers.recorded import failed_of, missing, torn
from scenarios.checkers.saturation import MANY_LATE, Evidence, at_their_limit, is_count, nearest_when_all_wait, told
from scenarios.findings import Finding, Values, failed, listed, passed, unknown
from scenarios.frames import Frame, columns
from scenarios.load.records import Fate, WaitedFor
from scenarios.load_runs.parts_seen import PartsSeen
from simulators.operations import Service

CARRIED_SHARE = 0.95
TOO_FEW_SHARE = 0.8  # of the clients that are busy: less would do at the usual speed, so that it is not clients that lack
_COLUMNS = ("service", "kind", "size_bytes", "outcome", "intended_ns", "begun_ns", "ended_ns")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a rising load: rates in arrivals a second.

    `offered_per_s` is the rate that was intended; of it, `achieved_per_s` is the share of the intended arrivals that were
    done in the step's time and a little beyond (`steps_of`). `p99_s` is of its operations up to 1 MiB, `large_p99_s` of
    larger ones, from their intended start, and the `low` ones are the lower ends of their 95 % intervals; None without any,
    or with too few. `failed` counts operations, `late_by_…` are shares of the step's arrivals. `busy_clients` were busy on
    average, `usual_clients` would be if an arrival took no longer than it does when little is going on. `parts` is what was
    seen of the parts in this step, `doubts` why what was recorded of it cannot be believed: arrivals began late by a
    generator's own fault, or records or pulses are missing. `slow_generators` says which generators woke late: what they
    measure is slower for that, and never faster, so that what was carried in spite of it was carried.
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
    busy_clients: float = 0.0
    usual_clients: float = 0.0
    doubts: tuple[str, ...] = ()
    slow_generators: tuple[str, ...] = ()

    @property
    def has_too_few_clients(self) -> bool:
        """Whether so many arrivals keep the clients busy though each takes hardly longer than usual (Little's law)."""
        return self.usual_clients >= TOO_FEW_SHARE * self.busy_clients


class _Due(NamedTuple):
    """What one step is cut from: its rate, how many arrivals were intended, those recorded, and when it began and ended."""

    rate_milli: int
    intended: int
    arrivals: pl.DataFrame
    window_ns: tuple[int, int]


def steps_of(
    vip: Vip, operations: Frame, arrivals: pl.DataFrame, parts: PartsSeen, *, intended: Mapping[int, int]
) -> tuple[Step, ...]:
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
    intended : mapping of int to int
        How many arrivals the plan asks for at each rate (`scenarios.load.intended.intended_at_rates`), in the order of time.
        A rate of which none was recorded is a step all the same: nothing of it was achieved.

    Notes
    -----
    An arrival counts as achieved when it was done, without a failure, by the end of its step and the time that one takes when
    little is going on: the median of the first step, and the VIP's p99 limit.
    """
    own = arrivals.filter(pl.col("service") == int(Service[vip.service.upper()])).sort("intended_ns")
    if not own.height:
        return ()
    seen = columns(operations, *_COLUMNS)
    due = _cut(own, intended)
    first = due[0].arrivals.filter(pl.col("fate") == int(Fate.DONE))
    usual_ns = float(np.median((first["ended_ns"] - first["begun_ns"]).to_numpy())) if first.height else 0.0
    grace_ns = round(usual_ns + vip.limits.p99_s * 1e9)
    broken = torn(seen, own)
    numbers = _numbers(arrivals)
    steps = [_step(vip, seen, step, parts, grace_ns, (*broken, *_doubts_of(step, arrivals, parts))) for step in due]
    return tuple(
        msgspec.structs.replace(
            step, busy_clients=_busy_clients(own, step), usual_clients=step.offered_per_s * usual_ns / 1e9,
            slow_generators=tuple(generator.slow_words(parts, numbers, (step.begun_ns, step.ended_ns), vip.limits.p99_s)),
        )
        for step in steps
    )  # fmt: skip


def _cut(own: pl.DataFrame, intended: Mapping[int, int]) -> list[_Due]:
    """Return the steps in the order of time; one without any record lasts no time."""
    recorded = {int(rate_milli): step for (rate_milli,), step in own.group_by("rate_milli", maintain_order=True)}
    rates = list(dict.fromkeys([*intended, *recorded]))
    last = own.filter(pl.col("rate_milli") == own["rate_milli"][-1])
    end_ns = int(last["intended_ns"][-1]) + (int(last["intended_ns"][-1]) - int(last["intended_ns"][0])) // max(
        last.height - 1, 1
    )
    found: list[_Due] = []
    for rate_milli in reversed(rates):
        step = recorded.get(rate_milli, own.clear())
        begin_ns = int(step["intended_ns"][0]) if step.height else end_ns
        found.append(_Due(rate_milli, intended.get(rate_milli, 0), step, (begin_ns, end_ns)))
        end_ns = begin_ns
    return found[::-1]


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
        step), and what was recorded up to the required rate can be believed. Fail when it is below, and balancer or node
        bent. Unknown when the generator, or a machine that all parts share, bent below it, when it was slow while others
        used the machine, or when nothing can be named. No verdict rests on chance beyond that of p99 in one step.
    """
    if not steps:
        return unknown("no step of a rising load was recorded, so that no knee can be found")
    carried = list(takewhile(lambda step: _is_carried(vip, step), steps))
    carried_per_s = carried[-1].offered_per_s if carried else 0.0
    beyond = steps[len(carried) :]
    bent = [*beyond[:1], *takewhile(lambda step: not _is_carried(vip, step), beyond[1:])]
    evidence = next(filter(None, (_evidence(vip, step) for step in bent)), ())  # what is slight shows in a later step
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
    doubts = _doubts(carried, beyond, required_per_s)
    verdict = _verdict(vip, carried_per_s, required_per_s, bent, evidence, doubts)
    return msgspec.structs.replace(verdict, measured=measured, limit=limit)


def _doubts(carried: Sequence[Step], beyond: Sequence[Step], required_per_s: float) -> list[str]:
    """Return why the steps that decide cannot be believed: those up to the required rate, and the one that bent below it."""
    below = [step for step in carried if not _reaches(step.offered_per_s, required_per_s)]
    decides = carried[len(below) :][:1]
    found = [(step, step.doubts) for step in [*below, *decides]]
    found += [(step, (*step.doubts, *step.slow_generators)) for step in beyond[:1] if not decides]
    return [f"at {step.offered_per_s:.1f} a second {listed(list(words))}" for step, words in found if words]


def _verdict(
    vip: Vip, carried_per_s: float, required_per_s: float, bent: Sequence[Step], evidence: tuple[Evidence, ...],
    doubts: list[str],
) -> Finding:  # fmt: skip
    enough = _reaches(carried_per_s, required_per_s)
    rates = f"{carried_per_s:.1f} arrivals a second on {vip.name} (required: {required_per_s:.1f})"
    if doubts and not (evidence and is_count(evidence[0]) and not enough):
        return unknown(f"carried: {rates}; but what was recorded cannot be believed: {listed(doubts)}")
    if not bent:
        if enough:
            return passed(f"the balancer carries at least {rates}: the last step was still carried")
        return unknown(f"the last step was still carried, at {rates}: the steps end below what is required")
    bend = f"at {bent[0].offered_per_s:.1f} a second {_bend(vip, bent[0])}"
    if not evidence:
        return unknown(f"carried: {rates}; {bend}, and nothing was seen to be at its limit")
    first, others = evidence[0], evidence[1:]
    subject, named = first.subject, f"{first.part} was at the limit: {first.words}"
    if others:
        named += f" (seen besides: {told(others)})"
    if enough and subject == "harness":
        return passed(f"the balancer carries at least {rates}; {bend}, where {named}")
    if enough:
        return passed(f"the knee is at {rates}; {bend}, where {named}")
    if subject == "harness":
        return unknown(f"carried: {rates}; {bend}, where {named}: not the balancer, nor a node")
    strangers = shared(bent[0].parts, (bent[0].begun_ns, bent[0].ended_ns))
    if strangers and not bent[0].failed and not is_count(first):
        return unknown(f"carried: {rates}; {bend}, where {named}; but {strangers}")
    return failed(subject, f"the knee is at {rates}; {bend}, where {named}")


def _reaches(offered_per_s: float, required_per_s: float) -> bool:
    """Say whether a rate is what is required; records keep a rate in arrivals a thousand seconds."""
    return round(offered_per_s * 1000) >= round(required_per_s * 1000)


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
    """Return what was at its limit. Clients that were all busy because each took longer are a consequence, and no limit: what
    they waited for is nearest to its own.
    """  # noqa: D205
    late_by_clients = step.late_by_clients if step.has_too_few_clients else 0.0
    found = at_their_limit(step.parts, vip, late_by_generator=step.late_by_generator, late_by_clients=late_by_clients)
    if not found and step.late_by_clients > MANY_LATE:
        return nearest_when_all_wait(step.parts)
    return found


def _busy_clients(own: pl.DataFrame, step: Step) -> float:
    """Return how many arrivals were under way on average while a step lasted."""
    lasted_ns = step.ended_ns - step.begun_ns
    done = own.filter(pl.col("fate") != int(Fate.DROPPED)).select(
        pl.col("begun_ns").clip(step.begun_ns, step.ended_ns), pl.col("ended_ns").clip(step.begun_ns, step.ended_ns)
    )
    return float((done["ended_ns"] - done["begun_ns"]).sum()) / lasted_ns if lasted_ns > 0 else 0.0


def _step(vip: Vip, operations: pl.DataFrame, due: _Due, parts: PartsSeen, grace_ns: int, doubts: tuple[str, ...]) -> Step:
    begin_ns, end_ns = due.window_ns
    offered_per_s, step = due.rate_milli / 1000, due.arrivals
    own = operations.filter(pl.col("intended_ns").is_between(begin_ns, end_ns, closed="left"))
    classes = [(seen.is_large, seen.latency) for seen in classes_of(vip, own)]
    p99 = _slowest(latency for is_large, latency in classes if not is_large)
    large_p99 = _slowest(latency for is_large, latency in classes if is_large)
    done = step.filter(
        (pl.col("fate") == int(Fate.DONE)) & (pl.col("failed") == 0) & (pl.col("ended_ns") <= end_ns + grace_ns)
    )
    return Step(
        begun_ns=begin_ns, ended_ns=end_ns, offered_per_s=offered_per_s,
        achieved_per_s=offered_per_s * done.height / max(due.intended, step.height, 1),
        p99_s=p99[0], large_p99_s=large_p99[0], p99_low_s=p99[1], large_p99_low_s=large_p99[1],
        failed=failed_of(own).height,
        late_by_generator=generator.late_share(step), late_by_clients=generator.late_share(step, WaitedFor.CLIENT),
        parts=parts.during(begin_ns, end_ns), doubts=doubts,
    )  # fmt: skip


def _doubts_of(due: _Due, arrivals: pl.DataFrame, parts: PartsSeen) -> list[str]:
    """Return why a step cannot be believed: what left no record, or began late though a client was free."""
    found = missing(due.arrivals, due.intended)
    if not due.arrivals.height:
        return found
    inside = arrivals.filter(pl.col("intended_ns").is_between(*due.window_ns, closed="left"))
    return [*found, *generator.late_words(inside), *generator.silences(parts, _numbers(arrivals), due.window_ns)]


def _numbers(arrivals: pl.DataFrame) -> list[int]:
    return sorted(set(arrivals["generator"].to_list()))


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
        "late_for_clients_share": round(step.late_by_clients, 4), "busy_clients": round(step.busy_clients, 1),
        "busy_clients_at_usual_speed": round(step.usual_clients, 1), "cpu_cores": cpu,
        "balancer_idle_share": round(sum(idle) / len(idle), 3) if idle else None,
    }  # fmt: skip
