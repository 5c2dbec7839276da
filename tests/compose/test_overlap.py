from __future__ import annotations

import ipaddress

import pytest

from compose.lab import LabError
from compose.overlap import lab_network, routes_in


@pytest.mark.parametrize("text", ["10.1.2.0/24", "172.31.0.0/24", "192.168.110.0/24"])
def test_a_private_24_is_a_labs_network(text: str) -> None:
    assert str(lab_network(text)) == text


@pytest.mark.parametrize(
    "text", ["10.1.2.0/23", "10.1.2.0/25", "8.8.8.0/24", "127.0.110.0/24", "198.18.1.0/24", "172.32.0.0/24"]
)
def test_what_is_no_private_24_is_refused(text: str) -> None:
    with pytest.raises(LabError, match=r"--subnet: expected a /24 in 10\.0\.0\.0/8, .* found"):
        lab_network(text)


@pytest.mark.parametrize("text", ["", "10.1.2.3/24", "home", "fd00::/24"])
def test_what_is_no_network_is_refused_with_its_form(text: str) -> None:
    with pytest.raises(LabError, match=r"--subnet: expected a network A\.B\.C\.0/24, found"):
        lab_network(text)


def test_routes_are_read_and_default_routes_are_no_networks() -> None:
    listed: list[dict[str, object]] = [
        {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"},
        {"dst": "0.0.0.0/1", "dev": "tun0"},
        {"dst": "192.168.0.0/16", "dev": "tun0"},
        {"type": "local", "dst": "192.168.110.7", "dev": "wlan0"},
    ]
    assert list(routes_in(listed)) == [
        ("its route to 192.168.0.0/16 by tun0", ipaddress.IPv4Network("192.168.0.0/16")),
        ("its route to 192.168.110.7/32 by wlan0", ipaddress.IPv4Network("192.168.110.7/32")),
    ]
