"""The kernel's socket table over netlink, against what /proc says of the same sockets."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scenarios.load_runs import kernel_figures as kernel
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


class Machine:
    """A kernel of which so many sockets and begun connections are told; how often all of its sockets were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sockets, self.begun, self.busiest, self.readings = 0, 0, ("127.0.0.9", 0), 0
        monkeypatch.setattr(kernel, "sockets", lambda: kernel.Sockets(0, self.sockets))
        monkeypatch.setattr(kernel, "active_opens", lambda: self.begun)
        monkeypatch.setattr(kernel, "busiest_source", self._read)

    def _read(self) -> tuple[str, int]:
        self.readings += 1
        return self.busiest


def test_all_sockets_are_read_only_where_a_source_may_have_many_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, taken = Machine(monkeypatch), parts._PortsTaken(1000)
    machine.sockets = machine.begun = 499
    assert (taken.look(), machine.readings) == (("", 499), 0)
    machine.sockets = machine.begun = 800  # that may be one source's
    machine.busiest = ("127.0.0.9", 100)
    assert (taken.look(), machine.readings) == (("127.0.0.9", 100), 1)
    machine.begun = 1199  # all of the new ones may be that source's: 499
    assert (taken.look(), machine.readings) == (("", 499), 1)
    machine.begun = 1200
    machine.busiest = ("127.0.0.9", 500)
    assert (taken.look(), machine.readings) == (("127.0.0.9", 500), 2)  # and from now on each time


def test_a_rush_between_two_looks_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, taken = Machine(monkeypatch), parts._PortsTaken(1000)
    machine.sockets = machine.begun = 600
    taken.look()
    machine.sockets = machine.begun = 1550
    machine.busiest = ("127.0.0.9", 950)
    assert taken.look() == ("127.0.0.9", 950)


def test_what_the_kernel_does_not_tell_stays_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, taken = Machine(monkeypatch), parts._PortsTaken(1000)
    machine.sockets, machine.busiest = 990, ("", 0)
    assert taken.look() == ("", 990)


def test_connections_that_are_begun_are_counted(listener: socket.socket) -> None:
    before = kernel.active_opens()
    with socket.create_connection(listener.getsockname()), socket.create_connection(listener.getsockname()):
        assert kernel.active_opens() >= before + 2
