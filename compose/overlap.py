"""Whether a lab's network is free on this host: a laptop in that very hospital must not lose its way to it."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
from collections.abc import Iterable, Iterator

import docker
import psutil

from .containers.project import PREFIX
from .lab import LabError

_IP_S = 10.0
_DEFAULT_BITS = 1  # routes so wide are somebody's default route, and no network of their own
_PROJECT_LABEL = "com.docker.compose.project"


class Taken(LabError):
    """The lab's network is in use here; the message says by what, and what to do."""


def check_free_network(wanted: ipaddress.IPv4Network, engine: docker.DockerClient) -> None:
    """Check that nothing on this host overlaps a lab's network.

    Parameters
    ----------
    wanted : IPv4Network
        The lab's.
    engine : DockerClient
        Whose networks are looked at too.

    Raises
    ------
    Taken
        For the first that does: an earlier lab, another network of Docker's, an address or a route of this host.
    """
    for network in engine.networks.list():
        for subnet in _subnets(network.attrs):
            if subnet.overlaps(wanted):
                raise Taken(_of_docker(wanted, subnet, str(network.name), (network.attrs.get("Labels") or {})))
    for what in ways_to(wanted):
        raise Taken(
            f"{wanted}: expected a network that this host has no way to, found {what}. Choose another for the lab: "
            f"--subnet, such as --subnet {_another(wanted)}"
        )


def ways_to(wanted: ipaddress.IPv4Network) -> list[str]:
    """Return what this host itself has of a network, in words: addresses in it, and routes but the default ones."""
    return [what for what, taken in (*_addresses(), *_routes()) if taken.overlaps(wanted)]


def lab_network(text: str) -> ipaddress.IPv4Network:
    """Read a network for a lab.

    Raises
    ------
    LabError
        When it is not a /24 of the private address space (RFC 1918).
    """
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise LabError(f"--subnet: expected a network A.B.C.0/24, found {text}: {error}") from error
    private = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    if network.prefixlen != 24 or not any(network.subnet_of(ipaddress.IPv4Network(block)) for block in private):
        raise LabError(f"--subnet: expected a /24 in {', '.join(private)}, found {text}")
    return network


def _of_docker(
    wanted: ipaddress.IPv4Network, found: ipaddress.IPv4Network, name: str, labels: dict[str, str]
) -> str:  # fmt: skip
    project = labels.get(_PROJECT_LABEL, "")
    if project.startswith(PREFIX):
        return (
            f"{wanted}: expected a free network, found the lab {project}, which has {found}. See whose it is: preflight lab "
            f"status --lab compose; take it down: preflight lab down --lab compose {project}; or choose another network: "
            f"--subnet {_another(wanted)}"
        )
    return (
        f"{wanted}: expected a free network, found Docker's network {name}, which has {found}. Choose another for the lab: "
        f"--subnet {_another(wanted)}; or remove that one: docker network rm {name}"
    )


def _subnets(attributes: dict[str, object]) -> Iterator[ipaddress.IPv4Network]:
    plan = attributes.get("IPAM")
    for entry in (plan.get("Config") or ()) if isinstance(plan, dict) else ():
        try:
            yield ipaddress.IPv4Network(entry.get("Subnet", ""))
        except ValueError:
            continue  # of another kind of network: IPv6


def _addresses() -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    for name, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.family == socket.AF_INET:
                yield f"its address {entry.address} on {name}", ipaddress.IPv4Network(f"{entry.address}/32")


def _routes() -> list[tuple[str, ipaddress.IPv4Network]]:
    try:
        done = subprocess.run(
            ["ip", "-json", "-4", "route", "show", "table", "all"], capture_output=True, text=True, check=True, timeout=_IP_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LabError(
            f"ip route: expected this host's routes, found {error}. Install it: apt-get install iproute2"
        ) from error
    return list(routes_in(json.loads(done.stdout or "[]")))


def routes_in(listed: Iterable[dict[str, object]]) -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    """Return the routes that `ip -json route` lists, each with how to name it; default routes are left out."""
    for route in listed:
        to = str(route.get("dst", "default"))
        if to == "default":
            continue
        network = ipaddress.IPv4Network(to)
        if network.prefixlen > _DEFAULT_BITS:
            yield f"its route to {network} by {route.get('dev', 'no interface')}", network


def _another(wanted: ipaddress.IPv4Network) -> str:
    return "10.99.110.0/24" if str(wanted) != "10.99.110.0/24" else "172.29.110.0/24"
