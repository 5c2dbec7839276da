"""The part of index.html that tells of load runs: their pictures and the numbers below them, ready for the template."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from .latency_figures import added_svg, knee_svg, latency_svg, milliseconds, storm_svg
from .load_figures import parts_svg, rates_svg, shares_svg, shown_nodes
from .load_picture import Added, ArrivalTally, Knee, LatencyClass, LoadPicture, PartSeries
from .values import scalar
from .verdict import CheckResult

_MOST_EVIDENCE = 3  # below a picture; all of it stands with the check
_Drawn = TypeVar("_Drawn")


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers below a picture: the first `words` columns name the row, the others are numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True, slots=True)
class Saying:
    """What a picture comes to, in a sentence, and the evidence for it."""

    sentence: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plate:
    """A picture with its caption, what it comes to in words, and its numbers."""

    title: str
    caption: str
    picture: Markup
    sayings: tuple[Saying, ...] = ()
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class LoadStory:
    """One load run: its place on the page, its words, the verdicts that rest on it, and its pictures."""

    anchor: str
    title: str
    what: str
    checks: tuple[CheckResult, ...]
    plates: tuple[Plate, ...]


def load_stories(pictures: Sequence[LoadPicture], checks: Sequence[CheckResult]) -> list[LoadStory]:
    """Return what is told of each load run; nothing that is empty is drawn.

    Parameters
    ----------
    pictures : sequence of LoadPicture
        In the order in which they are to stand.
    checks : sequence of CheckResult
        All of the report; those of a picture's check are shown with it.
    """
    return [_story(f"load-{number}", picture, checks) for number, picture in enumerate(pictures, 1)]


def _story(anchor: str, picture: LoadPicture, checks: Sequence[CheckResult]) -> LoadStory:
    plates = (
        _plate(knee_svg, f"{anchor}-knee", picture.knees, "Rising load",
               "What was achieved of what was offered; the dotted line is all of it, a cross a step with failed operations.",
               sayings=[_saying(knee) for knee in picture.knees]),
        _plate(added_svg, f"{anchor}-added", picture.added, "What the balancer adds",
               "Each dot is a pair of operations, one straight to a node and one through the VIP; below it the median with "
               "its 95\u202f% interval.",
               table=_added_table(picture.added)),
        _plate(storm_svg, f"{anchor}-storm", picture.storms, "Clients served again",
               "Share of the clients of each VIP that were served, after all of them came back at one instant."),
        _plate(rates_svg, f"{anchor}-rates", picture.rates, "Demand and answers over time",
               "An arrival is what a user wants at one moment: a study, a message, a query, a web session. The table counts "
               "all of them, and whose fault it was when one came late.",
               table=_arrivals_table(picture.arrivals)),
        _plate(latency_svg, f"{anchor}-latency", picture.latencies, "Latency",
               "From the moment an operation was due to its answer, over the percentile of operations; every further nine "
               "has the same width. The limit binds at 99\u202f%. Exact values of all recorded operations.",
               table=_latency_table(picture.latencies)),
        _plate(shares_svg, f"{anchor}-shares", picture.shares, "Share of each node",
               "Which part of the acknowledged operations each node answered, and its share of the whole run."),
        _plate(parts_svg, f"{anchor}-parts", picture.parts, "What each part did",
               "CPU time, and by how much the event loop woke too late. The dotted line is what the part can use at most, or "
               "one core." + _left_out(picture.parts)),
    )  # fmt: skip
    return LoadStory(
        anchor,
        f"{picture.check}: {picture.title}",
        picture.what,
        tuple(check for check in checks if check.check == picture.check),
        tuple(plate for plate in plates if plate is not None),
    )


def _plate(
    draw: Callable[[str, Sequence[_Drawn]], str], name: str, drawn: Sequence[_Drawn], title: str, caption: str, *,
    sayings: Sequence[Saying] = (), table: Table | None = None,
) -> Plate | None:  # fmt: skip
    if not drawn:
        return None
    picture = Markup(draw(name, drawn))  # noqa: S704  escaped by the XML writer
    return Plate(title, caption, picture, tuple(sayings), table if table is not None and table.rows else None)


def _saying(knee: Knee) -> Saying:
    required = "" if knee.required_per_s is None else f"; the site needs {scalar(knee.required_per_s)}"
    if knee.knee_per_s is None:
        told = f"{knee.vip}: not even the lowest rate was carried{required}."
    elif knee.bent:
        told = f"{knee.vip}: carried {scalar(knee.knee_per_s)} {knee.unit} a second, and no more{required}."
    else:
        told = f"{knee.vip}: carried at least {scalar(knee.knee_per_s)} {knee.unit} a second{required}."
    if knee.saturated:
        told += f" At its limit: {knee.saturated}."
    rest = len(knee.evidence) - _MOST_EVIDENCE
    more = (f"and {rest} more sign{'s' if rest > 1 else ''}, listed with the check",) if rest > 0 else ()
    return Saying(told, (*knee.evidence[:_MOST_EVIDENCE], *more))


def _arrivals_table(arrivals: Sequence[ArrivalTally]) -> Table:
    columns = ("VIP", "arrivals due", "in time", "late: clients busy", "late: generator", "dropped: clients busy",
               "dropped: generator", "cut at the end")  # fmt: skip
    rows = tuple(
        (tally.vip, *(scalar(number) for number in (
            tally.due, tally.in_time, tally.late_for_clients, tally.late_for_generator, tally.dropped_for_clients,
            tally.dropped_for_generator, tally.cut,
        )))
        for tally in arrivals
    )  # fmt: skip
    return Table(columns, rows)


def _latency_table(latencies: Sequence[LatencyClass]) -> Table:
    columns = (
        "VIP",
        "latency in ms",
        "operations",
        "p50",
        "p90",
        "p95",
        "p99",
        "95\u202f% interval",
        "p99.9",
        "max",
        "p99 limit",
    )
    return Table(columns, tuple(_latency_row(latency) for latency in latencies), words=2)


def _latency_row(latency: LatencyClass) -> tuple[str, ...]:
    interval = _span(latency.p99_interval_s, _three_digits)
    limit = "—" if latency.p99_limit_s is None else scalar(round(latency.p99_limit_s * 1e3, 6))
    quantiles = (latency.p50_s, latency.p90_s, latency.p95_s, latency.p99_s)
    return (
        latency.vip, latency.name, scalar(latency.n), *(_three_digits(value_s) for value_s in quantiles), interval,
        _three_digits(latency.p999_s), _three_digits(latency.max_s), limit,
    )  # fmt: skip


def _three_digits(value_s: float) -> str:
    """Return a latency in milliseconds with three significant digits, zeros at the end too: columns of them line up."""
    if math.isnan(value_s):
        return "—"
    value_ms = float(f"{value_s * 1e3:.3g}")  # rounded first: 9.996 has as many decimals as 10
    decimals = 2 if value_ms < 0.1 else max(0, 2 - math.floor(math.log10(value_ms)))
    return scalar(value_ms) if value_ms >= 1000 else f"{value_ms:.{decimals}f}"


def _added_table(added: Sequence[Added]) -> Table:
    columns = ("VIP", "operation", "pairs", "ratio", "95\u202f% interval", "added", "95\u202f% interval", "limit")
    rows = tuple(
        (each.vip, each.name, scalar(each.n), scalar(each.ratio), _span(each.ratio_interval, scalar),
         milliseconds(each.added_s), _span(each.added_interval_s, milliseconds),
         "—" if each.added_limit_s is None else milliseconds(each.added_limit_s))
        for each in added
    )  # fmt: skip
    return Table(columns, rows, words=2)


def _span(interval: tuple[float, float], spell: Callable[[float], str]) -> str:
    low, high = interval
    if math.isnan(low) or math.isnan(high):
        return (
            "—"
            if math.isnan(low) and math.isnan(high)
            else f"from {spell(low)}"
            if math.isnan(high)
            else f"up to {spell(high)}"
        )
    return f"{spell(low)} to {spell(high)}"


def _left_out(parts: Sequence[PartSeries]) -> str:
    left_out = shown_nodes(parts)[1]
    if not left_out:
        return ""
    busiest = max(value for part in parts if part.node in left_out for value in part.cpu_share if math.isfinite(value))
    return f" Not drawn: {len(left_out)} less busy nodes, none of whose services used more than {scalar(busiest)} cores."
