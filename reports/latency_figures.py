"""How long it took, how far it went, and what the balancer added: latency percentiles, the knee, pairs, the storm."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from .canvas import BLUE, FAINT, GREEN, INK, RULE, VERMILLION, drawing_style, svg_element
from .load_picture import Added, Knee, LatencyClass, Storm
from .panels import (
    DOTTED,
    LIMIT,
    EndLabel,
    Look,
    Margins,
    draw_limit,
    draw_line,
    explain_axis,
    label_ends,
    name_panel,
    panel_grid,
)
from .text import shortened
from .values import scalar

_P99 = 100.0  # 1 / (1 - 0.99): where p99 stands on the axis
_NINES = (
    (2.0, "50\u202f%"), (10.0, "90\u202f%"), (_P99, "99\u202f%"), (1e3, "99.9\u202f%"),
    (1e4, "99.99\u202f%"), (1e5, "5 nines"), (1e6, "6 nines"), (1e7, "7 nines"), (1e8, "8 nines"),
)  # fmt: skip
_NEEDED, _KNEE = Look(GREEN, (0, (4, 2)), 1.0), Look(INK, "-", 1.0)
_BINS = 90  # across the picture of the pairs' ratios


def latency_svg(name: str, latencies: Sequence[LatencyClass]) -> str:
    """Draw latency over percentile, as HDR histograms are drawn: a panel for each VIP, a line for each class of operations.

    The x axis is 1 / (1 - p), logarithmic, so that each further nine has the same width; the y axis is logarithmic too, and
    the same in all panels. The site's limit is a dashed line with a gate at p99, where it binds; the bar there is the 95 %
    interval of p99.

    Parameters
    ----------
    name : str
        Prefix of the ids inside the picture, unique on the page.
    latencies : sequence of LatencyClass
        In seconds.

    Returns
    -------
    str
        An `<svg>` element with a title and a description.
    """
    vips = list(dict.fromkeys(latency.vip for latency in latencies))
    columns = min(max(1, len(vips)), 2)
    with drawing_style():
        figure, grid = panel_grid(
            -(-max(1, len(vips)) // columns),
            columns,
            1.5,
            Margins(left=0.5, right=1.05, top=0.24, between_columns=1.5, between_rows=0.62),
        )
        panels = [panel for row in grid for panel in row]
        low_s, high_s = _span(latencies)
        reach = max((1 / (1 - p) for latency in latencies for p, _ in latency.curve), default=_P99)
        for panel, vip in zip(panels, vips, strict=False):
            _scale_latency(panel, (low_s, high_s), reach)
            _draw_latencies(panel, [latency for latency in latencies if latency.vip == vip])
            name_panel(panel, vip)
            explain_axis(panel, "percentile of operations")
        for panel in panels[len(vips) :]:
            panel.set_axis_off()
        return svg_element(figure, name, "Latency over percentile", " ".join(_latency_story(each) for each in latencies))


def knee_svg(name: str, knees: Sequence[Knee]) -> str:
    """Draw how far each VIP followed a rising load: achieved over offered rate, and p99 over offered rate; a row each."""
    with drawing_style():
        figure, grid = panel_grid(
            max(1, len(knees)), 2, 1.5, Margins(left=0.5, top=0.24, between_columns=0.65, between_rows=0.66)
        )
        for (rate, latency), knee in zip(grid, knees, strict=False):
            _draw_rate_of_steps(rate, knee)
            _draw_latency_of_steps(latency, knee)
            name_panel(rate, f"{knee.vip}: {knee.unit} a second achieved")
            name_panel(latency, "p99")
            for panel in (rate, latency):
                _mark_rates(panel, knee, named=panel is rate)
                explain_axis(panel, f"{shortened(knee.unit, 24)} a second offered")
        return svg_element(figure, name, "Rising load", " ".join(_knee_story(knee) for knee in knees))


def added_svg(name: str, added: Sequence[Added]) -> str:
    """Draw the ratios through / straight of all pairs: a lane each, a dot a pair, the median with its interval below."""
    with drawing_style():
        figure, grid = panel_grid(1, 1, 0.4 + 0.5 * max(1, len(added)), Margins(left=1.75, right=1.6, top=0.12))
        panel = grid[0][0]
        ratios = [ratio for each in added for ratio in (*each.ratios, *each.ratio_interval) if math.isfinite(ratio)] or [1.0]
        low, high = min(1.0, *ratios), max(1.0, *ratios)
        spread = (high - low) * 0.04 or 0.05
        panel.set_xlim(low - spread, high + spread)
        panel.set_ylim(len(added) - 0.4, -0.7)
        panel.grid(visible=False)
        panel.axvline(1, color=FAINT, linewidth=0.8, linestyle=DOTTED)
        for lane, each in enumerate(added):
            _draw_pairs(panel, lane, each)
        panel.set_yticks(range(len(added)), [shortened(f"{each.vip} {each.name}", 28) for each in added], color=INK)
        panel.spines["left"].set_visible(False)
        explain_axis(panel, "time through the VIP / time straight to the node")
        return svg_element(figure, name, "What the balancer adds", " ".join(_added_story(each) for each in added))


def storm_svg(name: str, storms: Sequence[Storm]) -> str:
    """Draw which share of the clients of each VIP was served again, over the seconds since all came back at once."""
    with drawing_style():
        figure, grid = panel_grid(1, 1, 1.5, Margins(left=0.5, right=1.95, top=0.15))
        panel = grid[0][0]
        last_s = max((at_s for storm in storms for at_s, _ in storm.served), default=1.0)
        labels = []
        panel.set_ylim(0, 1.03)
        for place, storm in enumerate(storms):
            look = Look.of(place)
            at_s = [0.0, *(moment for moment, _ in storm.served)]
            share = [0.0, *(served / max(storm.clients, 1) for _, served in storm.served)]
            draw_line(panel, [*at_s, last_s], [*share, share[-1]], look, steps=True)
            labels.append(EndLabel(share[-1], _storm_label(storm), look.colour))
        for limit_s in {storm.limit_s for storm in storms if storm.limit_s is not None and storm.limit_s <= last_s * 3}:
            panel.axvline(limit_s, color=LIMIT.colour, linestyle=LIMIT.dashes, linewidth=LIMIT.width)
            panel.annotate(f"limit {scalar(limit_s, unit='s')}", (limit_s, 0.05), xytext=(-3, 0), textcoords="offset points",
                           ha="right", fontsize=7.5, color=VERMILLION)  # fmt: skip
        panel.set_xlim(left=0)
        panel.set_yticks([0, 0.5, 1], ["0", "50\u202f%", "100\u202f%"])
        label_ends(panel, labels, 34)
        explain_axis(panel, "seconds since all came back at once")
        told = " ".join(f"{_storm_label(storm)}." for storm in storms)
        return svg_element(figure, name, "Clients served after the storm", told)


def milliseconds(value_s: float) -> str:
    """Return a latency in milliseconds with its unit: all of a report have that one, so that they compare at a glance."""
    return "—" if math.isnan(value_s) else scalar(round(value_s * 1e3, 6), unit="ms")


def _span(latencies: Sequence[LatencyClass]) -> tuple[float, float]:
    values = [value_s for latency in latencies for _, value_s in latency.curve if value_s > 0]
    values += [latency.p99_limit_s for latency in latencies if latency.p99_limit_s is not None]
    return (min(values) / 1.3, max(values) * 2.0) if values else (1e-3, 1.0)


def _scale_latency(panel: Axes, span_s: tuple[float, float], reach: float) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_ylim(*span_s)
    nines = [(at, word) for at, word in _NINES if at <= max(reach, _P99)]
    panel.xaxis.set_major_locator(FixedLocator([at for at, _ in nines]))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda at, _: dict(_NINES).get(at, "")))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlim(0.95, max(reach, _P99) * 1.15)
    panel.yaxis.set_major_locator(LogLocator(10, (1.0,), numticks=8))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value_s, _: milliseconds(value_s)))


def _draw_latencies(panel: Axes, latencies: Sequence[LatencyClass]) -> None:
    panel.axvline(_P99, color=RULE, linewidth=0.8)
    labels = []
    for place, latency in enumerate(latencies):
        look = Look.of(place, 1.3)
        points = [(1 / (1 - p), value_s) for p, value_s in latency.curve if value_s > 0]
        draw_line(panel, [at for at, _ in points], [value_s for _, value_s in points], look)
        if all(map(math.isfinite, latency.p99_interval_s)):
            panel.vlines(_P99, *latency.p99_interval_s, color=look.colour, linewidth=3.2, alpha=0.6)
        if points:
            labels.append(EndLabel(points[-1][1], latency.name, look.colour))
    _draw_limits(panel, [latency for latency in latencies if latency.curve])
    label_ends(panel, labels, 17)


def _draw_limits(panel: Axes, latencies: Sequence[LatencyClass]) -> None:
    """Draw the limits of a panel's classes; where there are several, each says whose it is."""
    limits: dict[float, list[str]] = {}
    for latency in latencies:
        if latency.p99_limit_s is not None:
            limits.setdefault(latency.p99_limit_s, []).append(latency.name)
    for limit_s, names in limits.items():
        whose = f" ({shortened(', '.join(names), 30)})" if len(limits) > 1 else ""
        words = f"p99 limit {milliseconds(limit_s)}{whose}"
        draw_limit(
            panel, limit_s, words, at_right=_room(latencies, limit_s, 1.0, 8.0) < _room(latencies, limit_s, 200.0, 1e9)
        )
        panel.plot([_P99], [limit_s], marker="D", markersize=4.5, markerfacecolor="#FFFFFF", markeredgecolor=LIMIT.colour)


def _room(latencies: Sequence[LatencyClass], limit_s: float, begin: float, end: float) -> float:
    """Return how far the nearest curve is above a limit within a stretch of the axis, in decades: words need that room."""
    above = [
        math.log10(value_s / limit_s)
        for latency in latencies
        for p, value_s in latency.curve
        if begin <= 1 / (1 - p) <= end and value_s >= limit_s * 0.8
    ]
    return min(above, default=9.0)


def _draw_rate_of_steps(panel: Axes, knee: Knee) -> None:
    low, high = _scale_rates(panel, knee)
    offered, achieved = [step.offered_per_s for step in knee.steps], [max(step.achieved_per_s, low) for step in knee.steps]
    panel.set_yscale(panel.get_xscale())
    panel.set_ylim(low, high)
    _count_rates(panel.yaxis)
    panel.plot([low, high], [low, high], color=FAINT, linewidth=0.8, linestyle=DOTTED)
    panel.plot(offered, achieved, color=BLUE, linewidth=1.3, marker="o", markersize=3.5)
    failed = [step for step in knee.steps if step.errors]
    panel.plot([step.offered_per_s for step in failed], [max(step.achieved_per_s, low) for step in failed], linestyle="",
               marker="X", markersize=6, color=VERMILLION, zorder=4, clip_on=False)  # fmt: skip


def _draw_latency_of_steps(panel: Axes, knee: Knee) -> None:
    seen = [(step.offered_per_s, step.p99_s) for step in knee.steps if step.p99_s > 0]
    _scale_rates(panel, knee)
    panel.set_yscale("log")
    panel.plot([at for at, _ in seen], [p99_s for _, p99_s in seen], color=BLUE, linewidth=1.3, marker="o", markersize=3.5)
    if knee.p99_limit_s is not None:
        draw_limit(panel, knee.p99_limit_s, f"limit {milliseconds(knee.p99_limit_s)}")
    values_s = [p99_s for _, p99_s in seen] + ([knee.p99_limit_s] if knee.p99_limit_s is not None else [])
    if values_s:
        panel.set_ylim(10 ** math.floor(math.log10(min(values_s))), 10 ** math.ceil(math.log10(max(values_s) * 1.2)))
    panel.yaxis.set_major_locator(LogLocator(10, numticks=6))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value_s, _: milliseconds(value_s)))


def _scale_rates(panel: Axes, knee: Knee) -> tuple[float, float]:
    """Lay the offered rates along a panel's foot, on a logarithmic axis where they span a decade; return its ends."""
    rates = [step.offered_per_s for step in knee.steps if step.offered_per_s > 0]
    rates += [rate for rate in (knee.required_per_s, knee.knee_per_s) if rate]
    low, high = (min(rates), max(rates)) if rates else (0.0, 1.0)
    wide = high >= 8 * low > 0
    ends = (low / 1.6, high * 1.6) if wide else (0.0, high * 1.06)
    panel.set_xscale("log" if wide else "linear")
    panel.set_xlim(*ends)
    _count_rates(panel.xaxis)
    return ends


def _count_rates(axis: Axis) -> None:
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(10, (1.0, 3.0), numticks=6))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda rate, _: scalar(rate)))
    else:
        axis.set_major_locator(MaxNLocator(5))


def _mark_rates(panel: Axes, knee: Knee, named: bool) -> None:
    """Draw the knee and what the site needs as upright lines; their words stand in one panel only."""
    marks = (
        (knee.required_per_s, "needed", _NEEDED, 0.9),
        (knee.knee_per_s, "knee" if knee.bent else "at least", _KNEE, 0.1),
    )
    for rate_per_s, word, look, height in marks:
        if not rate_per_s:
            continue
        panel.axvline(rate_per_s, color=look.colour, linewidth=look.width, linestyle=look.dashes)
        if named:
            across = panel.transAxes.inverted().transform(panel.transData.transform((rate_per_s, 1.0)))[0]
            side = -1 if across > 0.7 else 1  # words that begin far right would leave the panel
            panel.annotate(f"{word} {scalar(rate_per_s)}", (rate_per_s, height),
                           xycoords=("data", "axes fraction"), xytext=(3 * side, 0), textcoords="offset points",
                           ha="left" if side > 0 else "right", fontsize=7.5, color=look.colour)  # fmt: skip


def _draw_pairs(panel: Axes, lane: int, added: Added) -> None:
    """Draw the pairs of a lane as dots heaped upwards wherever they fall together, and the median with its interval below."""
    low, high = panel.get_xlim()
    width = (high - low) / _BINS
    heap: dict[int, int] = {}
    dots = []
    for ratio in sorted(ratio for ratio in added.ratios if math.isfinite(ratio)):
        place = int((ratio - low) / width)
        heap[place] = heap.get(place, 0) + 1
        dots.append((low + (place + 0.5) * width, heap[place]))
    tallest = max(heap.values(), default=1)
    lift = min(0.09, 0.5 / tallest)
    panel.plot([at for at, _ in dots], [lane + 0.08 - lift * height for _, height in dots], linestyle="", marker="o",
               markersize=2.4, markerfacecolor=BLUE, markeredgewidth=0, alpha=0.65)  # fmt: skip
    panel.plot(added.ratio_interval, [lane + 0.2] * 2, color=INK, linewidth=3.0, solid_capstyle="butt")
    panel.plot([added.ratio], [lane + 0.2], marker="D", markersize=5, markerfacecolor="#FFFFFF", markeredgecolor=INK)
    least, most = (scalar(end) for end in added.ratio_interval)
    words = f"{scalar(added.ratio)} ({least} to {most})\n{added.n} pairs"
    panel.annotate(words, (1, lane), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                   va="center", fontsize=7.5, color=INK)  # fmt: skip


def _storm_label(storm: Storm) -> str:
    if not storm.served:
        return f"{storm.vip}: none of {storm.clients} served"
    at_s, served = storm.served[-1]
    return f"{storm.vip}: {served} of {storm.clients} in {scalar(at_s, unit='s')}"


def _latency_story(latency: LatencyClass) -> str:
    limit = "" if latency.p99_limit_s is None else f", limit {milliseconds(latency.p99_limit_s)}"
    return (
        f"{latency.vip}, {latency.name}, {latency.n} operations: p50 {milliseconds(latency.p50_s)}, "
        f"p99 {milliseconds(latency.p99_s)}{limit}, at most {milliseconds(latency.max_s)}."
    )


def _knee_story(knee: Knee) -> str:
    steps = ", ".join(f"{scalar(step.offered_per_s)} offered {scalar(step.achieved_per_s)} achieved" for step in knee.steps)
    if knee.knee_per_s is None:
        return f"{knee.vip}, {knee.unit} a second: {steps}. Not even the lowest rate was carried."
    bound = "Knee at" if knee.bent else "At least"
    return f"{knee.vip}, {knee.unit} a second: {steps}. {bound} {scalar(knee.knee_per_s)}."


def _added_story(added: Added) -> str:
    least, most = added.ratio_interval
    return (
        f"{added.vip}, {added.name}: through the VIP takes {scalar(added.ratio)} times as long as straight "
        f"(95 % interval {scalar(least)} to {scalar(most)}, {added.n} pairs)."
    )
