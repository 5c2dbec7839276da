"""Whether the generator itself kept up: if it did not, what it measured says nothing of what it measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from scenarios.checkers.latency import enclosing_places
from scenarios.findings import Values
from scenarios.load.records import WaitedFor
from scenarios.load_runs.parts_seen import GENERATOR, PartsSeen, ProcessMoment, lag_quantile_s, mean_cpu, share_of_time

LATE_SHARE = 0.01  # of arrivals that began late though a client was free; above it the load was not the one intended
LATE_AT_LEAST = 3  # arrivals: one or two that a stall met do not make a load another one
LONGEST_SILENCE_S = 2.0  # between two pulses, which are due every second: longer, and nobody knows what it did meanwhile
BUSY_CORES = 0.9  # of one core: a generator is one thread at a time
BUSY_TIME_SHARE = 0.2
LAG_SHARE_OF_LIMIT = 1 / 3  # more of its own lag than that in a latency, and the latency is the generator's


def late_share(arrivals: pl.DataFrame, waited_for: WaitedFor = WaitedFor.GENERATOR) -> float:
    """Return which share of arrivals waited for this; 0 of none."""
    return arrivals.filter(pl.col("waited_for") == int(waited_for)).height / arrivals.height if arrivals.height else 0.0


def is_late(late: int, n: int) -> bool:
    """Say whether certainly more than LATE_SHARE of a generator's arrivals are late by its own fault.

    That is, whether the lower end of the share's 95 % interval (binomial, exact) is above it: of n arrivals, `late` or more
    were late by chance in 2.5 % of all runs at most.
    """
    most = enclosing_places(n, LATE_SHARE)[1] if n else None
    return most is not None and late >= max(LATE_AT_LEAST, most + 1)


def late_words(arrivals: pl.DataFrame) -> list[str]:
    """Return which generators began too many of their arrivals late, in words: all its services share one event loop."""
    found = []
    for number, own in sorted(_of_generators(arrivals).items()):
        late = own.filter(pl.col("waited_for") == int(WaitedFor.GENERATOR)).height
        if is_late(late, own.height):
            words = f"{late} of {own.height} arrivals began late though a client was free"
            found.append(f"{GENERATOR}{number}: {words}, {late / own.height:.1%} (at most {LATE_SHARE:.0%})")
    return found


def suspicions(
    parts: PartsSeen, generators: Sequence[int], arrivals: pl.DataFrame | None, window_ns: tuple[int, int], limit_s: float
) -> list[str]:
    """Return why the generators cannot be believed, in words; nothing when they can.

    Parameters
    ----------
    parts : PartsSeen
        With the pulses of the generators.
    generators : sequence of int
        The numbers of those that took part; one that left no pulse is suspect.
    arrivals : frame of arrivals or None
        Of the generators, of all services: what began late by a generator's own fault counts over all that it did. None
        where that is not judged.
    window_ns : (int, int)
        First and last moment that is judged.
    limit_s : float
        The latency that is judged: how much lag matters depends on it.
    """
    late = [] if arrivals is None else late_words(arrivals.filter(pl.col("generator").is_in(list(generators))))
    return [*late, *silences(parts, generators, window_ns), *slow_words(parts, generators, window_ns, limit_s)]


def silences(parts: PartsSeen, generators: Sequence[int], window_ns: tuple[int, int]) -> list[str]:
    """Return of which generators it is not known what they did in a window, in words."""
    found = []
    for name, moments in _in_window(parts, generators, window_ns):
        silence_s = _longest_silence_s(moments, *window_ns) if moments else 0.0
        if not moments:
            found.append(f"{name} left no pulse while it should have run")
        elif silence_s > LONGEST_SILENCE_S:
            found.append(f"{name} was silent for {silence_s:.1f} s (a pulse is due every second)")
    return found


def slow_words(parts: PartsSeen, generators: Sequence[int], window_ns: tuple[int, int], limit_s: float) -> list[str]:
    """Return which generators were slow themselves, in words. What they measured was then slower for it, and never faster."""
    return [
        f"{name} {words}"
        for name, moments in _in_window(parts, generators, window_ns)
        if moments and (words := _slowness_of(moments, limit_s))
    ]


def unseen(parts: PartsSeen, generators: Sequence[int]) -> list[str]:
    """Return which generators left no pulse, in words."""
    known = {seen.part for seen in parts.of(GENERATOR)}
    return [f"{GENERATOR}{number} left no pulse" for number in generators if f"{GENERATOR}{number}" not in known]


def figures(parts: PartsSeen, arrivals: pl.DataFrame | None, generators: Sequence[int]) -> Values:
    """Return what is reported of the generators whatever the verdict: CPU, lag, and late arrivals of the worst of them."""
    own = [seen.moments for seen in parts.of(GENERATOR)]
    by_number = {} if arrivals is None else _of_generators(arrivals)
    shares = [late_share(one) for number, one in by_number.items() if number in generators]
    return {
        "generator_cpu_cores_most": round(max(map(mean_cpu, own), default=0.0), 3) if own else None,
        "generator_lag_p99_s": round(max(map(lag_quantile_s, own), default=0.0), 6) if own else None,
        "arrivals_late_by_generator_share": round(max(shares, default=0.0), 6),
    }


def limits(limit_s: float) -> Values:
    """Return the limits beside `figures`."""
    return {
        "generator_cpu_cores": BUSY_CORES, "generator_cpu_time_share": BUSY_TIME_SHARE,
        "generator_lag_p99_s": round(limit_s * LAG_SHARE_OF_LIMIT, 6), "arrivals_late_by_generator_share": LATE_SHARE,
    }  # fmt: skip


def _of_generators(arrivals: pl.DataFrame) -> dict[int, pl.DataFrame]:
    return {int(number): own for (number,), own in arrivals.group_by("generator")}


def _in_window(
    parts: PartsSeen, generators: Sequence[int], window_ns: tuple[int, int]
) -> Iterator[tuple[str, list[ProcessMoment]]]:  # fmt: skip
    inside = parts.during(*window_ns)
    for number in generators:
        name = f"{GENERATOR}{number}"
        yield name, sorted(moment for seen in inside.of(GENERATOR) if seen.part == name for moment in seen.moments)


def _slowness_of(moments: Sequence[ProcessMoment], limit_s: float) -> str:
    lag_s = lag_quantile_s(moments)
    busy = share_of_time((moment.cpu_cores > BUSY_CORES, moment.over_s) for moment in moments)
    if busy >= BUSY_TIME_SHARE and lag_s > limit_s * LAG_SHARE_OF_LIMIT / 2:
        words = f"used more than {BUSY_CORES:g} of a core in {busy:.0%} of the time"
        return f"{words}, and woke up to {lag_s * 1000:.1f} ms late (p99)"
    if lag_s > limit_s * LAG_SHARE_OF_LIMIT:
        return f"woke up to {lag_s * 1000:.1f} ms late (p99), more than a third of the limit of {limit_s * 1000:g} ms"
    return ""


def _longest_silence_s(moments: Sequence[ProcessMoment], begin_ns: int, end_ns: int) -> float:
    first, last = moments[0], moments[-1]
    begins = (first.at_ns - begin_ns) / 1e9 - first.over_s
    return max(*(moment.over_s for moment in moments), begins, (end_ns - last.at_ns) / 1e9)
