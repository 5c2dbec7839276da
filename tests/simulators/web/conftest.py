"""Real nodes for the tests of the web room: processes over TLS on loopback addresses, with inherited sockets."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from simulators.client import Attempt, Target, Timeouts
from simulators.misbehaviour import Misbehaviour
from simulators.node_store import Instance, NodeStore
from simulators.operations import IdentitySource, Kind, Service, Way
from simulators.service import ServiceSettings
from simulators.web.certificates import CertificateFiles, LabAuthority
from simulators.web.viewer import Viewer

REPOSITORY = Path(__file__).parents[3]
NAME = "imaging.hospital.example"
USERS = {"preflight": "correct horse"}
TIMEOUTS = Timeouts(connect_s=5, negotiate_s=5, send_s=5, response_s=10)
_generators = itertools.count(1)


@dataclass
class RunningNode:
    """One HTTPS service process, and how to reach it."""

    name: str
    directory: Path
    ca_file: Path
    process: subprocess.Popen[bytes]
    target: Target
    identities: IdentitySource
    viewers: list[Viewer] = field(default_factory=list)

    def viewer(self, source: str = "127.0.0.1") -> Viewer:
        """Make a viewer that is closed after the test."""
        viewer = Viewer(self.target, source, server_name=NAME, ca_file=self.ca_file, timeouts=TIMEOUTS)
        self.viewers.append(viewer)
        return viewer

    def attempt(self, kind: Kind = Kind.QUERY) -> Attempt:
        """Make the first attempt of a new identity."""
        return Attempt(self.identities.next(kind))

    def logged_in(self) -> Viewer:
        """Make a viewer with a session."""
        viewer = self.viewer()
        assert viewer.login("preflight", "correct horse", self.attempt()).status == 303
        return viewer


StartNode = Callable[..., RunningNode]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> LabAuthority:
    return LabAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def certificate(authority: LabAuthority) -> CertificateFiles:
    return authority.issue(authority.ca_file.parent / "node", [NAME, "127.0.0.1", "127.0.0.2"])


def launch(
    directory: Path, ca_file: Path, files: CertificateFiles, name: str, site: tuple[str, ...],
    misbehaviour: tuple[Misbehaviour, ...] = (), processes: int = 1,
) -> RunningNode:  # fmt: skip
    """Start the HTTPS service of one node of a site whose folders lie in a directory."""
    address = f"127.0.0.{2 + sorted(site).index(name)}"
    with socket.create_server((address, 0)) as listener:
        settings = ServiceSettings(
            node=name, service="https", listen_fd=listener.fileno(), directory=str(directory / name),
            site_directories=tuple(str(directory / node) for node in site), certificate_file=str(files.certificate_file),
            key_file=str(files.key_file), users=USERS, misbehaviour=misbehaviour, processes=processes,
        )  # fmt: skip
        settings_file = directory / f"{name}.json"
        settings_file.write_bytes(msgspec.json.encode(settings))
        command = [sys.executable, "-m", "simulators.web.server", str(settings_file)]
        process = subprocess.Popen(command, pass_fds=(listener.fileno(),), cwd=REPOSITORY)
        target = Target(address, listener.getsockname()[1], Service.HTTPS, Way.STRAIGHT)
    return RunningNode(name, directory / name, ca_file, process, target, IdentitySource(run=77, generator=next(_generators)))


def end(node: RunningNode) -> None:
    """Close the viewers of a node and kill its service."""
    for viewer in node.viewers:
        viewer.close()
    node.process.kill()
    node.process.wait(10)


@pytest.fixture
def start_node(tmp_path: Path, authority: LabAuthority, certificate: CertificateFiles) -> Iterator[StartNode]:
    started: list[RunningNode] = []

    def start(
        name: str = "MACH7-A", *, files: CertificateFiles = certificate, misbehaviour: tuple[Misbehaviour, ...] = (),
        processes: int = 1,
    ) -> RunningNode:  # fmt: skip
        site = ("MACH7-A", "MACH7-B")
        started.append(launch(tmp_path, authority.ca_file, files, name, site, misbehaviour, processes))
        return started[-1]

    yield start
    for node in started:
        end(node)


@pytest.fixture(scope="session")
def empty_node(
    tmp_path_factory: pytest.TempPathFactory, authority: LabAuthority, certificate: CertificateFiles
) -> Iterator[RunningNode]:
    """Give a node without studies, for tests that leave nothing on it."""
    node = launch(tmp_path_factory.mktemp("empty"), authority.ca_file, certificate, "MACH7-A", ("MACH7-A",))
    yield node
    end(node)


@dataclass
class Images:
    """Puts the index rows of images into the folder of a node, as its storage service does."""

    directory: Path
    stores: dict[str, NodeStore] = field(default_factory=dict)

    def put(self, node: str, *instances: Instance) -> None:
        """Store rows on a node."""
        if node not in self.stores:
            self.stores[node] = NodeStore(self.directory / node, "dicom")
        self.stores[node].put(*instances)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    images = Images(tmp_path)
    yield images
    for store in images.stores.values():
        store.close()


@pytest.fixture
def image() -> Instance:
    """Give an image to vary with `_replace`."""
    return Instance(
        sop_uid="2.25.111", sop_class="1.2.840.10008.5.1.4.1.1.2", study_uid="2.25.10", series_uid="2.25.100",
        patient_id="P-1", patient_name="DOE^Jane", accession="A-1", study_date="20260301", study_description="Thorax",
        modality="CT", transfer_syntax="1.2.840.10008.1.2.1", file="", size_bytes=512_000, digest="0" * 32, receipts=1,
        updated_ns=1_000,
    )  # fmt: skip
