"""The lab in containers with two arms, brought up for real on Docker: who reaches whom, and what moves when a unit fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from compose.docker import ComposeLab
from compose.keeper_client import CHECKOUT
from compose.lab import HasStraightSources, LabError, UnitFailure
from compose.networks import networks_of, receiver_of
from compose.overlap import ways_to
from lbconfig.site import ServiceKind
from tests.compose.docker_lab import Seen, free_subnet, hosted, wait_for

if TYPE_CHECKING:
    from tests.compose.conftest import Docker

SITE = CHECKOUT / "lbconfig" / "sites" / "two-arm.toml"
SERVICES: tuple[ServiceKind, ...] = ("dicom", "hl7", "dmwl", "https")
NOBODY_LISTENS = 9
# What becomes of a connection that a node begins: `refused` was said by the other host, so it is reached.
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"


@pytest.fixture(scope="module")
def up(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    host, site = hosted(free_subnet(), tmp_path_factory.mktemp("lab") / "out", site_file=SITE)
    with host:
        lab = ComposeLab(site, host.run / "own", run=host.run)
        lab.start()
        yield Seen(host, lab)
        lab.stop()


def begun_by(up: Seen, node: str, address: str) -> str:
    """Return the last words of a node that begins a connection to a port where nobody listens."""
    said = up.in_container(f"{up.host.project}-{node}-1", f"python3 -c '{_CONNECT}' {address} {NOBODY_LISTENS}")
    return said.splitlines()[-1]


@pytest.mark.parametrize("service", SERVICES)
def test_each_vip_answers_clients_of_its_own_subnet_and_clients_behind_the_router(up: Seen, service: ServiceKind) -> None:
    assert up.vip(service, up.lab.local_source_addresses(1)[0]) == "answered"
    assert up.vip(service, up.lab.routed_source_addresses(1)[0]) == "answered"


@pytest.mark.parametrize("side", ["local", "routed"])
def test_no_client_reaches_a_node_past_the_vips(up: Seen, side: str) -> None:
    give_out = up.lab.local_source_addresses if side == "local" else up.lab.routed_source_addresses
    assert "refused" in up.straight("hl7", "mach7-1", source=give_out(1)[0])


def test_who_may_go_straight_to_a_node_does(up: Seen) -> None:
    assert isinstance(up.lab, HasStraightSources)
    assert [up.straight(service, node.name) for node in up.site.node for service in SERVICES] == ["answered"] * 8


def test_the_host_has_no_way_into_either_network(up: Seen) -> None:
    assert [ways_to(network) for network in networks_of(up.site).all] == [[], []]


def test_a_node_leaves_by_its_gateway_and_is_let_through(up: Seen) -> None:
    assert f"default via {up.site.balancer.nodes_gateway} " in up.in_network_of("mach7-1", "ip route")
    assert "refused" in begun_by(up, "mach7-1", receiver_of(up.site))


@pytest.mark.parametrize("how", ["killed", "cut-off"])
def test_the_gateway_moves_with_the_vips_and_a_unit_that_comes_back_has_both_arms(up: Seen, how: UnitFailure) -> None:
    wait_for(lambda: len(up.lab.holders()) == 1, "one unit with the VIPs")
    active = up.lab.active_unit()
    (other,) = [unit for unit in up.lab.units if unit != active]
    up.lab.fail_unit(active, how)
    try:
        wait_for(lambda: _active(up.lab) == other, f"{other} to take the VIPs")
        wait_for(lambda: "refused" in begun_by(up, "mach7-2", receiver_of(up.site)), f"{other} to be the nodes' router")
        assert up.vip("hl7") == "answered"
    finally:
        up.lab.mend_unit(active, how)
    routes = up.in_network_of(active, "ip route")
    assert f"default via {networks_of(up.site).clients[1]} " in routes
    assert f"{networks_of(up.site).nodes} dev " in routes
    wait_for(lambda: all(server.is_up for server in up.lab.unit(active).balancer.servers() if server.checked), "all UP")


def test_a_unit_that_lost_only_its_arm_towards_the_nodes_gives_up_the_vips(up: Seen) -> None:
    wait_for(lambda: len(up.lab.holders()) == 1, "one unit with the VIPs")
    active = up.lab.active_unit()
    (other,) = [unit for unit in up.lab.units if unit != active]
    inner = f"ip link set $(ip -o -4 addr show to {up.site.balancer.unit_named(active).inner_address} | awk '{{print $2}}')"
    up.in_network_of(active, f"{inner} down")
    try:
        wait_for(lambda: _active(up.lab) == other, f"{other} to take the VIPs")
        assert up.vip("hl7") == "answered"
    finally:
        up.in_network_of(active, f"{inner} up")


def test_a_unit_that_was_killed_leaves_no_interface_behind(up: Seen) -> None:
    wait_for(lambda: len(up.lab.holders()) == 1, "one unit with the VIPs")
    before = _interfaces()
    active = up.lab.active_unit()
    up.lab.fail_unit(active, "killed")
    assert len(_interfaces()) == len(before) - 2
    up.lab.mend_unit(active, "killed")
    assert len(_interfaces()) == len(before)


def test_nothing_ended_that_nobody_ended(up: Seen) -> None:
    assert up.lab.unexpected_exits() == []


def _active(lab: ComposeLab) -> str:
    try:
        return lab.active_unit()
    except LabError:
        return ""


def _interfaces() -> list[str]:
    """Return the host's ends of all containers' interfaces."""
    return [path.name for path in Path("/sys/class/net").glob("veth*")]
