"""Small multiples: panels on a grid measured in inches, with the words that stand beside their lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .canvas import FAINT, INK, LINES, RULE, VERMILLION, WIDTH_IN
from .text import legible, shortened

_POINTS_AN_INCH = 72


@dataclass(frozen=True, slots=True)
class Margins:
    """What is left free around the panels and between them, in inches."""

    left: float = 0.45
    right: float = 0.1
    top: float = 0.3
    bottom: float = 0.42
    between_columns: float = 0.45
    between_rows: float = 0.34


@dataclass(frozen=True, slots=True)
class Look:
    """How a line is drawn: colour, dashes, and width in points."""

    colour: str
    dashes: str | tuple[float, tuple[float, ...]] = "-"
    width: float = 1.2

    @classmethod
    def of(cls, place: int, width: float = 1.2) -> Look:
        """Return the look of the n-th of several lines, from 0."""
        colour, dashes = LINES[place % len(LINES)]
        return cls(colour, dashes, width)


LIMIT = Look(VERMILLION, (0, (4, 2)), 0.9)
DOTTED = (0, (1.0, 2.0))  # the dashes of a line to compare with: a capacity, what was asked for


@dataclass(frozen=True, slots=True)
class EndLabel:
    """A word beside the end of a line: at `y` of the panel's data, in the line's colour."""

    y: float
    text: str
    colour: str


def panel_grid(rows: int, columns: int, height_in: float, margins: Margins) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure as wide as the page and its panels, row by row; each is `height_in` high.

    The place of a panel is reckoned, not solved for: matplotlib's own layout takes a second for a dozen panels.
    """
    inner_in = WIDTH_IN - margins.left - margins.right - margins.between_columns * (columns - 1)
    width_in = inner_in / columns
    total_in = margins.top + margins.bottom + rows * height_in + (rows - 1) * margins.between_rows
    figure = Figure(figsize=(WIDTH_IN, total_in))
    grid = []
    for row in range(rows):
        bottom_in = total_in - margins.top - height_in - row * (height_in + margins.between_rows)
        lefts_in = [margins.left + column * (width_in + margins.between_columns) for column in range(columns)]
        grid.append(
            [
                figure.add_axes((left_in / WIDTH_IN, bottom_in / total_in, width_in / WIDTH_IN, height_in / total_in))
                for left_in in lefts_in
            ]
        )
    for panel in (panel for line in grid for panel in line):
        panel.grid(axis="y", color=RULE, linewidth=0.5)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=7.5, pad=2)
        panel.margins(x=0.01)
    return figure, grid


def draw_line(
    panel: Axes, x: Sequence[float], y: Sequence[float], look: Look, *, label: str = "", steps: bool = False
) -> None:
    """Draw one line; `steps` holds each value until the next, `label` is its word in a legend."""
    panel.plot(x, y, color=look.colour, linestyle=look.dashes, linewidth=look.width, label=label,
               drawstyle="steps-post" if steps else "default")  # fmt: skip


def draw_limit(panel: Axes, limit: float, words: str, *, at_right: bool = False) -> None:
    """Draw a limit across a panel, with its words above it at the left edge, or at the right one."""
    panel.axhline(limit, color=LIMIT.colour, linestyle=LIMIT.dashes, linewidth=LIMIT.width)
    panel.annotate(words, (1 if at_right else 0, limit), xycoords=("axes fraction", "data"),
                   xytext=(-2 if at_right else 2, 3.5), textcoords="offset points", ha="right" if at_right else "left",
                   fontsize=7, color=LIMIT.colour)  # fmt: skip


def name_panel(panel: Axes, name: str, limit: int = 40) -> None:
    """Write a panel's name above it, at its left edge."""
    panel.set_title(shortened(name, limit), loc="left", fontsize=8.5, color=INK, pad=4)


def label_ends(panel: Axes, labels: Sequence[EndLabel], wrap: int) -> None:
    """Write words at the right of a panel, each as near to the end of its line as the others let it.

    Parameters
    ----------
    panel : Axes
        Its limits and scale are set already.
    labels : sequence of EndLabel
        In any order.
    wrap : int
        Letters to a line; a longer text goes on in a second one, and what is longer still is cut.
    """
    if not labels:
        return
    height_pt = panel.get_position().height * float(panel.figure.get_figheight()) * _POINTS_AN_INCH  # type: ignore[union-attr]
    ordered = sorted(labels, key=lambda label: label.y)
    texts = [_in_two_lines(label.text, wrap) for label in ordered]
    heights = [(9.0 * (text.count("\n") + 1) + 1.5) / height_pt for text in texts]
    wanted = [_fraction(panel, label.y) for label in ordered]
    for label, text, place in zip(ordered, texts, _apart(wanted, heights), strict=True):
        panel.annotate(text, (1, place), xycoords="axes fraction", xytext=(4, 0), textcoords="offset points",
                       ha="left", va="center", fontsize=7.5, color=label.colour, linespacing=1.05)  # fmt: skip


def explain_axis(panel: Axes, what: str) -> None:
    """Name what runs along a panel's foot."""
    panel.set_xlabel(what, fontsize=7.5, color=FAINT, labelpad=2)


def explain_columns(grid: Sequence[Sequence[Axes]], what: str) -> None:
    """Name what runs along the foot of all rows, and give its numbers once, below the last."""
    for row in grid[:-1]:
        for panel in row:
            panel.tick_params(labelbottom=False)
    for panel in grid[-1]:
        explain_axis(panel, what)


def count_from_zero(panel: Axes, top: float | None = None) -> None:
    """Let a panel begin at zero, with three or four round numbers at its side; `top` fixes its upper end."""
    panel.set_ylim(0, top)
    panel.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))


def _fraction(panel: Axes, y: float) -> float:
    """Return how high in a panel (0 to 1) a value of its data stands."""
    low, high = panel.get_ylim()
    if panel.get_yscale() == "log":
        low, high, y = (float(np.log10(value)) for value in (low, high, max(y, low)))
    return min(max((y - low) / (high - low), 0.0), 1.0)


def _apart(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return places in rising order, near the wanted ones, with room for each one's height."""
    places = list(wanted)
    for place in range(1, len(places)):
        least = places[place - 1] + (heights[place - 1] + heights[place]) / 2
        places[place] = max(places[place], least)
    for place in range(len(places) - 1, -1, -1):  # what was pushed above the top pushes the others back down
        above = len(places) - 1 == place
        most = 1.0 if above else places[place + 1] - (heights[place + 1] + heights[place]) / 2
        places[place] = min(places[place], most)
    return places


def _in_two_lines(text: str, wrap: int) -> str:
    line = legible(text).replace("\n", " ")  # narrow spaces between number and unit stay what they are
    if len(line) <= wrap:
        return line
    first = line.rfind(" ", 0, wrap + 1)
    if first <= 0:
        return shortened(line, wrap)
    return line[:first] + "\n" + shortened(line[first + 1 :], wrap)
