"""The pair of balancers of a lab in containers, as pytest in the tester sees it: who has the VIPs, and how units fail."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import cast

from lbconfig.runtime_api import BalancerError, MasterCli, RuntimeApi
from lbconfig.site import Site

from ..control_socket import ask
from ..lab import BalancerUnit, LabError, PairPath, UnitFailure
from ..layout import UnitFiles, tester_socket
from ..limits import LabTimeouts
from ..server_states import reload_with_states
from .controls import ASKED_S, Controls

_ACTIVE_FOR_S = 1.0  # how long a unit that answered for the VIPs is taken to have them still
_SETTLED_S = 10.0  # after so long, two units that have the VIPs will keep them
_BY_DOCKER: tuple[UnitFailure, ...] = ("killed", "stopped", "paused", "cut-off")


class ContainerPair:
    """Two units in containers.

    Parameters
    ----------
    site : Site
        It has a pair.
    run : Path
        The run folder.
    timeouts : LabTimeouts
        How long to wait for what.
    """

    def __init__(self, site: Site, run: Path, timeouts: LabTimeouts) -> None:
        if site.balancer.pair is None:
            raise LabError(f"{site.name}: expected a pair (balancer.unit, balancer.pair), found one balancer")
        self.site = site
        self._replication_port = site.balancer.pair.replication_port
        self._run = run
        self._timeouts = timeouts
        self._controls = Controls(run)
        self._units = {unit.name: _unit(site, run, unit.name, unit.address) for unit in site.balancer.unit}
        self._active = next(iter(self._units))
        self._active_until = 0.0
        self._paused: set[str] = set()

    @property
    def balancer(self) -> RuntimeApi:
        """The run-time API of the active unit."""
        return self._active_files().balancer

    @property
    def configuration_file(self) -> Path:
        """What the active unit runs."""
        return self._active_files().configuration_file

    @property
    def log_file(self) -> Path:
        """The traffic log of the active unit."""
        return self._active_files().log_file

    def reload_balancer(self) -> None:
        """Reload the active unit's HAProxy; return when the new worker serves.

        Where the site keeps states, they are saved first: that is the work of whoever reloads, as on the appliance.
        """
        unit = self.active_unit()
        files = UnitFiles(self._run, unit)
        master = MasterCli(files.master_socket)
        try:
            if self.site.balancer.keep_server_states:
                reload_with_states(master, self._units[unit].balancer, files.server_states)
            else:
                master.reload()
        except BalancerError as error:
            raise LabError(f"{unit}: expected its HAProxy to reload, found {error}") from error

    @property
    def units(self) -> tuple[str, ...]:
        """The units' names, in the site's order."""
        return tuple(self._units)

    def unit(self, name: str) -> BalancerUnit:
        """Return one unit (LabError when there is none of that name)."""
        try:
            return self._units[name]
        except KeyError:
            raise LabError(f"{name}: expected one of {', '.join(self._units)}") from None

    def holders(self) -> tuple[str, ...]:
        """Ask the clients' network who has the VIPs, and return the units that answer for any of them."""
        vips = list(dict.fromkeys(vip.address for vip in self.site.vip))
        own = [unit.address for unit in self._units.values()]
        asked = ask(tester_socket(self._run), {"do": "who-has", "addresses": [*vips, *own]}, ASKED_S)
        answers = cast("dict[str, list[str]]", asked["answers"])
        having = {who for vip in vips for who in answers[vip]}
        return tuple(name for name, unit in self._units.items() if having.intersection(answers[unit.address]))

    def active_unit(self) -> str:
        """Return the one unit that has the VIPs, paused ones aside. Raises LabError when none or several have."""
        holding = [name for name in self.holders() if name not in self._paused]
        if len(holding) != 1:
            raise LabError(f"the pair: expected one unit that answers for the VIPs, found {', '.join(holding) or 'none'}")
        self._active, self._active_until = holding[0], time.monotonic() + _ACTIVE_FOR_S
        return holding[0]

    def fail_unit(self, name: str, how: UnitFailure) -> None:
        """Let a unit fail; return when it has."""
        self.unit(name)
        self._active_until = 0.0
        if how in _BY_DOCKER:
            self._controls.begin(f"{name} {how}", kind=how, service=name)
        else:
            self._controls.tell_unit(name, how)
        if how == "paused":
            self._paused.add(name)

    def mend_unit(self, name: str, how: UnitFailure) -> None:
        """Undo it; return when its HAProxy answers and knows every server's state."""
        self.unit(name)
        self._active_until = 0.0
        if how in _BY_DOCKER:
            self._controls.end(f"{name} {how}")
        else:
            self._controls.tell_unit(name, "mend")
        self._paused.discard(name)
        self.wait_until_checked(name, time.monotonic() + self._timeouts.answer_s)

    def cut_paths(self, which: PairPath) -> None:
        """Drop, both ways, what one unit sends to the other."""
        for name in self._units:
            peers = [other.address for other in self._units.values() if other.name != name]
            self._controls.begin(
                f"{name} cut", kind="path", service=name, peers=peers, which=which, port=self._replication_port
            )

    def mend_paths(self) -> None:
        """Let all of it pass again."""
        for name in self._units:
            self._controls.end(f"{name} cut")

    def wait_until_checked(self, name: str, deadline: float) -> None:
        """Return when a unit's HAProxy answers and knows every server's state. Raises LabError at the deadline."""
        self._controls.wait(f"unit {name}", lambda: self._unit_silence(name), deadline, self._timeouts.poll_s)

    def wait_until_up(self, name: str) -> None:
        """Give a unit the time that its health checks need to see what has just come up; what is DOWN then is for checks."""
        deadline = time.monotonic() + max(vip.health_check.up_within_s for vip in self.site.vip)
        while time.monotonic() < deadline:
            if all(server.is_up for server in self._units[name].balancer.servers() if server.checked):
                return
            time.sleep(self._timeouts.poll_s)

    def wait_until_held(self, deadline: float) -> None:
        """Return when a unit has the VIPs; one only, unless that takes longer than two settle in.

        Raises
        ------
        LabError
            When none has them at the deadline. Two are for a check to find.
        """
        settled = time.monotonic() + _SETTLED_S
        self._controls.wait("the VIPs", lambda: self._holding_silence(settled), deadline, self._timeouts.poll_s)

    def _unit_silence(self, name: str) -> str:
        """Return what is not known yet of a unit, empty when all is."""
        try:
            servers = self._units[name].balancer.servers()
        except BalancerError as error:
            return str(error)
        return "; ".join(f"{server.vip}/{server.label} {server.status}" for server in servers if not server.checked)

    def _holding_silence(self, settled: float) -> str:
        try:
            self.active_unit()
        except LabError as error:
            return "" if self.holders() and time.monotonic() > settled else str(error)
        return ""

    def _active_files(self) -> BalancerUnit:
        if time.monotonic() > self._active_until:
            with contextlib.suppress(LabError):  # none or both have them: the last one it was
                self.active_unit()
        return self._units[self._active]


def _unit(site: Site, run: Path, name: str, address: str) -> BalancerUnit:
    files = UnitFiles(run, name)
    api = RuntimeApi(files.runtime_socket, clears_on_drain=site.vips_cleared_on_drain)
    return BalancerUnit(name, address, api, files.configuration, files.log)
