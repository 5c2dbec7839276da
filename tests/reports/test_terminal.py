"""The run on a terminal and in a CI log."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from reports.terminal import VerdictBoard, print_verdict

if TYPE_CHECKING:
    from .conftest import CheckFactory, ReportFactory

_VIPS = ("DICOM", "HL7", "DMWL", "HTTPS")


class Clock:
    """Seconds that move when a test says so."""

    now_s = 100.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now_s


def _plain() -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=False)


def _terminal(height: int = 24) -> Console:
    return Console(file=io.StringIO(), width=100, height=height, force_terminal=True, color_system="standard", _environ={})


def _written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _drawn(board: VerdictBoard, console: Console) -> list[str]:
    with console.capture() as captured:
        console.print(board)
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", captured.get()).splitlines()]


def test_off_a_terminal_each_check_is_one_plain_line(make_check: CheckFactory) -> None:
    console = _plain()
    with VerdictBoard(console, Clock(), _VIPS) as board:
        board.note("lab up: 4 VIPs, 2 nodes")
        board.started("PERSIST-1", "A source meets one node only")
        board.finished(make_check("PERSIST-1/DICOM"), 3.21)
        board.finished(make_check("PERSIST-1/HL7", "unknown", reason="4 connections\n  seen [of] 200" + " x" * 40), 12.0)
        board.finished(make_check("JOURNEY-1", "fail", reason=""), 0.04)
    assert _written(console) == (
        "        lab up: 4 VIPs, 2 nodes\n"
        "PASS    PERSIST-1/DICOM       3.2 s  20 sources, 200 connections, one node each\n"
        "UNKNOWN PERSIST-1/HL7        12.0 s  4 connections seen [of] 200" + " x" * 40 + "\n"
        "FAIL    JOURNEY-1             0.0 s  A source meets one node only\n"
    )


def test_a_reason_cannot_drive_the_terminal(make_check: CheckFactory) -> None:
    console = _plain()
    with VerdictBoard(console, Clock()) as board:
        board.finished(make_check("OPS-1", reason="\x1b[2J\x07gone\x9b5n"), 1)
    assert _written(console) == "PASS    OPS-1                 1.0 s  [2Jgone5n\n"


def test_on_a_terminal_what_runs_stands_above_the_verdicts_so_far(make_check: CheckFactory) -> None:
    console, clock = _terminal(), Clock()
    board = VerdictBoard(console, clock, _VIPS)
    board.started("PERSIST-1", "A source meets one node only")
    board.finished(make_check("PERSIST-1/DICOM"), 1)
    board.finished(make_check("PERSIST-1/DMWL", "fail"), 1)
    board.finished(make_check("JOURNEY-1", "unknown"), 1)
    board.started("FAILOVER-1/HL7", "A node is killed")
    clock.now_s += 65.5
    assert _drawn(board, console) == [
        "",
        "3 verdicts, 1:05",
        "  FAILOVER-1/HL7       65.5 s  A node is killed",
        "DICOM  HL7  DMWL  HTTPS",
        "PERSIST-1 ✓·✗·  JOURNEY-1 ?",
    ]


def test_a_low_window_shows_the_latest_checks(make_check: CheckFactory) -> None:
    console = _terminal(height=6)
    board = VerdictBoard(console, Clock(), _VIPS)
    for number in range(100, 200):
        board.finished(make_check(f"PERSIST-{number}/HL7"), 1)
    drawn = _drawn(board, console)
    assert len(drawn) <= 6
    assert "PERSIST-199" in drawn[-1]
    assert not any("PERSIST-100" in line for line in drawn)


def test_a_killed_run_leaves_the_cursor_shown() -> None:
    console = _terminal()
    with VerdictBoard(console, Clock(), _VIPS):
        so_far = _written(console)
    assert so_far.rfind("\x1b[?25h") > so_far.rfind("\x1b[?25l")
    assert "\x1b[?1049h" not in so_far


def test_the_last_word_is_the_verdict_with_what_led_to_it(make_check: CheckFactory, make_report: ReportFactory) -> None:
    console = _plain()
    checks = [
        make_check("REACH-1/HL7"),
        make_check("PERSIST-1/HL7", "unknown", reason="4 connections seen"),
        make_check("PERSIST-1/DICOM", "fail", reason="3 sources met two nodes"),
        make_check("HEALTH-1/HL7", "waived", reason="DOWN after 31 s"),
        make_check("SPREAD-1/HL7", "fail", reason="one engine sends all", subject="network", required=False),
    ]
    print_verdict(make_report(*checks, verdict="fail", plant="stick-removed"), Path("out/index.html"), console)
    assert _written(console) == (
        "\n"
        "FAIL    PERSIST-1/DICOM    balancer: 3 sources met two nodes\n"
        "FAIL    SPREAD-1/HL7       network: one engine sends all (not required)\n"
        "UNKNOWN PERSIST-1/HL7      4 connections seen\n"
        "WAIVED  HEALTH-1/HL7       DOWN after 31 s (waived by J. Okafor until 2027-03-31)\n"
        "\n"
        "A defect was put here on purpose: stick-removed\n"
        " FAIL  1 of 4 required checks failed. 1 other check failed, which the site does not require.\n"
        " A rehearsal in a lab of processes on one machine, with simulated imaging nodes.\n"
        " Report: out/index.html\n"
    )
