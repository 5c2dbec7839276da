from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from simulators.misbehaviour import Misbehaviour
from simulators.node import SERVICES, SimulatedNode
from simulators.service import read_settings


def node_in(directory: Path) -> SimulatedNode:
    return SimulatedNode(
        name="mach7-1", directory=directory, site_directories=(directory, directory / "other"), ae_title="MACH7",
        certificate_file=directory / "certificate.pem", key_file=directory / "key.pem", users={"preflight": "secret"},
        misbehaviour={"hl7": (Misbehaviour.SWAPS_MESSAGES,)},
    )  # fmt: skip


def test_every_service_finds_the_settings_that_its_command_line_names(tmp_path: Path) -> None:
    node = node_in(tmp_path)
    for service in SERVICES:
        command = node.command(service, 3)
        assert command[:2] == [sys.executable, "-m"]
        assert read_settings(Path(command[3])) == node.settings(service, 3)


def test_each_service_is_a_program_of_its_own(tmp_path: Path) -> None:
    programs = [node_in(tmp_path).command(service, 3)[2] for service in SERVICES]
    assert programs == [
        "simulators.dicom.storage_scp", "simulators.hl7.listener", "simulators.dicom.worklist_scp", "simulators.web.server",
    ]  # fmt: skip


def test_the_wire_engine_is_chosen_for_each_service_and_carries_a_crowd(tmp_path: Path) -> None:
    node = msgspec.structs.replace(node_in(tmp_path), engines={"dicom": "wire", "dmwl": "pynetdicom"})
    programs = [node.command(service, 3)[2] for service in ("dicom", "dmwl")]
    assert programs == ["simulators.dicom.wire_scp", "simulators.dicom.worklist_scp"]
    assert [node.settings(service, 3).maximum_associations for service in ("dicom", "dmwl")] == [20_000, 200]


def test_every_service_is_shared_by_processes_but_those_of_pynetdicom(tmp_path: Path) -> None:
    node = msgspec.structs.replace(node_in(tmp_path), engines={"dicom": "wire", "dmwl": "pynetdicom"}, processes=2)
    assert {service: node.settings(service, 3).processes for service in SERVICES} == {
        "dicom": 2,
        "hl7": 2,
        "dmwl": 1,
        "https": 2,
    }


def test_a_lie_is_told_by_its_own_service_alone(tmp_path: Path) -> None:
    lies = {service: node_in(tmp_path).settings(service, 3).misbehaviour for service in SERVICES}
    assert lies == {"dicom": (), "hl7": (Misbehaviour.SWAPS_MESSAGES,), "dmwl": (), "https": ()}


def test_only_the_web_service_is_told_the_passwords(tmp_path: Path) -> None:
    told = [service for service in SERVICES if node_in(tmp_path).settings(service, 3).users]
    assert told == ["https"]


def test_settings_are_readable_by_their_owner_alone_also_when_written_again(tmp_path: Path) -> None:
    node = node_in(tmp_path)
    node.write_settings("https", 3)
    path = msgspec.structs.replace(node, name="mach7-2").write_settings("https", 3)
    assert (path.stat().st_mode & 0o777, read_settings(path).node) == (0o600, "mach7-2")
