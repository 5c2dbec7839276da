from __future__ import annotations

from compose.inside.tester import address_commands
from compose.keeper_client import CHECKOUT
from compose.layout import WORKERS
from lbconfig.site_file import load_site

SITES = CHECKOUT / "lbconfig" / "sites"
COMMANDS = list(address_commands(load_site(SITES / "brief.toml"), "eth0"))


def test_the_tester_is_the_router_and_every_client_of_the_local_network() -> None:
    given = [command[2] for command in COMMANDS if command[0] == "addr"]
    assert given == ["192.168.110.1/24", *(f"192.168.110.{octet}/24" for octet in range(192, 255))]


def test_half_of_the_routed_network_is_its_own_and_every_worker_has_a_part_of_the_rest() -> None:
    routes = [command[2:] for command in COMMANDS if command[0] == "route"]
    assert routes[0] == ["local", "198.18.0.0/16", "dev", "lo"]
    assert routes[1] == ["198.19.0.0/21", "via", "192.168.110.64", "dev", "eth0"]
    assert len(routes) == 1 + len(WORKERS)
    assert len({route[0] for route in routes[1:]}) == len(WORKERS)


def test_with_two_arms_it_also_has_who_goes_straight_and_a_way_to_the_nodes_by_a_vip() -> None:
    commands = list(address_commands(load_site(SITES / "two-arm.toml"), "eth0"))
    added = [command for command in commands if command not in COMMANDS]
    assert added == [
        *(["addr", "replace", f"192.168.110.{octet}/24", "dev", "eth0"] for octet in range(32, 64)),
        ["route", "replace", "192.168.120.0/24", "via", "192.168.110.100", "dev", "eth0"],
    ]
