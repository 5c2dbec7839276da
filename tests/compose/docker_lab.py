"""A lab in containers for tests, at addresses of its own, and what is seen of it from outside."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from compose.containers.host import HostedLab, moved_site_file
from compose.containers.project import connect
from compose.docker import ComposeLab
from compose.images.recipes import image_tag
from compose.keeper_client import CHECKOUT
from compose.lab import Defects, LabError
from compose.overlap import check_free_network, lab_network
from lbconfig.site import Site
from lbconfig.site_file import load_site

BRIEF = CHECKOUT / "lbconfig" / "sites" / "brief.toml"
LIMIT_S = 120.0

# Says `answered` or why not: one exchange with a service, from a source address, in the tester.
_PROBE = """
import sys
from compose.probes import NotReady, answers
from simulators.client import Target
from simulators.operations import Service, Way
address, port, service, source, ae_title, timeout_s = sys.argv[1:]
try:
    answers(Target(address, int(port), Service[service], Way.VIP), source, ae_title, "PREFLIGHT", float(timeout_s))
    print("answered")
except NotReady as error:
    print(error)
"""


class HostState(NamedTuple):
    """What a lab must leave on the host as it was: containers, networks and volumes of Docker's, packet filter, routes."""

    containers: frozenset[str]
    networks: frozenset[str]
    volumes: frozenset[str]
    rules: frozenset[str]
    routes: frozenset[str]


def host_state(mark: str) -> HostState:
    """Return what there is, as far as it names `mark`: others may have labs of their own."""
    engine = connect()
    containers = {str(found.name) for found in engine.containers.list(all=True, ignore_removed=True)}
    return HostState(
        frozenset(name for name in containers if mark in name),
        frozenset(str(found.name) for found in engine.networks.list() if mark in str(found.name)),
        frozenset(str(found.name) for found in engine.volumes.list() if mark in str(found.name)),
        _lines(["iptables-save"]),
        _lines(["ip", "-4", "route", "show", "table", "all"]),
    )


def free_subnet() -> str:
    """Return a network that nothing here has, nor the one after it."""
    while True:
        first, third = random.randint(64, 127), random.randint(1, 253)  # where a lab may be, by chance
        try:
            for number in (third, third + 1):
                check_free_network(lab_network(f"10.{first}.{number}.0/24"), connect())
        except LabError:
            continue
        return f"10.{first}.{third}.0/24"


def hosted(
    subnet: str, out: Path, defects: Defects | None = None, *, site_file: Path = BRIEF
) -> tuple[HostedLab, Site]:  # fmt: skip
    """Return a site, by default the brief's, as a lab at another network; it is not up yet."""
    with moved_site_file(site_file, subnet) as path:
        site = load_site(path)
        return HostedLab(site, path.read_text(), out, defects=defects or Defects()), site


class Seen:
    """A lab that is up, and what the tester sees of it."""

    def __init__(self, host: HostedLab, lab: ComposeLab) -> None:
        self.host = host
        self.lab = lab
        self.site = lab.site

    def in_tester(self, *command: str) -> str:
        """Run a command in the tester and return its output."""
        container = f"{self.host.project}-tester-1"
        done = subprocess.run(
            ["docker", "exec", container, *command], capture_output=True, text=True, check=False, timeout=LIMIT_S
        )  # fmt: skip
        return done.stdout.strip() or done.stderr.strip()

    def in_container(self, container: str, script: str) -> str:
        """Run a shell script in a container and return all that it says."""
        done = subprocess.run(
            ["docker", "exec", container, "sh", "-c", f"({script}) 2>&1"], capture_output=True, text=True, check=False,
            timeout=LIMIT_S,
        )  # fmt: skip
        return done.stdout

    def in_network_of(self, service: str, script: str) -> str:
        """Run a shell script as root of a service's network, and return what it says."""
        image = "preflight-balancer"
        network = f"container:{self.host.project}-{service}-1"
        done = subprocess.run(
            ["docker", "run", "--rm", "--network", network, "--cap-add", "NET_ADMIN", "--entrypoint", "sh",
             f"{image}:{image_tag()}", "-c", script],
            capture_output=True, text=True, check=True, timeout=LIMIT_S,
        )  # fmt: skip
        return done.stdout

    def probe(self, address: str, port: int, service: str, source: str, timeout_s: float = 20.0) -> str:
        """Exchange a request with a service; return `answered`, or why it was not."""
        asked = (address, str(port), service.upper(), source, self.site.dicom.ae_title, str(timeout_s))
        return self.in_tester("python3", "-c", _PROBE, *asked)

    def vip(self, service: str, source: str | None = None) -> str:
        """Probe a VIP, by default from a new address behind the router."""
        vip = next(vip for vip in self.site.vip if vip.service == service)
        return self.probe(vip.address, vip.port, service, source or self.lab.source_addresses(1)[0])

    def straight(self, service: str, node: str, timeout_s: float = 20.0, source: str | None = None) -> str:
        """Probe a node's service itself, from where that is allowed."""
        vip = next(vip for vip in self.site.vip if vip.service == service)
        port = next(server.port for server in vip.real_server if server.node == node)
        source = source or self.lab.straight_source_addresses(1)[0]
        return self.probe(self.site.node_named(node).address, port, service, source, timeout_s)


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until something holds; `what` says in words what was expected."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"expected {what} within {limit_s:g} s"
        time.sleep(0.1)


def _lines(command: list[str]) -> frozenset[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    return frozenset(line for line in done.stdout.splitlines() if not line.startswith(("#", ":")))
