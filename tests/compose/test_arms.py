"""The interfaces of a unit with two arms, as a kernel numbers them: real ones, in a network of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compose.containers.faults import each_arm
from compose.inside.balancer import ARMS_FILE, with_interfaces
from compose.keeper_client import CHECKOUT

KEEPALIVED = """\
global_defs {
    router_id outer-unit
}
vrrp_instance preflight {
    interface outer
    virtual_ipaddress {
        10.1.1.100/24 dev outer
        10.1.2.1/24 dev inner
    }
    track_interface {
        inner
    }
}
"""
# The arm towards the nodes came first here, so it has the lower number.
INTERFACES = (
    "ip link set lo up; for number in 0 1; do ip link add eth$number type veth peer name peer$number;"
    "ip link set eth$number up; ip link set peer$number up; done;"
    "ip addr add 10.1.2.10/24 dev eth0; ip addr add 10.1.1.10/24 dev eth1; ip route add default via 10.1.1.1;"
)
_WITH_INTERFACES = (
    "import pathlib, sys; from compose.inside.balancer import with_interfaces as named;"
    "sys.stdout.write(named(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])).read_text())"
)


def in_a_network_of_its_own(script: str, *arguments: str) -> str:
    """Run a shell script as root of a new network with two arms, and return what it says."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, for a network of its own")
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", INTERFACES + script, "sh", *arguments], capture_output=True, text=True, check=False,
        timeout=30, env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_keepalived_is_told_what_the_interfaces_are_called_here(tmp_path: Path) -> None:
    (tmp_path / "keepalived.conf").write_text(KEEPALIVED)
    (tmp_path / ARMS_FILE).write_text(json.dumps({"outer": "10.1.1.10", "inner": "10.1.2.10"}))
    place = tmp_path / "run"
    place.mkdir()
    told = in_a_network_of_its_own(f'{sys.executable} -c "$1" "$2" "$3"', _WITH_INTERFACES, str(tmp_path), str(place))
    named = KEEPALIVED.replace("interface outer", "interface eth1").replace("dev outer", "dev eth1")
    assert told == named.replace("dev inner", "dev eth0").replace("        inner\n", "        eth0\n")
    assert (tmp_path / "keepalived.conf").read_text() == KEEPALIVED


def test_a_unit_with_one_arm_starts_from_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "keepalived.conf").write_text(KEEPALIVED)
    (tmp_path / ARMS_FILE).write_text("{}")
    assert with_interfaces(tmp_path, tmp_path / "nowhere") == tmp_path / "keepalived.conf"


def test_the_clients_side_is_cut_off_first_and_both_come_back() -> None:
    said = in_a_network_of_its_own(
        f"{each_arm('down').replace('ip link set', 'echo')}; {each_arm('down')}; ip -br link show up;"
        f"{each_arm('up')}; ip route replace default via 10.1.1.1; ip route"
    )
    lines = said.splitlines()
    assert lines[:2] == ["eth1 down", "eth0 down"]
    assert not [line for line in lines[2:] if line.startswith("eth")]
    assert "default via 10.1.1.1 dev eth1" in said
    assert "10.1.2.0/24 dev eth0" in said
