"""Sites to test with, and a real HAProxy before real servers."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import msgspec
import pytest

from lbconfig.haproxy import Runtime, render
from lbconfig.runtime_api import MasterCli, RuntimeApi
from lbconfig.site import HealthCheck, Site
from lbconfig.site_file import load_site

SITES = Path(__file__).parents[2] / "lbconfig" / "sites"
GOLDEN = Path(__file__).parent / "golden"
TODAY = date(2026, 11, 23)
WAIT_S = 20.0


@pytest.fixture(scope="session")
def brief() -> Site:
    return load_site(SITES / "brief.toml", today=TODAY)


@pytest.fixture(scope="session")
def loopback() -> Site:
    return load_site(SITES / "loopback.toml", today=TODAY)


@pytest.fixture(scope="session")
def hardened() -> Site:
    return load_site(SITES / "hardened_loopback.toml", today=TODAY)


@pytest.fixture(scope="session")
def haproxy() -> str:
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    assert program, "HAProxy is not installed"
    return program


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, and say which one did not come."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S:g} s in vain: {what}"
        select.select([], [], [], 0.02)


class EchoServer:
    """Sends back what it gets, on a real socket; tells its name first."""

    def __init__(self, name: str, address: str, port: int) -> None:
        self._name = name
        self._listener = socket.create_server((address, port))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end what is open. Safe to call twice."""
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        serving = []
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                serving.append(threading.Thread(target=self._serve, args=(connection,)))
                serving[-1].start()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in serving:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(self._name.encode() + b"\n")
            while data := connection.recv(4096):
                connection.sendall(data)


class Client:
    """One connection to a VIP from a source address of its own."""

    def __init__(self, site: Site, vip: str, source: str) -> None:
        target = site.vip_named(vip)
        self.socket = socket.create_connection((target.address, target.port), timeout=WAIT_S, source_address=(source, 0))
        self._input = self.socket.makefile("rb")
        self.port: int = self.socket.getsockname()[1]
        self.server = self._input.readline().decode().strip()

    def echo(self, word: bytes) -> bytes:
        """Send a word; return what comes back."""
        self.socket.sendall(word + b"\n")
        return self._input.readline().strip()

    def ended(self) -> bool:
        """Wait until the other side closes."""
        try:
            return self._input.readline() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """End the connection."""
        self._input.close()
        self.socket.close()


class Rig:
    """A HAProxy of the rendered configuration before echo servers, on a block of 127.0.0.0/8 of its own."""

    def __init__(self, program: str, site: Site, directory: Path) -> None:
        self.site = site
        self.configuration = directory / "haproxy.cfg"
        self.log = directory / "log"
        self.api = RuntimeApi(directory / "api.sock")
        self.master = MasterCli(directory / "master.sock")
        self._clients: list[Client] = []
        self.runtime = Runtime(runtime_socket=str(directory / "api.sock"), fd_limit=4096)
        self.configuration.write_text(render(site, self.runtime))
        self.servers = {
            server.label: EchoServer(server.label, site.node_named(server.node).address, server.port)
            for vip in site.vip
            for server in vip.real_server
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-W", "-db", "-S", str(directory / "master.sock"), "-f", str(self.configuration)],
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def connect(self, vip: str, source: str) -> Client:
        """Connect to a VIP."""
        client = Client(self.site, vip, source)
        self._clients.append(client)
        return client

    def up(self) -> bool:
        """Whether HAProxy answers, and has checked every real server and found it UP."""
        if not (Path(self.runtime.runtime_socket).exists() and self.master.socket_path.exists()):
            return False
        servers = [server for server in self.api.servers() if not server.backup]
        return all(server.checked and server.status == "UP" for server in servers)

    def stop(self) -> None:
        """Stop HAProxy and the servers."""
        for client in self._clients:
            client.close()
        self._process.terminate()
        self._process.wait(WAIT_S)
        for server in self.servers.values():
            server.close()


def moved(site: Site, block: str, *, quick: bool = True) -> Site:
    """Return a loopback site at another block of addresses; with quick health checks, if wanted, and without fallbacks."""

    def here(address: str) -> str:
        return f"{block}.{ipaddress.ip_address(address).packed[3]}"

    def asked(check: HealthCheck) -> HealthCheck:
        return msgspec.structs.replace(check, interval_s=0.2, timeout_s=1.0) if quick else check

    return msgspec.structs.replace(
        site,
        balancer=msgspec.structs.replace(site.balancer, address=f"{block}.10", connect_timeout_s=1.0),
        node=tuple(msgspec.structs.replace(node, address=here(node.address)) for node in site.node),
        vip=tuple(
            msgspec.structs.replace(vip, address=here(vip.address), health_check=asked(vip.health_check), fallback=None)
            for vip in site.vip
        ),
    )


@pytest.fixture
def rig(haproxy: str, loopback: Site) -> Iterator[Rig]:
    """Two workers of a parallel test run must not meet: the block is drawn at random, and a taken port is an error."""
    draw = random.SystemRandom()
    block = f"127.{draw.randrange(16, 240)}.{draw.randrange(1, 255)}"
    with tempfile.TemporaryDirectory(prefix="pf") as directory:  # short: a unix socket's path has 107 characters
        rig = Rig(haproxy, moved(loopback, block), Path(directory))
        try:
            until(rig.up, "HAProxy up, with all of its servers")
            yield rig
        finally:
            rig.stop()
