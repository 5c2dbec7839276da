"""What a generator writes down of its arrivals: when each was due, when it began, and whether that was its own fault."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import NamedTuple

from simulators.operations import RecordFile

ARRIVAL_MAGIC = b"PFARRIVALS\x00\x01"
ARRIVAL_FIELDS: tuple[tuple[str, str], ...] = (
    ("workload", "H"), ("generator", "H"), ("service", "B"), ("fate", "B"), ("waited_for", "B"), ("intended_ns", "q"),
    ("begun_ns", "q"), ("ended_ns", "q"), ("operations", "I"), ("failed", "I"), ("rate_milli", "Q"),
)  # fmt: skip


class Fate(enum.IntEnum):
    """What became of an arrival."""

    DONE = 1  # it was carried out, well or badly: its operations tell
    DROPPED = 2  # its time was over before a client was free for it
    CUT = 3  # it was under way when the run ended


class WaitedFor(enum.IntEnum):
    """Why an arrival began later than it was due."""

    NOTHING = 1  # it began in time
    CLIENT = 2  # every client was still busy: what they talk to is slow, or there are too few of them
    GENERATOR = 3  # a client was free, and the generator itself woke too late


class Arrival(NamedTuple):
    """One arrival: a study, a query, a message, a web session. Times are `monotonic_ns` of the generator's host.

    `service` is `simulators.operations.Service`; `operations` and `failed` count what it consisted of; `rate_milli` is the
    rate of its kind over all generators that was intended then, in arrivals a thousand seconds.
    """

    workload: int
    generator: int
    service: int
    fate: int
    waited_for: int
    intended_ns: int
    begun_ns: int
    ended_ns: int
    operations: int
    failed: int
    rate_milli: int


def arrival_file(path: Path) -> RecordFile:
    """Open a file of arrivals for appending. Raises RecordError."""
    return RecordFile(path, ARRIVAL_MAGIC, ARRIVAL_FIELDS)
