"""Real listeners, real engines."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from simulators.client import Target, Timeouts
from simulators.hl7.engine import InterfaceEngine
from simulators.journal import Receipt, journal_path, read_receipts
from simulators.misbehaviour import Misbehaviour
from simulators.node_store import SiteReader
from simulators.operations import Service
from simulators.outbound import Outbound
from simulators.service import ServiceSettings

TIMEOUTS = Timeouts(connect_s=5, negotiate_s=5, send_s=5, response_s=5)


class RunningListener:
    """A listener process on a port of its own, and what it wrote."""

    def __init__(
        self, directory: Path, misbehaviour: tuple[Misbehaviour, ...], storage: Literal["keep", "digest"], processes: int = 1,
        outbound: Outbound | None = None,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.log = directory / "listener.log"
        directory.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0), backlog=128) as server, self.log.open("ab") as log:
            server.set_inheritable(True)
            self.port: int = server.getsockname()[1]
            settings = ServiceSettings(
                node="mach7-1", service="hl7", listen_fd=server.fileno(), directory=str(directory),
                site_directories=(str(directory),), misbehaviour=misbehaviour, storage=storage,
                processes=processes, outbound=outbound,
            )  # fmt: skip
            file = directory / "hl7.json"
            file.write_bytes(msgspec.json.encode(settings))
            command = [sys.executable, "-m", "simulators.hl7.listener", str(file)]
            self.process = subprocess.Popen(command, pass_fds=[server.fileno()], stderr=log)
        self.target = Target("127.0.0.1", self.port, Service.HL7)
        self.store = SiteReader([directory])

    def engine(self, timeouts: Timeouts = TIMEOUTS) -> InterfaceEngine:
        """Return an engine that sends to this listener from an address of its own."""
        return InterfaceEngine(self.target, "127.1.0.1", timeouts=timeouts)

    def receipts(self) -> list[Receipt]:
        """Return what the journal holds."""
        return list(read_receipts(journal_path(self.directory, Service.HL7)))

    def end(self) -> int:
        """End the listener as a lab does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        self.store.close()


StartListener = Callable[..., RunningListener]


@pytest.fixture
def start_listener(tmp_path: Path) -> Iterator[StartListener]:
    """Start listeners: `start_listener(Misbehaviour.…, storage="digest", processes=2)`."""
    with ExitStack() as stack:

        def start(
            *misbehaviour: Misbehaviour, storage: Literal["keep", "digest"] = "keep", processes: int = 1,
            outbound: Outbound | None = None,
        ) -> RunningListener:  # fmt: skip
            listener = RunningListener(tmp_path / "mach7-1", misbehaviour, storage, processes, outbound)
            stack.callback(listener.close)
            return listener

        yield start


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningListener]:
    """Return an honest listener for the tests of one module."""
    running = RunningListener(tmp_path_factory.mktemp("node"), (), "keep")
    yield running
    running.close()


@pytest.fixture
def engine(listener: RunningListener) -> Iterator[InterfaceEngine]:
    """Return an engine before the module's listener."""
    engine = listener.engine()
    yield engine
    engine.close()
