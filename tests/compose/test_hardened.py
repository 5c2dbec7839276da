"""The hardened site in a native lab: health checks of real services, and states that outlive a reload."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from compose.native import NativeLab
from lbconfig.site import Engine, Engines, Site
from lbconfig.site_file import load_site
from simulators.journal import journal_path, read_receipts
from simulators.operations import Service

LIMIT_S = 20.0


@pytest.fixture(scope="session")
def hardened(hardened_site_file: Path) -> Site:
    return load_site(hardened_site_file)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S:g} s in vain: {what}"
        select.select([], [], [], 0.05)


def states(lab: NativeLab) -> dict[str, tuple[str, str]]:
    return {server.label: (server.status, server.check_status) for server in lab.balancer.servers()}


def wait_for_a_round(lab: NativeLab) -> None:
    """Wait for as long as a round of checks takes."""
    uptime_s = lab.balancer.info().uptime_s
    until(lambda: lab.balancer.info().uptime_s > uptime_s + 2, "a round of checks")


ALL_UP = dict.fromkeys(
    ("DICOM1", "DICOM2", "HL71", "HL72", "DMWL1", "DMWL2", "HTTPS1", "HTTPS2"), ("UP", "L7OK")
)  # fmt: skip


@pytest.mark.parametrize("engine", ["pynetdicom", "wire"])
def test_every_service_passes_its_check_and_writes_nothing_down(hardened: Site, engine: Engine, tmp_path: Path) -> None:
    site = msgspec.structs.replace(hardened, engines=Engines(storage=engine, worklist=engine))
    with NativeLab(site, tmp_path) as lab:
        assert states(lab) == ALL_UP
        for _ in range(2):  # a second round of checks, so that the first has left no harm behind
            wait_for_a_round(lab)
        assert states(lab) == ALL_UP
        assert {server.failed_checks for server in lab.balancer.servers()} == {0}
        for directory in lab.node_directories().values():
            for service in Service:
                path = journal_path(directory, service)
                assert not path.exists() or list(read_receipts(path)) == []
        for log in (lab.directory / "logs").glob("mach7-*-d*.log"):
            assert log.read_text() == ""


def test_a_hanging_node_is_down_on_every_vip_within_what_is_predicted(hardened: Site, tmp_path: Path) -> None:
    with NativeLab(hardened, tmp_path) as lab:
        second = [label for label in ALL_UP if label.endswith("2")]
        lab.pause_node(hardened.node[1].name)
        until(lambda: all(states(lab)[label][0] == "DOWN" for label in second), f"{', '.join(second)} DOWN")
        assert {states(lab)[label][1] for label in second} == {"L7TOUT", "L6TOUT"}
        lab.resume_node(hardened.node[1].name)
        until(lambda: states(lab) == ALL_UP, "all UP")


def test_drain_halt_and_health_outlive_a_reload(hardened: Site, tmp_path: Path) -> None:
    with NativeLab(hardened, tmp_path) as lab:
        lab.balancer.drain("HL7", "HL71")
        lab.balancer.halt("DICOM", "DICOM1")
        before = states(lab)
        lab.reload_balancer()
        assert states(lab) == before
        assert (before["HL71"][0], before["DICOM1"][0]) == ("DRAIN", "MAINT")
        kept = lab.configuration_file.with_name("server-states")
        assert kept.read_text() == "1\n"  # a HAProxy that starts afresh later must not take up a halt that was undone
        lab.balancer.online("HL7", "HL71")
        lab.balancer.online("DICOM", "DICOM1")
        lab.reload_balancer()
        until(lambda: states(lab) == ALL_UP, "all UP")
