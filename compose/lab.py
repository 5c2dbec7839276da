"""What a lab is: a site that is up, and what can be done to it.

`Lab` holds what every lab can truthfully do. Each further ability is a protocol of its own; a check that needs one asks
`isinstance(lab, CanCrashNodes)` and is skipped, by that name, where the answer is no.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import msgspec

from lbconfig.site import ServiceKind, Site
from simulators.misbehaviour import Misbehaviour

if TYPE_CHECKING:
    from lbconfig.runtime_api import RuntimeApi


class LabError(Exception):
    """A lab could not do what it was asked; the message says what was expected, what was found and what to do."""


class MisbehavingService(msgspec.Struct, frozen=True):
    """One service of one node that lies."""

    node: str
    service: ServiceKind
    misbehaviour: Misbehaviour


class Relayed(msgspec.Struct, frozen=True):
    """A real server that the balancer reaches through a relay.

    The relay holds back what goes to the node by `delay_s` seconds, or, without a delay, flips one bit of pixel data of each
    large image.
    """

    node: str
    service: ServiceKind
    delay_s: float = 0.0


class ConfigurationEdit(msgspec.Struct, frozen=True):
    """A change of the rendered configuration: within the section of one VIP (None: everywhere), a regular expression
    (multi-line, as of `re`) and what replaces it. An edit that matches nothing is an error.
    """  # noqa: D205

    vip: str | None
    pattern: str
    replacement: str


class Defects(msgspec.Struct, frozen=True, kw_only=True):
    """What is broken on purpose when a lab starts. Empty: nothing.

    `cpu_hogs_per_core`: processes for each core of the machine that burn CPU as soon as the lab is up, until it stops.
    """

    configuration: tuple[ConfigurationEdit, ...] = ()
    misbehaviour: tuple[MisbehavingService, ...] = ()
    relays: tuple[Relayed, ...] = ()
    expired_certificates: tuple[str, ...] = ()  # the nodes
    cpu_hogs_per_core: int = 0


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
    """The balancer's run-time API, its version and the configuration that it runs."""

    balancer: RuntimeApi
    configuration_file: Path
    log_file: Path  # its traffic log and its messages

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


@runtime_checkable
class CanPauseNodes(Protocol):
    """A node whose processes hang (SIGSTOP): the kernel still accepts for them, nobody answers."""

    def pause_node(self, node: str) -> None:
        """Stop all processes of a node."""

    def resume_node(self, node: str) -> None:
        """Let them go on."""
