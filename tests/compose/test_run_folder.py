"""What the hosts of a lab in containers start from, as it is written on the host."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from compose.inside.node import read_node_file
from compose.keeper_client import CHECKOUT
from compose.lab import ConfigurationEdit, Defects, LabError, MisbehavingService, Relayed
from compose.layout import NODE_UID
from compose.run_folder import WebAccount, write_run_folder
from lbconfig.site import Site
from lbconfig.site_file import load_site
from simulators.misbehaviour import Misbehaviour

BRIEF = CHECKOUT / "lbconfig" / "sites" / "brief.toml"
TEXT = BRIEF.read_text()


@pytest.fixture
def site() -> Site:
    return load_site(BRIEF)


def written(site: Site, directory: Path, defects: Defects | None = None) -> Path:
    run = directory / "run"
    run.mkdir(parents=True)
    write_run_folder(site, TEXT, run, defects or Defects())
    return run


def test_each_node_starts_from_paths_inside_its_container(site: Site, tmp_path: Path) -> None:
    run = written(site, tmp_path)
    file = read_node_file(run / "nodes" / "mach7-2" / "node.json")
    account = msgspec.json.decode((run / "config" / "account.json").read_bytes(), type=WebAccount)
    assert file.site_file == Path("/lab/site/site.toml")
    assert file.node.directory == Path("/lab/nodes/mach7-2")
    assert file.node.site_directories == (Path("/lab/nodes/mach7-1"), Path("/lab/nodes/mach7-2"))
    assert file.node.key_file == Path("/lab/config/certificates/mach7-2/key.pem")
    assert file.node.users == {account.user: account.password}
    assert load_site(run / "site" / "site.toml") == site


def test_what_a_node_reads_and_writes_is_its_users_and_the_account_is_nobodys_else(site: Site, tmp_path: Path) -> None:
    run = written(site, tmp_path)
    key = run / "config" / "certificates" / "mach7-1" / "key.pem"
    if os.getuid() == 0:
        assert {path.stat().st_uid for path in (run / "nodes" / "mach7-1", key)} == {NODE_UID}
    assert (run / "config" / "account.json").stat().st_mode & 0o777 == 0o600


def test_a_unit_with_another_authority_has_a_certificate_that_issued_none_of_the_nodes(site: Site, tmp_path: Path) -> None:
    run = written(site, tmp_path, Defects(other_authority=("lb-2",)))
    own, first, second = ((run / place / "ca.pem").read_bytes() for place in ("config", "balancers/lb-1", "balancers/lb-2"))
    assert own == first
    assert second.startswith(b"-----BEGIN CERTIFICATE-----")
    assert second != own


def test_another_authority_of_a_unit_that_there_is_not_is_an_error(site: Site, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="other authority: expected one of lb-1, lb-2, found lb-3"):
        written(site, tmp_path, Defects(other_authority=("lb-3",)))


def test_defects_of_nodes_and_of_the_configuration_are_written_with_it(site: Site, tmp_path: Path) -> None:
    lie = MisbehavingService("mach7-1", "hl7", Misbehaviour.LOSES_EVERY_200TH)
    edit = ConfigurationEdit("HL7", r"^\s*stick on src.*\n", "")
    run = written(site, tmp_path, Defects(misbehaviour=(lie,), configuration=(edit,)))
    assert read_node_file(run / "nodes" / "mach7-1" / "node.json").node.misbehaviour == {"hl7": (lie.misbehaviour,)}
    for unit in ("lb-1", "lb-2"):
        assert (run / "balancers" / unit / "haproxy.cfg").read_text().count("stick on src") == 3


def test_both_balancers_reach_a_service_by_its_relay(site: Site, tmp_path: Path) -> None:
    relays = (Relayed("mach7-1", "hl7", delay_s=0.01), Relayed("mach7-2", "hl7", delay_s=0.01))
    run = written(site, tmp_path, Defects(relays=relays))
    ports = {name: read_node_file(run / "nodes" / name / "node.json").relay_ports for name in ("mach7-1", "mach7-2")}
    assert ports == {"mach7-1": {"hl7": 20001}, "mach7-2": {"hl7": 20002}}
    for unit in ("lb-1", "lb-2"):
        text = (run / "balancers" / unit / "haproxy.cfg").read_text()
        assert "192.168.110.150:20001" in text
        assert "192.168.110.151:20002" in text


def test_a_defect_of_what_is_not_there_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="mach7-9/hl7: expected a service of the site"):
        written(site, tmp_path, Defects(relays=(Relayed("mach7-9", "hl7"),)))


def test_nodes_past_the_balancer_must_be_nodes_of_the_site(site: Site, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="past the balancer: expected one of mach7-1, mach7-2, found mach7-9"):
        written(site, tmp_path, Defects(past_the_balancer=("mach7-9",)))


def test_a_unit_with_two_arms_is_told_by_its_addresses_which_is_which(site: Site, tmp_path: Path) -> None:
    path = BRIEF.with_name("two-arm.toml")
    (tmp_path / "run").mkdir()
    write_run_folder(load_site(path), path.read_text(), tmp_path / "run", Defects())
    files = tmp_path / "run" / "balancers" / "lb-2"
    assert json.loads((files / "arms.json").read_text()) == {"outer": "192.168.110.11", "inner": "192.168.120.11"}
    assert "192.168.110.100/24 dev outer\n" in (files / "keepalived.conf").read_text()
    assert "192.168.120.1/24 dev inner\n" in (files / "keepalived.conf").read_text()
    one_arm = written(site, tmp_path / "one-arm")
    assert json.loads((one_arm / "balancers" / "lb-2" / "arms.json").read_text()) == {}
