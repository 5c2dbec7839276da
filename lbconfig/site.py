"""The typed site: what is balanced, how, and within which limits. The one place for ports, addresses, limits and time-outs.

A site is read from TOML (`site_file.py`) and never changes. Times are in seconds unless a name says otherwise.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .clinical import Load

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(ge=0.001, le=2_147_483)]  # HAProxy counts milliseconds in 31 bits; infinity is refused too
Weight = Annotated[int, Meta(ge=0, le=256)]
Name = Annotated[str, Meta(min_length=1, max_length=16, pattern=r"^[A-Za-z0-9._-]+\Z")]  # \Z: no line feed slips in
Address = Annotated[str, Meta(min_length=2)]
ServiceKind = Literal["dicom", "hl7", "dmwl", "https"]
Scheduler = Literal["leastconn", "roundrobin", "source"]
Engine = Literal["pynetdicom", "wire"]
AcknowledgementCode = Literal["AA", "AE", "AR", "CA", "CE", "CR"]  # HL7 table 0008
CheckKind = Literal["connect", "dicom-echo", "mllp", "https"]
SourceKind = Literal["balancer", "transparent", "proxy-protocol"]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A part of a site: frozen, and strict about unknown keys."""


class Node(_Part, frozen=True, kw_only=True):
    """A machine that carries real servers of several VIPs. `name` is what it tells its clients."""

    name: Name
    address: Address


class RealServer(_Part, frozen=True, kw_only=True):
    """A real server (RIP) of one VIP: its label, its node, the port, the weight and the server id, equal on all peers."""

    label: Name
    node: Name
    port: Port
    weight: Weight = 100
    id: Annotated[int, Meta(ge=1)]


class Persistence(_Part, frozen=True, kw_only=True):
    """Source-IP persistence: how long an entry lives without new connections, and how many entries the table holds."""

    kind: Literal["source-ip"] = "source-ip"
    expire_s: Seconds = 1800
    table_size: Annotated[int, Meta(ge=1)] = 10240


class HealthCheck(_Part, frozen=True, kw_only=True):
    """How the balancer asks a real server whether it works. `fast_interval_s` and `down_interval_s` default to `interval_s`.

    `connect` connects and closes. `dicom-echo` opens an association from the AE title `calling_ae` for `called_ae` (by
    default the site's own), sends a C-ECHO, wants status 0x0000 and releases. `mllp` sends the segments `message` in
    one frame and wants `answer` in MSA-1. `https` asks for `path` (by default `/health`) and wants status 200; with
    `certificate` "verified", from a server whose certificate the site's CA has issued.

    What a check says is agreed with the owner of the nodes: an AE title that they admit, a message that they store nowhere.
    """

    kind: CheckKind = "connect"
    interval_s: Seconds = 2
    fall: Annotated[int, Meta(ge=1)] = 2
    rise: Annotated[int, Meta(ge=1)] = 2
    timeout_s: Seconds = 2
    fast_interval_s: Seconds | None = None
    down_interval_s: Seconds | None = None
    calling_ae: Name | None = None
    called_ae: Name | None = None
    message: tuple[str, ...] = ()
    answer: AcknowledgementCode | None = None
    path: str | None = None
    certificate: Literal["verified", "unverified"] | None = None

    @property
    def down_within_s(self) -> float:
        """The longest time from a failure to DOWN: inter + (fall - 1) * fastinter + fall * check time-out."""
        fast = self.fast_interval_s or self.interval_s
        return self.interval_s + (self.fall - 1) * fast + self.fall * self.timeout_s

    @property
    def up_within_s(self) -> float:
        """The longest time from a return to UP: downinter + (rise - 1) * fastinter + rise * check time-out."""
        fast = self.fast_interval_s or self.interval_s
        return (self.down_interval_s or self.interval_s) + (self.rise - 1) * fast + self.rise * self.timeout_s


class Fallback(_Part, frozen=True, kw_only=True):
    """Where clients go when no real server is UP: a server, outside of persistence, that the appliance runs itself."""

    address: Address
    port: Port


class Limits(_Part, frozen=True, kw_only=True):
    """The site's objectives for one VIP, in seconds.

    `down_s`: from a failure to DOWN. `new_s`, `sticky_s`, `established_s`: from a node's death to the first success of a
    source not seen before, of one with a persistence entry, of one with an open session. `operation_s`: one operation
    without a fault. `halted_s`: from halting a real server until no session is left on it. `drained_s`: from draining one
    until no source comes to it with a new connection. `refused_s`: from connecting until a client is told that no real
    server is there.

    Under load: `p99_s` and `large_p99_s` bound the 99th percentile of operations of up to 1 MiB and of larger ones, from
    their intended start; `added_s` what the balancer may add to the median; `storm_s` until every client that comes back at
    once is served. `busiest_source_share`: the share of one source above which it is named.
    """

    down_s: Seconds
    new_s: Seconds
    sticky_s: Seconds
    established_s: Seconds
    operation_s: Seconds
    halted_s: Seconds = 5
    drained_s: Seconds = 5
    refused_s: Seconds = 5
    busiest_source_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    p99_s: Seconds = 1.0
    large_p99_s: Seconds = 30
    added_s: Seconds = 0.005
    storm_s: Seconds = 30


class Vip(_Part, frozen=True, kw_only=True):
    """A virtual service: its label, what it speaks, where it listens, and the real servers behind it.

    `hostname` is the name that users reach it by, if there is one. `source`: from whom connections to real servers seem to
    come: the balancer (layer 7 SNAT), the client itself (`transparent`: the balancer takes its address, and the way back must
    lead through the balancer), or the balancer with the client's address said first (`proxy-protocol`, version 2: nodes must
    have been told to expect it). `client_timeout_s`, `server_timeout_s`: how long a silent connection lives.
    `clear_entries_on_drain`: whether draining a real server also forgets the sources that persistence keeps to it.
    """

    name: Name
    service: ServiceKind
    address: Address
    port: Port
    mode: Literal["tcp"] = "tcp"
    scheduler: Scheduler = "leastconn"
    hostname: str | None = None
    source: SourceKind = "balancer"
    client_timeout_s: Seconds = 43200
    server_timeout_s: Seconds = 43200
    fallback: Fallback | None = None
    clear_entries_on_drain: bool = False
    persistence: Persistence = Persistence()
    health_check: HealthCheck = HealthCheck()
    limits: Limits
    real_server: tuple[RealServer, ...]


class Unit(_Part, frozen=True, kw_only=True):
    """One of the two machines of a pair: its name, its own fixed address, and its VRRP priority (the higher one starts).

    `address` lies on the clients' side. `inner_address` is its own one in the nodes' network, where that is another network
    than the VIPs' (two-arm): both units have one then, and connections to real servers come from it.
    """

    name: Name
    address: Address
    inner_address: Address | None = None
    priority: Annotated[int, Meta(ge=1, le=254)]

    @property
    def address_towards_nodes(self) -> str:
        """Where its connections to real servers come from."""
        return self.inner_address or self.address


class Pair(_Part, frozen=True, kw_only=True):
    """How two units share the VIPs: all of them move together, and a unit that comes back does not take them again.

    `advert_interval_s`: between two VRRP advertisements (RFC 5798 counts hundredths of a second); three that stay away move
    the VIPs. `virtual_router_id`: of the one VRRP instance. `replication_port`: where the units teach each other their
    persistence tables. A unit gives up the VIPs when its HAProxy did not answer `check_fall` times, asked every
    `check_interval_s`, `check_timeout_s` each.

    `heartbeat_udp_port`: where units that speak another heartbeat than VRRP hear each other (the appliance's is 6694).

    Limits: `takeover_s` from the death of the active unit, or of its HAProxy, until the VIPs answer again; `hung_takeover_s`
    the same where its HAProxy hangs; `replication_s` until an entry of one unit is known to the other.
    """

    advert_interval_s: Annotated[float, Meta(ge=0.01, le=40.95)] = 0.2
    virtual_router_id: Annotated[int, Meta(ge=1, le=255)] = 110
    replication_port: Port = 7778
    check_interval_s: Annotated[float, Meta(ge=0.1, le=60)] = 0.5
    check_timeout_s: Annotated[float, Meta(ge=0.1, le=60)] = 1.0
    check_fall: Annotated[int, Meta(ge=1, le=10)] = 2
    heartbeat_udp_port: Port | None = None
    takeover_s: Seconds = 1.5
    hung_takeover_s: Seconds = 5.0
    replication_s: Seconds = 2.0


class KeepAlive(_Part, frozen=True, kw_only=True):
    """TCP keep-alive on both sides of the balancer, in whole seconds, as the kernel counts them.

    After `idle_s` of silence it asks, then every `interval_s`; the session ends when `count` questions had no answer.
    """

    idle_s: Annotated[int, Meta(ge=1, le=32767)]
    interval_s: Annotated[int, Meta(ge=1, le=32767)]
    count: Annotated[int, Meta(ge=1, le=127)]

    @property
    def freed_within_s(self) -> int:
        """How long a session lives on whose peer has vanished: idle + count * interval."""
        return self.idle_s + self.count * self.interval_s


class Balancer(_Part, frozen=True, kw_only=True):
    """What is common to all VIPs. `address` is where connections to real servers come from.

    `retries` and `connect_timeout_s` decide how long a sticky client waits at a dead server before it is sent elsewhere.
    A pair has two entries in `unit` and a `pair`; `address` is then that of the unit that starts (two-arm: its inner one).
    `nodes_gateway`, of a two-arm pair: a floating address in the nodes' network that moves with the VIPs. It is the nodes'
    default route, so that what they send of their own accord leaves through the active unit.
    `keepalive`: without it, the kernel's own times hold (two hours). `keep_server_states`: whether what was set while it runs
    (drain, halt) and what health checks found survive a reload. `old_process_s`: for how long after a reload the old process
    may serve the connections that it has; without it, as long as they last.
    """

    product: str = "HAProxy"
    address: Address
    unit: tuple[Unit, ...] = ()
    pair: Pair | None = None
    nodes_gateway: Address | None = None
    connect_timeout_s: Seconds = 4
    retries: Annotated[int, Meta(ge=0)] = 3
    maxconn: Annotated[int, Meta(ge=1)] = 40000
    redispatch: bool = True
    shutdown_sessions_on_down: bool = True
    keepalive: KeepAlive | None = None
    keep_server_states: bool = False
    old_process_s: Seconds | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where connections to real servers may come from: each unit's own address, or the one balancer's."""
        return tuple(unit.address_towards_nodes for unit in self.unit) or (self.address,)

    @property
    def is_two_arm(self) -> bool:
        """Whether the units have an arm of their own in a network of the nodes."""
        return any(unit.inner_address is not None for unit in self.unit)

    def unit_named(self, name: str) -> Unit:
        """Return the unit with this name (KeyError when there is none)."""
        for unit in self.unit:
            if unit.name == name:
                return unit
        raise KeyError(name)

    def other_units(self, name: str) -> tuple[Unit, ...]:
        """Return the units of the pair but this one."""
        return tuple(unit for unit in self.unit if unit.name != name)


class Dicom(_Part, frozen=True, kw_only=True):
    """The DICOM and worklist services: the called AE title, what happens to others, the calling AE titles of modalities.

    `storage`: whether simulated nodes keep the images that they take, or only their receipts (for load).
    """

    ae_title: Name = "MACH7"
    unknown_called_ae: Literal["rejected", "accepted"] = "rejected"
    calling_ae_titles: tuple[Name, ...] = ("PREFLIGHT",)
    storage: Literal["keep", "digest"] = "keep"


class Hl7(_Part, frozen=True, kw_only=True):
    """The HL7 service: MSH-5 and MSH-6, and whether patient merges (A40) may be sent to this site."""

    receiving_application: str = "MACH7"
    receiving_facility: str = "HOSPITAL"
    allow_merge: bool = True
    stray_bytes_closed_within_s: Seconds = 5


class Receiver(_Part, frozen=True, kw_only=True):
    """The system on the clients' side that nodes send to of their own accord; Preflight plays it at an address of its own.

    `ae_title` is what a C-MOVE names as its destination and a result as who gets a copy (OBR-28). Nodes have to know it with
    that address and these ports.
    """

    ae_title: Name = "PF-RECEIVER"
    dicom_port: Port = 11119
    hl7_port: Port = 6669


class Web(_Part, frozen=True, kw_only=True):
    """The web page: the account that Preflight logs in with, and the file of the CA that its clients trust.

    The password is read from the environment variable that is named here; it never stands in a site file.
    """

    user: str = "preflight"
    password_variable: str = "PREFLIGHT_WEB_PASSWORD"  # noqa: S105  the name of a variable, not a password
    ca_file: str | None = None


class JourneyLimits(_Part, frozen=True, kw_only=True):
    """How long each step of a patient's journey may take until the next system shows it, in seconds."""

    worklist_s: Seconds = 10
    image_s: Seconds = 10
    result_s: Seconds = 10


class Engines(_Part, frozen=True, kw_only=True):
    """Which implementation plays each simulated DICOM service.

    `pynetdicom` is the reference, for function checks and up to 16 associations; `wire` is ours, for crowds and load.
    `under_load` plays both in load runs, where nodes keep receipts and no images. `processes` share the work of each service
    but those that `pynetdicom` plays, so that it may use more than one core.
    """

    storage: Engine = "pynetdicom"
    worklist: Engine = "pynetdicom"
    under_load: Engine = "wire"
    processes: Annotated[int, Meta(ge=1, le=64)] = 1


class Clients(_Part, frozen=True, kw_only=True):
    """Where simulated clients draw their source addresses from (CIDR), and how long they wait in each phase, in seconds.

    `routed_network`: addresses of clients in other networks, which reach the VIPs through a router; where a lab has one.
    `straight_network`, of a two-arm site: the addresses from which nodes may be reached past the balancer. The units then let
    no other client open a connection to a node.
    """

    network: str
    routed_network: str | None = None
    straight_network: str | None = None
    connect_timeout_s: Seconds = 10
    negotiate_timeout_s: Seconds = 15
    send_timeout_s: Seconds = 30
    response_timeout_s: Seconds = 30


class Waiver(_Part, frozen=True, kw_only=True):
    """A failure that a named person accepted, until the end of a day (UTC).

    `check` is `PERSIST-1/HL7`, or `PERSIST-1` for all VIPs; `by` is who accepted it, `why` for which reason.
    """

    check: str
    by: Annotated[str, Meta(min_length=1)]
    why: Annotated[str, Meta(min_length=1)]
    until: date


class Site(_Part, frozen=True, kw_only=True):
    """One load-balanced site.

    `required` lists the checks that decide; empty means all that the profile and the lab can do. `load` is what the hospital
    asks of it, for load runs: every number has a default.
    """

    name: Annotated[str, Meta(min_length=1)]
    nodes_are: Literal["simulated", "real"] = "simulated"
    balancer: Balancer
    clients: Clients
    dicom: Dicom = Dicom()
    hl7: Hl7 = Hl7()
    receiver: Receiver = Receiver()
    web: Web = Web()
    journey: JourneyLimits = JourneyLimits()
    engines: Engines = Engines()
    load: Load = Load()
    required: tuple[str, ...] = ()
    node: tuple[Node, ...]
    vip: tuple[Vip, ...]
    waiver: tuple[Waiver, ...] = ()

    @property
    def vips_cleared_on_drain(self) -> frozenset[str]:
        """The names of the VIPs whose persistence entries for a real server go when it is drained."""
        return frozenset(vip.name for vip in self.vip if vip.clear_entries_on_drain)

    def vip_of(self, service: ServiceKind) -> Vip:
        """Return the VIP of a service; a site file has exactly one of each."""
        return next(vip for vip in self.vip if vip.service == service)

    def vip_named(self, name: str) -> Vip:
        """Return the VIP with this name (KeyError when there is none)."""
        for vip in self.vip:
            if vip.name == name:
                return vip
        raise KeyError(name)

    def node_named(self, name: str) -> Node:
        """Return the node with this name (KeyError when there is none)."""
        for node in self.node:
            if node.name == name:
                return node
        raise KeyError(name)
