"""What is remembered of one fault: when it began and ended, who was under way, what the balancer said meanwhile."""

from __future__ import annotations

import enum
import itertools
from typing import NamedTuple, Protocol

import msgspec

from lbconfig.site import Vip


class Role(enum.StrEnum):
    """How a source lives. NEW: never seen before its first operation, which comes after the fault's begin. STICKY: has a
    persistence entry and connects anew for each operation. ESTABLISHED: keeps its session open.
    """  # noqa: D205

    NEW = "new"
    STICKY = "sticky"
    ESTABLISHED = "established"


class Source(msgspec.Struct, frozen=True):
    """One client address in an episode: its VIP and its role."""

    address: str
    vip: str
    role: Role


class ServerSample(msgspec.Struct, frozen=True):
    """What the balancer said of one server at one moment (`monotonic_ns` of the harness's host)."""

    at_ns: int
    vip: str
    label: str
    status: str  # the first word of the balancer's status: UP, DOWN, MAINT, DRAIN, no
    weight: int
    sessions: int


class ServerStory(NamedTuple):
    """What the balancer said of one server: its changes (when in ns, and to what), first DOWN, and first UP after that."""

    label: str
    changes: tuple[tuple[int, str], ...]
    down_ns: int | None
    up_ns: int | None


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """One fault under traffic. All times are `monotonic_ns` of the harness's host.

    `begun_ns`: the fault was in effect. `ending_ns`: it began to be undone, one thing after the other. `ended_ns`: it was
    undone, and the node's services answered again.
    `observed_ns`: the traffic's end. `node` is the victim, `workload` the number of its operations in the history.
    `work_finished_ns`: from when on established sources were told to end their sessions (0: they were not).
    `generator_lag_s`: the longest time by which the harness itself woke up too late. `runnable_per_core`: how many processes
    wanted each core of its host in the busiest second.
    """

    workload: int
    fault: str
    node: str
    started_ns: int
    begun_ns: int
    ending_ns: int
    ended_ns: int
    observed_ns: int
    sources: tuple[Source, ...]
    samples: tuple[ServerSample, ...]
    generator_lag_s: float
    work_finished_ns: int = 0
    runnable_per_core: float = 0.0

    def addresses(self, vip: str, role: Role) -> list[str]:
        """Return the sources of one VIP that live in one way."""
        return [source.address for source in self.sources if source.vip == vip and source.role == role]

    def story(self, vip: Vip) -> ServerStory:
        """Return what the balancer said of the victim's server of one VIP."""
        label = self.label(vip)
        changes = self.statuses(vip.name, label)
        down_ns = next((at for at, status in changes if status == "DOWN"), None)
        up_ns = next((at for at, status in changes if status == "UP" and down_ns is not None and at > down_ns), None)
        return ServerStory(label, tuple(changes), down_ns, up_ns)

    def label(self, vip: Vip) -> str:
        """Return the label of the victim's server of one VIP; empty when it has none."""
        return next((server.label for server in vip.real_server if server.node == self.node), "")

    def held(self, vip: str, label: str) -> list[ServerSample]:
        """Return what the balancer said of a server while the fault was in effect."""
        return [
            sample for sample in self.samples
            if sample.vip == vip and sample.label == label and self.begun_ns <= sample.at_ns < self.ending_ns
        ]  # fmt: skip

    def longest_gap_s(self, vip: str, label: str) -> float:
        """Return the longest time, from the fault's begin to the traffic's end, for which nothing was heard of a server."""
        heard = [s.at_ns for s in self.samples if s.vip == vip and s.label == label and s.at_ns > self.begun_ns]
        moments = [self.begun_ns, *heard, self.observed_ns]
        return seconds(max(later - earlier for earlier, later in itertools.pairwise(moments)))

    def statuses(self, vip: str, label: str) -> list[tuple[int, str]]:
        """Return when (ns) the balancer's word on a server changed, and to what; the first sample is the first entry."""
        changes: list[tuple[int, str]] = []
        for sample in self.samples:
            if sample.vip == vip and sample.label == label and (not changes or changes[-1][1] != sample.status):
                changes.append((sample.at_ns, sample.status))
        return changes


class Episodes(Protocol):
    """Several faults that belong together."""

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """Those that traffic went through."""


GAP_LIMIT_S = 2.0  # a watch that was blind for this long may have missed a change
LAG_LIMIT_S = 3.0  # a harness that slept through this long cannot judge times of a few seconds


def seconds(nanoseconds: int) -> float:
    """Return nanoseconds as seconds, rounded to milliseconds."""
    return round(nanoseconds / 1e9, 3)
