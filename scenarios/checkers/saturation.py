"""Which part of a load run was at its limit, by evidence, the likeliest first.

The ranking, and why:

1. *A count of the balancer at its limit* (sessions of the VIP at its maxconn, connections at the process's, a queue for
   servers, open files). Such a limit stops new work while everything idles, and no shortage of CPU can feign it.
2. *All cores of the machine busy*: then no part was at a limit of its own. What used most is named, and that it shared.
3. *The generator* (its core, its lag, arrivals late by its own fault): before the parts that it measures, because a
   generator at its limit may be the reason for all that is seen of the others.
4. *CPU of balancer or node*: the balancer's threads (its own idle figure, and the kernel's count where that can be read), a
   service's process at one core; the one nearest to its limit first.
5. *Signs of a node's waiting*: late wake-ups of its event loop, connections waiting to be accepted.
6. *Nearly all cores busy* while all clients waited, and no other sign: where everybody waits, what is nearest to its limit is
   the limit, and parts that share few cores wait for each other before the last of them is busy.
7. *Clients*: all were busy and nothing else was at its limit: there were too few of them for this rate. Only where each
   arrival took hardly longer than usual: clients that are busy because something is slow are no part at its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lbconfig.site import Vip
from scenarios.findings import Subject
from scenarios.load_runs.parts_seen import (
    BALANCER,
    GENERATOR,
    MACHINE,
    NODE,
    BalancerMoment,
    PartsSeen,
    VipMoment,
    accept_queue_lengths,
    lag_quantile_s,
    mean_cpu,
    share_of_time,
)

from .generator import LATE_SHARE

FULL = 0.98  # of a count: one connection more or less is between two samples
OFTEN = 0.2  # of the time: a limit touched once is no saturation
BUSY_CORES = 0.9  # of one core, for a process of one event loop
IDLE_SHARE = 0.1  # below which the balancer's threads have no time left
MACHINE_BUSY_SHARE = 0.95
MACHINE_NEARLY_BUSY_SHARE = 0.75  # below, whatever the clients waited for was something else
LAG_S = 0.05
MANY_WAITING = 4  # connections to be accepted: one or two are only caught between their coming and their being taken
MANY_LATE = 0.2  # of the arrivals: clients were all busy, whatever the reason
STRANGERS = "processes that are no part of this run"
_COUNT, _MACHINE, _GENERATOR, _CPU, _WAITING, _CLIENTS = range(6)


class Evidence(NamedTuple):
    """One sign of saturation: which part, whose failure it would be, and the sign in words and numbers.

    Sorted by `rank`, as listed above, then by `nearness`: minus the share of the limit that is used.
    """

    rank: int
    nearness: float
    part: str
    subject: Subject
    words: str


def at_their_limit(
    parts: PartsSeen, vip: Vip, *, late_by_generator: float = 0.0, late_by_clients: float = 0.0
) -> tuple[Evidence, ...]:
    """Return what was at its limit, the likeliest first; empty when nothing was seen to be.

    Parameters
    ----------
    parts : PartsSeen
        Of the time in question alone (`PartsSeen.during`).
    vip : Vip
        Whose load it was.
    late_by_generator, late_by_clients : float
        The shares of arrivals that began late: though a client was free, or because none was.
    """
    found = [
        *_counts(parts, vip), *_machine(parts), *_generators(parts, late_by_generator), *_processors(parts, vip),
        *_waiting(parts, vip),
    ]  # fmt: skip
    if late_by_clients > MANY_LATE:
        words = f"{late_by_clients:.0%} of the arrivals found no free client"
        found.append(Evidence(_CLIENTS, -late_by_clients, "generator", "harness", words))
    return tuple(sorted(found))


def nearest_when_all_wait(parts: PartsSeen) -> tuple[Evidence, ...]:
    """Return the machine's cores as the limit where nearly all were busy: for a time in which every client waited."""
    return tuple(_machine(parts, MACHINE_NEARLY_BUSY_SHARE))


def is_count(sign: Evidence) -> bool:
    """Say whether a sign is a count of the balancer at its limit: neither CPU that others took nor a generator feigns it."""
    return sign.rank == _COUNT


def is_full(parts: PartsSeen) -> bool:
    """Say whether all cores of the machine were busy."""
    return _machine_busy_share(parts) >= MACHINE_BUSY_SHARE


def counts_at_their_limit(parts: PartsSeen, vip: Vip) -> tuple[Evidence, ...]:
    """Return the balancer's counts that were at their limit, however shortly: its places and files, not its queue."""
    return tuple(sorted(_places(parts, vip, often=0.0)))


def _counts(parts: PartsSeen, vip: Vip) -> Iterator[Evidence]:
    yield from _places(parts, vip, OFTEN)
    queued = [(_vip_of(moment, vip.name), moment.over_s) for moment in parts.balancer]
    share = share_of_time((counts is not None and counts.queued > 0, over_s) for counts, over_s in queued)
    if share > OFTEN:
        most = max(counts.queued for counts, _ in queued if counts is not None)
        words = f"up to {most} connections of {vip.name} waited in its queue for a server, in {share:.0%} of the time"
        yield Evidence(_COUNT, -1.0, BALANCER, "balancer", words)


def _places(parts: PartsSeen, vip: Vip, often: float) -> Iterator[Evidence]:
    whole: tuple[tuple[str, Callable[[BalancerMoment], tuple[int | None, int]]], ...] = (
        ("connections of the process", lambda moment: (moment.connections, moment.maxconn)),
        ("open files", lambda moment: (moment.open_files, moment.file_limit)),
    )
    for what, of in whole:
        yield from _count(what, [(of(moment), moment.over_s) for moment in parts.balancer], often)
    own = [(_vip_of(moment, vip.name), moment.over_s) for moment in parts.balancer]
    sessions = [((counts.sessions, counts.session_limit), over_s) for counts, over_s in own if counts is not None]
    yield from _count(f"sessions of {vip.name}", sessions, often)


def _count(what: str, samples: Sequence[tuple[tuple[int | None, int], float]], often: float) -> Iterator[Evidence]:
    known = [(used, limit, over_s) for (used, limit), over_s in samples if used is not None and limit > 0]
    share = share_of_time((used >= limit * FULL, over_s) for used, limit, over_s in known)
    if share > often:
        used, limit = max((used, limit) for used, limit, _ in known)
        words = f"{used} of at most {limit} {what}, full in {share:.0%} of the time"
        yield Evidence(_COUNT, -used / limit, BALANCER, "balancer", words)


def _machine(parts: PartsSeen, busy_share: float = MACHINE_BUSY_SHARE) -> Iterator[Evidence]:
    share = _machine_busy_share(parts)
    if share < busy_share:
        return
    cores = parts.machine[-1].cores
    used = parts.mean_cores()
    strange = parts.strange_cores()
    if strange is not None:
        used[STRANGERS] = strange
    ranked = sorted(used.items(), key=lambda item: -item[1])
    others = ", ".join(f"{part} {cpu:.2f}" for part, cpu in ranked[1:6] if cpu >= 0.01) or "nobody"
    part, most = ranked[0] if ranked else (MACHINE, 0.0)
    busy = "all busy" if share >= MACHINE_BUSY_SHARE else "nearly all busy while every client waited"
    words = f"it used {most:.2f} of the machine's {cores} cores, {busy} ({share:.0%}), and shared them with {others}"
    yield Evidence(_MACHINE, -share, part, subject_of(part), words)


def _machine_busy_share(parts: PartsSeen) -> float:
    total_s = sum(moment.over_s * moment.cores for moment in parts.machine)
    return sum(moment.busy_cores * moment.over_s for moment in parts.machine) / total_s if total_s else 0.0


def _generators(parts: PartsSeen, late: float) -> Iterator[Evidence]:
    for seen in parts.of(GENERATOR):
        cpu, lag_s = mean_cpu(seen.moments), lag_quantile_s(seen.moments)
        if cpu > BUSY_CORES:
            yield Evidence(_GENERATOR, -cpu, seen.part, "harness", f"used {cpu:.2f} of its one core")
        elif lag_s > LAG_S:
            yield Evidence(_GENERATOR, -cpu, seen.part, "harness", f"woke up to {lag_s * 1000:.0f} ms late (p99)")
    if late > LATE_SHARE:
        words = f"{late:.1%} of the arrivals began late though a client was free"
        yield Evidence(_GENERATOR, -late, "generator", "harness", words)


def _processors(parts: PartsSeen, vip: Vip) -> Iterator[Evidence]:
    if parts.balancer:
        idle = sum(moment.idle_share for moment in parts.balancer) / len(parts.balancer)
        threads = parts.balancer[-1].threads
        known = [moment.cpu_cores for moment in parts.balancer if moment.cpu_cores is not None]
        cpu = sum(known) / len(known) if known else None
        # on a machine whose cores are all busy, an idle figure near nothing says that its threads waited for a core
        lacks_time = idle < IDLE_SHARE and not is_full(parts)
        if lacks_time or (cpu is not None and cpu > BUSY_CORES * threads):
            used = "" if cpu is None else f", using {cpu:.2f} cores of its {threads} threads"
            words = f"its threads were idle for {idle:.0%} of the time{used}"
            yield Evidence(_CPU, -max(1 - idle, (cpu or 0.0) / threads), BALANCER, "balancer", words)
    for seen in parts.of(NODE):
        cpu = mean_cpu(seen.moments)
        if seen.part.endswith(f"/{vip.service}") and cpu > BUSY_CORES:
            words = f"process {seen.pid} used {cpu:.2f} of its one core"
            yield Evidence(_CPU, -cpu, seen.part, "node", words)


def _waiting(parts: PartsSeen, vip: Vip) -> Iterator[Evidence]:
    for seen in parts.of(NODE):
        lag_s = lag_quantile_s(seen.moments)
        if seen.part.endswith(f"/{vip.service}") and lag_s > LAG_S:
            words = f"process {seen.pid} woke up to {lag_s * 1000:.0f} ms late (p99)"
            yield Evidence(_WAITING, -lag_s, seen.part, "node", words)
    overflows = sum(moment.overflows for moment in parts.machine)
    for name, lengths in accept_queue_lengths(parts.machine).items():
        if name not in (f"{BALANCER}/{vip.name}",) and not (name.startswith(NODE) and name.endswith(f"/{vip.service}")):
            continue
        share = sum(1 for waiting in lengths if waiting >= MANY_WAITING) / len(lengths)
        if share > OFTEN:
            part = name if name.startswith(NODE) else BALANCER
            lost = f"; {overflows} connections were dropped because some accept queue was full" if overflows else ""
            words = f"up to {max(lengths)} connections waited to be accepted, in {share:.0%} of the samples{lost}"
            yield Evidence(_WAITING, -share, part, subject_of(part), words)


def subject_of(part: str) -> Subject:
    """Return whose failure it is when a part is at its limit."""
    if part == BALANCER:
        return "balancer"
    return "node" if part.startswith(NODE) else "harness"


def told(evidence: tuple[Evidence, ...], at_most: int = 4) -> str:
    """Return evidence as a phrase, the likeliest first."""
    rest = len(evidence) - at_most
    shown = [f"{sign.part}: {sign.words}" for sign in evidence[:at_most]]
    return "; ".join(shown) + (f"; and {rest} more signs" if rest > 0 else "")


def _vip_of(moment: BalancerMoment, name: str) -> VipMoment | None:
    return next((counts for counts in moment.vips if counts.vip == name), None)
