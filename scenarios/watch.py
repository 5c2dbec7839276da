"""What is watched while traffic runs: the balancer's word on its servers, and whether the harness itself keeps up."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Self

from lbconfig.runtime_api import BalancerError, RuntimeApi
from scenarios.episodes import ServerSample
from scenarios.repeated import Repeated

SAMPLE_EVERY_S = 0.1
_BEAT_S = 0.05


class BalancerWatch(Repeated):
    """Samples the state of every server, ten times a second, until it is left.

    Parameters
    ----------
    balancer : RuntimeApi
        Asked over its own connections, which its errors do not end: a reload interrupts it for a moment.
    """

    def __init__(self, balancer: RuntimeApi) -> None:
        super().__init__("balancer watch", SAMPLE_EVERY_S)
        self._balancer = balancer
        self._looking = threading.Lock()
        self._samples: list[ServerSample] = []
        self._latest: dict[tuple[str, str], ServerSample] = {}

    def __enter__(self) -> Self:
        self.look()
        return super().__enter__()

    @property
    def samples(self) -> tuple[ServerSample, ...]:
        """All samples so far."""
        return tuple(self._samples)

    def latest(self) -> dict[tuple[str, str], ServerSample]:
        """Return the last sample of each (VIP, label)."""
        return dict(self._latest)

    def look(self) -> None:
        """Take one more sample, now."""
        with self._looking:
            self._sample()

    def _step(self) -> None:
        self.look()

    def _sample(self) -> None:
        try:
            servers = self._balancer.servers()
        except BalancerError:
            return
        now = time.monotonic_ns()
        for server in servers:
            status = server.status.split()[0] if server.status else ""
            sample = ServerSample(now, server.vip, server.label, status, server.weight, server.current_sessions)
            self._samples.append(sample)
            self._latest[(server.vip, server.label)] = sample


class LagMeter(Repeated):
    """Measures how busy the machine is while it is watched.

    Attributes
    ----------
    worst_s : float
        By how much, at worst, a thread of the harness that wants to wake twenty times a second woke too late.
    runnable_per_core : float
        How many processes wanted each core in the busiest second (proc(5), loadavg): the kernel lets who seldom wants one run
        soon, so that a harness may keep its time where a node does not. 0 where the kernel does not tell.
    """

    def __init__(self) -> None:
        super().__init__("lag meter", _BEAT_S)
        self.worst_s = 0.0
        self.runnable_per_core = 0.0
        self._last = 0.0
        self._second: deque[float] = deque(maxlen=round(1 / _BEAT_S))

    def __enter__(self) -> Self:
        self._last = time.monotonic()
        return super().__enter__()

    def _step(self) -> None:
        now = time.monotonic()
        self.worst_s = round(max(self.worst_s, now - self._last - _BEAT_S), 3)
        self._last = now
        self._second.append(_runnable_per_core())
        if len(self._second) == self._second.maxlen:
            self.runnable_per_core = round(max(self.runnable_per_core, sum(self._second) / len(self._second)), 1)


def _runnable_per_core() -> float:
    try:
        words = Path("/proc/loadavg").read_text().split()
    except OSError:
        return 0.0
    return int(words[3].partition("/")[0]) / (os.cpu_count() or 1)
