"""The nodes of a lab in containers, as pytest in the tester sees them: what can happen to them, and to their network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lbconfig.site import ServiceKind, Site

from ..lab import LabError
from ..layout import node_folder
from .controls import Controls


class ContainerNodes:
    """A site's nodes, a container each.

    Parameters
    ----------
    site : Site
        Which nodes there are.
    run : Path
        The run folder.
    """

    def __init__(self, site: Site, run: Path) -> None:
        self.site = site
        self._run = run
        self._controls = Controls(run)

    def isolate_node(self, node: str) -> None:
        """Drop all packets to and from a node."""
        self._controls.begin(f"{self._known(node)} isolated", kind="isolated", service=node)

    def rejoin_node(self, node: str) -> None:
        """Let them pass again; return when the node's services answer."""
        self._controls.end(f"{self._known(node)} isolated")
        self._tell_node(node, "wait")

    def degrade(self, node: str, *, loss: float = 0.0, rate_bytes_per_s: int | None = None, delay_s: float = 0.0) -> None:
        """Degrade the network of a node, in place of what was degraded before."""
        if not 0 <= loss < 1 or delay_s < 0 or (rate_bytes_per_s is not None and rate_bytes_per_s < 1):
            raise LabError(
                f"{node}: expected a loss of 0 to below 1, a rate above 0 and no negative delay, found {loss:g}, "
                f"{rate_bytes_per_s}, {delay_s:g}"
            )
        if rate_bytes_per_s is not None and delay_s:
            raise LabError(f"{node}: expected a rate or a delay, found both")
        self.restore(node)
        self._controls.begin(
            f"{node} degraded", kind="degraded", service=node, loss=loss, rate_bytes_per_s=rate_bytes_per_s or 0,
            delay_s=delay_s,
        )  # fmt: skip

    def restore(self, node: str) -> None:
        """Undo all of it."""
        self._controls.end(f"{self._known(node)} degraded")

    def node_directories(self) -> dict[str, Path]:
        """Return each node's folder by its name."""
        return {node.name: node_folder(self._run, node.name) for node in self.site.node}

    def kill_service(self, node: str, service: ServiceKind) -> None:
        """Kill a service with SIGKILL; return when it is gone and its port refuses."""
        self._tell_node(node, "kill", service=service)

    def start_service(self, node: str, service: ServiceKind) -> None:
        """Start a service that was killed; return when it answers at its own protocol."""
        self._tell_node(node, "start", service=service)

    def crash_node(self, node: str) -> None:
        """Let a node die as a machine does; return when its ports refuse. Its open sessions get neither FIN nor RST."""
        self._tell_node(node, "crash")

    def revive_node(self, node: str) -> None:
        """Start all services of a crashed node afresh; return when they answer."""
        self._tell_node(node, "revive")

    def pause_node(self, node: str) -> None:
        """Stop all processes of a node (SIGSTOP): the kernel still accepts for them, nobody answers."""
        self._tell_node(node, "pause")

    def resume_node(self, node: str) -> None:
        """Let a paused node go on."""
        self._tell_node(node, "resume")

    def keep_receipts_only(self) -> None:
        """Restart the storage services so that they keep receipts and no images; return when they answer."""
        for node in self.site.node:
            self._tell_node(node.name, "receipts-only", processes=self.site.engines.processes)

    def _tell_node(self, node: str, what: str, **more: object) -> dict[str, Any]:
        return self._controls.tell_node(self._known(node), what, **more)

    def _known(self, node: str) -> str:
        names = [one.name for one in self.site.node]
        if node not in names:
            raise LabError(f"{node}: expected one of {', '.join(names)}")
        return node
