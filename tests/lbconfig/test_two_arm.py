"""A pair with an arm in a network of the nodes: its part of a site file, and what is rendered for each unit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lbconfig import haproxy, keepalived, packet_filter
from lbconfig.keepalived import KeepalivedRuntime
from lbconfig.site import Site
from lbconfig.site_file import SiteError, load_site
from lbconfig.transparency import node_script

from .conftest import GOLDEN, SITES, TODAY
from .test_haproxy import RUNTIME, VALID, accepted, section

CHECKED = KeepalivedRuntime(
    check_program="/usr/local/sbin/haproxy-answers", runtime_socket="/run/preflight/haproxy.sock", interface="outer",
    inner_interface="inner",
)  # fmt: skip
UNITS = ("lb-1", "lb-2")
TWO_ARM = (SITES / "two-arm.toml").read_text()

WRONG = {
    "one unit without an inner address": (
        ('inner_address = "192.168.120.11"\n', ""),
        "hospital.toml: balancer.unit[1].inner_address: expected an address in the nodes' network, as the other unit "
        "has one, found nothing: the key is missing",
    ),
    "two units of one inner address": (
        ('inner_address = "192.168.120.11"', 'inner_address = "192.168.120.10"'),
        "hospital.toml: balancer.unit[1].inner_address: expected an address that nothing else has, "
        "found 192.168.120.10, as unit lb-1",
    ),
    "an inner address that is a node's": (
        ('inner_address = "192.168.120.11"', 'inner_address = "192.168.120.151"'),
        "hospital.toml: balancer.unit[1].inner_address: expected an address that nothing else has, "
        "found 192.168.120.151, as node mach7-2",
    ),
    "an inner address that is none": (
        ('inner_address = "192.168.120.11"', 'inner_address = "inside"'),
        'hospital.toml: balancer.unit[1].inner_address: expected an IPv4 address, found "inside"',
    ),
    "no gateway": (
        ('nodes_gateway = "192.168.120.1"\n', ""),
        "hospital.toml: balancer.nodes_gateway: expected a floating address in the nodes' network, which is their default "
        "route, found nothing: the key is missing",
    ),
    "a gateway that a unit has for itself": (
        ('nodes_gateway = "192.168.120.1"', 'nodes_gateway = "192.168.120.11"'),
        "hospital.toml: balancer.nodes_gateway: expected an address that nothing else has, found 192.168.120.11, "
        "as unit lb-2",
    ),
    "the outer address of the unit that starts": (
        ('address = "192.168.120.10"\n# The nodes', 'address = "192.168.110.10"\n# The nodes'),
        "hospital.toml: balancer.address: expected 192.168.120.10, that of the unit with the higher priority (lb-1), "
        "found 192.168.110.10",
    ),
    "a network for who goes straight that is none": (
        ('"192.168.110.32/27"', '"192.168.110.33/27"'),
        'hospital.toml: clients.straight_network: expected an IPv4 network such as 10.0.8.0/24, found "192.168.110.33/27" '
        "(192.168.110.33/27 has host bits set)",
    ),
}


@pytest.fixture(scope="module")
def two_arm() -> Site:
    return load_site(SITES / "two-arm.toml", today=TODAY)


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arms_are_refused_with_file_key_expected_and_found(wrong: str, tmp_path: Path) -> None:
    (old, new), message = WRONG[wrong]
    assert TWO_ARM.count(old) == 1
    path = tmp_path / "hospital.toml"
    path.write_text(TWO_ARM.replace(old, new))
    with pytest.raises(SiteError) as caught:
        load_site(path, today=TODAY)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("old", "key"),
    [
        ("connect_timeout_s = 4\n", "balancer.nodes_gateway"),
        ('routed_network = "198.18.0.0/15"\n', "clients.straight_network"),
    ],
)
def test_what_only_two_arms_have_is_refused_where_there_is_one(old: str, key: str, tmp_path: Path) -> None:
    added = {"balancer.nodes_gateway": "192.168.110.9", "clients.straight_network": "192.168.110.32/27"}[key]
    text = (SITES / "brief.toml").read_text()
    path = tmp_path / "hospital.toml"
    path.write_text(text.replace(old, f'{old}{key.rpartition(".")[2]} = "{added}"\n', 1))
    with pytest.raises(SiteError) as caught:
        load_site(path, today=TODAY)
    expected = f'hospital.toml: {key}: expected an inner_address of each unit with it (two-arm), found "{added}"'
    assert str(caught.value) == expected


def test_nodes_see_the_inner_addresses_of_the_units(two_arm: Site, brief: Site) -> None:
    assert two_arm.balancer.is_two_arm
    assert two_arm.balancer.addresses == ("192.168.120.10", "192.168.120.11")
    assert not brief.balancer.is_two_arm


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_rendered_for_a_unit_is_the_golden_one(two_arm: Site, unit: str) -> None:
    assert haproxy.render(two_arm, RUNTIME, unit) == (GOLDEN / f"two-arm.{unit}.haproxy.cfg").read_text()
    assert keepalived.render(two_arm, unit, CHECKED) == (GOLDEN / f"two-arm.{unit}.keepalived.conf").read_text()
    assert packet_filter.render(two_arm, unit) == (GOLDEN / f"two-arm.{unit}.filter.rules").read_text()


@pytest.mark.parametrize("unit", UNITS)
def test_haproxy_accepts_the_golden_configuration_of_a_unit_without_a_warning(
    unit: str, haproxy: str, tmp_path: Path
) -> None:
    assert accepted(haproxy, (GOLDEN / f"two-arm.{unit}.haproxy.cfg").read_text(), tmp_path) in VALID


def test_the_pair_itself_speaks_on_the_clients_side_alone(two_arm: Site) -> None:
    peers = section(haproxy.render(two_arm, RUNTIME, "lb-1"), f"peers {haproxy.PEERS}")
    assert peers == ["peer lb-1 192.168.110.10:7778", "peer lb-2 192.168.110.11:7778"]
    assert "unicast_src_ip 192.168.110.10\n" in keepalived.render(two_arm, "lb-1", CHECKED)


def test_the_gateway_moves_with_the_vips_and_either_arm_that_is_lost_moves_them(two_arm: Site) -> None:
    text = keepalived.render(two_arm, "lb-2", CHECKED)
    assert text.count("vrrp_instance ") == 1
    assert "        192.168.110.103/24 dev outer\n        192.168.120.1/24 dev inner\n    }\n" in text
    assert "    track_interface {\n        inner\n    }\n" in text


def test_without_a_network_of_those_who_may_go_straight_everybody_may(two_arm: Site) -> None:
    clients = msgspec.structs.replace(two_arm.clients, straight_network=None)
    assert "FORWARD" not in packet_filter.render(msgspec.structs.replace(two_arm, clients=clients), "lb-1")


def test_nodes_of_a_transparent_site_answer_through_their_gateway() -> None:
    assert node_script(load_site(SITES / "two-arm-transparent.toml", today=TODAY)) == (
        "ip route replace 192.168.110.192/26 via 192.168.120.1\nip route replace 198.18.0.0/15 via 192.168.120.1\n"
    )


def test_the_transparent_site_is_the_other_one_but_for_whom_nodes_see(two_arm: Site) -> None:
    transparent = load_site(SITES / "two-arm-transparent.toml", today=TODAY)
    vips = tuple(msgspec.structs.replace(vip, source="transparent") for vip in two_arm.vip)
    assert transparent == msgspec.structs.replace(two_arm, name=transparent.name, vip=vips)
