"""The kernel's socket table over netlink, against what /proc says of the same sockets."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scenarios.load_runs import parts, socket_table
from scenarios.load_runs.socket_table import States, TcpSocket, tcp_sockets

SOURCE = f"127.{os.getpid() % 100 + 100}.78.3"


def of_proc(address: str) -> set[tuple[str, int]]:
    """Return state and port of each socket of an address."""
    number = "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
    fields = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    own = [(row[3], row[1].partition(":")) for row in fields]
    return {(state, int(port, 16)) for state, (local, _, port) in own if local == number}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((SOURCE, 0), backlog=50) as made:
        yield made


def test_what_listens_is_told_apart_from_what_takes_a_port(listener: socket.socket) -> None:
    place = listener.getsockname()
    with contextlib.ExitStack() as kept:
        for _ in range(20):
            client = kept.enter_context(socket.create_connection(place, source_address=(SOURCE, 0)))
        client.close()  # waits in FIN_WAIT, and takes its port all the same
        listening = {found for found in tcp_sockets(States.LISTENING) if found.address == SOURCE}
        taken = [found for found in tcp_sockets(States.TAKING_A_PORT) if (found.peer, found.peer_port) == place]
        assert listening == {TcpSocket(SOURCE, place[1], "0.0.0.0", 0, 20)}
        assert len({found.port for found in taken}) == 20
        expected = {port for state, port in of_proc(SOURCE) if state != "0A"}
        assert {found.port for found in tcp_sockets(States.TAKING_A_PORT) if found.address == SOURCE} == expected


def test_a_kernel_that_does_not_answer_has_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_table, "_BY_FAMILY", 0x7F)  # no such message: NLMSG_ERROR
    assert list(tcp_sockets(States.LISTENING)) == []
    monkeypatch.setattr(socket_table, "_SOCK_DIAG", 31)  # no such protocol: OSError
    assert list(tcp_sockets(States.LISTENING)) == []


def test_all_sockets_are_read_only_where_ports_could_run_out_and_seldom(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname(), source_address=(SOURCE, 0)):
        assert parts._PortsTaken(1 << 30).look()[0] == ""  # all sockets together are a bound that is far off
        taken = parts._PortsTaken(1)
        before = taken.look()
        assert before[1] >= 1
        with socket.create_connection(listener.getsockname(), source_address=(SOURCE, 0)):
            assert taken.look() == before  # read just now
            taken._next_ns = 0
            assert taken.look()[1] >= 2
