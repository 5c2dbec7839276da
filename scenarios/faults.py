"""What is broken how: each fault is a value that can be begun and ended on a lab that can do it."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from compose.lab import CanCrashNodes, CanIsolateNodes, CanPauseNodes, CanSteerBalancer, CanStopServices, Lab
from lbconfig.site import RealServer, ServiceKind, Vip


class MissingAbilityError(Exception):
    """The lab cannot do what a fault needs; the message names the ability."""


class Fault(Protocol):
    """Something that can be done to a lab, and undone. `name` says its effect."""

    @property
    def name(self) -> str:
        """What happens to the node, as a phrase."""

    @property
    def node(self) -> str:
        """The victim; empty where no single node is."""

    def begin(self, lab: Lab) -> None:
        """Do it; return when it is in effect. Raises MissingAbilityError."""

    def end(self, lab: Lab) -> None:
        """Undo it; return when the node's services answer again."""


class ServicesKilled(msgspec.Struct, frozen=True):
    """All services of a node are killed: their ports refuse, their sessions are closed by the kernel."""

    node: str
    name: str = "services stopped"

    def begin(self, lab: Lab) -> None:
        """Kill the four services."""
        if not isinstance(lab, CanStopServices):
            raise MissingAbilityError("stop services")
        for vip in lab.site.vip:
            lab.kill_service(self.node, vip.service)

    def end(self, lab: Lab) -> None:
        """Start them again."""
        if isinstance(lab, CanStopServices):
            for vip in lab.site.vip:
                lab.start_service(self.node, vip.service)


class ServiceKilled(msgspec.Struct, frozen=True):
    """One service of a node is killed; the node's other services know nothing of it."""

    node: str
    service: ServiceKind

    @property
    def name(self) -> str:
        """Which service stopped."""
        return f"{self.service} service stopped"

    def begin(self, lab: Lab) -> None:
        """Kill it."""
        if not isinstance(lab, CanStopServices):
            raise MissingAbilityError("stop services")
        lab.kill_service(self.node, self.service)

    def end(self, lab: Lab) -> None:
        """Start it again."""
        if isinstance(lab, CanStopServices):
            lab.start_service(self.node, self.service)


class EveryServerKilled(msgspec.Struct, frozen=True):
    """All services of all nodes are killed: no VIP has a real server left."""

    node: str = ""
    name: str = "every real server stopped"

    def begin(self, lab: Lab) -> None:
        """Kill them, VIP by VIP."""
        if not isinstance(lab, CanStopServices):
            raise MissingAbilityError("stop services")
        for vip in lab.site.vip:
            for server in vip.real_server:
                lab.kill_service(server.node, vip.service)

    def end(self, lab: Lab) -> None:
        """Start them again, one node after the other."""
        if isinstance(lab, CanStopServices):
            for node in lab.site.node:
                for vip in lab.site.vip:
                    if any(server.node == node.name for server in vip.real_server):
                        lab.start_service(node.name, vip.service)


class NodeCrashed(msgspec.Struct, frozen=True):
    """A node dies as a machine does: its ports refuse, its open sessions fall silent without FIN or RST."""

    node: str
    name: str = "node died"

    def begin(self, lab: Lab) -> None:
        """Crash it."""
        if not isinstance(lab, CanCrashNodes):
            raise MissingAbilityError("crash nodes")
        lab.crash_node(self.node)

    def end(self, lab: Lab) -> None:
        """Start its services afresh."""
        if isinstance(lab, CanCrashNodes):
            lab.revive_node(self.node)


class NodePaused(msgspec.Struct, frozen=True):
    """A node hangs: its ports still accept, nobody answers."""

    node: str
    name: str = "node paused"

    def begin(self, lab: Lab) -> None:
        """Stop its processes."""
        if not isinstance(lab, CanPauseNodes):
            raise MissingAbilityError("pause nodes")
        lab.pause_node(self.node)

    def end(self, lab: Lab) -> None:
        """Let them go on."""
        if isinstance(lab, CanPauseNodes):
            lab.resume_node(self.node)


class NodeIsolated(msgspec.Struct, frozen=True):
    """A node vanishes from the network: every packet to and from it is dropped, nobody gets a FIN or an RST."""

    node: str
    name: str = "node vanished"

    def begin(self, lab: Lab) -> None:
        """Cut it off."""
        if not isinstance(lab, CanIsolateNodes):
            raise MissingAbilityError("let a node vanish from the network")
        lab.isolate_node(self.node)

    def end(self, lab: Lab) -> None:
        """Let it come back."""
        if isinstance(lab, CanIsolateNodes):
            lab.rejoin_node(self.node)


class NodeHalted(msgspec.Struct, frozen=True):
    """An operator halts all real servers of a node at the balancer (maintenance)."""

    node: str
    name: str = "node halted"

    def begin(self, lab: Lab) -> None:
        """Halt its real servers, VIP by VIP."""
        _set_state(lab, self.node, "halt")

    def end(self, lab: Lab) -> None:
        """Put them online again."""
        _put_online(lab, self.node)


class NodeDrained(msgspec.Struct, frozen=True):
    """An operator drains all real servers of a node at the balancer, as the site does it."""

    node: str
    name: str = "node drained"

    def begin(self, lab: Lab) -> None:
        """Drain its real servers, VIP by VIP."""
        _set_state(lab, self.node, "drain")

    def end(self, lab: Lab) -> None:
        """Put them online again."""
        _put_online(lab, self.node)


class BalancerReloaded(msgspec.Struct, frozen=True):
    """An operator reloads the balancer; before that, all real servers of a node may be drained or halted."""

    node: str = ""
    state: Literal["drain", "halt"] | None = None

    @property
    def name(self) -> str:
        """What was reloaded, in which state."""
        return {None: "balancer reloaded", "drain": "reloaded while drained", "halt": "reloaded while halted"}[self.state]

    def begin(self, lab: Lab) -> None:
        """Bring the servers into their state, then reload."""
        if not isinstance(lab, CanSteerBalancer):
            raise MissingAbilityError("reload the balancer")
        if self.state is not None:
            _set_state(lab, self.node, self.state)
        lab.reload_balancer()

    def end(self, lab: Lab) -> None:
        """Put the servers online again; a reload itself has nothing to undo."""
        if self.state is not None:
            _put_online(lab, self.node)


def _set_state(lab: Lab, node: str, state: Literal["drain", "halt"]) -> None:
    if not isinstance(lab, CanSteerBalancer):
        raise MissingAbilityError("steer the balancer")
    change = {"drain": lab.balancer.drain, "halt": lab.balancer.halt}[state]
    for vip, server in _servers_of(lab, node):
        change(vip.name, server.label)


def _put_online(lab: Lab, node: str) -> None:
    if isinstance(lab, CanSteerBalancer):
        for vip, server in _servers_of(lab, node):
            lab.balancer.online(vip.name, server.label)


def _servers_of(lab: Lab, node: str) -> list[tuple[Vip, RealServer]]:
    return [(vip, server) for vip in lab.site.vip for server in vip.real_server if server.node == node]
