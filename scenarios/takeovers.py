"""What is remembered of a pair of balancers: as it stands, while a unit fails, while the paths between the units are cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from lbconfig.peers import PeerSeen

Way = Literal["killed", "stopped", "paused", "cut-off", "haproxy-dead", "haproxy-hung", "keepalived-stopped"]
WAYS: tuple[Way, ...] = ("killed", "stopped", "haproxy-dead", "haproxy-hung", "paused", "cut-off")
STANDS_IN = "VRRP stands in for the appliance's heartbeat: these times are the lab's, not the appliance's"


class ServerKey(msgspec.Struct, frozen=True, order=True):
    """One server of one VIP as a unit has it: what must be equal on both units."""

    vip: str
    label: str
    id: int
    address: str
    port: int
    weight: int


class UnitSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One unit at rest.

    `inner_address` is its own one in the nodes' network, empty where it has none. `files` are the texts of its configuration
    by file name; `certificates` the SHA-256 of every file that its haproxy.cfg names as a certificate, by its path, or its
    name where it lies beside (empty where it cannot be read).
    """

    name: str
    address: str
    version: str
    files: Mapping[str, str]
    peers: tuple[PeerSeen, ...]
    servers: tuple[ServerKey, ...]
    certificates: Mapping[str, str] = {}
    inner_address: str = ""


class HolderSample(msgspec.Struct, frozen=True):
    """Which units answered for the VIPs at one moment (`monotonic_ns` of the harness's host)."""

    at_ns: int
    holders: tuple[str, ...]


class PairSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A pair at rest: its units as far as they answered, who had the VIPs meanwhile.

    `replication_from_clients` is what a client meets at each unit's replication port: "refused", "silent" or "open";
    `heartbeat` the same at the UDP port of the heartbeat, where the site names one.
    """

    units: tuple[UnitSeen, ...]
    holders: tuple[HolderSample, ...]
    replication_from_clients: Mapping[str, str] = {}
    heartbeat: Mapping[str, str] = {}


class Replicated(msgspec.Struct, frozen=True):
    """One new source: the node that it met, when it was answered, and when each unit's table first had its entry, and where.

    Times are `monotonic_ns` of the harness's host; None: not within the time that was waited.
    """

    source: str
    node: str
    answered_ns: int
    active_ns: int | None
    passive_ns: int | None
    active_node: str = ""
    passive_node: str = ""


class Visitor(msgspec.Struct, frozen=True):
    """A client of an episode: `side` is "local" in the VIPs' own subnet, "routed" beyond a router.

    A probe asks again and again, on a new connection each time; others come once before the fault and once after it.
    """

    address: str
    vip: str
    side: str
    is_probe: bool = False


class UnitEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """One failure of the active unit under traffic. All times are `monotonic_ns` of the harness's host.

    `called_ns`: the failure was asked for; `begun_ns`: the lab said that it is in effect. `revisited_ns`: from then on the
    visitors came again. `ending_ns` and `ended_ns`: it began to be undone, and was. `observed_ns`: the traffic's end.
    `entries_before` and `entries_after` are the persistence tables, node by source by VIP: the victim's before the failure,
    the survivor's once it had the VIPs. `workload` is the number of the operations in the history. `generator_lag_s` and
    `runnable_per_core` say how busy the machine was (`watch.LagMeter`).
    """

    workload: int
    how: Way
    victim: str
    survivor: str
    called_ns: int
    begun_ns: int
    revisited_ns: int
    ending_ns: int
    ended_ns: int
    observed_ns: int
    visitors: tuple[Visitor, ...]
    holders: tuple[HolderSample, ...]
    entries_before: Mapping[str, Mapping[str, str]]
    entries_after: Mapping[str, Mapping[str, str]]
    generator_lag_s: float
    runnable_per_core: float = 0.0

    @property
    def name(self) -> str:
        """What happened, as a phrase."""
        return f"{self.victim} {self.how}"

    def addresses(self, vip: str, *, side: str = "", probes: bool) -> list[str]:
        """Return the addresses of the visitors or of the probes of one VIP, of one side or (empty) of both."""
        return [
            visitor.address for visitor in self.visitors
            if visitor.vip == vip and visitor.is_probe == probes and side in ("", visitor.side)
        ]  # fmt: skip


class CutEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """Paths between the units that were cut for a while; times as in `UnitEpisode`."""

    which: Literal["replication", "heartbeat", "all"]
    begun_ns: int
    ending_ns: int
    ended_ns: int
    observed_ns: int
    holders: tuple[HolderSample, ...]
    peers_established_after: bool
