from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.keeper_client import KeeperClient, python_environment, wait_for_exit

_VARIABLE = "PREFLIGHT_TEST_MARK"
_LIMIT_S = 30.0


class Marked:
    """The processes that carry a mark in their environment: all that a test started, whoever their parent is now."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)
        self.environment = python_environment() | {_VARIABLE: self._mark}

    def pids(self) -> list[int]:
        """Return the pids of those that live."""
        wanted = f"{_VARIABLE}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if wanted in (entry / "environ").read_bytes().split(b"\x00"):
                        found.append(int(entry.name))
                except OSError:
                    continue  # it ended while we looked
        return found

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


@pytest.fixture
def marked() -> Iterator[Marked]:
    mark = Marked()
    yield mark
    for pid in mark.pids():
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


@pytest.fixture
def keeper(marked: Marked, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeeperClient]:
    monkeypatch.setenv(_VARIABLE, marked.environment[_VARIABLE])
    with KeeperClient() as client:
        yield client
