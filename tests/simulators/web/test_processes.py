"""A node's HTTPS service in several processes on one socket."""

from __future__ import annotations

import signal
import socket
import ssl
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest

from simulators.journal import journal_path, read_receipts
from simulators.operations import Kind, Outcome, Service, read_records
from simulators.pulse import PULSE_FIELDS, PULSE_MAGIC, Pulse
from simulators.web.viewer import Viewer

if TYPE_CHECKING:
    from tests.simulators.web.conftest import RunningNode, StartNode


@pytest.fixture
def shared(start_node: StartNode) -> RunningNode:
    """Run a node of two processes."""
    return start_node(processes=2)


def workers(node: RunningNode) -> list[psutil.Process]:
    return psutil.Process(node.process.pid).children()


def process_of(node: RunningNode, port: int) -> int:
    """Return the pid of the process that holds the connection of a client's port."""
    for worker in workers(node):
        if any(one.raddr and one.raddr.port == port for one in worker.net_connections("tcp")):
            return worker.pid
    raise LookupError(f"expected a process with a connection of port {port}, found none")


def met_by(node: RunningNode, viewer: Viewer) -> int:
    """Let a viewer see the login page; return the pid of the process that showed it."""
    return process_of(node, viewer.get("/login", node.attempt())[0].source_port)


def move_to_another(node: RunningNode, viewer: Viewer) -> None:
    """Reconnect until another process answers."""
    before = met_by(node, viewer)
    while met_by(node, viewer) == before:
        viewer.disconnect()


def test_a_session_is_known_to_every_process_and_so_is_its_end(shared: RunningNode) -> None:
    viewer = shared.logged_in()
    for _ in range(4):
        assert viewer.studies(shared.attempt())[0].outcome == Outcome.ACKNOWLEDGED
        move_to_another(shared, viewer)
    twin = shared.viewer()
    twin.login("preflight", "correct horse", shared.attempt())
    assert viewer.logout(shared.attempt()).outcome == Outcome.ACKNOWLEDGED
    move_to_another(shared, viewer)
    assert viewer.page("/studies", shared.attempt())[0].status == 303
    assert twin.studies(shared.attempt())[0].outcome == Outcome.ACKNOWLEDGED


def test_no_session_outlives_its_service(start_node: StartNode, shared: RunningNode) -> None:
    viewer = shared.logged_in()
    shared.process.send_signal(signal.SIGTERM)
    assert shared.process.wait(20) == 0
    again = start_node(processes=2)
    viewer.target = again.target
    assert viewer.studies(again.attempt())[0].status == 303


def test_notes_that_different_processes_took_are_on_one_page_and_receipted_once(shared: RunningNode) -> None:
    viewer = shared.logged_in()
    attempts = [shared.attempt(Kind.NOTE) for _ in range(6)]
    for number, attempt in enumerate(attempts):
        assert viewer.note("2.25.10", f"note {number}", attempt).status == 201
        move_to_another(shared, viewer)
        _, page = viewer.study("2.25.10", shared.attempt())
        assert [note.text for note in page.notes] == [f"note {earlier}" for earlier in range(number + 1)]
    receipts = read_receipts(journal_path(shared.directory, Service.HTTPS))
    counts = Counter(receipt.key for receipt in receipts if not receipt.flags)
    assert counts == {attempt.identity.key: 1 for attempt in attempts}


def test_a_tls_session_of_one_process_is_resumed_by_the_other(shared: RunningNode) -> None:
    context = ssl.create_default_context(cafile=str(shared.ca_file))
    session: ssl.SSLSession | None = None
    pids = set[int]()
    while len(pids) < 2:
        resumed, pid, session = exchange(shared, context, session)
        assert resumed is bool(pids)
        pids.add(pid)


def exchange(
    node: RunningNode, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, int, ssl.SSLSession | None]:
    """Ask for the node's health; return whether a TLS session was resumed, who answered, and the session for next time."""
    plain = socket.create_connection(node.target[:2], 10)
    with context.wrap_socket(plain, server_hostname="imaging.hospital.example", session=session) as secured:
        secured.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert secured.recv(4096).startswith(b"HTTP/1.1 200")
        return bool(secured.session_reused), process_of(node, secured.getsockname()[1]), secured.session


def test_all_end_at_sigterm_with_code_zero_and_leave_their_pulses(shared: RunningNode) -> None:
    viewer = shared.viewer()
    move_to_another(shared, viewer)
    pids = {worker.pid for worker in workers(shared)}
    shared.process.send_signal(signal.SIGTERM)
    assert shared.process.wait(20) == 0
    files = list((shared.directory / "pulses").iterdir())
    last = [Pulse(*list(read_records(path, PULSE_MAGIC, PULSE_FIELDS))[-1]) for path in files]
    assert {path.name for path in files} == {f"https-{pid}.pulse" for pid in pids}
    assert {pulse.pid for pulse in last} == pids
    assert min(pulse.handled for pulse in last) > 0
