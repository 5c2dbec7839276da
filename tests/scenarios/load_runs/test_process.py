"""A load run as a process beside the harness: it leaves records, says what went wrong, and outlives nobody."""

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.keeper_client import python_environment, wait_for_exit
from scenarios.load_runs.process import LoadError, check_generators
from scenarios.options import DEFAULT_SITE, ROOT

_MARK = "PREFLIGHT_TEST_MARK"
_LIMIT_S = 60.0


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    """Write the loopback site, moved to a block of 127.0.0.0/8 where nobody listens."""
    chance = random.Random(os.getpid())
    block = f"127.{chance.randint(191, 254)}.{chance.randint(1, 254)}."
    path = tmp_path / "site.toml"
    path.write_text(DEFAULT_SITE.read_text().replace("127.0.110.", block))
    return path


class Command:
    """`preflight load` in a process of its own; all that it starts carries its mark."""

    def __init__(self, site_file: Path, out: Path, *arguments: str) -> None:
        self._mark = f"{_MARK}={secrets.token_hex(8)}"
        name, _, value = self._mark.partition("=")
        self.records = out / "logs" / "lab" / "load" / "peak"
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "preflight", "load", "--site", str(site_file), "--duration", "40", "--out", str(out),
                *arguments,
            ],
            cwd=ROOT, env=python_environment() | {name: value}, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def pids(self) -> list[int]:
        """Return the pids of all that live and carry the mark."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._is_own(entry)]

    def workers(self) -> list[int]:
        """Return the pids of Locust's workers: its processes that one of its processes started."""
        parents = {pid: int(_stat(pid)[1]) for pid in self.pids() if b"locust" in Path(f"/proc/{pid}/cmdline").read_bytes()}
        return [pid for pid, parent in parents.items() if parent in parents]

    def wait_until_loading(self) -> None:
        """Return when a generator has written operations."""
        history = self.records / "generator-1.operations"
        self._wait(lambda: history.exists() and history.stat().st_size > 1000, "a generator at work")

    def wait_until_none(self) -> None:
        """Return when no process is left."""
        self._wait(lambda: not self.pids(), "no process left")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"expected {what}, found processes {self.pids()}"
            wait_for_exit(self.process.pid, 0.05)

    def _is_own(self, entry: Path) -> bool:
        try:
            alive = _stat(int(entry.name))[0] not in "ZX"
            return alive and self._mark.encode() in (entry / "environ").read_bytes().split(b"\x00")
        except OSError:
            return False  # it ended while we looked


def _stat(pid: int) -> list[str]:
    """Return the fields of a process's stat, proc(5), from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@pytest.fixture
def command(site_file: Path, tmp_path: Path) -> Iterator[Command]:
    started = Command(site_file, tmp_path / "out")
    yield started
    _end(started)


@pytest.fixture
def command_of_two(site_file: Path, tmp_path: Path) -> Iterator[Command]:
    """Start a load run of two generators under a master."""
    started = Command(site_file, tmp_path / "out", "--processes", "2")
    yield started
    _end(started)


def _end(command: Command) -> None:
    for pid in command.pids():
        os.kill(pid, signal.SIGKILL)
    command.process.wait()


def test_nothing_survives_kill_9_of_the_harness_under_load(command: Command) -> None:
    command.wait_until_loading()
    command.process.kill()
    command.process.wait()
    command.wait_until_none()


def test_workers_that_are_stopped_do_not_survive_kill_9_of_the_harness(command_of_two: Command) -> None:
    command_of_two.wait_until_loading()
    workers = command_of_two.workers()
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    command_of_two.process.kill()
    command_of_two.process.wait()
    command_of_two.wait_until_none()


def test_a_terminated_load_run_is_reported_and_leaves_nothing(command: Command, tmp_path: Path) -> None:
    command.wait_until_loading()
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(_LIMIT_S) == 3
    command.wait_until_none()
    assert (tmp_path / "out" / "report.json").exists()


def test_a_generator_that_left_nothing_is_missed(tmp_path: Path) -> None:
    (tmp_path / "locust.log").write_text("a worker died\n")
    (tmp_path / "generator-2.operations").touch()
    check_generators("the peak", tmp_path, 1)
    with pytest.raises(LoadError, match=r"the peak: expected the records of 2 generators in .*, found 1\."):
        check_generators("the peak", tmp_path, 2)
