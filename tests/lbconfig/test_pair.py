"""A pair of balancers: its part of a site file, and what is rendered for each unit."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from lbconfig import haproxy, keepalived, packet_filter
from lbconfig.keepalived import KeepalivedRuntime, PairError
from lbconfig.site import Pair, Site, Unit
from lbconfig.site_file import SiteError, load_site
from lbconfig.site_rules import problems

from .conftest import GOLDEN, SITES, TODAY
from .test_haproxy import RUNTIME, VALID, accepted, section

CHECKED = KeepalivedRuntime(check_program="/usr/local/sbin/haproxy-answers", runtime_socket="/run/preflight/haproxy.sock")
UNITS = ("lb-1", "lb-2")
BRIEF = (SITES / "brief.toml").read_text()

WRONG = {
    "a third unit": (
        ("[balancer.pair]", '[[balancer.unit]]\nname = "lb-3"\naddress = "192.168.110.12"\npriority = 50\n[balancer.pair]'),
        "hospital.toml: balancer.unit: expected two units, or none where there is one balancer, found 3",
    ),
    "units that are no pair": (
        (BRIEF[BRIEF.index("[balancer.pair]") : BRIEF.index("[clients]")], ""),
        "hospital.toml: balancer.pair: expected a table, because there are units, found nothing: the key is missing",
    ),
    "a pair without units": (
        (BRIEF[BRIEF.index("[[balancer.unit]]") : BRIEF.index("[balancer.pair]")], ""),
        "hospital.toml: balancer.pair: expected two entries of balancer.unit with it, found none",
    ),
    "two units of one name": (
        ('name = "lb-2"', 'name = "lb-1"'),
        "hospital.toml: balancer.unit[1].name: expected a name that no other unit has, found lb-1, "
        "as in balancer.unit[0].name",
    ),
    "two units of one priority": (
        ("priority = 100", "priority = 150"),
        "hospital.toml: balancer.unit[1].priority: expected a priority that no other unit has, found 150, "
        "as in balancer.unit[0].priority",
    ),
    "a priority that VRRP keeps for itself": (
        ("priority = 150", "priority = 255"),
        "hospital.toml: balancer.unit[0].priority: expected 1 to 254, found 255",
    ),
    "a unit on a VIP": (
        ('address = "192.168.110.11"', 'address = "192.168.110.103"'),
        "hospital.toml: balancer.unit[1].address: expected an address of its own, which stays with the unit, "
        "found 192.168.110.103, as VIP HTTPS",
    ),
    "a unit with a node's name": (
        ('name = "lb-2"', 'name = "mach7-2"'),
        'hospital.toml: balancer.unit[1].name: expected a name that no node has, found "mach7-2"',
    ),
    "a balancer's address that is not the first unit's": (
        ('address = "192.168.110.10"\n# The appliance', 'address = "192.168.110.11"\n# The appliance'),
        "hospital.toml: balancer.address: expected 192.168.110.10, that of the unit with the higher priority (lb-1), "
        "found 192.168.110.11",
    ),
    "an interval that VRRP cannot carry": (
        ("advert_interval_s = 0.2", "advert_interval_s = 41"),
        "hospital.toml: balancer.pair.advert_interval_s: expected 0.01 to 40.95, found 41",
    ),
    "a routed network with host bits": (
        ("198.18.0.0/15", "198.18.0.1/15"),
        'hospital.toml: clients.routed_network: expected an IPv4 network such as 10.0.8.0/24, found "198.18.0.1/15" '
        "(198.18.0.1/15 has host bits set)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_pair_is_refused_with_file_key_expected_and_found(wrong: str, tmp_path: Path) -> None:
    (old, new), message = WRONG[wrong]
    assert old in BRIEF
    path = tmp_path / "hospital.toml"
    path.write_text(BRIEF.replace(old, new, 1))
    with pytest.raises(SiteError) as caught:
        load_site(path, today=TODAY)
    assert str(caught.value) == message


def test_the_brief_has_a_pair_and_the_loopback_site_has_none(brief: Site, loopback: Site) -> None:
    assert [(unit.name, unit.address) for unit in brief.balancer.unit] == [
        ("lb-1", "192.168.110.10"), ("lb-2", "192.168.110.11"),
    ]  # fmt: skip
    assert brief.balancer.addresses == ("192.168.110.10", "192.168.110.11")
    assert (loopback.balancer.unit, loopback.balancer.pair) == ((), None)
    assert loopback.balancer.addresses == ("127.0.110.10",)


def test_the_limits_of_the_brief_allow_for_what_its_intervals_predict(brief: Site) -> None:
    pair = brief.balancer.pair
    assert pair is not None
    standby = min(brief.balancer.unit, key=lambda unit: unit.priority)
    silent_s = (3 + (256 - standby.priority) / 256) * pair.advert_interval_s  # RFC 5798, 6.1: Master_Down_Interval
    assert pair.takeover_s >= max(silent_s, pair.check_fall * pair.check_interval_s)
    assert pair.hung_takeover_s >= pair.check_fall * (pair.check_interval_s + pair.check_timeout_s)


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_rendered_for_a_unit_is_the_golden_one(brief: Site, unit: str) -> None:
    assert haproxy.render(brief, RUNTIME, unit) == (GOLDEN / f"brief.{unit}.haproxy.cfg").read_text()
    assert keepalived.render(brief, unit, CHECKED) == (GOLDEN / f"brief.{unit}.keepalived.conf").read_text()
    assert packet_filter.render(brief, unit) == (GOLDEN / f"brief.{unit}.filter.rules").read_text()


@pytest.mark.parametrize("unit", UNITS)
def test_haproxy_accepts_the_golden_configuration_of_a_unit_without_a_warning(
    unit: str, haproxy: str, tmp_path: Path
) -> None:
    assert accepted(haproxy, (GOLDEN / f"brief.{unit}.haproxy.cfg").read_text(), tmp_path) in VALID


def test_two_units_differ_in_their_own_name_and_address_alone(brief: Site) -> None:
    first, second = (haproxy.render(brief, RUNTIME, unit).splitlines() for unit in UNITS)
    differing = {(ours.strip(), theirs.strip()) for ours, theirs in zip(first, second, strict=True) if ours != theirs}
    assert differing == {
        ("localpeer lb-1", "localpeer lb-2"), ("source 192.168.110.10", "source 192.168.110.11"),
    }  # fmt: skip


def test_both_units_are_peers_of_each_other_on_the_replication_port(brief: Site) -> None:
    expected = ["peer lb-1 192.168.110.10:7778", "peer lb-2 192.168.110.11:7778"]
    for unit in UNITS:
        assert section(haproxy.render(brief, RUNTIME, unit), f"peers {haproxy.PEERS}") == expected


def test_a_pair_without_a_unit_is_rendered_as_one_balancer(brief: Site) -> None:
    alone = msgspec.structs.replace(brief, balancer=msgspec.structs.replace(brief.balancer, unit=(), pair=None))
    assert haproxy.render(brief, RUNTIME) == haproxy.render(alone, RUNTIME)


def test_keepalived_moves_every_vip_of_the_site_at_once(brief: Site) -> None:
    text = keepalived.render(brief, "lb-2", CHECKED)
    assert text.count("vrrp_instance ") == 1
    for vip in brief.vip:
        assert f"        {vip.address}/24 dev eth0\n" in text


def test_a_unit_that_is_not_there_and_a_site_without_a_pair_are_refused(brief: Site, loopback: Site) -> None:
    with pytest.raises(PairError, match=r"^lb-3: expected one of the units lb-1, lb-2$"):
        keepalived.render(brief, "lb-3", CHECKED)
    with pytest.raises(PairError, match=r"expected a pair of balancers, found one balancer"):
        packet_filter.render(loopback, "lb-1")


@pytest.mark.parametrize("site", ["brief", "two-arm"])
def test_iptables_reads_the_golden_rules_of_a_unit(site: str) -> None:
    program = shutil.which("iptables-restore") or shutil.which("iptables-restore", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("iptables is not installed")
    for unit in UNITS:
        rules = GOLDEN / f"{site}.{unit}.filter.rules"
        read = subprocess.run([program, "--test", str(rules)], capture_output=True, text=True, check=False)
        if "Permission denied" in read.stderr:
            pytest.skip("only root may have iptables read rules")
        assert (read.returncode, read.stdout, read.stderr) == (0, "", "")


def test_any_pair_within_the_ranges_is_a_valid_site(brief: Site) -> None:
    units = tuple(
        Unit(name=f"unit{number}", address=str(ipaddress.IPv4Address("192.168.110.30") + number), priority=254 - number)
        for number in range(2)
    )
    pair = Pair(advert_interval_s=40.95, check_interval_s=0.1, check_timeout_s=60, check_fall=10)
    balancer = msgspec.structs.replace(brief.balancer, unit=units, pair=pair, address=units[0].address)
    assert list(problems(msgspec.structs.replace(brief, balancer=balancer), TODAY)) == []
