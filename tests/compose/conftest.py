from __future__ import annotations

import os
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.containers.project import connect
from compose.images.build import BuildError, missing_images
from compose.keeper_client import CHECKOUT, KeeperClient, python_environment, wait_for_exit
from compose.lab import LabError
from compose.ports import check_free
from lbconfig.site import Site
from lbconfig.site_file import load_site

_VARIABLE = "PREFLIGHT_TEST_MARK"
_LIMIT_S = 30.0


class Marked:
    """The processes that carry a mark in their environment: all that a test started, whoever their parent is now."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)
        self._seen: set[int] = set()
        self.environment = python_environment() | {_VARIABLE: self._mark}

    def pids(self) -> list[int]:
        """Return the pids of those that live.

        A process that ends loses its environment before its sockets, so whoever was seen once counts until it is a zombie.
        """
        wanted = f"{_VARIABLE}={self._mark}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if wanted in (entry / "environ").read_bytes().split(b"\x00"):
                        self._seen.add(int(entry.name))
                except OSError:
                    continue  # it ended while we looked
        self._seen = {pid for pid in self._seen if is_alive(pid)}
        return sorted(self._seen)

    def wait_until(self, condition: Callable[[list[int]], bool], what: str) -> None:
        """Wait until a condition holds of the pids; `what` says in words what was expected."""
        deadline = time.monotonic() + _LIMIT_S
        while not condition(pids := self.pids()):
            assert time.monotonic() < deadline, f"expected {what}, found processes {pids}"
            if pids:
                wait_for_exit(pids[0], 0.01)

    def wait_until_none(self) -> None:
        """Wait until all have ended."""
        self.wait_until(lambda pids: not pids, "no process left")


def is_alive(pid: int) -> bool:
    """Say whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a daemon and images, so that it can be run alone (`make test-containers`)."""
    for item in items:
        if "docker" in getattr(item, "fixturenames", ()):
            item.add_marker("docker")


class Docker:
    """The daemon that answers here, with the images of this checkout."""


@pytest.fixture(scope="session")
def docker() -> Docker:
    """Return the daemon, or skip the test, by name of what is missing."""
    try:
        missing = missing_images() if connect() else []
    except (LabError, BuildError) as error:
        pytest.skip(f"Docker cannot run here: {error}")
    if missing:
        pytest.skip(f"the images of this checkout are not made: {', '.join(missing)}. Run compose/images/build")
    return Docker()


@pytest.fixture
def marked() -> Iterator[Marked]:
    mark = Marked()
    yield mark
    for pid in mark.pids():
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    mark.wait_until_none()  # the next test may want the same ports


@pytest.fixture
def keeper(marked: Marked, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeeperClient]:
    monkeypatch.setenv(_VARIABLE, marked.environment[_VARIABLE])
    with KeeperClient() as client:
        yield client


@pytest.fixture(scope="session")
def site_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the loopback site, moved to a block of 127.0.0.0/8 where nobody listens, so that two runs do not meet."""
    return moved_site_file("loopback", tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def hardened_site_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the hardened loopback site, moved likewise."""
    return moved_site_file("hardened_loopback", tmp_path_factory.mktemp("hardened"))


def moved_site_file(name: str, directory: Path) -> Path:
    """Write a shipped site at addresses that are free."""
    text = (CHECKOUT / "lbconfig" / "sites" / f"{name}.toml").read_text()
    chance = random.Random(f"{name} {os.getpid()}")
    path = directory / "site.toml"
    while True:
        block = f"127.{chance.randint(64, 190)}.{chance.randint(1, 254)}."
        path.write_text(text.replace("127.0.110.", block))
        try:
            check_free(endpoints_of(load_site(path)))
        except LabError:
            continue
        return path


@pytest.fixture
def short_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give labs a directory of their own for sockets, with a short path."""
    with tempfile.TemporaryDirectory(prefix="pf") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        monkeypatch.setattr(tempfile, "tempdir", None)  # it remembers the one before
        yield Path(directory)


@pytest.fixture(scope="session")
def endpoints(site_file: Path) -> list[tuple[str, int]]:
    """Return all that a lab of the site listens on."""
    return endpoints_of(load_site(site_file))


def endpoints_of(site: Site) -> list[tuple[str, int]]:
    """Return all that a lab of this site listens on."""
    found = [(vip.address, vip.port) for vip in site.vip]
    found += [(vip.fallback.address, vip.fallback.port) for vip in site.vip if vip.fallback]
    found += [(site.node_named(server.node).address, server.port) for vip in site.vip for server in vip.real_server]
    return list(dict.fromkeys(found))
