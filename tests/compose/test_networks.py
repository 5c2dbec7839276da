"""The networks of a lab in containers, as the site file says them, and how they move."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from compose.containers.host import moved_site_file
from compose.keeper_client import CHECKOUT
from compose.lab import LabError
from compose.networks import moved, networks_of, receiver_of, subnet_of
from lbconfig.site import Site
from lbconfig.site_file import load_site

SITES = CHECKOUT / "lbconfig" / "sites"
TEXT = {name: (SITES / f"{name}.toml").read_text() for name in ("brief", "two-arm")}
CLIENTS, NODES = IPv4Network("192.168.110.0/24"), IPv4Network("192.168.120.0/24")


def replaced(name: str, old: str, new: str, directory: Path) -> Site:
    path = directory / "site.toml"
    assert TEXT[name].count(old) >= 1
    path.write_text(TEXT[name].replace(old, new))
    return load_site(path)


@pytest.mark.parametrize(("name", "nodes"), [("brief", None), ("two-arm", NODES)])
def test_a_shipped_site_lies_in_one_network_or_in_two(name: str, nodes: IPv4Network | None) -> None:
    site = load_site(SITES / f"{name}.toml")
    networks = networks_of(site)
    assert networks == (CLIENTS, nodes)
    assert networks.all == ((CLIENTS,) if nodes is None else (CLIENTS, nodes))
    assert subnet_of(site) == CLIENTS
    assert receiver_of(site) == "192.168.110.20"


def test_every_host_moves_and_nothing_else() -> None:
    text = moved(TEXT["brief"], {CLIENTS: IPv4Network("10.9.8.0/24")})
    assert "192.168.110." not in text
    assert text.count("10.9.8.") == TEXT["brief"].count("192.168.110.")
    assert text.replace("10.9.8.", "192.168.110.") == TEXT["brief"]


def test_what_only_looks_like_an_address_of_the_network_stays() -> None:
    text = "a = '1192.168.110.5' b = '10.192.168.110.5' c = '192.168.110.5' d = '192.168.1101'"
    assert moved(text, {CLIENTS: IPv4Network("10.9.8.0/24")}) == (
        "a = '1192.168.110.5' b = '10.192.168.110.5' c = '10.9.8.5' d = '192.168.1101'"
    )


def test_the_nodes_network_moves_to_the_one_after_the_clients(tmp_path: Path) -> None:
    with moved_site_file(SITES / "two-arm.toml", "10.9.8.0/24") as path:
        site = load_site(path)
    assert networks_of(site) == (IPv4Network("10.9.8.0/24"), IPv4Network("10.9.9.0/24"))
    assert site.balancer.nodes_gateway == "10.9.9.1"


def test_a_network_that_moves_to_the_others_old_place_does_not_move_on_with_it() -> None:
    with moved_site_file(SITES / "two-arm.toml", "192.168.120.0/24") as path:
        site = load_site(path)
    assert networks_of(site) == (NODES, IPv4Network("192.168.121.0/24"))


def test_a_nodes_network_outside_of_what_a_lab_may_have_is_refused() -> None:
    with (
        pytest.raises(LabError, match=r"--subnet: expected a /24 in .*, found 192\.169\.0\.0/24"),
        moved_site_file(SITES / "two-arm.toml", "192.168.255.0/24"),
    ):
        pass


def test_a_host_outside_of_the_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"node mach7-2: expected an address in 192\.168\.110\.0/24, as VIP DICOM has one"):
        networks_of(replaced("brief", '"192.168.110.151"', '"192.168.111.151"', tmp_path))


def test_a_node_outside_of_the_nodes_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"node mach7-2: expected an address in 192\.168\.120\.0/24, as node mach7-1 has one"):
        networks_of(replaced("two-arm", '"192.168.120.151"', '"192.168.110.151"', tmp_path))


def test_a_nodes_network_that_is_the_vips_is_refused(tmp_path: Path) -> None:
    text = TEXT["two-arm"].replace("192.168.120.10", "192.168.120.12").replace("192.168.120.11", "192.168.120.13")
    path = tmp_path / "site.toml"
    path.write_text(moved(text, {NODES: CLIENTS}))
    with pytest.raises(LabError, match=r"expected an address outside of 192\.168\.110\.0/24, the VIPs' network"):
        networks_of(load_site(path))


def test_an_address_that_the_lab_needs_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"node mach7-2: .*found 192\.168\.110\.20: the tester's"):
        networks_of(replaced("brief", '"192.168.110.151"', '"192.168.110.20"', tmp_path))


def test_a_gateway_where_the_lab_does_not_have_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"nodes_gateway: expected 192\.168\.120\.1, where a lab .*, found 192\.168\.120\.254"):
        networks_of(replaced("two-arm", '"192.168.120.1"', '"192.168.120.254"', tmp_path))


def test_those_who_go_straight_are_in_the_clients_network(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"clients\.straight_network: expected a part of 192\.168\.110\.0/24"):
        networks_of(replaced("two-arm", '"192.168.110.32/27"', '"192.168.120.32/27"', tmp_path))
