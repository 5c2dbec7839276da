"""The native lab: a site as processes on 127.0.0.0/8. No root, no containers.

`python -m compose.native SITE.toml DIRECTORY` brings one up by hand and keeps it until Ctrl-C.
"""

from __future__ import annotations

import ipaddress
import os
import resource
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from lbconfig.site import ServiceKind, Site
from lbconfig.site_file import load_site
from simulators.client import Target
from simulators.node import SimulatedNode
from simulators.operations import Service, Way
from simulators.web.certificates import LabAuthority

from .keeper import FIRST_FD
from .keeper_client import Exit, KeeperClient, python_environment
from .lab import AcceptQueue, Defects, LabError
from .limits import LabTimeouts
from .native_balancer import NativeBalancer, find_haproxy
from .native_nodes import NativeNodes
from .ports import bind_listener
from .simulated_nodes import certificate_names, check_defects, simulated_node
from .source_addresses import SourceAddresses
from .until_sigterm import until_sigterm

_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_NO_DEFECTS = Defects()
_SOCKET_DIRECTORY_CHARACTERS = 75  # of the 107 of a unix socket's path; HAProxy adds a name and, while it binds, a suffix
_TIMEOUTS = LabTimeouts()


class NativeLab:
    """A site that is up on this machine: HAProxy before simulated nodes.

    It has all capabilities of `compose.lab` but those that need machines of their own. Its methods may be called from any
    thread, one fault at a time.

    Parameters
    ----------
    site : Site
        All of its addresses lie in 127.0.0.0/8.
    directory : Path
        Gets `config/`, `logs/` and `nodes/<name>/`; what an earlier lab left there is refused, because journals are
        evidence of one run.
    defects : Defects
        What is broken on purpose.
    haproxy : Path, optional
        The program; found in PATH and the usual places by default.
    timeouts : LabTimeouts
        How long to wait for what.

    Attributes
    ----------
    web_user, web_password : str
        The account of the web page; the password is random, of this lab alone.
    ca_file : Path
        The certificate authority that issued the nodes' certificates.

    Raises
    ------
    LabError
        When HAProxy is missing, an address is not a loopback one, or a defect names what is not there.
    """

    target: Literal["native", "compose", "real"] = "native"

    def __init__(
        self, site: Site, directory: Path, *, defects: Defects = _NO_DEFECTS, haproxy: Path | None = None,
        timeouts: LabTimeouts = _TIMEOUTS,
    ) -> None:  # fmt: skip
        check_loopback(site)
        self.site = site
        self.directory = directory.resolve()
        self.configuration_file = self.directory / "config" / "haproxy.cfg"
        self.log_file = self.directory / "logs" / "haproxy.log"
        self.ca_file = self.directory / "config" / "ca.pem"
        self.web_user = site.web.user
        self.web_password = secrets.token_urlsafe(18)
        self._defects = defects
        self._sockets = _socket_directory()
        self._timeouts = timeouts
        self._balancer = NativeBalancer(
            site, find_haproxy(haproxy), self.configuration_file, self.log_file, self._sockets, self.ca_file, timeouts
        )
        self.balancer = self._balancer.api
        self._sources = SourceAddresses(site.clients.network)
        self._receiver: str | None = None
        self._keeper: KeeperClient | None = None
        self._nodes: NativeNodes | None = None
        check_defects(site, defects)

    def start(self) -> None:
        """Bring the site up; return when every service answers at its own protocol and every server has been checked."""
        if self._keeper is not None:
            raise LabError(f"{self.site.name}: expected a lab that is not up, found it up")
        fd_limit = _raise_fd_limit()
        self._make_directories()
        self._keeper = keeper = KeeperClient()
        try:
            keeper.make_directory(self._sockets)
            self._start_fallbacks(keeper)
            self._nodes = nodes = NativeNodes(
                self.site, self._simulated_nodes(), self._defects, keeper, self.directory / "logs", self._timeouts
            )
            nodes.start_all()
            self._balancer.configure(self._defects, nodes.relays.values(), fd_limit)
            nodes.wait_until_all_answer()  # before anything asks them: what is not there yet is DOWN for a while
            self._balancer.start(keeper)
            self._balancer.wait_until_checked(keeper)
            self._start_hogs(keeper)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Undo all faults and leave nothing running; the directory stays. Safe to call twice."""
        keeper, self._keeper, self._nodes = self._keeper, None, None
        if keeper is not None:
            keeper.stop()
            shutil.rmtree(self._sockets, ignore_errors=True)  # the keeper did, unless it was killed

    def source_addresses(self, count: int) -> list[str]:
        """Give out `count` source addresses, none of them given out before. Raises LabError when they run out."""
        return self._sources.take(count)

    def reload_balancer(self) -> None:
        """Reload HAProxy; return when the new worker serves."""
        self._running()
        self._balancer.reload()

    def node_directories(self) -> dict[str, Path]:
        """Return each node's folder by its name."""
        return {node.name: self.directory / "nodes" / node.name for node in self.site.node}

    def kill_service(self, node: str, service: ServiceKind) -> None:
        """Kill a service with SIGKILL; return when it is gone and its port refuses."""
        self._running().kill(node, service)

    def start_service(self, node: str, service: ServiceKind) -> None:
        """Start a service that was killed; return when it answers at its own protocol."""
        self._running().start(node, service)

    def crash_node(self, node: str) -> None:
        """Let a node die as a machine does; return when its ports refuse. Its open sessions get neither FIN nor RST."""
        self._running().crash(node)

    def revive_node(self, node: str) -> None:
        """Start all services of a crashed node afresh; return when they answer."""
        self._running().revive(node)

    def pause_node(self, node: str) -> None:
        """Stop all processes of a node (SIGSTOP): the kernel still accepts for them, nobody answers."""
        self._running().pause(node)

    def resume_node(self, node: str) -> None:
        """Let a paused node go on."""
        self._running().resume(node)

    def accept_queue(self, node: str, service: ServiceKind) -> AcceptQueue:
        """Return what waits to be accepted by a service, and for how many there is room."""
        return self._running().accept_queue(node, service)

    def keep_receipts_only(self) -> None:
        """Restart the storage services so that they keep receipts and no images; return when they answer."""
        self._running().keep_receipts_only(self.site.engines.processes)

    def unexpected_exits(self) -> list[Exit]:
        """Return the processes that have ended though nobody here ended them (faults end with SIGKILL), oldest first."""
        keeper = self._keeper
        return [ended for ended in keeper.status().exits if ended.code != -signal.SIGKILL] if keeper else []

    def receiver_address(self) -> str:
        """Return an address of this machine that nodes may connect to; no client ever sends from it."""
        if self._receiver is None:
            self._receiver = self._sources.take(1)[0]
        return self._receiver

    def vip_target(self, service: ServiceKind) -> Target:
        """Return where clients of a service send: its VIP."""
        vip = self.site.vip_of(service)
        return Target(vip.address, vip.port, Service[service.upper()], Way.VIP)

    def straight_target(self, service: ServiceKind, node: str) -> Target:
        """Return where a client sends that goes straight to a node's service (LabError when the node has none such)."""
        return self._running().endpoint(node, service).target

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> NativeNodes:
        if self._nodes is None:
            raise LabError(f"{self.site.name}: expected a lab that is up, found it down. Start it first")
        return self._nodes

    def _make_directories(self) -> None:
        records = [path for path in self.node_directories().values() if path.exists()]
        if records or self.log_file.exists():
            found = records[0] if records else self.log_file
            raise LabError(
                f"{self.directory}: expected no records of an earlier lab, found {found}. Choose another directory"
            )
        for path in (*self.node_directories().values(), self.configuration_file.parent, self.log_file.parent):
            path.mkdir(parents=True, exist_ok=True)

    def _simulated_nodes(self) -> dict[str, SimulatedNode]:
        authority = LabAuthority(self.configuration_file.parent)
        directories = self.node_directories()
        made = {}
        for node in self.site.node:
            certificate = authority.issue(
                self.configuration_file.parent / "certificates" / node.name, certificate_names(self.site, node),
                expired=node.name in self._defects.expired_certificates,
            )  # fmt: skip
            made[node.name] = simulated_node(
                self.site, node, self._defects, directories, certificate, {self.web_user: self.web_password},
                self.receiver_address(),
            )  # fmt: skip
        return made

    def _start_fallbacks(self, keeper: KeeperClient) -> None:
        """Start the appliance's own page, once for each address and port that a VIP falls back to."""
        named = [(vip.fallback.address, vip.fallback.port) for vip in self.site.vip if vip.fallback]
        for address, port in dict.fromkeys((*named, *self._defects.pages)):
            name = f"fallback-{address}-{port}"
            with bind_listener(address, port) as listener:
                keeper.start(
                    name, [sys.executable, "-m", "simulators.web.fallback_page", str(FIRST_FD)], directory=self.directory,
                    log=self.directory / "logs" / f"{name}.log", environment=python_environment(), sockets=[listener],
                )  # fmt: skip

    def _start_hogs(self, keeper: KeeperClient) -> None:
        """Start what takes the CPU from everybody else, last of all: the lab itself must come up."""
        cores = len(os.sched_getaffinity(0))
        for number in range(1, self._defects.cpu_hogs_per_core * cores + 1):
            keeper.start(
                f"hog-{number}", [sys.executable, "-m", "compose.hog"], directory=self.directory,
                log=self.directory / "logs" / "hogs.log", environment=python_environment(),
            )  # fmt: skip


def check_loopback(site: Site) -> None:
    """Check that every address of a site lies in 127.0.0.0/8: a native lab sends nothing anywhere else.

    Raises
    ------
    LabError
        For the first that does not.
    """
    for what, address in _addresses(site):
        network = ipaddress.ip_network(address)
        if not isinstance(network, ipaddress.IPv4Network) or not network.subnet_of(_LOOPBACK):
            raise LabError(
                f"{what}: expected an address in {_LOOPBACK} for a native lab, found {address}. Use a site file for loopback "
                "addresses, such as lbconfig/sites/loopback.toml"
            )


def _addresses(site: Site) -> Iterable[tuple[str, str]]:
    yield "balancer.address", site.balancer.address
    yield "clients.network", site.clients.network
    for node in site.node:
        yield f"node {node.name}", node.address
    for vip in site.vip:
        yield f"VIP {vip.name}", vip.address
        if vip.fallback:
            yield f"fallback of VIP {vip.name}", vip.fallback.address


def _socket_directory() -> Path:
    """Name a new directory for HAProxy's sockets; the lab's own may lie too deep for a unix socket's path."""
    directory = Path(tempfile.gettempdir()) / f"preflight-{secrets.token_hex(6)}"
    if len(str(directory)) > _SOCKET_DIRECTORY_CHARACTERS:
        raise LabError(
            f"{directory}: expected at most {_SOCKET_DIRECTORY_CHARACTERS} characters, because HAProxy's sockets go there, "
            f"found {len(str(directory))}. Set TMPDIR to a shorter path"
        )
    return directory


def _raise_fd_limit() -> int:
    """Raise this process's limit of open files as far as it may, for what it starts too, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main(arguments: list[str]) -> None:
    """Bring a site up, say where it is, and keep it until Ctrl-C or SIGTERM."""
    if len(arguments) != 3:
        sys.exit(f"usage: python -m compose.native SITE.toml DIRECTORY, found {len(arguments) - 1} arguments")
    with until_sigterm(), NativeLab(load_site(Path(arguments[1])), Path(arguments[2])) as lab:
        for vip in lab.site.vip:
            print(f"{vip.name:<8} {vip.address}:{vip.port}")  # noqa: T201  this is a command
        print(f"web: {lab.web_user} / {lab.web_password}, CA {lab.ca_file}; Ctrl-C ends it", flush=True)  # noqa: T201
        signal.pause()


if __name__ == "__main__":
    main(sys.argv)
