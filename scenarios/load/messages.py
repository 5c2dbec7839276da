"""What Locust's master and its generators say to each other, beside what Locust itself does.

A generator asks for its number; before a run the master tells it its part; it says that it is ready; all are told when to
begin; each says that it is done. The master may tell them to end.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

NUMBER_PLEASE = "preflight-number-please"
NUMBER = "preflight-number"
PART = "preflight-part"
READY = "preflight-ready"
BEGIN = "preflight-begin"
END = "preflight-end"
DONE = "preflight-done"


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """A generator is there: where its pid counts (`pid_space`), as which process."""

    space: str
    pid: int


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """The number of a generator in a run; or, in `refused`, why it gets none."""

    run: int = 0
    generator: int = 0
    refused: str = ""


class PartOf(msgspec.Struct, frozen=True, kw_only=True):
    """What a generator is to play: which plan (its file, its digest), its place among how many, how long its end may take."""

    plan: str
    digest: str
    place: int
    generators: int
    finish_s: float


class BeginAt(msgspec.Struct, frozen=True, kw_only=True):
    """When all begin: a moment of the monotonic clock of one machine, and for others, how long from now."""

    boot: str
    at_ns: int
    in_s: float

    def here_ns(self) -> int:
        """Return that moment on the monotonic clock of this machine."""
        return self.at_ns if self.boot == boot_id() else time.monotonic_ns() + round(self.in_s * 1e9)


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A generator has ended a run: the operations it made so far, and in `broke` why it failed itself; empty: it did not."""

    generator: int
    operations: int
    broke: str = ""


def pid_space() -> str:
    """Return what tells the place in which pids are this process's own: a machine since it was booted, or one container."""
    return f"{boot_id()} {Path('/proc/self/ns/pid').readlink()}"


def boot_id() -> str:
    """Return what tells this machine, since it was booted, from all others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
