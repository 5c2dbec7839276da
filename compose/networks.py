"""The networks of a lab in containers: the clients' one, and the nodes' own where the site is two-arm. Each is a /24."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from typing import NamedTuple

from lbconfig.site import Site

from .lab import LabError
from .layout import LOAD_MASTER, ROUTER, TESTER, WORKERS

_PREFIX_LENGTH = 24


class LabNetworks(NamedTuple):
    """`clients` has the VIPs, the units and the tester in it; `nodes` the nodes: None where they are in the other one."""

    clients: IPv4Network
    nodes: IPv4Network | None

    @property
    def all(self) -> tuple[IPv4Network, ...]:
        """Both, or the one."""
        return (self.clients,) if self.nodes is None else (self.clients, self.nodes)

    def moves_to(self, clients: IPv4Network) -> dict[IPv4Network, IPv4Network]:
        """Return where each network goes when the clients' one goes to `clients`: the nodes' to the /24 after that."""
        moves = {self.clients: clients}
        if self.nodes is not None:
            moves[self.nodes] = IPv4Network((int(clients.network_address) + clients.num_addresses, clients.prefixlen))
        return moves


def networks_of(site: Site) -> LabNetworks:
    """Return the networks that the hosts of a site lie in.

    Raises
    ------
    LabError
        When a host lies outside of its network, or has an address that the lab itself needs there.
    """
    outer, inner = list(_outer_hosts(site)), list(_inner_hosts(site))
    clients = _network_around(outer)
    own = {ROUTER: "router", TESTER: "tester", LOAD_MASTER: "load master", **dict.fromkeys(WORKERS, "load worker")}
    for what, address in outer:
        octet = int(address.rpartition(".")[2])
        if octet in own:
            raise LabError(
                f"{what}: expected an address that a lab in containers leaves free, found {address}: the {own[octet]}'s"
            )
    for key, part in (("network", site.clients.network), ("straight_network", site.clients.straight_network)):
        if part is not None and not IPv4Network(part).subnet_of(clients):
            raise LabError(f"clients.{key}: expected a part of {clients}, as the VIPs' network, found {part}")
    if site.clients.routed_network is None:
        raise LabError("clients.routed_network: expected the network of the clients behind the router, found none")
    if not inner:
        return LabNetworks(clients, None)
    nodes = _network_around(inner)
    if nodes == clients:
        raise LabError(f"{inner[0][0]}: expected an address outside of {clients}, the VIPs' network, found {inner[0][1]}")
    gateway, found = str(nodes[ROUTER]), site.balancer.nodes_gateway
    if found != gateway:
        raise LabError(f"balancer.nodes_gateway: expected {gateway}, where a lab in containers has it, found {found}")
    return LabNetworks(clients, nodes)


def subnet_of(site: Site) -> IPv4Network:
    """Return the /24 that the VIPs lie in. Raises LabError as `networks_of` does."""
    return networks_of(site).clients


def receiver_of(site: Site) -> str:
    """Return where nodes send to: the tester's own address."""
    return str(subnet_of(site)[TESTER])


def moved(text: str, moves: Mapping[IPv4Network, IPv4Network]) -> str:
    """Return a site file's text with every address of some /24 moved to another, its last octet unchanged."""
    to = {first_octets(old): first_octets(new) for old, new in moves.items()}
    known = "|".join(re.escape(old) for old in to)
    return re.sub(rf"(?<![\d.])({known})\.(?=\d)", lambda found: f"{to[found[1]]}.", text)


def first_octets(network: IPv4Network) -> str:
    """Return what all addresses of a /24 begin with: `192.168.110`."""
    return str(network.network_address).rpartition(".")[0]


def _network_around(named: list[tuple[str, str]]) -> IPv4Network:
    """Return the /24 of the first host. Raises LabError when another is not in it."""
    network = IPv4Network(f"{named[0][1]}/{_PREFIX_LENGTH}", strict=False)
    for what, address in named:
        if ipaddress.IPv4Address(address) not in network:
            raise LabError(f"{what}: expected an address in {network}, as {named[0][0]} has one, found {address}")
    return network


def _outer_hosts(site: Site) -> Iterator[tuple[str, str]]:
    for vip in site.vip:
        yield f"VIP {vip.name}", vip.address
    if not site.balancer.is_two_arm:
        for node in site.node:
            yield f"node {node.name}", node.address
    for unit in site.balancer.unit:
        yield f"unit {unit.name}", unit.address


def _inner_hosts(site: Site) -> Iterator[tuple[str, str]]:
    if site.balancer.is_two_arm:
        for node in site.node:
            yield f"node {node.name}", node.address
        for unit in site.balancer.unit:
            if unit.inner_address is not None:
                yield f"unit {unit.name}, inner address", unit.inner_address
