"""Load over time: what was asked and answered, which node answered, and what each part cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .canvas import BLUE, FAINT, INK, LINES, RULE, VERMILLION, drawing_style, svg_element
from .load_picture import NodeShare, PartSeries, VipRates
from .panels import (
    DOTTED,
    Look,
    Margins,
    count_from_zero,
    draw_line,
    explain_axis,
    explain_columns,
    name_panel,
    panel_grid,
)
from .text import shortened
from .values import scalar

_FOOT = "seconds from the run's begin"
_STACKED_NODES = 4  # more bands than that cannot be told apart
_LEAST_LAG_MS = 0.1  # below that a wake-up is in time
_SHOWN_NODES = 4
_OFFERED = Look(FAINT, "--", 1.0)
_ANSWERED = Look(BLUE)
_FAILED = Look(VERMILLION)


def rates_svg(name: str, rates: Sequence[VipRates]) -> str:
    """Draw what was asked of each VIP and what it answered: a row each; arrivals, operations and MB a second.

    Parameters
    ----------
    name : str
        Prefix of the ids inside the picture, unique on the page.
    rates : sequence of VipRates
        One for each VIP.

    Returns
    -------
    str
        An `<svg>` element with a title and a description.
    """
    with drawing_style():
        figure, grid = panel_grid(max(1, len(rates)), 3, 0.72, Margins(left=0.4, top=0.56, between_rows=0.24))
        for row, vip in zip(grid, rates, strict=False):
            _draw_rates(row, vip)
            name_panel(row[0], vip.vip)
        explain_columns(grid, _FOOT)
        for panel, what in zip(grid[0], ("arrivals a second", "operations a second", "MB a second"), strict=True):
            panel.annotate(what, (0, 1), xycoords="axes fraction", xytext=(0, 15), textcoords="offset points",
                           fontsize=7.5, color=FAINT)  # fmt: skip
        for word, look in (("offered", _OFFERED), ("carried out, acknowledged", _ANSWERED), ("failed", _FAILED)):
            draw_line(grid[0][0], [], [], look, label=word)
        handles = grid[0][0].get_lines()[-3:]
        figure.legend(handles=handles, loc="upper left", ncols=3, fontsize=7.5, borderaxespad=0.1, bbox_to_anchor=(0.04, 1))
        return svg_element(figure, name, "Demand and answers over time", " ".join(_rates_story(vip) for vip in rates))


def shares_svg(name: str, shares: Sequence[NodeShare]) -> str:
    """Draw which part of each VIP's answers came from which node, over time: a panel for each VIP.

    Up to four nodes are stacked; of more, each is a line, and the busiest and the least busy are named.
    """
    vips = list(dict.fromkeys(share.vip for share in shares))
    nodes = list(dict.fromkeys(share.node for share in shares))
    columns = min(max(1, len(vips)), 4)
    with drawing_style():
        rows = -(-max(1, len(vips)) // columns)
        figure, grid = panel_grid(rows, columns, 0.95, Margins(left=0.4, top=0.24, between_columns=0.22))
        panels = [panel for row in grid for panel in row]
        for panel, vip in zip(panels, vips, strict=False):
            own = [share for share in shares if share.vip == vip]
            (_stack_shares if len(own) <= _STACKED_NODES else _line_shares)(panel, own, nodes)
            name_panel(panel, vip, 24)
        for panel in panels[len(vips) :]:
            panel.set_axis_off()
        for place, panel in enumerate(panels[: max(1, len(vips))]):
            panel.set_ylim(0, 1)
            panel.set_yticks([0, 0.5, 1], ["0", "50\u202f%", "100\u202f%"] if place % columns == 0 else ["", "", ""])
            explain_axis(panel, _FOOT)
        told = [f"{each.vip}: {each.node} gave {scalar(each.whole_share, unit='share')} of the answers." for each in shares]
        return svg_element(figure, name, "Share of each node over time", " ".join(told))


def parts_svg(name: str, parts: Sequence[PartSeries]) -> str:
    """Draw what each part cost over time: a row for the machine, the balancer, the generators, and each of the busiest nodes.

    The columns are CPU in cores and the latest wake-up of the event loop, and memory where it was measured.
    """
    rows = _rows_of_parts(parts)
    memory = any(part.memory_mb for part in parts)
    with drawing_style():
        figure, grid = panel_grid(
            max(1, len(rows)), 3 if memory else 2, 0.74, Margins(left=0.4, right=1.15, top=0.24, between_rows=0.24)
        )
        for panels, (title, own) in zip(grid, rows, strict=False):
            _draw_parts(panels, own)
            name_panel(panels[0], title)
        explain_columns(grid, _FOOT)
        heads = ("CPU, in cores", "latest wake-up, ms", "memory, MB")[: len(grid[0])]
        for panel, head in zip(grid[0], heads, strict=True):
            panel.set_title(head, loc="right", fontsize=7.5, color=FAINT, pad=4)
        return svg_element(figure, name, "What each part did over time", " ".join(_part_story(part) for part in parts))


def shown_nodes(parts: Sequence[PartSeries]) -> tuple[list[str], list[str]]:
    """Return the nodes that `parts_svg` draws (the busiest, in the order given) and those that it leaves out."""
    busiest: dict[str, float] = {}
    for part in parts:
        if part.kind == "node":
            busiest[part.node] = max(busiest.get(part.node, 0.0), _mean(part.cpu_share))
    ranked = sorted(busiest, key=lambda node: -busiest[node])
    kept = set(ranked[:_SHOWN_NODES])
    return [node for node in busiest if node in kept], [node for node in busiest if node not in kept]


def _draw_rates(row: Sequence[Axes], vip: VipRates) -> None:
    arrivals, operations, volume = row
    _draw(arrivals, vip.step_s, vip.offered_per_s, _OFFERED)
    _draw(arrivals, vip.step_s, vip.done_per_s, _ANSWERED)
    _draw(operations, vip.step_s, vip.operations_per_s, _ANSWERED)
    if any(vip.errors_per_s):
        _draw(operations, vip.step_s, vip.errors_per_s, _FAILED)
    _draw(volume, vip.step_s, vip.mb_per_s, _ANSWERED)
    for panel in row:
        count_from_zero(panel)


def _draw(panel: Axes, step_s: float, values: Sequence[float], look: Look) -> None:
    """Draw a mean over each span at the middle of that span; the panel begins and ends with the run."""
    panel.set_xlim(0, max(len(values), 1) * step_s)
    draw_line(panel, [(place + 0.5) * step_s for place in range(len(values))], values, look)


def _stack_shares(panel: Axes, shares: Sequence[NodeShare], nodes: Sequence[str]) -> None:
    length = max((len(share.share) for share in shares), default=0)
    if not length:
        return
    edges_s = np.arange(length + 1) * shares[0].step_s
    panel.set_xlim(0, edges_s[-1])
    answered = ~np.isnan([share.share for share in shares]).all(axis=0)  # a step without any answer stays white
    floor = np.zeros(length)
    for share in shares:
        ceiling = floor + np.nan_to_num(np.array(share.share, float))
        colour = LINES[nodes.index(share.node) % len(LINES)][0]
        seen = np.where(answered, ceiling, np.nan)
        panel.stairs(seen, edges_s, baseline=floor, fill=True, color=colour, alpha=0.3, linewidth=0)
        height = float(np.mean((floor + ceiling)[answered])) / 2 if answered.any() else 0.5
        panel.text(0.04, height, f"{shortened(share.node, 14)} {_percent(share.whole_share)}",
                   transform=panel.get_yaxis_transform(), va="center", fontsize=7.5)  # fmt: skip
        floor = ceiling


def _line_shares(panel: Axes, shares: Sequence[NodeShare], nodes: Sequence[str]) -> None:
    ranked = sorted(shares, key=lambda share: share.whole_share)
    for share in ranked:
        named = share in (ranked[0], ranked[-1])
        colour = LINES[nodes.index(share.node) % len(LINES)][0]
        _draw(panel, share.step_s, share.share, Look(colour, "-", 1.0) if named else Look(RULE, "-", 0.6))
    for share, at in ((ranked[-1], 0.9), (ranked[0], 0.76)):
        panel.text(0.04, at, f"{shortened(share.node, 14)} {_percent(share.whole_share)}", transform=panel.transAxes,
                   va="center", fontsize=7.5, color=LINES[nodes.index(share.node) % len(LINES)][0])  # fmt: skip


def _rows_of_parts(parts: Sequence[PartSeries]) -> list[tuple[str, list[PartSeries]]]:
    """Gather the parts that share a row: what is over all, who makes the load, who passes it on, who takes it."""
    rows = [
        (title, [part for part in parts if part.kind == kind])
        for title, kind in (("machine", "machine"), ("generators", "generator"), ("balancer", "balancer"))
    ]
    rows += [(node, [part for part in parts if part.kind == "node" and part.node == node]) for node in shown_nodes(parts)[0]]
    return [(title, own) for title, own in rows if own]


def _draw_parts(panels: Sequence[Axes], parts: Sequence[PartSeries]) -> None:
    cpu, lag = panels[:2]
    for place, part in enumerate(parts):
        look = Look.of(place, 1.1)
        draw_line(cpu, part.at_s, part.cpu_share, look, label=_label(part))
        if part.lag_s:
            draw_line(lag, part.at_s, [max(lag_s * 1e3, _LEAST_LAG_MS) for lag_s in part.lag_s], look)
        if part.memory_mb and len(panels) > 2:
            draw_line(panels[2], part.at_s, part.memory_mb, look)
    capacity = max((part.capacity_cores or 1.0 for part in parts), default=1.0)
    cpu.axhline(capacity, color=INK, linewidth=0.8, linestyle=DOTTED)
    count_from_zero(
        cpu, max([capacity, *(value for part in parts for value in part.cpu_share if math.isfinite(value))]) * 1.08
    )
    if any(part.lag_s for part in parts):
        _scale_lag(lag)
    else:
        lag.set_axis_off()
        named = [f"{_label(part)}: {_in_short(part)}" if len(parts) > 1 else _in_short(part) for part in parts[:2]]
        words = "\n".join(text.replace(", ", ",\n") for text in named)
        lag.text(0, 0.5, words, transform=lag.transAxes, va="center", fontsize=7.5, linespacing=1.3)
    if len(panels) > 2:
        count_from_zero(panels[2])
        panels[2].set_axis_on() if any(part.memory_mb for part in parts) else panels[2].set_axis_off()
    last_s = max((at_s for part in parts for at_s in part.at_s if at_s > 0), default=1.0)
    for panel in panels:
        panel.set_xlim(0, last_s * 1.01)
    if len(parts) > 1 or any(part.lag_s for part in parts):  # a line alone is named by its row
        handles = cpu.get_lines()[: min(len(parts), len(LINES))]
        panels[-1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7.5, handlelength=1.6)


def _scale_lag(panel: Axes) -> None:
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, 0.9), max(high, 120.0))
    panel.yaxis.set_major_locator(LogLocator(10, numticks=5))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _label(part: PartSeries) -> str:
    if part.kind == "machine":
        return shortened(part.name or "all processes", 18)
    if part.kind == "balancer":
        return shortened(part.name or "all threads", 18)
    return shortened(part.name, 18)


def _part_story(part: PartSeries) -> str:
    lag = f"; latest wake-up {scalar(_most(part.lag_s) * 1e3, unit='ms')}" if part.lag_s else ""
    return f"{_full_name(part)}: {_in_short(part)}{lag}."


def _in_short(part: PartSeries) -> str:
    capacity = "" if part.capacity_cores is None else f" of {scalar(part.capacity_cores)}"
    return f"on average {_number(_mean(part.cpu_share))}{capacity} cores, at most {_number(_most(part.cpu_share))}"


def _full_name(part: PartSeries) -> str:
    return " ".join(word for word in (part.kind, part.node, part.name) if word)


def _rates_story(vip: VipRates) -> str:
    errors = sum(rate for rate in vip.errors_per_s if math.isfinite(rate)) * vip.step_s
    return (
        f"{vip.vip}: {_number(_mean(vip.offered_per_s))} arrivals a second offered on average, "
        f"{_number(_mean(vip.done_per_s))} carried out; {_number(_mean(vip.operations_per_s))} operations and "
        f"{_number(_mean(vip.mb_per_s))} MB a second acknowledged; {round(errors)} operations failed."
    )


def _percent(share: float) -> str:
    return f"{share * 100:.0f}\u202f%"


def _number(value: float) -> str:
    return scalar(value)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _most(values: Sequence[float]) -> float:
    """Return the largest of the values that were seen; -inf when none was, which is less than any."""
    return max((value for value in values if math.isfinite(value)), default=-math.inf)
