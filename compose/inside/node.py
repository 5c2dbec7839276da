"""A node in a container: `python -m compose.inside.node NODE_FILE`, process 1 of it.

It brings up the four services as the native lab does, by the same keeper, and then does to them what it is told over
`control.sock` in the node's folder. That socket is there once every service answers at its own protocol.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import msgspec

from lbconfig.site import ServiceKind, Site
from lbconfig.site_file import SiteError, load_site
from simulators.node import SimulatedNode

from ..control_socket import answer_one, listen
from ..keeper_client import KeeperClient
from ..lab import Defects, LabError, Relayed
from ..limits import LabTimeouts
from ..native_nodes import NativeNodes
from ..until_sigterm import until_sigterm

SOCKET = "control.sock"
LOGS = "logs"
_TIMEOUTS = LabTimeouts(answer_s=150.0)  # all hosts of the lab start at once, on as few cores as there are


class NodeFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node in a container is started with.

    `site_file` and the paths of `node` are those inside the container. `relays` stand before services of this node;
    `relay_ports`, by service, is where the balancer looks for them.
    """

    site_file: Path
    node: SimulatedNode
    relays: tuple[Relayed, ...] = ()
    relay_ports: dict[ServiceKind, int] = {}


class ContainerNode:
    """One node: its services, and what it is told to do to them.

    Parameters
    ----------
    file : NodeFile
        What it is.
    keeper : KeeperClient
        The parent of its services.
    timeouts : LabTimeouts
        How long to wait for what.

    Raises
    ------
    LabError
        When a service does not come up.
    """

    def __init__(self, file: NodeFile, keeper: KeeperClient, timeouts: LabTimeouts = _TIMEOUTS) -> None:
        self._name = file.node.name
        self._site = _site(file)
        self._keeper = keeper
        logs = file.node.directory / LOGS
        logs.mkdir(exist_ok=True)
        ports = {(self._name, service): port for service, port in file.relay_ports.items()}
        self._nodes = NativeNodes(
            self._site, {self._name: file.node}, Defects(relays=file.relays), keeper, logs, timeouts,
            own_address=self._site.node_named(self._name).address, relay_ports=ports,
        )  # fmt: skip
        self._nodes.start_all()
        self._nodes.wait_until_all_answer()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked; return when it is in effect.

        `kill` and `start` take a `service`, `receipts-only` the number of `processes` for each storage service; `crash`,
        `revive`, `pause`, `resume`, `wait` (until every service answers) and `mend` (all of it) take nothing; `status` tells
        the processes.

        Raises
        ------
        LabError
            When it cannot be done.
        """
        name, nodes = self._name, self._nodes
        actions: dict[str, Callable[[], None]] = {
            "kill": lambda: nodes.kill(name, _service(request)),
            "start": lambda: nodes.start(name, _service(request)),
            "crash": lambda: nodes.crash(name),
            "revive": lambda: nodes.revive(name),
            "pause": lambda: nodes.pause(name),
            "resume": lambda: nodes.resume(name),
            "receipts-only": lambda: nodes.keep_receipts_only(int(request["processes"])),
            "wait": nodes.wait_until_all_answer,
            "mend": self._mend,
        }
        if request["do"] == "status":
            status = self._keeper.status()
            return {"alive": status.alive, "exits": [list(ended) for ended in status.exits], "faults": status.faults}
        if request["do"] not in actions:
            raise LabError(f"expected one of status, {', '.join(actions)}, found {request['do']}")
        actions[request["do"]]()
        return {}

    def _mend(self) -> None:
        """Undo whatever was done to this node; return when its services answer."""
        faults = self._keeper.status().faults
        if any(fault.startswith("crash") for fault in faults):
            self._nodes.revive(self._name)
        elif faults:
            self._nodes.resume(self._name)
        alive = self._keeper.status().alive
        for node, service in self._nodes.endpoints:
            if f"{node}/{service}" not in alive:
                self._nodes.start(node, service)


def read_node_file(path: Path) -> NodeFile:
    """Read what `write_node_file` wrote.

    Raises
    ------
    LabError
        When it is missing or is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=NodeFile, dec_hook=lambda type_, value: type_(value))
    except (OSError, msgspec.MsgspecError) as error:
        raise LabError(f"{path}: expected a node of a lab in containers, found {error}") from error


def write_node_file(file: NodeFile, path: Path) -> None:
    """Write what a node is started with."""
    path.write_bytes(msgspec.json.encode(file, enc_hook=str))


def _site(file: NodeFile) -> Site:
    try:
        return load_site(file.site_file)
    except SiteError as error:
        raise LabError(str(error)) from error


def _service(request: dict[str, Any]) -> ServiceKind:
    if request["service"] not in get_args(ServiceKind):
        raise LabError(f"expected one of {', '.join(get_args(ServiceKind))}, found {request['service']}")
    return cast(ServiceKind, request["service"])


def main(arguments: list[str]) -> None:
    """Be a node until SIGTERM; end with a message and code 1 when its services do not come up."""
    if len(arguments) != 2:
        sys.exit(f"usage: python -m compose.inside.node NODE_FILE, found {len(arguments) - 1} arguments")
    with until_sigterm():
        file = read_node_file(Path(arguments[1]))
        with KeeperClient() as keeper:
            node = ContainerNode(file, keeper)
            with listen(file.node.directory / SOCKET) as listener:
                while True:
                    answer_one(listener, node.answer)


if __name__ == "__main__":
    main(sys.argv)
