"""The balancer of a native lab: a real HAProxy in master-worker mode, as a process of the keeper."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from lbconfig.errors import LoadBalancingError
from lbconfig.haproxy import Runtime, render
from lbconfig.runtime_api import BalancerError, MasterCli, RuntimeApi
from lbconfig.site import Site

from .configuration import edited, through_relay
from .keeper_client import KeeperClient, wait_for_exit
from .lab import Defects, LabError
from .limits import LabTimeouts
from .native_nodes import RelayPoint, last_lines
from .ports import check_free
from .server_states import forget_states, reload_with_states

_PROCESS = "haproxy"
_USUAL_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"  # an ordinary user's PATH leaves out sbin
_VALIDATION_S = 30.0


def find_haproxy(program: Path | None) -> Path:
    """Return where HAProxy is.

    Raises
    ------
    LabError
        When it is not there.
    """
    if program is not None:
        if not program.is_file():
            raise LabError(f"{program}: expected the program haproxy, found no such file")
        return program
    found = shutil.which("haproxy") or shutil.which("haproxy", path=_USUAL_PLACES)
    if found is None:
        raise LabError("haproxy: expected HAProxy 2.6 or newer, found none. Install it: apt-get install haproxy")
    return Path(found)


class NativeBalancer:
    """Configures, starts and reloads HAProxy.

    Parameters
    ----------
    site : Site
        What is balanced.
    program : Path
        The program haproxy.
    configuration_file, log_file : Path
        Where they are to be.
    socket_directory : Path
        Where its sockets are; short, because of the 107 characters of a unix socket's path.
    ca_file : Path
        The authority that issued the nodes' certificates, for health checks that verify them.
    timeouts : LabTimeouts
        How long to wait for what.
    """

    def __init__(
        self,
        site: Site,
        program: Path,
        configuration_file: Path,
        log_file: Path,
        socket_directory: Path,
        ca_file: Path,
        timeouts: LabTimeouts,
    ) -> None:
        self.api = RuntimeApi(socket_directory / "haproxy.sock", clears_on_drain=site.vips_cleared_on_drain)
        self._site = site
        self._program = program
        self._configuration_file = configuration_file
        self._log_file = log_file
        self._state_file = configuration_file.with_name("server-states")
        self._ca_file = ca_file
        self._master_socket = socket_directory / "master.sock"
        self._runtime_socket = socket_directory / "haproxy.sock"
        self._timeouts = timeouts
        self._own_endpoints: list[tuple[str, int]] = []

    def configure(self, defects: Defects, relays: Iterable[RelayPoint], fd_limit: int) -> None:
        """Write the configuration, with its defects, and have HAProxy check it.

        Raises
        ------
        LabError
            When HAProxy refuses it; with what it says.
        """
        runtime = Runtime(
            runtime_socket=str(self._runtime_socket), fd_limit=fd_limit, server_state_file=str(self._state_file),
            ca_file=str(self._ca_file),
        )  # fmt: skip
        forget_states(self._state_file)
        self._own_endpoints = [(self._site.balancer.address, runtime.peer_port)]
        try:
            text = render(self._site, runtime)
        except LoadBalancingError as error:
            raise LabError(str(error)) from error
        for relay in relays:
            text = self._through(relay, text)
        self._configuration_file.write_text(edited(text, defects.configuration))
        checked = subprocess.run(
            [self._program, "-c", "-f", self._configuration_file], capture_output=True, text=True, check=False,
            timeout=_VALIDATION_S,
        )  # fmt: skip
        if checked.returncode != 0:
            raise LabError(
                f"{self._configuration_file}: expected {self._program} to accept it, found:\n{checked.stdout}{checked.stderr}"
            )

    def start(self, keeper: KeeperClient) -> None:
        """Start it; `wait_until_checked` is to follow. LabError when a VIP's port is taken."""
        # It binds with SO_REUSEPORT: a stale one would share its ports silently, and its table with it.
        check_free([*((vip.address, vip.port) for vip in self._site.vip), *self._own_endpoints])
        keeper.start(
            _PROCESS, [str(self._program), "-W", "-db", "-S", str(self._master_socket), "-f", str(self._configuration_file)],
            directory=self._configuration_file.parent, log=self._log_file,
        )  # fmt: skip

    def wait_until_checked(self, keeper: KeeperClient) -> None:
        """Return when every real server has been checked once: UP or DOWN, as it may be.

        Raises
        ------
        LabError
            When HAProxy ends, or its checks take longer than they can.
        """
        longest_round_s = max(vip.health_check.interval_s + vip.health_check.timeout_s for vip in self._site.vip)
        limit_s = longest_round_s + self._timeouts.balancer_s
        deadline = time.monotonic() + limit_s
        while missing := self._unchecked():
            pid = keeper.status().alive.get(_PROCESS)
            if pid is None:
                found = keeper.exit_of(_PROCESS) or "it gone"
                raise LabError(f"haproxy: expected it to run, found that {found}\n{self._log()}")
            if time.monotonic() > deadline:
                raise LabError(
                    f"haproxy (pid {pid}): expected every server checked in {limit_s:g} s, found {missing}\n{self._log()}"
                )
            wait_for_exit(pid, self._timeouts.poll_s)

    def reload(self) -> None:
        """Reload it; return when the new worker serves. LabError when it does not.

        Where the site keeps states, they are saved first: that is the work of whoever reloads, as on the appliance.
        """
        master = MasterCli(self._master_socket)
        try:
            if self._site.balancer.keep_server_states:
                reload_with_states(master, self.api, self._state_file)
            else:
                master.reload()
        except BalancerError as error:
            raise LabError(f"haproxy: expected to reload, found {error}\n{self._log()}") from error

    def _through(self, relay: RelayPoint, text: str) -> str:
        vip = self._site.vip_of(relay.endpoint.service)
        for server in vip.real_server:
            if server.node == relay.endpoint.node:
                text = through_relay(text, vip.name, server.label, relay.address, relay.port)
        return text

    def _unchecked(self) -> str:
        """Return what is not known yet, empty when all is."""
        try:
            servers = self.api.servers()
        except BalancerError as error:
            return str(error)
        return "; ".join(f"{server.vip}/{server.label} {server.status}" for server in servers if not server.checked)

    def _log(self) -> str:
        return f"The end of {self._log_file}:\n{last_lines(self._log_file)}"
