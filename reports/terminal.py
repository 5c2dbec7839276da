"""The run on a terminal: what is being checked, for how long, the verdicts so far, and the last word.

On a terminal a few lines are redrawn in place; elsewhere (a CI log, a file) each finished check is one plain line. The
cursor is never hidden and the screen never swapped, so that a killed run leaves a usable terminal behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from .text import one_line
from .verdict import CheckResult, CheckVerdict, Report, ReportVerdict
from .words import MARKS, REPORT_WORDS, kind_sentence, stand_in_sentence, verdict_sentence

_STYLES: dict[CheckVerdict, str] = {
    "pass": "green",
    "fail": "bold white on red",
    "unknown": "yellow",
    "skipped": "dim",
    "waived": "magenta",
}
_REPORT_STYLES: dict[ReportVerdict, str] = {
    "pass": "bold green",
    "pass_with_waivers": "bold magenta",
    "fail": "bold white on red",
    "incomplete": "bold yellow",
}
_WORD_WIDTH, _ID_WIDTH = 7, 18
_FEWEST_LINES = 3  # of the matrix, however low the window


class VerdictBoard:
    """Shows a run while it runs. Use it as a context manager around the run.

    Parameters
    ----------
    console : Console
        Where to show it. Whether it is a terminal decides between the live view and plain lines.
    clock : callable
        Returns seconds that only grow (`time.monotonic`).
    vips : sequence of str
        The VIPs in the order of their marks in the matrix; one that is met later comes after them.
    """

    def __init__(self, console: Console, clock: Callable[[], float], vips: Sequence[str] = ()) -> None:
        self._console = console
        self._clock = clock
        self._begun_s = clock()
        self._vips = list(vips)
        self._running: dict[str, tuple[str, float]] = {}
        self._verdicts: dict[str, dict[str | None, CheckVerdict]] = {}
        self._live = Live(self, console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> VerdictBoard:
        if self._live is not None:
            self._live.start()
            self._console.show_cursor(True)  # rich hides it; after a kill nobody would show it again
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, check_id: str, title: str) -> None:
        """Show that a check (`PERSIST-1/DICOM`, or `PERSIST-1` for all its VIPs at once) is under way."""
        self._running[one_line(check_id)] = (one_line(title), self._clock())
        self._refresh()

    def finished(self, result: CheckResult, duration_s: float) -> None:
        """Show a verdict. What was started as this check, or as its family of VIPs, is no longer under way."""
        self._running = {key: value for key, value in self._running.items() if key not in (result.id, result.check)}
        self._verdicts.setdefault(result.check, {})[result.vip] = result.verdict
        if result.vip is not None and result.vip not in self._vips:
            self._vips.append(result.vip)
        self._say(_verdict_line(result, duration_s))
        self._refresh()

    def note(self, text: str) -> None:
        """Show a line that is no verdict: the lab is up, a fault has begun."""
        self._say(Text(f"{'':<{_WORD_WIDTH}} {one_line(text)}", style="dim"))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what is under way, then as much of the matrix as the window has lines for."""
        now_s = self._clock()
        under_way, verdicts = list(self._running.items()), dict(self._verdicts)  # rich draws from a thread of its own
        running = [Text(f"  {key:<{_ID_WIDTH}} {now_s - since_s:6.1f} s  {title}") for key, (title, since_s) in under_way]
        head = Text(
            f"{sum(len(cells) for cells in verdicts.values())} verdicts, {_clock_text(now_s - self._begun_s)}",
            style="bold",
        )
        room = max(_FEWEST_LINES, options.max_height - len(running) - 4)
        parts: list[RenderableType] = [Text(), head, *running]
        if verdicts:
            parts += [Text("  ".join(self._vips), style="dim"), _matrix(verdicts, self._vips, options.max_width, room)]
        for part in parts:
            if isinstance(part, Text):
                part.no_wrap, part.overflow = True, "ellipsis"
        yield Group(*parts)

    def _say(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True, highlight=False)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.refresh()


def print_verdict(report: Report, path: Path, console: Console) -> None:
    """Print the last word: what failed and what stayed unknown, with reasons, the verdict, and where the report is.

    Parameters
    ----------
    report : Report
        What was found.
    path : Path
        Of index.html.
    console : Console
        Where to print.
    """
    lines = [Text()]
    for verdict in ("fail", "unknown", "waived"):
        lines += _finding_lines([check for check in report.checks if check.verdict == verdict])
    if len(lines) > 1:
        lines.append(Text())
    if report.plant is not None:
        lines.append(Text(f"A defect was put here on purpose: {one_line(report.plant)}", style="bold"))
    word = Text(f" {REPORT_WORDS[report.verdict].upper()} ", style=_REPORT_STYLES[report.verdict])
    lines.append(word + Text(f" {verdict_sentence(report)}"))
    lines.append(Text(f" {kind_sentence(report)}"))
    if stand_in := stand_in_sentence(report):
        lines.append(Text(f" {stand_in}"))
    lines.append(Text(f" Report: {path}"))
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def _verdict_line(result: CheckResult, duration_s: float) -> Text:
    line = Text()
    line.append(f"{result.verdict.upper():<{_WORD_WIDTH}}", style=_STYLES[result.verdict])
    line.append(f" {one_line(result.id):<{_ID_WIDTH}} {duration_s:6.1f} s  {one_line(result.reason or result.title)}")
    return line


def _finding_lines(checks: Sequence[CheckResult]) -> list[Text]:
    """Return a line for each check, but one line for all that share their reason: a lab that is not there says so once."""
    by_reason: dict[tuple[str | None, str], list[CheckResult]] = {}
    for check in checks:
        by_reason.setdefault((check.subject, check.reason or check.title), []).append(check)
    lines: list[Text] = []
    for alike in by_reason.values():
        lines.append(_finding_line(alike[0]))
        if len(alike) > 1:
            lines.append(
                Text(f"{'':<{_WORD_WIDTH}} and so {', '.join(one_line(check.id) for check in alike[1:])}", style="dim")
            )
    return lines


def _finding_line(check: CheckResult) -> Text:
    line = Text()
    line.append(f"{check.verdict.upper():<{_WORD_WIDTH}}", style=_STYLES[check.verdict])
    subject = f"{check.subject}: " if check.subject else ""
    required = "" if check.required else " (not required)"
    waiver = f" (waived by {one_line(check.waiver.by)} until {check.waiver.until})" if check.waiver else ""
    line.append(f" {one_line(check.id):<{_ID_WIDTH}} {subject}{one_line(check.reason or check.title)}{waiver}{required}")
    return line


def _matrix(verdicts: dict[str, dict[str | None, CheckVerdict]], vips: Sequence[str], width: int, lines: int) -> Columns:
    """Draw a cell for each check, `PERSIST-1 ✓✗?·`: as many, of the latest, as the window has room for."""
    cell_width = max(len(check) for check in verdicts) + 1 + max(1, len(vips))
    most = max(1, width // (cell_width + 2)) * lines
    cells = [_cell(check, marks, vips, cell_width) for check, marks in list(verdicts.items())[-most:]]
    return Columns(cells, padding=(0, 2), column_first=True)


def _cell(check: str, marks: dict[str | None, CheckVerdict], vips: Sequence[str], width: int) -> Text:
    cell = Text(f"{check:<{width - max(1, len(vips))}}")
    places: Iterable[str | None] = [None] if None in marks else vips
    for vip in places:
        verdict = marks.get(vip)
        cell.append(MARKS[verdict] if verdict else "·", style=_STYLES[verdict] if verdict else "dim")
    return cell


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
