"""The nodes of a lab: four services each, as processes of the keeper, and what can happen to them.

A native lab has all of its nodes here; in a container there is one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from lbconfig.site import ServiceKind, Site
from simulators.client import Target
from simulators.node import SimulatedNode, relay_command
from simulators.operations import Service, Way
from simulators.relay import RelaySettings

from .keeper import FIRST_FD
from .keeper_client import KeeperClient, wait_for_exit
from .lab import AcceptQueue, Defects, LabError
from .limits import LabTimeouts
from .ports import bind_listener
from .probes import NotReady, answers, refuses

_BACKLOG = 128  # how many connections the kernel accepts for a service that hangs
_LOG_LINES = 20
_ANY_PORTS: Mapping[tuple[str, ServiceKind], int] = {}


class Endpoint(NamedTuple):
    """One real server: whose it is, what it speaks, where it listens."""

    node: str
    service: ServiceKind
    address: str
    port: int

    @property
    def process(self) -> str:
        """The name of its process."""
        return f"{self.node}/{self.service}"

    @property
    def target(self) -> Target:
        """Where a client that goes straight to it sends."""
        return Target(self.address, self.port, Service[self.service.upper()], Way.STRAIGHT)


class RelayPoint(NamedTuple):
    """A relay in front of a real server: where it listens."""

    endpoint: Endpoint
    address: str
    port: int

    @property
    def process(self) -> str:
        """The name of its process."""
        return f"{self.endpoint.process}/relay"


def endpoints_of(site: Site) -> dict[tuple[str, ServiceKind], Endpoint]:
    """Return the services that the site's nodes run.

    Raises
    ------
    LabError
        When a node has two real servers of one VIP.
    """
    found: dict[tuple[str, ServiceKind], Endpoint] = {}
    for vip in site.vip:
        for server in vip.real_server:
            endpoint = Endpoint(server.node, vip.service, site.node_named(server.node).address, server.port)
            if found.setdefault((server.node, vip.service), endpoint) != endpoint:
                raise LabError(f"VIP {vip.name}: expected one real server on node {server.node}, found several")
    return found


class NativeNodes:
    """Starts, kills, crashes, pauses and revives the services of a site's nodes.

    Parameters
    ----------
    site : Site
        Which services, where.
    nodes : dict of str to SimulatedNode
        By the nodes' names; those of the site that run here.
    defects : Defects
        Of which the relays matter here.
    keeper : KeeperClient
        The parent of the processes.
    logs : Path
        Where each process has its log, `<node>-<service>.log`.
    timeouts : LabTimeouts
        How long to wait for what.
    own_address : str, optional
        From where services are probed and relays connect to them; by default the balancer's address.
    relay_ports : mapping, optional
        Where the relay of a node's service listens, if that has to be known before it does; else any free port.
    """

    def __init__(
        self, site: Site, nodes: dict[str, SimulatedNode], defects: Defects, keeper: KeeperClient, logs: Path,
        timeouts: LabTimeouts, *, own_address: str | None = None,
        relay_ports: Mapping[tuple[str, ServiceKind], int] = _ANY_PORTS,
    ) -> None:  # fmt: skip
        self.endpoints = {key: endpoint for key, endpoint in endpoints_of(site).items() if endpoint.node in nodes}
        self.relays: dict[tuple[str, ServiceKind], RelayPoint] = {}
        self._site = site
        self._nodes = nodes
        self._own_address = own_address or site.balancer.address
        self._relay_ports = relay_ports
        self._relayed = {self.endpoint(relay.node, relay.service): relay for relay in defects.relays if relay.node in nodes}
        self._keeper = keeper
        self._logs = logs
        self._timeouts = timeouts

    def endpoint(self, node: str, service: ServiceKind) -> Endpoint:
        """Return one service of a node (LabError when the site has none such)."""
        try:
            return self.endpoints[node, service]
        except KeyError:
            known = ", ".join(sorted(endpoint.process for endpoint in self.endpoints.values()))
            raise LabError(f"{node}/{service}: expected one of {known}") from None

    def start_all(self) -> None:
        """Start all services and relays; `wait_until_all_answer` is to follow."""
        for endpoint in self.endpoints.values():
            self._start(endpoint)
        for endpoint in self._relayed:
            self._start_relay(endpoint, self._relay_ports.get((endpoint.node, endpoint.service), 0))

    def wait_until_all_answer(self) -> None:
        """Return when every service answers at its own protocol. LabError when one ends or stays silent."""
        self._wait_until_answering(self.endpoints.values())

    def kill(self, node: str, service: ServiceKind) -> None:
        """Kill one service; return when it is gone and its port refuses."""
        names = self._processes([self.endpoint(node, service)])
        self._keeper.signal(names, signal.SIGKILL)
        self._keeper.wait(names, self._timeouts.gone_s)

    def start(self, node: str, service: ServiceKind) -> None:
        """Start one service again; return when it answers."""
        self._restart([self.endpoint(node, service)])

    def crash(self, node: str) -> None:
        """Stop all services of a node, then take LISTEN from their sockets: ports refuse, open sessions fall silent."""
        endpoints = self._of_node(node)
        names = self._processes(endpoints)
        self._keeper.begin_fault(_crash(node), names, signal.SIGSTOP, undo=signal.SIGKILL)
        self._keeper.refuse_connections(names)
        for endpoint in endpoints:
            if not refuses(endpoint.address, endpoint.port, self._own_address, self._timeouts.probe_s):
                raise LabError(f"{endpoint.process}: expected {endpoint.address}:{endpoint.port} to refuse, found it open")

    def revive(self, node: str) -> None:
        """Kill what is left of a crashed node and start all of its services afresh; return when they answer."""
        endpoints = self._of_node(node)
        if _crash(node) not in self._keeper.status().faults:
            raise LabError(f"{node}: expected a crashed node, found one that was not")
        self._keeper.end_fault(_crash(node))
        self._keeper.wait(self._processes(endpoints), self._timeouts.gone_s)
        self._keeper.end_fault(_pause(node))  # a machine that was paused and then lost power is not paused any more
        self._restart(endpoints)

    def pause(self, node: str) -> None:
        """Stop all processes of a node (SIGSTOP)."""
        self._keeper.begin_fault(_pause(node), self._processes(self._of_node(node)), signal.SIGSTOP, undo=signal.SIGCONT)

    def resume(self, node: str) -> None:
        """Let a paused node go on."""
        if _crash(node) in self._keeper.status().faults:
            raise LabError(f"{node}: expected a paused node, found one that crashed. Revive it")
        self._keeper.end_fault(_pause(node))

    def accept_queue(self, node: str, service: ServiceKind) -> AcceptQueue:
        """Return the accept queue of one service."""
        return AcceptQueue(*self._keeper.accept_queues([self.endpoint(node, service).process])[0])

    def keep_receipts_only(self, processes: int) -> None:
        """Start the storage services anew, without images and in several processes each; return when they answer."""
        endpoints = [endpoint for endpoint in self.endpoints.values() if endpoint.service == "dicom"]
        for endpoint in endpoints:
            self.kill(endpoint.node, endpoint.service)
            self._nodes[endpoint.node] = msgspec.structs.replace(
                self._nodes[endpoint.node], storage="digest", processes=processes
            )
        self._restart(endpoints)

    def _restart(self, endpoints: Sequence[Endpoint]) -> None:
        for endpoint in endpoints:
            self._start(endpoint)
            if relay := self.relays.get((endpoint.node, endpoint.service)):
                self._start_relay(endpoint, relay.port)
        self._wait_until_answering(endpoints)

    def _start(self, endpoint: Endpoint) -> None:
        node = self._nodes[endpoint.node]
        with bind_listener(endpoint.address, endpoint.port, _BACKLOG) as listener:
            self._keeper.start(
                endpoint.process, node.command(endpoint.service, FIRST_FD), directory=node.directory,
                log=self._log(endpoint.process), sockets=[listener],
            )  # fmt: skip

    def _start_relay(self, endpoint: Endpoint, port: int) -> None:
        with bind_listener(endpoint.address, port, _BACKLOG) as listener:
            point = RelayPoint(endpoint, endpoint.address, listener.getsockname()[1])
            settings = RelaySettings(
                listen_fd=FIRST_FD, upstream_address=endpoint.address, upstream_port=endpoint.port,
                source_address=self._own_address, delay_s=self._relayed[endpoint].delay_s,
                cut_idle_s=self._relayed[endpoint].cut_idle_s,
            )  # fmt: skip
            directory = self._nodes[endpoint.node].directory
            path = directory / "settings" / f"{endpoint.service}-relay.json"
            path.write_bytes(msgspec.json.encode(settings))
            self._keeper.start(
                point.process, relay_command(path), directory=directory, log=self._log(point.process), sockets=[listener]
            )
        self.relays[endpoint.node, endpoint.service] = point

    def _wait_until_answering(self, endpoints: Iterable[Endpoint]) -> None:
        deadline = time.monotonic() + self._timeouts.answer_s
        for endpoint in endpoints:
            while reason := self._silence_of(endpoint):
                pid = self._keeper.status().alive.get(endpoint.process)
                if pid is None:
                    raise LabError(self._death_of(endpoint))
                if time.monotonic() > deadline:
                    raise LabError(
                        f"{endpoint.process} (pid {pid}): expected an answer within {self._timeouts.answer_s:g} s, "
                        f"found {reason}\n{last_lines(self._log(endpoint.process))}"
                    )
                wait_for_exit(pid, self._timeouts.poll_s)

    def _silence_of(self, endpoint: Endpoint) -> str:
        """Ask once; return why there was no answer, empty when there was one."""
        dicom = self._site.dicom
        try:  # from its own address: of the balancer's, a node may expect to be told first for whom it comes
            answers(endpoint.target, endpoint.address, dicom.ae_title, dicom.calling_ae_titles[0], self._timeouts.probe_s)
        except NotReady as error:
            return str(error)
        return ""

    def _death_of(self, endpoint: Endpoint) -> str:
        found = self._keeper.exit_of(endpoint.process) or "it gone"
        log = self._log(endpoint.process)
        return f"{endpoint.process}: expected it to answer, found that {found}. The end of {log}:\n{last_lines(log)}"

    def _of_node(self, node: str) -> list[Endpoint]:
        found = [endpoint for endpoint in self.endpoints.values() if endpoint.node == node]
        if not found:
            raise LabError(f"{node}: expected one of {', '.join(sorted(self._nodes))}")
        return found

    def _processes(self, endpoints: Iterable[Endpoint]) -> list[str]:
        """Return the names of the processes of services and of the relays before them."""
        names = []
        for endpoint in endpoints:
            names.append(endpoint.process)
            if relay := self.relays.get((endpoint.node, endpoint.service)):
                names.append(relay.process)
        return names

    def _log(self, process: str) -> Path:
        return self._logs / f"{process.replace('/', '-')}.log"


def last_lines(log: Path, lines: int = _LOG_LINES) -> str:
    """Return the end of a log, at most `lines` lines of its last 16 KB; says so when there is nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16384))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"({error})"
    return "\n".join(text.splitlines()[-lines:]) or "(it is empty)"


def _crash(node: str) -> str:
    return f"crash of {node}"


def _pause(node: str) -> str:
    return f"pause of {node}"
