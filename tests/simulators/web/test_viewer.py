"""The viewer's fates: against real sockets that refuse, stay silent, reset, or show a certificate of somebody else."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simulators.client import Attempt, Target, Timeouts
from simulators.operations import Identity, Kind, Outcome, Phase, Service
from simulators.web.certificates import CertificateFiles, LabAuthority
from simulators.web.viewer import Viewer

if TYPE_CHECKING:
    from tests.simulators.web.conftest import RunningNode, StartNode

NAME = "imaging.hospital.example"
SHORT = Timeouts(connect_s=2, negotiate_s=0.3, send_s=2, response_s=0.3)
NOTE = Attempt(Identity(7, Kind.NOTE, 1, 1))
Behaviour = Callable[[socket.socket], None]
Listen = Callable[[Behaviour], Target]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Give a function that opens a listener and lets one behaviour meet one connection."""
    threads: list[threading.Thread] = []

    def start(behaviour: Behaviour) -> Target:
        listener = socket.create_server(("127.0.0.3", 0))

        def meet() -> None:
            with listener:
                listener.settimeout(10)
                connected, _ = listener.accept()
                with connected:
                    connected.settimeout(10)
                    behaviour(connected)

        thread = threading.Thread(target=meet)
        thread.start()
        threads.append(thread)
        return Target("127.0.0.3", listener.getsockname()[1], Service.HTTPS)

    yield start
    for thread in threads:
        thread.join(10)


def secured(connected: socket.socket, files: CertificateFiles) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate_file, files.key_file)
    return context.wrap_socket(connected, server_side=True)


def viewer_of(target: Target, authority: LabAuthority, timeouts: Timeouts = SHORT) -> Viewer:
    return Viewer(target, "127.0.0.1", server_name=NAME, ca_file=authority.ca_file, timeouts=timeouts)


def test_a_port_that_refuses_is_a_refusal_in_the_connect_phase(authority: LabAuthority) -> None:
    with socket.create_server(("127.0.0.3", 0)) as closed:
        target = Target("127.0.0.3", closed.getsockname()[1], Service.HTTPS)
    viewer = viewer_of(target, authority)
    operation = viewer.note("2.25.1", "text", NOTE)
    assert (operation.outcome, operation.phase, operation.session) == (Outcome.REFUSED, Phase.CONNECT, 0)
    assert "expected a connection, found" in viewer.last_failure


def test_a_server_that_never_negotiates_is_a_refusal_in_the_negotiate_phase(listen: Listen, authority: LabAuthority) -> None:
    target = listen(lambda connected: _read_to_the_end(connected))
    operation = viewer_of(target, authority).note("2.25.1", "text", NOTE)
    assert (operation.outcome, operation.phase) == (Outcome.REFUSED, Phase.NEGOTIATE)
    assert operation.session > 0


def test_a_certificate_of_an_unknown_authority_is_a_refusal_in_the_negotiate_phase(
    empty_node: RunningNode, tmp_path: Path
) -> None:
    node = empty_node
    stranger = LabAuthority(tmp_path / "stranger")
    viewer = viewer_of(node.target, stranger, Timeouts(negotiate_s=5))
    operation = viewer.note("2.25.1", "text", NOTE)
    assert (operation.outcome, operation.phase) == (Outcome.REFUSED, Phase.NEGOTIATE)
    assert "certificate" in viewer.last_failure


def test_a_certificate_for_another_name_is_a_refusal_in_the_negotiate_phase(
    start_node: StartNode, authority: LabAuthority, tmp_path: Path
) -> None:
    node = start_node(files=authority.issue(tmp_path / "wrong", ["other.example"]))
    operation = viewer_of(node.target, authority, Timeouts(negotiate_s=5)).note("2.25.1", "text", NOTE)
    assert (operation.outcome, operation.phase) == (Outcome.REFUSED, Phase.NEGOTIATE)


def test_silence_after_the_request_is_indeterminate(
    listen: Listen, authority: LabAuthority, certificate: CertificateFiles
) -> None:
    target = listen(lambda connected: _read_to_the_end(secured(connected, certificate)))
    viewer = viewer_of(target, authority, SHORT)
    operation = viewer.note("2.25.1", "text", NOTE)
    assert (operation.outcome, operation.phase, operation.status) == (Outcome.INDETERMINATE, Phase.RESPONSE, 0)
    assert not viewer.is_open


def test_a_reset_after_the_request_is_indeterminate(
    listen: Listen, authority: LabAuthority, certificate: CertificateFiles
) -> None:
    def reset(connected: socket.socket) -> None:
        tls = secured(connected, certificate)
        _read_note(tls)
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        tls.close()

    operation = viewer_of(listen(reset), authority).note("2.25.1", "text", NOTE)
    assert operation.outcome == Outcome.INDETERMINATE


def test_a_response_cut_in_its_body_is_indeterminate_and_its_status_is_kept(
    listen: Listen, authority: LabAuthority, certificate: CertificateFiles
) -> None:
    def cut(connected: socket.socket) -> None:
        with secured(connected, certificate) as tls:
            _read_note(tls)
            tls.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\nX-Mach7-Node: N1\r\n\r\nhalf")

    operation = viewer_of(listen(cut), authority).note("2.25.1", "text", NOTE)
    assert (operation.outcome, operation.phase, operation.status) == (Outcome.INDETERMINATE, Phase.RESPONSE, 201)
    assert operation.node == b"N1"


def test_a_session_survives_a_reconnect(empty_node: RunningNode) -> None:
    node = empty_node
    viewer = node.logged_in()
    before, _ = viewer.studies(node.attempt())
    viewer.disconnect()
    assert not viewer.is_open
    after, _ = viewer.studies(node.attempt())
    assert (before.outcome, after.outcome) == (Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED)
    assert before.session != after.session
    assert viewer.has_session


def test_requests_share_one_connection(empty_node: RunningNode) -> None:
    node = empty_node
    viewer = node.logged_in()
    sessions = {viewer.studies(node.attempt())[0].session for _ in range(5)}
    assert len(sessions) == 1


def test_a_connection_that_the_server_closed_is_replaced_before_the_next_request(start_node: StartNode) -> None:
    node = start_node()
    viewer = node.logged_in()
    node.process.kill()
    node.process.wait(10)
    again = start_node("MACH7-B")
    viewer.target = again.target
    operation, _ = viewer.page("/login", node.attempt())
    assert (operation.outcome, operation.node) == (Outcome.ACKNOWLEDGED, b"MACH7-B")


def test_a_viewer_that_closes_forgets_its_session(empty_node: RunningNode) -> None:
    node = empty_node
    viewer = node.logged_in()
    viewer.close()
    assert (viewer.is_open, viewer.has_session) == (False, False)
    assert viewer.page("/studies", node.attempt())[0].status == 303


def _read_to_the_end(connected: socket.socket) -> None:
    try:
        while connected.recv(4096):
            pass
    except OSError:
        connected.close()


def _read_note(connected: socket.socket) -> None:
    """Read a whole request: what is left unread would make the kernel reset the connection at its close."""
    received = b""
    while not received.endswith(b"}"):
        received += connected.recv(65536)
