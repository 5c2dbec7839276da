"""Real SCP processes, on sockets of their own, for real peers."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from simulators.client import Target, Timeouts
from simulators.dicom.association import Association
from simulators.dicom.negotiation import ProposedContext
from simulators.journal import Receipt, journal_path, read_receipts
from simulators.node_store import Instance, Order, SiteReader
from simulators.operations import Service
from simulators.service import ServiceSettings

TIMEOUTS = Timeouts(connect_s=10, negotiate_s=20, send_s=20, response_s=20)
ENGINES = {
    "pynetdicom": {"dicom": "simulators.dicom.storage_scp", "dmwl": "simulators.dicom.worklist_scp"},
    "wire": {"dicom": "simulators.dicom.wire_scp", "dmwl": "simulators.dicom.wire_scp"},
}
SERVICES = {"dicom": Service.DICOM, "dmwl": Service.DMWL}
NODE = "mach7-1"
ORDER = Order(
    "ACC", "PID", "DOE^JANE", "19700102", "F", "CT", "CT_EAST", "20260705", "093000", "STEP", "PROC", "Thorax", "1.2.3", "NW",
    1,
)  # fmt: skip


class RunningScp:
    """An SCP process behind a listening socket that outlives it, so that it can be killed and started again."""

    def __init__(self, module: str, service: Literal["dicom", "dmwl"], directory: Path, **settings: object) -> None:
        self.directory = directory
        self.service = SERVICES[service]
        self.log = directory / f"{service}.log"
        directory.mkdir(parents=True, exist_ok=True)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self.target = Target("127.0.0.1", self.port, self.service)
        chosen = {"node": NODE, "service": service, "listen_fd": self._listening.fileno(), "directory": str(directory)}
        chosen["site_directories"] = (str(directory),)
        self.settings = msgspec.convert(chosen | settings, ServiceSettings)
        self._module = module
        self.start()

    def start(self) -> None:
        """Start the process; the socket listens already, so that clients need not wait for it."""
        file = self.directory / f"{self.settings.service}.json"
        file.write_bytes(msgspec.json.encode(self.settings))
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", self._module, str(file)]
            self.process = subprocess.Popen(command, pass_fds=[self._listening.fileno()], stderr=log)

    def kill(self) -> None:
        """Kill the process (SIGKILL) and wait for its end."""
        self.process.kill()
        self.process.wait(10)

    def end(self) -> int:
        """End the process as a lab does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.kill()
        self._listening.close()

    def receipts(self) -> list[Receipt]:
        """Return what the journal holds."""
        path = journal_path(self.directory, self.service)
        return list(read_receipts(path)) if path.exists() else []

    def rows(self) -> list[Instance]:
        """Return what the index of images holds."""
        reader = SiteReader((self.directory,))
        try:
            return reader.instances()
        finally:
            reader.close()

    def associate(self, *contexts: ProposedContext, called_ae: str = "MACH7") -> Association:
        """Open an association of our own."""
        return Association(
            self.target, "127.0.0.1", calling_ae="MODALITY", called_ae=called_ae, contexts=contexts, timeouts=TIMEOUTS
        )

    def dcmtk(self, program: str, *arguments: str | Path, called_ae: str = "MACH7") -> subprocess.CompletedProcess[str]:
        """Run a program of DCMTK against this SCP and return how it ended, with all that it said in `stdout`."""
        command: Sequence[str] = [
            f"/usr/bin/{program}", "-aet", "MODALITY", "-aec", called_ae, "127.0.0.1", str(self.port), *map(str, arguments)
        ]  # fmt: skip
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=60, check=False,
            env={"TCP_NODELAY": "1"},
        )  # fmt: skip


StartScp = Callable[..., RunningScp]


@pytest.fixture(scope="session", params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> str:
    """Return each implementation of the SCPs in turn: all of them must pass the same tests."""
    return str(request.param)


@pytest.fixture
def start_scp(engine: str, tmp_path: Path) -> Iterator[StartScp]:
    """Start SCPs of a node; they are gone at the end of the test."""
    with _starting(engine, tmp_path / NODE) as start:
        yield start


@pytest.fixture(scope="module")
def start_standing_scp(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartScp]:
    """Start SCPs for all those tests of a module that leave them as they were."""
    with _starting(engine, tmp_path_factory.mktemp(NODE)) as start:
        yield start


@pytest.fixture
def storage_scp(start_scp: StartScp) -> RunningScp:
    """Start a storage SCP that keeps what it takes."""
    return start_scp("dicom")


@pytest.fixture(scope="module")
def standing_scp(start_standing_scp: StartScp) -> RunningScp:
    """Start a storage SCP for all those tests of a module that leave it as it was."""
    return start_standing_scp("dicom")


@contextmanager
def _starting(engine: str, home: Path) -> Iterator[StartScp]:
    with ExitStack() as started:

        def start(service: Literal["dicom", "dmwl"], directory: Path = home, **settings: object) -> RunningScp:
            scp = RunningScp(ENGINES[engine][service], service, directory, **settings)
            started.callback(scp.close)
            return scp

        yield start
