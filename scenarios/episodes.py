"""What is remembered of one fault: when it began and ended, who was under way, what the balancer said meanwhile."""

from __future__ import annotations

import enum

import msgspec


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


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """One fault under traffic. All times are `monotonic_ns` of the harness's host.

    `begun_ns`: the fault was in effect. `ended_ns`: it was undone, and the node's services answered again.
    `observed_ns`: the traffic's end. `node` is the victim, `workload` the number of its operations in the history.
    `generator_lag_s`: the longest time by which the harness itself woke up too late.
    """

    workload: int
    fault: str
    node: str
    started_ns: int
    begun_ns: int
    ended_ns: int
    observed_ns: int
    sources: tuple[Source, ...]
    samples: tuple[ServerSample, ...]
    generator_lag_s: float

    def addresses(self, vip: str, role: Role) -> list[str]:
        """Return the sources of one VIP that live in one way."""
        return [source.address for source in self.sources if source.vip == vip and source.role == role]

    def statuses(self, vip: str, label: str) -> list[tuple[int, str]]:
        """Return when (ns) the balancer's word on a server changed, and to what; the first sample is the first entry."""
        changes: list[tuple[int, str]] = []
        for sample in self.samples:
            if sample.vip == vip and sample.label == label and (not changes or changes[-1][1] != sample.status):
                changes.append((sample.at_ns, sample.status))
        return changes


LAG_LIMIT_S = 3.0  # a harness that slept through this long cannot judge times of a few seconds


def seconds(nanoseconds: int) -> float:
    """Return nanoseconds as seconds, rounded to milliseconds."""
    return round(nanoseconds / 1e9, 3)
