"""The lab in containers, as pytest in the tester sees it: it is up already, and this is what can be done to it.

The command on the host brought it up (`compose.containers.keeper`), and takes it down. Everything is reached by unix sockets
in the run folder, `/lab`: the nodes, the balancers' HAProxy, the tester's own process 1, and the keeper on the host for what
needs Docker. No fault of the network cuts these paths.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Literal, Self

import msgspec

from lbconfig.site import ServiceKind, Site
from simulators.client import Target
from simulators.operations import Service, Way

from .containers.controls import ASKED_S
from .containers.nodes import ContainerNodes
from .containers.pair import ContainerPair
from .control_socket import ask, hold
from .inside.node import LOGS
from .keeper_client import Exit, KeeperClient, python_environment
from .lab import Defects, LabError
from .layout import LAB, UnitFiles, keeper_socket, site_file, tester_network
from .limits import LabTimeouts
from .native_nodes import endpoints_of
from .networks import receiver_of
from .run_folder import ACCOUNT, CA, WebAccount
from .source_addresses import SourceAddresses

_TIMEOUTS = LabTimeouts(answer_s=180.0)  # longer than a node waits for its own services
_NO_DEFECTS = Defects()
_GIVEN = "sources-given.json"  # outlives pytest: a second run in this lab must not meet the first one's entries


class ComposeLab(ContainerPair, ContainerNodes):
    """A site that is up in containers, seen from the tester.

    It has every capability of `compose.lab`. Its methods may be called from any thread, one fault at a time.

    Parameters
    ----------
    site : Site
        As it runs.
    directory : Path
        Gets the logs of the nodes and the balancers when the lab is left.
    defects : Defects
        What is broken on purpose: the run folder was written with them; what takes the CPU is started here.
    run : Path
        The run folder.
    timeouts : LabTimeouts
        How long to wait for what.

    Raises
    ------
    LabError
        When this process is not in the tester of a lab, or the site has no pair.
    """

    target: Literal["native", "compose", "real"] = "compose"

    def __init__(
        self, site: Site, directory: Path, *, defects: Defects = _NO_DEFECTS, run: Path = Path(LAB),
        timeouts: LabTimeouts = _TIMEOUTS,
    ) -> None:  # fmt: skip
        if not site_file(run).is_file():
            raise LabError(
                f"{run}: expected the run folder of a lab in containers, found none. Start one on the host: "
                "preflight accept --lab compose, or preflight lab up --lab compose"
            )
        ContainerNodes.__init__(self, site, run)
        ContainerPair.__init__(self, site, run, timeouts)
        self.directory = directory.resolve()
        self.ca_file = run / "config" / CA
        self._defects = defects
        account = msgspec.json.decode((run / "config" / ACCOUNT).read_bytes(), type=WebAccount)
        self.web_user, self.web_password = account.user, account.password
        self._hold: socket.socket | None = None
        self._hogs: KeeperClient | None = None
        self._giving = threading.Lock()
        self._given = _read_given(run)
        self._local = SourceAddresses(site.clients.network, self._given["local"])
        self._routed = SourceAddresses(str(tester_network(site.clients.routed_network or "")), self._given["routed"])

    def start(self) -> None:
        """Wait until every service answers at its own protocol, every server has been checked, and one unit has the VIPs."""
        if self._hold is not None:
            raise LabError(f"{self.site.name}: expected a lab that was not entered, found that it was")
        (self.directory / "logs").mkdir(parents=True, exist_ok=True)
        self._hold = hold(keeper_socket(self._run), {"do": "hold"}, ASKED_S)
        try:
            deadline = time.monotonic() + self._timeouts.answer_s
            for node in self.site.node:
                self._controls.wait(
                    f"node {node.name}", functools.partial(self._node_silence, node.name), deadline, self._timeouts.poll_s
                )
            for unit in self.units:
                self.wait_until_checked(unit, deadline)
                self.wait_until_up(unit)
            self.wait_until_held(deadline)
            self._start_hogs()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Undo all faults and keep the logs; the containers stay for whoever brought them up. Safe to call twice."""
        held, self._hold = self._hold, None
        hogs, self._hogs = self._hogs, None
        if hogs is not None:
            hogs.stop()
        if held is None:
            return
        try:
            with contextlib.suppress(LabError):  # a lab that is being taken down has nothing to be undone
                ask(keeper_socket(self._run), {"do": "undo"}, ASKED_S)
        finally:
            held.close()
            self._keep_logs()

    def let_go(self) -> None:
        """Leave the lab without a word, as a process that is killed does: the keeper undoes the faults."""
        held, self._hold = self._hold, None
        if held is not None:
            held.close()

    def source_addresses(self, count: int) -> list[str]:
        """Give out `count` source addresses behind the router, none of them given out before."""
        return self.routed_source_addresses(count)

    def routed_source_addresses(self, count: int) -> list[str]:
        """Give out `count` addresses that are reached through a router."""
        return self._take("routed", self._routed, count)

    def local_source_addresses(self, count: int) -> list[str]:
        """Give out `count` addresses in the VIPs' own subnet."""
        return self._take("local", self._local, count)

    def straight_source_addresses(self, count: int) -> list[str]:
        """Give out `count` addresses from which nodes may be reached past the balancer."""
        allowed = self.site.clients.straight_network
        return self.source_addresses(count) if allowed is None else SourceAddresses(allowed).take(count)

    def receiver_address(self) -> str:
        """Return the tester's own address."""
        return receiver_of(self.site)

    def unexpected_exits(self) -> list[Exit]:
        """Return the services and containers that have ended though nobody here ended them, oldest first."""
        found = []
        for node in self.site.node:
            with contextlib.suppress(LabError):  # its container has gone: that is told below
                ended = [Exit(*exit_) for exit_ in self._tell_node(node.name, "status")["exits"]]
                found += [exit_ for exit_ in ended if exit_.code != -signal.SIGKILL]
        with contextlib.suppress(LabError):
            found += [Exit(service, 0, code) for service, code, _ in self._controls.gone()]
        return found

    def vip_target(self, service: ServiceKind) -> Target:
        """Return where clients of a service send: its VIP."""
        vip = self.site.vip_of(service)
        return Target(vip.address, vip.port, Service[service.upper()], Way.VIP)

    def straight_target(self, service: ServiceKind, node: str) -> Target:
        """Return where a client sends that goes straight to a node's service (LabError when the node has none such)."""
        try:
            return endpoints_of(self.site)[node, service].target
        except KeyError:
            raise LabError(f"{node}/{service}: expected a service of the site, found none such") from None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _node_silence(self, node: str) -> str:
        try:
            self._tell_node(node, "status")
        except LabError as error:
            return str(error)
        return ""

    def _start_hogs(self) -> None:
        """Start what takes the CPU from everybody else: containers share it."""
        wanted = self._defects.cpu_hogs_per_core * len(os.sched_getaffinity(0))
        if not wanted:
            return
        self._hogs = KeeperClient()
        for number in range(1, wanted + 1):
            self._hogs.start(
                f"hog-{number}", [sys.executable, "-m", "compose.hog"], directory=self.directory,
                log=self.directory / "logs" / "hogs.log", environment=python_environment(),
            )  # fmt: skip

    def _take(self, kind: Literal["local", "routed"], addresses: SourceAddresses, count: int) -> list[str]:
        with self._giving:
            taken = addresses.take(count)
            self._given[kind] += count
            (self._run / "control" / _GIVEN).write_bytes(msgspec.json.encode(self._given))
        return taken

    def _keep_logs(self) -> None:
        """Copy the logs of nodes and balancers to where those of any lab are."""
        logs = self.directory / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for folder in self.node_directories().values():
            for log in (folder / LOGS).glob("*.log"):
                shutil.copyfile(log, logs / log.name)
        for unit in self.units:
            files = UnitFiles(self._run, unit)
            for file in (files.configuration, files.keepalived, files.filter_rules, files.log, files.keepalived_log):
                if file.exists():
                    shutil.copyfile(file, logs / f"{unit}-{file.name}")


def _read_given(run: Path) -> dict[str, int]:
    """Return how many addresses earlier runs in this lab were given, by kind."""
    try:
        return msgspec.json.decode((run / "control" / _GIVEN).read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        return {"local": 0, "routed": 0}
