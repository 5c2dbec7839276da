"""The part of index.html that tells of a pair of balancers: what clients saw whenever the active unit failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .canvas import BLUE, FAINT, INK, RULE, VERMILLION, WIDTH_IN, drawing_style, svg_element
from .pair_picture import TakeoverSeen
from .text import shortened
from .values import THIN

_ROW_IN = 0.16
_HEAD_IN = 0.75
_SPREAD = 0.7  # how much of a way's lane its VIPs take
COLUMNS = (
    "Failed", "Unit", "VIP", "own subnet", "routed", "limit", "entries kept", "sources kept", "lost", "doubled",
    "indeterminate", "waiting", "late",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PairStory:
    """All failures of active units: the picture, and a row of numbers for each failure and VIP."""

    picture: Markup
    rows: tuple[tuple[str, ...], ...]


def pair_story(takeovers: Sequence[TakeoverSeen]) -> PairStory | None:
    """Return what is told of a pair; None when no unit failed."""
    if not takeovers:
        return None
    return PairStory(Markup(outages_svg("takeovers", takeovers)), tuple(map(_row, takeovers)))  # noqa: S704  escaped by the XML writer


def outages_svg(name: str, takeovers: Sequence[TakeoverSeen]) -> str:
    """Draw how long clients went without an answer: a lane for each way of failing, in it a line for each VIP.

    Parameters
    ----------
    name : str
        Prefix of the ids inside the picture: letters, digits and hyphens, unique on the page.
    takeovers : sequence of TakeoverSeen
        At least one.
    """
    lanes: dict[tuple[str, str], list[TakeoverSeen]] = {}
    for takeover in takeovers:
        lanes.setdefault((takeover.how, takeover.unit), []).append(takeover)
    with drawing_style():
        figure = Figure(figsize=(WIDTH_IN, _HEAD_IN + _ROW_IN * (len(takeovers) + 2 * len(lanes))), layout="constrained")
        axes = figure.add_subplot()
        for lane, seen in enumerate(lanes.values()):
            step = _SPREAD / max(len(seen), 1)
            axes.plot([seen[0].limit_s] * 2, [lane - 0.45, lane + 0.45], color=VERMILLION, linewidth=0.9, dashes=(4, 2))
            for place, one in enumerate(seen):
                at = lane - _SPREAD / 2 + (place + 0.5) * step
                times_s = [time_s for time_s in (one.local_s, one.routed_s) if time_s is not None]
                axes.plot([0, max(times_s, default=0)], [at, at], color=RULE, linewidth=0.8, zorder=1)
                _dot(axes, one.local_s, at, filled=True)
                _dot(axes, one.routed_s, at, filled=False)
                axes.annotate(
                    shortened(one.vip, 10), (max(times_s, default=0), at), xytext=(7, 0), textcoords="offset points",
                    va="center", fontsize=6.5, color=FAINT,
                )  # fmt: skip
        axes.set_yticks(range(len(lanes)), [f"{how} ({unit})" for how, unit in lanes], color=INK)
        axes.set_ylim(len(lanes) - 0.45, -0.55)
        axes.set_xlim(left=0)
        axes.margins(x=0.12)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("seconds without an answer")
        axes.legend(handles=[_mark("own subnet", filled=True), _mark("routed", filled=False), _limit_mark()], ncols=3,
                    loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)  # fmt: skip
        words = "; ".join(f"{one.how}, {one.vip}: {_time(one.local_s)} and {_time(one.routed_s)}" for one in takeovers)
        return svg_element(figure, name, "How long clients went without an answer when a unit failed", words)


def _dot(axes: object, time_s: float | None, at: float, *, filled: bool) -> None:
    if time_s is not None:
        axes.plot([time_s], [at], "o", markersize=4, color=BLUE, markerfacecolor=BLUE if filled else "#FFFFFF", zorder=2)  # type: ignore[attr-defined]


def _mark(label: str, *, filled: bool) -> Line2D:
    face = BLUE if filled else "#FFFFFF"
    return Line2D([], [], color=BLUE, marker="o", markersize=4, markerfacecolor=face, linestyle="", label=label)


def _limit_mark() -> Line2D:
    return Line2D([], [], color=VERMILLION, linewidth=0.9, dashes=(4, 2), label="the site's limit")


def _row(one: TakeoverSeen) -> tuple[str, ...]:
    return (
        one.how, one.unit, one.vip, _time(one.local_s), _time(one.routed_s), _time(one.limit_s),
        f"{one.entries_kept} of {one.entries}", f"{one.sources_kept} of {one.sources}", str(one.lost), str(one.duplicated),
        str(one.indeterminate), str(one.waiting), str(one.delivered_late),
    )  # fmt: skip


def _time(time_s: float | None) -> str:
    return "no answer" if time_s is None else f"{time_s:.2f}{THIN}s"
