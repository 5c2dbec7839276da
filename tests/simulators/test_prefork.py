from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from simulators.prefork import serve_in_processes

_LIMIT_S = 20
_PROGRAM = """
import os, signal, socket, sys
from simulators.prefork import serve_in_processes

listening = socket.socket(fileno=int(sys.argv[1]))

def serve(number):
    ended = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[3]) if number else 0))
    while True:
        connection, _ = listening.accept()
        with connection:
            if connection.recv(1) == b"x":
                return 0
            connection.sendall(f"{number} {os.getpid()}".encode())

sys.exit(serve_in_processes(int(sys.argv[2]), serve))
"""


class Service:
    """A service that tells each client the number and the pid of the process that it met."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self) -> tuple[int, int]:
        """Return number and pid of whoever answers."""
        with socket.create_connection(("127.0.0.1", self.port), _LIMIT_S) as connection:
            connection.sendall(b"?")
            number, pid = connection.recv(100).split()
        return int(number), int(pid)

    def ask_until_all_answered(self, processes: int) -> dict[int, int]:
        """Return the pid of each process, by its number."""
        found: dict[int, int] = {}
        while len(found) < processes:
            found.update([self.ask()])
        return found


@contextmanager
def running(processes: int, *, code: int = 0) -> Iterator[Service]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        command = [sys.executable, "-c", _PROGRAM, str(listening.fileno()), str(processes), str(code)]
        with subprocess.Popen(command, pass_fds=[listening.fileno()], cwd=Path.cwd()) as process:
            try:
                yield Service(process, listening.getsockname()[1])
            finally:
                process.kill()


def wait_until_gone(pid: int) -> None:
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    if process.status() != psutil.STATUS_ZOMBIE:
        opened = os.pidfd_open(pid)
        assert select.select([opened], [], [], _LIMIT_S)[0]
        os.close(opened)


def test_one_process_is_the_service_itself() -> None:
    asked: list[int] = []

    def serve(number: int) -> int:
        asked.append(number)
        return 3

    assert serve_in_processes(1, serve) == 3
    assert asked == [0]


def test_several_processes_answer_from_one_socket() -> None:
    with running(3) as service:
        pids = service.ask_until_all_answered(3)
        assert len({*pids.values(), service.process.pid}) == 4
        assert set(pids) == {0, 1, 2}


def test_sigterm_is_passed_on_and_ends_all_with_code_0() -> None:
    with running(2) as service:
        pids = service.ask_until_all_answered(2)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(_LIMIT_S) == 0
        assert not any(map(psutil.pid_exists, pids.values()))


def test_the_code_of_a_child_that_failed_is_the_code_of_the_service() -> None:
    with running(2, code=5) as service:
        service.ask_until_all_answered(2)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(_LIMIT_S) == 5


def test_a_child_that_is_killed_ends_the_service() -> None:
    with running(3) as service:
        pids = service.ask_until_all_answered(3)
        os.kill(pids[1], signal.SIGKILL)
        assert service.process.wait(_LIMIT_S) == 128 + signal.SIGKILL
        assert not any(map(psutil.pid_exists, pids.values()))


def test_children_that_end_at_the_same_time_end_the_service_in_good_order() -> None:
    with running(2) as service:
        pids = service.ask_until_all_answered(2)
        service.process.send_signal(signal.SIGSTOP)  # so that it finds both of them ended at once
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        service.process.send_signal(signal.SIGCONT)
        assert service.process.wait(_LIMIT_S) == 128 + signal.SIGKILL


def test_a_child_that_ends_by_itself_ends_the_service_as_a_failure() -> None:
    with running(2) as service:
        service.ask_until_all_answered(2)
        with socket.create_connection(("127.0.0.1", service.port), _LIMIT_S) as connection:
            connection.sendall(b"x")
        assert service.process.wait(_LIMIT_S) == 70


def test_no_child_outlives_a_service_that_is_killed() -> None:
    with running(2) as service:
        pids = service.ask_until_all_answered(2)
        service.process.kill()
        for pid in pids.values():
            wait_until_gone(pid)


def test_no_process_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="processes: expected at least 1, found 0"):
        serve_in_processes(0, lambda _: 0)
