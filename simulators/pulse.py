"""The pulse of a process: once a second, what it cost and how late its event loop woke.

Every service of a node and every load generator writes its own, so that whoever judges a load run can name the part that
was at its limit, also where nodes and generators are machines that he cannot look into.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .operations import RecordFile

PULSE_MAGIC = b"PFPULSES\x00\x01"
PULSE_FIELDS: tuple[tuple[str, str], ...] = (
    ("at_ns", "q"), ("pid", "I"), ("cpu_ns", "Q"), ("rss_bytes", "Q"), ("lag_max_ns", "q"), ("lag_sum_ns", "q"),
    ("beats", "I"), ("connections", "I"), ("handled", "Q"),
)  # fmt: skip
BEAT_S = 0.05
_BEATS_A_PULSE = 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Pulse(NamedTuple):
    """What one process was at one moment. `at_ns` is `monotonic_ns` of its host.

    `cpu_ns` is the CPU time of the process since it began, `rss_bytes` its resident memory. `lag_max_ns` and `lag_sum_ns`
    are by how much the `beats` wake-ups since the last pulse came too late. `connections` are those open now, `handled`
    counts the operations since the process began.
    """

    at_ns: int
    pid: int
    cpu_ns: int
    rss_bytes: int
    lag_max_ns: int
    lag_sum_ns: int
    beats: int
    connections: int
    handled: int


def pulse_path(directory: Path, name: str) -> Path:
    """Return where this process writes its pulse: `<directory>/pulses/<name>-<pid>.pulse`.

    `directory` is the node's folder and `name` the service's (`dicom`, `hl7`, `dmwl`, `https`) for a service.
    """
    return directory / "pulses" / f"{name}-{os.getpid()}.pulse"


class PulseWriter:
    """Writes one pulse for every twenty beats. Knows no event loop: whoever has one calls `beat` about every 0.05 s.

    Parameters
    ----------
    path : Path
        See `pulse_path`; made with its folder.

    Raises
    ------
    RecordError
        When the file holds something else, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = RecordFile(path, PULSE_MAGIC, PULSE_FIELDS)
        self._lags: list[int] = []

    def beat(self, lag_ns: int, connections: int, handled: int) -> None:
        """Take one wake-up, which came `lag_ns` too late."""
        self._lags.append(max(lag_ns, 0))
        if len(self._lags) == _BEATS_A_PULSE:
            self.write(connections, handled)

    def write(self, connections: int, handled: int) -> None:
        """Write a pulse now."""
        lags, self._lags = self._lags, []
        pulse = Pulse(
            time.monotonic_ns(), os.getpid(), time.process_time_ns(), _resident_bytes(), max(lags, default=0), sum(lags),
            len(lags), connections, handled,
        )  # fmt: skip
        self._file.append((pulse,))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


async def keep_pulse(path: Path, connections: Callable[[], int], handled: Callable[[], int]) -> None:
    """Write the pulse of an asyncio process until cancelled.

    Parameters
    ----------
    path : Path
        See `pulse_path`.
    connections, handled : functions of no arguments
        Asked at each beat.
    """
    writer = PulseWriter(path)
    try:
        while True:
            due_ns = time.monotonic_ns() + round(BEAT_S * 1e9)
            await asyncio.sleep(BEAT_S)
            writer.beat(time.monotonic_ns() - due_ns, connections(), handled())
    finally:
        writer.write(connections(), handled())
        writer.close()


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  a Path costs more than the reading
        return int(file.read().split()[1]) * _PAGE_BYTES
