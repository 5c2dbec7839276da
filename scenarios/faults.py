"""What is broken how: each fault is a value that can be begun and ended on a lab that can do it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from compose.lab import CanCrashNodes, CanPauseNodes, CanSteerBalancer, CanStopServices, Lab


class MissingAbilityError(Exception):
    """The lab cannot do what a fault needs; the message names the ability."""


class Fault(Protocol):
    """Something that can be done to a lab, and undone. `name` says its effect."""

    @property
    def name(self) -> str:
        """What happens to the node, as a phrase."""

    @property
    def node(self) -> str:
        """The victim."""

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


class NodeHalted(msgspec.Struct, frozen=True):
    """An operator halts all real servers of a node at the balancer (maintenance)."""

    node: str
    name: str = "node halted"

    def begin(self, lab: Lab) -> None:
        """Halt its real servers, VIP by VIP."""
        if not isinstance(lab, CanSteerBalancer):
            raise MissingAbilityError("steer the balancer")
        for vip in lab.site.vip:
            for server in vip.real_server:
                if server.node == self.node:
                    lab.balancer.halt(vip.name, server.label)

    def end(self, lab: Lab) -> None:
        """Put them online again."""
        if isinstance(lab, CanSteerBalancer):
            for vip in lab.site.vip:
                for server in vip.real_server:
                    if server.node == self.node:
                        lab.balancer.online(vip.name, server.label)
