"""The pictures of faults and traffic, as SVG that stands inside the page."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from .canvas import BLUE, FAINT, FIELD, GREEN, INK, LINES, RULE, VERMILLION, WIDTH_IN, drawing_style, svg_element
from .text import shortened
from .verdict import Timeline, TrafficSeries

_MOST_POINTS = 900  # of one line: a soak of hours would otherwise make a page of megabytes
# Each moment of a fault's story: marker, fill, edge. What a newer harness adds is drawn as a small grey dot.
_MOMENTS: dict[str, tuple[str, str, str]] = {
    "fault": ("X", VERMILLION, VERMILLION),
    "first error": ("D", "#FFFFFF", VERMILLION),
    "DOWN": ("v", INK, INK),
    "first success elsewhere": ("o", BLUE, BLUE),
    "fault ends": ("P", "#FFFFFF", INK),
    "UP": ("^", GREEN, GREEN),
}
_OTHER_MOMENT = (".", FAINT, FAINT)


def timeline_svg(name: str, timelines: Sequence[Timeline]) -> str:
    """Draw the story of one fault: a lane for each VIP, a mark for each moment, in seconds from the fault's begin.

    Parameters
    ----------
    name : str
        Prefix of the ids inside the picture: letters, digits and hyphens, unique on the page.
    timelines : sequence of Timeline
        Those of one fault, one for each VIP. The span from first error to first success elsewhere is drawn as a bar.

    Returns
    -------
    str
        An `<svg>` element with a title and a description.
    """
    with drawing_style():
        figure = Figure(figsize=(WIDTH_IN, 0.95 + 0.42 * max(1, len(timelines))), layout="constrained")
        axes = figure.add_subplot()
        for lane, timeline in enumerate(timelines):
            _draw_lane(axes, lane, timeline)
        axes.set_yticks(range(len(timelines)), [shortened(timeline.vip, 14) for timeline in timelines], color=INK)
        axes.set_ylim(len(timelines) - 0.45, -0.55)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("seconds from the fault's begin")
        moments_s = [event.at_s for timeline in timelines for event in timeline.events] or [0.0]
        margin_s = 0.02 * (max(moments_s) - min(moments_s)) or 1.0
        axes.set_xlim(min(moments_s) - margin_s, max(moments_s) + margin_s)
        seen = dict.fromkeys(event.what for timeline in timelines for event in timeline.events)
        kinds = [what for what in _MOMENTS if what in seen] + [what for what in seen if what not in _MOMENTS]
        axes.legend(handles=[_mark(what) for what in kinds], loc="lower left", bbox_to_anchor=(0, 1), ncols=6,
                    handletextpad=0.2, columnspacing=1.4, borderaxespad=0.2)  # fmt: skip
        fault = timelines[0].fault if timelines else ""
        return svg_element(figure, name, f"Time line of: {fault}", _story(timelines))


def traffic_svg(name: str, series: Sequence[TrafficSeries], faults: Sequence[tuple[str, float, float]]) -> str:
    """Draw what each node answered, in operations a second: one panel for each VIP, faults shaded and numbered from 1.

    Parameters
    ----------
    name : str
        Prefix of the ids inside the picture.
    series : sequence of TrafficSeries
        One line each; seconds from the run's begin. A long one is averaged over equal spans.
    faults : sequence of (what, from, to)
        In seconds from the run's begin; their numbers are their places in this sequence.

    Returns
    -------
    str
        An `<svg>` element with a title and a description.
    """
    vips = list(dict.fromkeys(line.vip for line in series))
    nodes = list(dict.fromkeys(line.node for line in series))
    with drawing_style():
        figure = Figure(figsize=(WIDTH_IN, 0.9 + 1.05 * max(1, len(vips))), layout="constrained")
        panels = figure.subplots(max(1, len(vips)), 1, sharex=True, squeeze=False)[:, 0]
        for panel, vip in zip(panels, vips, strict=False):
            _draw_panel(panel, vip, [line for line in series if line.vip == vip], nodes)
            for _, begin_s, end_s in faults:
                panel.axvspan(begin_s, end_s, color=FIELD, alpha=0.18, linewidth=0)
        for number, (_, begin_s, end_s) in enumerate(faults, 1):
            panels[0].annotate(str(number), ((begin_s + end_s) / 2, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                               textcoords="offset points", ha="center", va="bottom", fontsize=7.5, color=INK)  # fmt: skip
        panels[-1].set_xlabel("seconds from the run's begin")
        figure.supylabel("operations a second", fontsize=8.5, color=FAINT)
        handles = {line.get_label(): line for panel in panels for line in panel.get_lines()}
        if handles:
            figure.legend(handles=list(handles.values()), loc="outside upper left", ncols=6)
        return svg_element(figure, name, "Traffic of each node over time", _traffic_story(series, faults))


def _draw_lane(axes: Axes, lane: int, timeline: Timeline) -> None:
    at_s = {event.what: event.at_s for event in reversed(timeline.events)}  # the first of each kind
    axes.axhline(lane, color=RULE, linewidth=0.8, zorder=0)
    if "fault" in at_s and "fault ends" in at_s:
        axes.barh(
            lane, at_s["fault ends"] - at_s["fault"], left=at_s["fault"], height=0.56, color=FIELD, alpha=0.18, linewidth=0
        )
    if "first error" in at_s and at_s.get("first success elsewhere", -1.0) >= at_s["first error"]:
        span_s = at_s["first success elsewhere"] - at_s["first error"]
        axes.barh(lane, span_s, left=at_s["first error"], height=0.16, color=VERMILLION, alpha=0.55, linewidth=0)
    for event in timeline.events:
        axes.add_line(_mark(event.what, event.at_s, lane))


def _mark(what: str, at_s: float = 0.0, lane: float = 0.0) -> Line2D:
    marker, fill, edge = _MOMENTS.get(what, _OTHER_MOMENT)
    return Line2D([at_s], [lane], linestyle="", zorder=3, marker=marker, markersize=7, markerfacecolor=fill,
                  markeredgecolor=edge, label=shortened(what, 26))  # fmt: skip


def _draw_panel(panel: Axes, vip: str, series: Sequence[TrafficSeries], nodes: Sequence[str]) -> None:
    for line in series:
        colour, dashes = LINES[nodes.index(line.node) % len(LINES)]
        at_s, rates = _thinned(line)
        label = shortened(line.node, 24)
        panel.plot(at_s, rates, color=colour, linestyle=dashes, linewidth=1.3, drawstyle="steps-post", label=label)
    panel.set_title(shortened(vip, 40), loc="left", fontsize=8.5, color=INK, pad=3)
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    panel.grid(axis="y", color=RULE, linewidth=0.5)
    panel.margins(x=0.01)


def _thinned(line: TrafficSeries) -> tuple[list[float], list[float]]:
    """Return the line's points, averaged over as many seconds as keep them below the most that a page should carry."""
    step = -(-len(line.rate_per_s) // _MOST_POINTS) or 1
    chunks = [line.rate_per_s[first : first + step] for first in range(0, len(line.rate_per_s), step)]
    return [float(line.start_s + step * place) for place in range(len(chunks))], [sum(chunk) / len(chunk) for chunk in chunks]


def _story(timelines: Sequence[Timeline]) -> str:
    lanes = [(lane.vip, ", ".join(f"{event.what} at {event.at_s:.2f} s" for event in lane.events)) for lane in timelines]
    return " ".join(f"{vip}: {moments}." for vip, moments in lanes)


def _traffic_story(series: Sequence[TrafficSeries], faults: Sequence[tuple[str, float, float]]) -> str:
    peaks = [(line.vip, line.node, max(line.rate_per_s, default=0.0)) for line in series]
    told = [f"{vip} on {node}: at most {peak_per_s:.1f} operations a second." for vip, node, peak_per_s in peaks]
    told += [
        f"Fault {number}, {what}: {begin_s:.1f} to {end_s:.1f} s." for number, (what, begin_s, end_s) in enumerate(faults, 1)
    ]
    return " ".join(told)
