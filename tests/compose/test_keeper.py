from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from compose.keeper_client import Exit, KeeperClient, wait_for_exit
from compose.lab import LabError
from compose.ports import bind_listener

if TYPE_CHECKING:
    from tests.compose.conftest import Marked

STUBBORN = "trap '' TERM; setsid sleep 1000 & setsid sh -c 'sleep 1001 & wait' & wait"
PARENT = "setsid sleep 1003 & wait"
SLEEPER = ["sleep", "1002"]

# A harness that starts, pauses and resumes processes for ever, and says so line by line: a moment is a number of lines.
HARNESS = f"""
import itertools, signal, sys
from pathlib import Path
from compose.keeper_client import KeeperClient
keeper, place = KeeperClient(), Path(sys.argv[1])
print("keeper", flush=True)
for number in itertools.count():
    keeper.start(f"s{{number}}", ["sh", "-c", {PARENT!r}], directory=place, log=place / "log")
    print("started", flush=True)
    keeper.begin_fault(f"f{{number}}", [f"s{{number}}"], signal.SIGSTOP, undo=signal.SIGCONT)
    print("paused", flush=True)
    if number % 3 == 2:
        keeper.end_fault(f"f{{number}}")
        print("resumed", flush=True)
    if number > 6:
        sys.stdin.read()
"""


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_end_of_a_process_is_recorded_with_its_exit_code(keeper: KeeperClient, tmp_path: Path) -> None:
    pid = keeper.start("seven", ["sh", "-c", "exit 7"], directory=tmp_path, log=tmp_path / "log")
    keeper.wait(["seven"], 10)
    assert keeper.exit_of("seven") == Exit("seven", pid, 7)


def test_the_end_of_a_process_is_recorded_with_the_signal_that_killed_it(keeper: KeeperClient, tmp_path: Path) -> None:
    keeper.start("sleeper", SLEEPER, directory=tmp_path, log=tmp_path / "log")
    keeper.signal(["sleeper"], signal.SIGKILL)
    keeper.wait(["sleeper"], 10)
    assert str(keeper.exit_of("sleeper")).endswith("was killed by SIGKILL")


def test_a_process_writes_to_its_log_in_its_own_directory(keeper: KeeperClient, tmp_path: Path) -> None:
    keeper.start("speaker", ["sh", "-c", "pwd; echo trouble >&2"], directory=tmp_path, log=tmp_path / "log")
    keeper.wait(["speaker"], 10)
    assert (tmp_path / "log").read_text() == f"{tmp_path}\ntrouble\n"


def test_a_program_that_is_missing_is_named(keeper: KeeperClient, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="/no/such/program"):
        keeper.start("missing", ["/no/such/program"], directory=tmp_path, log=tmp_path / "log")


def test_a_name_in_use_is_refused(keeper: KeeperClient, tmp_path: Path) -> None:
    keeper.start("twin", SLEEPER, directory=tmp_path, log=tmp_path / "log")
    with pytest.raises(LabError, match="twin: expected no process of that name, found pid"):
        keeper.start("twin", SLEEPER, directory=tmp_path, log=tmp_path / "log")


def test_a_process_that_does_not_end_is_an_error_that_names_it(keeper: KeeperClient, tmp_path: Path) -> None:
    pid = keeper.start("sleeper", SLEEPER, directory=tmp_path, log=tmp_path / "log")
    with pytest.raises(LabError, match=rf"sleeper \(pid {pid}\): expected to end within 0.01 s"):
        keeper.wait(["sleeper"], 0.01)


def test_a_process_inherits_its_sockets_in_their_order_from_3_on(keeper: KeeperClient, tmp_path: Path) -> None:
    program = "import socket; print([socket.socket(fileno=fd).getsockname()[1] for fd in (3, 4)])"
    with bind_listener("127.0.0.1", 0) as first, bind_listener("127.0.0.1", 0) as second:
        log, ports = tmp_path / "log", [first.getsockname()[1], second.getsockname()[1]]
        keeper.start("two", [sys.executable, "-c", program], directory=tmp_path, log=log, sockets=(first, second))
    keeper.wait(["two"], 10)
    assert log.read_text() == f"{ports}\n"


def test_the_port_of_a_dead_process_refuses_though_others_started_after_it_live(keeper: KeeperClient, tmp_path: Path) -> None:
    with bind_listener("127.0.0.1", 0) as listener:
        endpoint = listener.getsockname()
        keeper.start("holder", SLEEPER, directory=tmp_path, log=tmp_path / "log", sockets=[listener])
    keeper.start("bystander", SLEEPER, directory=tmp_path, log=tmp_path / "log")
    socket.create_connection(endpoint).close()
    keeper.signal(["holder"], signal.SIGKILL)
    keeper.wait(["holder"], 10)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(endpoint)


def test_the_port_of_a_living_process_can_be_made_to_refuse(keeper: KeeperClient, tmp_path: Path) -> None:
    with bind_listener("127.0.0.1", 0) as listener:
        endpoint = listener.getsockname()
        keeper.start("holder", SLEEPER, directory=tmp_path, log=tmp_path / "log", sockets=[listener])
    keeper.refuse_connections(["holder"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(endpoint)


def test_a_fault_is_known_while_it_lasts_and_undone_at_its_end(keeper: KeeperClient, tmp_path: Path) -> None:
    pid = keeper.start("sleeper", SLEEPER, directory=tmp_path, log=tmp_path / "log")
    keeper.begin_fault("pause", ["sleeper"], signal.SIGSTOP, undo=signal.SIGCONT)
    assert (keeper.status().faults, state_of(pid)) == (["pause"], "T")
    keeper.end_fault("pause")
    assert (keeper.status().faults, state_of(pid) in "RS") == ([], True)


def test_a_service_is_paused_and_resumed_with_the_processes_that_share_its_work(keeper: KeeperClient, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pid = keeper.start("service", ["sh", "-c", "sleep 1004 & echo $!; wait"], directory=tmp_path, log=log)
    while not log.read_text().endswith("\n"):
        assert state_of(pid) != "Z"
    worker = int(log.read_text())
    keeper.begin_fault("pause", ["service"], signal.SIGSTOP, undo=signal.SIGCONT)
    assert (state_of(pid), state_of(worker)) == ("T", "T")
    keeper.end_fault("pause")
    assert state_of(worker) != "T"


def test_stop_leaves_no_process_that_heeds_no_sigterm_and_no_grandchild(
    keeper: KeeperClient, marked: Marked, tmp_path: Path
) -> None:
    keeper.start("stubborn", ["sh", "-c", STUBBORN], directory=tmp_path, log=tmp_path / "log")
    marked.wait_until(lambda pids: len(pids) >= 5, "the keeper and four processes")
    keeper.stop()
    assert marked.pids() == []


def test_stop_leaves_no_stopped_process(keeper: KeeperClient, marked: Marked, tmp_path: Path) -> None:
    keeper.start("sleeper", SLEEPER, directory=tmp_path, log=tmp_path / "log")
    keeper.signal(["sleeper"], signal.SIGSTOP)
    keeper.stop()
    assert marked.pids() == []


def test_stop_may_be_called_twice_and_removes_the_directory(keeper: KeeperClient, tmp_path: Path) -> None:
    keeper.make_directory(tmp_path / "sockets")
    (tmp_path / "sockets" / "file").touch()
    keeper.stop()
    keeper.stop()
    assert not (tmp_path / "sockets").exists()


def test_a_stopped_keeper_is_an_error_that_says_so(keeper: KeeperClient) -> None:
    keeper.stop()
    with pytest.raises(LabError, match=r"keeper \(pid \d+\): expected an answer to 'status'"):
        keeper.status()


def test_ctrl_c_is_not_the_keepers(keeper: KeeperClient) -> None:
    os.kill(keeper.pid, signal.SIGINT)
    assert keeper.status().alive == {}
    assert os.getsid(keeper.pid) == keeper.pid


@pytest.mark.parametrize("seed", range(6))
def test_nothing_survives_kill_9_of_the_harness_at_a_random_moment(seed: int, marked: Marked, tmp_path: Path) -> None:
    lines = random.Random(seed).randint(1, 16)
    with subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path)], env=marked.environment, cwd=tmp_path, stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    ) as harness:  # fmt: skip
        assert harness.stdout is not None
        said = [harness.stdout.readline() for _ in range(lines)]
        assert all(said), f"the harness ended early, after {said}"
        harness.kill()
    marked.wait_until_none()


def test_nothing_survives_kill_9_of_the_keeper_not_even_workers_of_haproxy(
    keeper: KeeperClient, marked: Marked, tmp_path: Path
) -> None:
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert haproxy is not None
    configuration = tmp_path / "haproxy.cfg"
    status = tmp_path / "status.sock"
    configuration.write_text(f"global\n    stats socket {status}\ndefaults\n    timeout connect 1s\n")
    keeper.start("haproxy", [haproxy, "-W", "-db", "-f", str(configuration)], directory=tmp_path, log=tmp_path / "log")
    pid = keeper.start("paused", SLEEPER, directory=tmp_path, log=tmp_path / "log")
    keeper.begin_fault("pause", ["paused"], signal.SIGSTOP, undo=signal.SIGCONT)
    marked.wait_until(lambda pids: len(pids) >= 4 and status.exists(), "the keeper, a sleeper, a master and a worker")
    os.kill(keeper.pid, signal.SIGKILL)
    marked.wait_until(lambda pids: set(pids) <= {keeper.pid}, "none but the keeper, not yet waited for")
    assert wait_for_exit(pid, 10)
