from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from compose.keeper_client import KeeperClient
from compose.lab import LabError
from compose.ports import bind_listener, check_free, holders

LISTENER = """
import signal, socket
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
signal.pause()
"""


@pytest.fixture
def taken(keeper: KeeperClient, tmp_path: Path) -> tuple[int, int]:
    """Have a process hold a port with SO_REUSEPORT, as HAProxy does; return the port and the pid."""
    os.mkfifo(tmp_path / "log")
    reading = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)  # first: a writer waits for a reader
    pid = keeper.start("stale", [sys.executable, "-c", LISTENER], directory=tmp_path, log=tmp_path / "log")
    os.set_blocking(reading, True)
    with open(reading) as said:  # noqa: PTH123  a descriptor, not a path
        return int(said.readline()), pid


def test_a_taken_port_names_the_process_that_holds_it_and_its_command_line(taken: tuple[int, int]) -> None:
    port, pid = taken
    with pytest.raises(LabError, match=rf"^127.0.0.1:{port}: .* held by pid {pid} \(python\): .*python -c"):
        bind_listener("127.0.0.1", port)


def test_a_port_that_another_would_share_silently_is_not_free(taken: tuple[int, int]) -> None:
    port, pid = taken
    with pytest.raises(LabError, match=f"held by pid {pid}"):
        check_free([("127.0.0.1", port)])


def test_a_holder_of_all_addresses_is_named_too() -> None:
    with bind_listener("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(LabError, match=f"held by pid {os.getpid()}"):
            bind_listener("127.0.0.1", port)


def test_a_free_port_has_no_holders() -> None:
    with bind_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    assert holders("127.0.0.1", port) == []
    check_free([("127.0.0.1", port)])


def test_a_port_with_connections_in_time_wait_is_free() -> None:
    with bind_listener("127.0.0.1", 0) as listener:
        endpoint = listener.getsockname()
        client = socket.create_connection(endpoint)
        server, _ = listener.accept()
        server.close()  # the server's side closes first, so TIME_WAIT is at its port
        assert client.recv(1) == b""
        client.close()
    check_free([endpoint])


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(LabError, match=r"192.0.2.1:0: expected a free port, found that the address is not one of"):
        bind_listener("192.0.2.1", 0)
