"""Nothing that a lab in containers has on a host outlives the command that brought it up, whenever and however that ends."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from compose.containers.host import labs, take_down
from compose.containers.project import PREFIX, connect
from compose.keeper_client import CHECKOUT
from tests.compose.docker_lab import LIMIT_S, HostState, free_subnet, host_state, wait_for

if TYPE_CHECKING:
    from tests.compose.conftest import Docker, Marked

STARTED = "the lab is up"
_ACCEPT = ("accept", "--lab", "compose", "--only", "PERSIST-1", "--seed", "1")


class Command:
    """`preflight` in a process of its own that can be killed, and the lab that it brings up."""

    def __init__(self, process: subprocess.Popen[str], subnet: str) -> None:
        self.process = process
        self.said: list[str] = []
        self.subnet = subnet

    def wait_for(self, words: str) -> None:
        """Read what it says until it says this."""
        assert self.process.stdout is not None
        while words not in (line := self.process.stdout.readline()):
            assert line, f"expected {words!r}, found the end of {''.join(self.said)}"
            self.said.append(line)

    def wait_until_containers(self, count: int) -> None:
        """Wait until so many containers of its lab are there."""
        wait_for(lambda: len(containers_at(self.subnet)) >= count, f"{count} containers")

    def tester(self) -> str:
        """Return the name of its tester."""
        return next(name for name in containers_at(self.subnet) if name.endswith("-tester-1"))


def containers_at(subnet: str) -> list[str]:
    """Return the containers that are in a lab's network, or are about to be."""
    engine = connect()
    found = []
    for network in engine.networks.list():
        plans = (network.attrs.get("IPAM") or {}).get("Config") or []
        if str(network.name).startswith(PREFIX) and any(plan.get("Subnet") == subnet for plan in plans):
            project = str(network.name).rpartition("_")[0]
            label = f"com.docker.compose.project={project}"
            listed = engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
            found += [str(container.name) for container in listed]
    return found


@pytest.fixture
def before(docker: Docker) -> HostState:
    return host_state("no lab of this name")


@pytest.fixture
def start(docker: Docker, marked: Marked, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    begun: list[Command] = []

    def run(*arguments: str) -> Command:
        subnet = free_subnet()
        process = subprocess.Popen(
            [sys.executable, "-m", "preflight", *arguments, "--subnet", subnet, *_place(arguments, tmp_path)],
            env=marked.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            cwd=CHECKOUT, start_new_session=True,
        )  # fmt: skip
        begun.append(Command(process, subnet))
        return begun[-1]

    yield run
    for command in begun:
        command.process.kill()
        command.process.wait()
        if command.process.stdout is not None:
            command.process.stdout.close()
        wait_for(functools.partial(_is_gone, command.subnet), "no container left", 3 * LIMIT_S)


def _is_gone(subnet: str) -> bool:
    return not containers_at(subnet)


def _place(arguments: tuple[str, ...], directory: Path) -> list[str]:
    return ["--dir" if arguments[0] == "lab" else "--out", str(directory / "out" / "report")]


@pytest.fixture
def nothing_is_left(before: HostState, marked: Marked, tmp_path: Path) -> Callable[[Command], None]:
    def check(command: Command) -> None:
        wait_for(lambda: not containers_at(command.subnet), "no container left", 3 * LIMIT_S)
        wait_for(lambda: command.subnet.rpartition(".")[0] not in _networks(), "no network left")
        marked.wait_until_none()
        assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".preflight")] == []
        after = host_state("no lab of this name")
        prefix = command.subnet.rpartition(".")[0]
        assert not [rule for rule in after.rules - before.rules if prefix in rule]
        assert not [route for route in after.routes - before.routes if prefix in route]
        assert after.volumes == before.volumes

    return check


def _networks() -> str:
    return " ".join(str(network.attrs.get("IPAM")) for network in connect().networks.list())


@pytest.mark.parametrize("containers", [1, 5])
def test_nothing_survives_kill_9_while_a_lab_comes_up(
    start: Callable[..., Command], nothing_is_left: Callable[[Command], None], containers: int
) -> None:
    command = start(*_ACCEPT)
    command.wait_until_containers(containers)
    command.process.kill()
    nothing_is_left(command)


def test_nothing_survives_kill_9_of_the_command_during_the_suite(
    start: Callable[..., Command], nothing_is_left: Callable[[Command], None]
) -> None:
    command = start(*_ACCEPT)
    command.wait_for(STARTED)
    command.process.kill()
    nothing_is_left(command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_suite_in_good_order_with_a_report_and_nothing_left(
    start: Callable[..., Command], nothing_is_left: Callable[[Command], None], tmp_path: Path, number: signal.Signals
) -> None:
    command = start(*_ACCEPT)
    command.wait_for(STARTED)
    command.process.send_signal(number)
    assert command.process.wait(LIMIT_S) == 3
    assert (tmp_path / "out" / "report" / "report.json").is_file()
    nothing_is_left(command)


def test_a_suite_that_is_killed_in_the_tester_is_no_verdict_and_leaves_nothing(
    start: Callable[..., Command], nothing_is_left: Callable[[Command], None], tmp_path: Path
) -> None:
    command = start(*_ACCEPT)
    command.wait_for(STARTED)
    kill = "for p in /proc/[0-9]*; do grep -qs [p]ytest $p/cmdline && kill -9 ${p#/proc/}; done; true"
    subprocess.run(["docker", "exec", command.tester(), "sh", "-c", kill], check=True, timeout=LIMIT_S)
    command.wait_for("was ended by signal 9: there is no verdict")
    assert command.process.wait(LIMIT_S) == 3
    assert not (tmp_path / "out" / "report" / "report.json").exists()
    nothing_is_left(command)


def test_a_keeper_that_is_killed_is_cleaned_up_after(
    start: Callable[..., Command], nothing_is_left: Callable[[Command], None], marked: Marked
) -> None:
    command = start(*_ACCEPT)
    command.wait_for(STARTED)
    (keeper,) = [pid for pid in marked.pids() if b"compose.containers.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(keeper, signal.SIGKILL)
    command.process.wait(LIMIT_S)
    nothing_is_left(command)


def test_what_command_and_keeper_left_when_both_were_killed_is_listed_and_taken_down(
    start: Callable[..., Command], nothing_is_left: Callable[[Command], None], marked: Marked
) -> None:
    command = start(*_ACCEPT)
    command.wait_for(STARTED)
    (keeper,) = [pid for pid in marked.pids() if b"compose.containers.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(keeper, signal.SIGKILL)
    command.process.kill()
    project = command.tester().removesuffix("-tester-1")
    (found,) = [lab for lab in labs() if lab.project == project]
    assert not found.is_kept
    take_down(found.project, found.run)
    nothing_is_left(command)


def test_a_lab_to_play_with_lives_until_somebody_takes_it_down(
    start: Callable[..., Command], nothing_is_left: Callable[[Command], None]
) -> None:
    command = start("lab", "up", "--lab", "compose")
    command.wait_for("Ctrl-C takes it down")
    project = command.tester().removesuffix("-tester-1")
    (found,) = [lab for lab in labs() if lab.project == project]
    assert (found.is_kept, found.running) == (True, 5)
    take_down(found.project, found.run)
    assert command.process.wait(LIMIT_S) == 0
    nothing_is_left(command)
