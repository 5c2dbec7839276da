"""What a lab is: a site that is up, and what can be done to it.

`Lab` holds what every lab can truthfully do. Each further ability is a protocol of its own; a check that needs one asks
`isinstance(lab, CanCrashNodes)` and is skipped, by that name, where the answer is no.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from lbconfig.site import ServiceKind, Site
from simulators.misbehaviour import Misbehaviour

if TYPE_CHECKING:
    from lbconfig.runtime_api import RuntimeApi

    from .keeper_client import Exit

UnitFailure = Literal["killed", "stopped", "paused", "cut-off", "haproxy-dead", "haproxy-hung", "keepalived-stopped"]
PairPath = Literal["replication", "heartbeat", "all"]


class LabError(Exception):
    """A lab could not do what it was asked; the message says what was expected, what was found and what to do."""


class MisbehavingService(msgspec.Struct, frozen=True):
    """One service of one node that lies."""

    node: str
    service: ServiceKind
    misbehaviour: Misbehaviour


class Relayed(msgspec.Struct, frozen=True):
    """A real server that the balancer reaches through a relay.

    The relay holds back what goes to the node by `delay_s` seconds; or it ends connections on which nothing goes there for
    `cut_idle_s` seconds; or, where both are 0, it flips one bit of pixel data of each large image.
    """

    node: str
    service: ServiceKind
    delay_s: float = 0.0
    cut_idle_s: float = 0.0


class SentFrom(msgspec.Struct, frozen=True):
    """A service of a node that sends what it sends of its own accord from an address that is not the node's."""

    node: str
    service: ServiceKind
    address: str


class ConfigurationEdit(msgspec.Struct, frozen=True):
    """A change of the rendered configuration: within the section of one VIP (None: everywhere), a regular expression
    (multi-line, as of `re`) and what replaces it. An edit that matches nothing is an error.
    """  # noqa: D205

    vip: str | None
    pattern: str
    replacement: str


class UnitEdit(msgspec.Struct, frozen=True):
    """A change of one rendered file of one unit of a pair: a regular expression (multi-line, as of `re`), its replacement.

    `file` is haproxy.cfg, keepalived.conf, filter.rules or way-back.sh. An edit that matches nothing is an error.
    """

    unit: str
    file: str
    pattern: str
    replacement: str


class Defects(msgspec.Struct, frozen=True, kw_only=True):
    """What is broken on purpose when a lab starts. Empty: nothing.

    `pages`: addresses and ports at which the appliance's fallback page is served beside those that the site names.
    `cpu_hogs_per_core`: processes for each core of the machine that burn CPU as soon as the lab is up, until it stops.
    """

    configuration: tuple[ConfigurationEdit, ...] = ()
    unit_configuration: tuple[UnitEdit, ...] = ()
    misbehaviour: tuple[MisbehavingService, ...] = ()
    relays: tuple[Relayed, ...] = ()
    expired_certificates: tuple[str, ...] = ()  # the nodes
    other_authority: tuple[str, ...] = ()  # the units of a pair that verify the nodes' certificates against another CA's
    pages: tuple[tuple[str, int], ...] = ()
    sent_from: tuple[SentFrom, ...] = ()
    not_admitted: tuple[str, ...] = ()  # the nodes that the receiver on the clients' side turns away
    past_the_balancer: tuple[str, ...] = ()  # the nodes whose answers take another way than through a transparent balancer
    cpu_hogs_per_core: int = 0


class BalancerUnit(NamedTuple):
    """One unit of a balancer pair.

    `address` is its own, not a VIP's. `balancer` is its HAProxy's run-time API, reached by a path that no fault of the
    network cuts; `log_file` is that HAProxy's traffic log, `configuration_file` what it runs.
    """

    name: str
    address: str
    balancer: RuntimeApi
    configuration_file: Path
    log_file: Path


@runtime_checkable
class Lab(Protocol):
    """A site that can be brought up and taken down. `directory` is where it keeps configuration, logs and journals."""

    site: Site
    target: Literal["native", "compose", "real"]
    directory: Path

    def start(self) -> None:
        """Bring the site up; return when every service and the balancer answer. Raises LabError."""

    def stop(self) -> None:
        """Undo all faults and leave nothing running. Safe to call twice."""

    def source_addresses(self, count: int) -> list[str]:
        """Give out `count` source addresses, none of them given out before. Raises LabError when they run out."""


@runtime_checkable
class CanGiveWebAccount(Protocol):
    """An account of the lab's own at the web page, and the certificate authority that it is to be trusted by."""

    web_user: str
    web_password: str
    ca_file: Path


@runtime_checkable
class CanSteerBalancer(Protocol):
    """The balancer's run-time API, its version and the configuration that it runs.

    In a pair all three are those of the active unit at the time of asking (while none or both are active, of the last one
    that was): ask again after a failover.
    """

    @property
    def balancer(self) -> RuntimeApi:
        """The run-time API."""

    @property
    def configuration_file(self) -> Path:
        """What it runs."""

    @property
    def log_file(self) -> Path:
        """Its traffic log and its messages."""

    def reload_balancer(self) -> None:
        """Reload the balancer; return when the new worker serves."""


@runtime_checkable
class CanReadJournals(Protocol):
    """The nodes' own records."""

    def node_directories(self) -> dict[str, Path]:
        """Return each node's folder by its name."""


@runtime_checkable
class CanStopServices(Protocol):
    """Single services of a node: killed (SIGKILL: their sessions are reset or closed), and started again."""

    def kill_service(self, node: str, service: ServiceKind) -> None:
        """Kill a service; return when it is gone."""

    def start_service(self, node: str, service: ServiceKind) -> None:
        """Start a service; return when it answers at its own protocol."""


@runtime_checkable
class CanCrashNodes(Protocol):
    """A node that dies as a machine does: all of its services at once, its listening ports refuse, and its open sessions
    fall silent without FIN or RST.
    """  # noqa: D205

    def crash_node(self, node: str) -> None:
        """Crash a node; return when its ports refuse."""

    def revive_node(self, node: str) -> None:
        """Start all services of a crashed node afresh; return when they answer."""


@runtime_checkable
class CanKeepReceiptsOnly(Protocol):
    """Storage services that stop keeping images: for load, which would fill the disk and measure that."""

    def keep_receipts_only(self) -> None:
        """Restart the storage services so that they keep receipts and no images; return when they answer."""


class AcceptQueue(NamedTuple):
    """Connections that the kernel took for a service which has not accepted them yet: how many, and how many it takes."""

    waiting: int
    backlog: int


@runtime_checkable
class CanTellAcceptQueues(Protocol):
    """What waits at a service's listening socket, and for how many there is room."""

    def accept_queue(self, node: str, service: ServiceKind) -> AcceptQueue:
        """Return the accept queue of a service that runs, hangs or not."""


@runtime_checkable
class CanPauseNodes(Protocol):
    """A node whose processes hang (SIGSTOP): the kernel still accepts for them, nobody answers."""

    def pause_node(self, node: str) -> None:
        """Stop all processes of a node."""

    def resume_node(self, node: str) -> None:
        """Let them go on."""


@runtime_checkable
class CanNameUnexpectedExits(Protocol):
    """Processes of the lab that ended although no fault ended them: the lab itself is not to be trusted then."""

    def unexpected_exits(self) -> list[Exit]:
        """Return them, oldest first."""


@runtime_checkable
class CanIsolateNodes(Protocol):
    """A node that vanishes from the network: every packet to it and from it is dropped, nobody gets a FIN or an RST.

    Its services run on and know nothing of it. A fault of the network alone: what `CanCrashNodes` does has the ports refuse.
    """

    def isolate_node(self, node: str) -> None:
        """Drop all packets to and from a node; return when none passes any more."""

    def rejoin_node(self, node: str) -> None:
        """Let them pass again; return when the node's services answer. Sessions that lived through it go on."""


@runtime_checkable
class CanDegradeNetwork(Protocol):
    """A node whose network is bad, for everybody who speaks with it."""

    def degrade(self, node: str, *, loss: float = 0.0, rate_bytes_per_s: int | None = None, delay_s: float = 0.0) -> None:
        """Degrade the network of a node, in place of what was degraded before; return when it is in effect.

        Parameters
        ----------
        node : str
            The node.
        loss : float
            The share of packets that is dropped at random, each way, 0 to below 1.
        rate_bytes_per_s : int, optional
            How many bytes a second pass, each way.
        delay_s : float
            How much later each packet from the node arrives, in seconds.

        Raises
        ------
        LabError
            When the kernel at hand cannot do one of these; the message names it. A delay needs netem, or else a queue of the
            packet filter (NFQUEUE).
        """

    def restore(self, node: str) -> None:
        """Undo all of it."""


@runtime_checkable
class HasBalancerPair(Protocol):
    """Two balancers that share the VIPs and teach each other their persistence tables."""

    @property
    def units(self) -> tuple[str, ...]:
        """Their names, in the site's order: the first is the primary."""

    def unit(self, name: str) -> BalancerUnit:
        """Return one unit (LabError when there is none of that name). It may be down at the moment."""

    def holders(self) -> tuple[str, ...]:
        """Ask the clients' network who has the VIPs, and return the units that answer for any of them, in their order.

        Answers within 0.3 s. A unit that is cut off or dead does not answer. The kernel of a paused unit does, as long as
        it had the VIPs.
        """

    def active_unit(self) -> str:
        """Return the one unit that has the VIPs, paused ones aside. Raises LabError when none or several have."""


@runtime_checkable
class CanFailUnits(HasBalancerPair, Protocol):
    """One unit of the pair that fails.

    killed: its machine loses power. stopped: it is shut down in good order. paused: all of its processes hang, its kernel
    does not. cut-off: its network cable is pulled. haproxy-dead, haproxy-hung (SIGSTOP): HAProxy alone, the system lives.
    keepalived-stopped: the heartbeat alone ends, in good order.
    """

    def fail_unit(self, name: str, how: UnitFailure) -> None:
        """Let a unit fail; return when it has. Does not wait for the other one to take over."""

    def mend_unit(self, name: str, how: UnitFailure) -> None:
        """Undo it; return when its HAProxy answers and knows every server's state. Does not wait for who holds the VIPs."""


@runtime_checkable
class CanCutPaths(HasBalancerPair, Protocol):
    """Paths between the two units that can be cut, while clients and nodes reach both."""

    def cut_paths(self, which: PairPath) -> None:
        """Drop, both ways, what one unit sends to the other: of table replication, of the heartbeat, or everything."""

    def mend_paths(self) -> None:
        """Let all of it pass again."""


@runtime_checkable
class CanReceive(Protocol):
    """A place where nodes may connect to, as they do to a C-MOVE's destination or to the receiver of outbound HL7."""

    def receiver_address(self) -> str:
        """Return an address that the calling process can listen on and that every node reaches. Always the same one."""


@runtime_checkable
class HasRoutedSources(Protocol):
    """Source addresses on both sides of a router: clients in the VIPs' own subnet, and clients beyond it.

    `Lab.source_addresses` gives out the routed ones. None is given out twice, whichever way it was asked for.
    """

    def local_source_addresses(self, count: int) -> list[str]:
        """Give out `count` addresses in the VIPs' own subnet. Raises LabError when they run out."""

    def routed_source_addresses(self, count: int) -> list[str]:
        """Give out `count` addresses that are reached through a router. Raises LabError when they run out."""


@runtime_checkable
class HasStraightSources(Protocol):
    """Source addresses of those who may reach nodes past the balancer, where that is not everybody.

    They may be given out again: who goes straight to a node leaves no persistence entry.
    """

    def straight_source_addresses(self, count: int) -> list[str]:
        """Give out `count` addresses from which nodes are reached straight. Raises LabError when there are not so many."""
