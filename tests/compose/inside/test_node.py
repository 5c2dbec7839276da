"""A node's process 1 is the same program in a container and here: it needs its addresses, and nothing else of a container."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from compose.control_socket import ask
from compose.inside.node import SOCKET, NodeFile, read_node_file, write_node_file
from compose.keeper_client import wait_for_exit
from compose.lab import LabError, Relayed
from compose.native_nodes import endpoints_of
from compose.ports import check_free
from compose.probes import NotReady, answers, refuses
from lbconfig.site import ServiceKind, Site
from lbconfig.site_file import load_site
from simulators.client import Target
from simulators.journal import read_receipts
from simulators.node import SimulatedNode
from simulators.operations import Service, Way
from simulators.web.certificates import LabAuthority

if TYPE_CHECKING:
    from tests.compose.conftest import Marked

NAME = "mach7-1"
LIMIT_S = 60.0
COMES_UP_WITHIN_S = 180.0  # its own limits are shorter, and it says what it waited for
SERVICES: tuple[ServiceKind, ...] = ("dicom", "hl7", "dmwl", "https")


def node_file(site_file: Path, directory: Path, **more: Any) -> Path:  # noqa: ANN401  of NodeFile
    site = load_site(site_file)
    certificate = LabAuthority(directory).issue(directory / "certificates", [site.node_named(NAME).address])
    folder = directory / "nodes" / NAME
    folder.mkdir(parents=True)
    node = SimulatedNode(
        name=NAME, directory=folder, site_directories=(folder,), certificate_file=certificate.certificate_file,
        key_file=certificate.key_file, users={"preflight": "password"}, ae_title=site.dicom.ae_title,
        engines={"dicom": "wire", "dmwl": "wire"},
    )  # fmt: skip
    path = folder / "node.json"
    write_node_file(NodeFile(site_file=site_file, node=node, **more), path)
    return path


class Started:
    """A node that runs, and how to speak with it."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, site: Site) -> None:
        self.process = process
        self.folder = folder
        self.site = site

    def do(self, what: str, **more: object) -> dict[str, Any]:
        """Ask its process 1."""
        return ask(self.folder / SOCKET, {"do": what, **more}, LIMIT_S)

    def target(self, service: ServiceKind) -> Target:
        """Return a service of it."""
        found = endpoints_of(self.site)[NAME, service]
        return Target(found.address, found.port, Service[service.upper()], Way.STRAIGHT)

    def probe(self, service: ServiceKind, timeout_s: float = LIMIT_S) -> None:
        """Exchange one request at a service's own protocol."""
        answers(self.target(service), self.site.balancer.address, self.site.dicom.ae_title, "PREFLIGHT", timeout_s)

    def refuses(self, service: ServiceKind) -> bool:
        """Say whether a service's port refuses."""
        target = self.target(service)
        return refuses(target.address, target.port, self.site.balancer.address, LIMIT_S)


def start(path: Path, marked: Marked) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", "compose.inside.node", str(path)], env=marked.environment)
    deadline = time.monotonic() + COMES_UP_WITHIN_S
    while not (path.parent / SOCKET).is_socket() and process.poll() is None:
        assert time.monotonic() < deadline, f"expected its socket within {COMES_UP_WITHIN_S:g} s, found none"
        wait_for_exit(process.pid, 0.05)
    return process


@pytest.fixture
def node(marked: Marked, site_file: Path, tmp_path: Path) -> Iterator[Started]:
    path = node_file(site_file, tmp_path)
    process = start(path, marked)
    assert process.poll() is None
    yield Started(process, path.parent, load_site(site_file))
    process.kill()
    process.wait()


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_answers_once_the_socket_is_there(node: Started, service: ServiceKind) -> None:
    node.probe(service)


def test_a_service_that_was_killed_refuses_until_it_is_started(node: Started) -> None:
    node.do("kill", service="hl7")
    assert node.refuses("hl7")
    node.probe("dmwl")
    node.do("start", service="hl7")
    node.probe("hl7")


def test_a_crashed_node_refuses_everywhere_and_is_revived_whole(node: Started) -> None:
    node.do("crash")
    assert [node.refuses(service) for service in SERVICES] == [True] * 4
    assert node.do("status")["faults"] == ["crash of mach7-1"]
    node.do("revive")
    for service in SERVICES:
        node.probe(service)


def test_a_paused_node_accepts_and_does_not_answer_until_it_is_resumed(node: Started) -> None:
    node.do("pause")
    target = node.target("hl7")
    with (
        socket.create_connection((target.address, target.port), LIMIT_S),
        pytest.raises(NotReady, match="expected an answer"),
    ):
        node.probe("hl7", 0.3)
    node.do("resume")
    node.probe("hl7")


@pytest.mark.parametrize("fault", ["crash", "pause"])
def test_whatever_was_done_to_it_is_mended(node: Started, fault: str) -> None:
    node.do("kill", service="dmwl")
    node.do(fault)
    node.do("mend")
    for service in SERVICES:
        node.probe(service)
    assert node.do("status")["faults"] == []


def test_a_whole_node_is_left_alone_by_mending(node: Started) -> None:
    before = node.do("status")["alive"]
    node.do("mend")
    assert node.do("status")["alive"] == before


def test_storage_services_keep_receipts_only_once_they_are_told(node: Started) -> None:
    node.do("receipts-only", processes=2)
    settings = msgspec.json.decode((node.folder / "settings" / "dicom.json").read_bytes())
    assert (settings["storage"], settings["processes"]) == ("digest", 2)
    node.probe("dicom")


def test_readiness_and_faults_leave_no_receipt(node: Started) -> None:
    node.do("crash")
    node.do("revive")
    journals = sorted((node.folder / "journal").glob("*.receipts"))
    assert len(journals) == 4
    assert [len(list(read_receipts(journal))) for journal in journals] == [0] * 4


def test_what_it_cannot_do_is_said_with_what_it_can(node: Started) -> None:
    with pytest.raises(LabError, match=r"expected one of status, kill, start, .*, found dance"):
        node.do("dance")
    with pytest.raises(LabError, match="expected one of dicom, hl7, dmwl, https, found smtp"):
        node.do("kill", service="smtp")
    with pytest.raises(LabError, match="expected a crashed node, found one that was not"):
        node.do("revive")


def test_sigterm_ends_it_in_good_order_and_leaves_no_process(node: Started, marked: Marked) -> None:
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(LIMIT_S) == 0
    marked.wait_until_none()


def test_a_relay_listens_where_the_balancer_will_look_for_it(marked: Marked, site_file: Path, tmp_path: Path) -> None:
    with socket.create_server((load_site(site_file).node_named(NAME).address, 0)) as free:
        port = free.getsockname()[1]
    relays = (Relayed(NAME, "hl7", delay_s=0.01), Relayed("mach7-2", "hl7"))
    path = node_file(site_file, tmp_path, relays=relays[:1], relay_ports={"hl7": port})
    assert read_node_file(path).relays == relays[:1]
    process = start(path, marked)
    try:
        site = load_site(site_file)
        straight = endpoints_of(site)[NAME, "hl7"]
        target = Target(straight.address, port, Service.HL7, Way.STRAIGHT)
        answers(target, site.balancer.address, site.dicom.ae_title, "PREFLIGHT", LIMIT_S)
    finally:
        process.kill()
        process.wait()


def test_a_port_that_is_taken_ends_it_with_one_clear_line(marked: Marked, site_file: Path, tmp_path: Path) -> None:
    path = node_file(site_file, tmp_path)
    endpoint = endpoints_of(load_site(site_file))[NAME, "hl7"]
    with socket.create_server((endpoint.address, endpoint.port)):
        ended = subprocess.run(
            [sys.executable, "-m", "compose.inside.node", str(path)], env=marked.environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{endpoint.address}:{endpoint.port}: expected a free port, found it held by pid")
    marked.wait_until_none()
    check_free([(endpoint.address, endpoint.port)])


def test_a_file_that_is_no_node_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text('{"node": 1}')
    with pytest.raises(LabError, match=r"node\.json: expected a node of a lab in containers, found"):
        read_node_file(tmp_path / "node.json")


def test_its_process_is_over_when_it_says_so(node: Started) -> None:
    node.do("kill", service="https")
    [(name, pid, code)] = node.do("status")["exits"]
    assert (name, code) == ("mach7-1/https", -signal.SIGKILL)
    assert wait_for_exit(pid, 0)
