"""Whether a process stood still a moment ago: stopped, starved of its processor, or stuck. What it reads then may be old."""

from __future__ import annotations

import asyncio
import time

_BEAT_S = 0.1
_NOTICED_NS = 500_000_000  # without a beat: no event loop of ours is as late as that by itself
_DOUBT_NS = 2_000_000_000  # until everything is read that came meanwhile


class Standstill:
    """Notices that an event loop did not turn for half a second, and remembers it for two.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The running one; it is beaten on until `close`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._beaten_ns = time.monotonic_ns()
        self._doubtful_until_ns = 0
        self._next = loop.call_later(_BEAT_S, self._beat)

    def is_recent(self) -> bool:
        """Say whether the process stood still within the last two seconds."""
        now_ns = time.monotonic_ns()
        if now_ns - self._beaten_ns > _NOTICED_NS:  # what comes first after a standstill comes before the next beat
            self._doubtful_until_ns = now_ns + _DOUBT_NS
        return now_ns < self._doubtful_until_ns

    def close(self) -> None:
        """Beat no more."""
        self._next.cancel()

    def _beat(self) -> None:
        self.is_recent()
        self._beaten_ns = time.monotonic_ns()
        self._next = self._loop.call_later(_BEAT_S, self._beat)
