"""The pictures of the report, as SVG that stands inside the page: nothing is loaded, and text stays text.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; shapes and dashes say the same once more, for a
page printed in grey.
"""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import StringIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from .text import legible, shortened
from .verdict import Timeline, TrafficSeries

INK, FAINT, RULE = "#1b252d", "#5a6872", "#ccd3d8"
_WIDTH_IN = 7.6
_MOST_POINTS = 900  # of one line: a soak of hours would otherwise make a page of megabytes
_FIELD = "#8a98a3"  # a fault's grey
# Each moment of a fault's story: marker, fill, edge. What a newer harness adds is drawn as a small grey dot.
_MOMENTS: dict[str, tuple[str, str, str]] = {
    "fault": ("X", "#D55E00", "#D55E00"),
    "first error": ("D", "#FFFFFF", "#D55E00"),
    "DOWN": ("v", INK, INK),
    "first success elsewhere": ("o", "#0072B2", "#0072B2"),
    "fault ends": ("P", "#FFFFFF", INK),
    "UP": ("^", "#009E73", "#009E73"),
}
_OTHER_MOMENT = (".", FAINT, FAINT)
_LINES: tuple[tuple[str, str], ...] = (
    ("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#56B4E9", "-"), ("#E69F00", "--"),
)  # fmt: skip


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
    with _style():
        figure = Figure(figsize=(_WIDTH_IN, 0.95 + 0.42 * max(1, len(timelines))), layout="constrained")
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
        return _svg(figure, name, f"Time line of: {fault}", _story(timelines))


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
    with _style():
        figure = Figure(figsize=(_WIDTH_IN, 0.9 + 1.05 * max(1, len(vips))), layout="constrained")
        panels = figure.subplots(max(1, len(vips)), 1, sharex=True, squeeze=False)[:, 0]
        for panel, vip in zip(panels, vips, strict=False):
            _draw_panel(panel, vip, [line for line in series if line.vip == vip], nodes)
            for _, begin_s, end_s in faults:
                panel.axvspan(begin_s, end_s, color=_FIELD, alpha=0.18, linewidth=0)
        for number, (_, begin_s, end_s) in enumerate(faults, 1):
            panels[0].annotate(str(number), ((begin_s + end_s) / 2, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                               textcoords="offset points", ha="center", va="bottom", fontsize=7.5, color=INK)  # fmt: skip
        panels[-1].set_xlabel("seconds from the run's begin")
        figure.supylabel("operations a second", fontsize=8.5, color=FAINT)
        handles = {line.get_label(): line for panel in panels for line in panel.get_lines()}
        if handles:
            figure.legend(handles=list(handles.values()), loc="outside upper left", ncols=6)
        return _svg(figure, name, "Traffic of each node over time", _traffic_story(series, faults))


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(
        {
            "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
            "text.parse_math": False,  # a dollar sign in a name is a dollar sign
            "font.size": 8.5,
            "text.color": INK,
            "axes.edgecolor": RULE,
            "axes.labelcolor": FAINT,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.unicode_minus": False,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "ytick.major.size": 0,
            "legend.frameon": False,
        }
    )


def _draw_lane(axes: Axes, lane: int, timeline: Timeline) -> None:
    at_s = {event.what: event.at_s for event in reversed(timeline.events)}  # the first of each kind
    axes.axhline(lane, color=RULE, linewidth=0.8, zorder=0)
    if "fault" in at_s and "fault ends" in at_s:
        axes.barh(
            lane, at_s["fault ends"] - at_s["fault"], left=at_s["fault"], height=0.56, color=_FIELD, alpha=0.18, linewidth=0
        )
    if "first error" in at_s and at_s.get("first success elsewhere", -1.0) >= at_s["first error"]:
        span_s = at_s["first success elsewhere"] - at_s["first error"]
        axes.barh(lane, span_s, left=at_s["first error"], height=0.16, color="#D55E00", alpha=0.55, linewidth=0)
    for event in timeline.events:
        axes.add_line(_mark(event.what, event.at_s, lane))


def _mark(what: str, at_s: float = 0.0, lane: float = 0.0) -> Line2D:
    marker, fill, edge = _MOMENTS.get(what, _OTHER_MOMENT)
    return Line2D([at_s], [lane], linestyle="", zorder=3, marker=marker, markersize=7, markerfacecolor=fill,
                  markeredgecolor=edge, label=shortened(what, 26))  # fmt: skip


def _draw_panel(panel: Axes, vip: str, series: Sequence[TrafficSeries], nodes: Sequence[str]) -> None:
    for line in series:
        colour, dashes = _LINES[nodes.index(line.node) % len(_LINES)]
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


def _svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Render a figure as an element of an HTML page: no prolog, no name spaces, its own ids, words for who cannot see."""
    page = StringIO()
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():  # the salt: same picture, same bytes
        warnings.filterwarnings("ignore", message="Glyph")  # text stays text: the reader's own fonts will have it
        FigureCanvasSVG(figure).print_figure(
            page, format="svg", dpi=72, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    root = ET.fromstring(legible(page.getvalue()))  # noqa: S314  matplotlib's own output, not a stranger's
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):  # an inline <style> would rule the whole page
                parent.remove(child)
    for element in root.iter():
        _localise(element, name)
    spoken = f"{name}-title {name}-desc"
    root.attrib = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-labelledby": spoken, "class": "picture"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        words = ET.Element(tag, {"id": f"{name}-{tag}"})
        words.text = legible(text)
        root.insert(place, words)
    return ET.tostring(root, encoding="unicode")


def _localise(element: ET.Element, name: str) -> None:
    element.tag = element.tag.rpartition("}")[2]
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    if attributes.get("href", "").startswith("#"):
        attributes["href"] = f"#{name}-{attributes['href'][1:]}"
    for key, value in attributes.items():
        value = value.replace("url(#", f"url(#{name}-") if key in ("clip-path", "style", "fill") else value
        attributes[key] = re.sub(r"(font: [^';]*?)'[^;]*", r"\1sans-serif", value) if key == "style" else value
    element.attrib = attributes
