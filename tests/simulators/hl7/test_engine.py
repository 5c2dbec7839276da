from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import xxhash

from simulators.client import Attempt, Failed, Target, Timeouts
from simulators.hl7.acknowledgement import Acknowledgement
from simulators.hl7.engine import Exchange, Fate, InterfaceEngine
from simulators.hl7.message import NoHeader
from simulators.hl7.mllp import frame
from simulators.operations import Identity, Kind, Operation, Outcome, Phase, Service, text_address

IDENTITY = Identity(5, Kind.MESSAGE, 1, 77)
CODE = IDENTITY.code.encode()
MESSAGE = b"MSH|^~\\&|A|B|C|D|1||ADT^A01|" + CODE + b"|P|2.5.1\rPID|1||7\r"
ENHANCED = b"MSH|^~\\&|A|B|C|D|1||ADT^A01|" + CODE + b"|P|2.5.1|||AL|AL\rPID|1||7\r"
COMMIT_ONLY = ENHANCED.replace(b"AL|AL", b"AL|NE")
Script = Callable[[socket.socket], None]
LET_GO = Timeouts(connect_s=5, negotiate_s=5, send_s=5, response_s=0.2)


def ack(code: bytes, control_id: bytes = CODE) -> bytes:
    return frame(b"MSH|^~\\&|MACH7|mach7-2|A|B|1||ACK|9|P|2.5.1\rMSA|" + code + b"|" + control_id + b"\r")


def read_one(client: socket.socket) -> None:
    received = b""
    while not received.endswith(b"\x1c\r"):
        data = client.recv(65536)
        if not data:
            return
        received += data


def answers(*parts: bytes) -> Script:
    def play(client: socket.socket) -> None:
        read_one(client)
        for part in parts:
            client.sendall(part)
        client.recv(1)  # until the engine lets go

    return play


def closes(client: socket.socket) -> None:
    read_one(client)


def resets(client: socket.socket) -> None:
    client.recv(1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def is_silent(client: socket.socket) -> None:
    read_one(client)
    client.recv(1)


class Peer:
    """A server that plays one script for each connection, in their order."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]
        self.threads: list[threading.Thread] = []
        self.first_has_closed = threading.Event()

    def plays(self, *scripts: Script) -> InterfaceEngine:
        """Start to play; return an engine before this server."""
        thread = threading.Thread(target=self._play, args=(scripts,), daemon=True)
        thread.start()
        self.threads.append(thread)
        return InterfaceEngine(Target("127.0.0.1", self.port, Service.HL7), "127.1.0.7", timeouts=LET_GO)

    def _play(self, scripts: tuple[Script, ...]) -> None:
        for script in scripts:
            try:
                client, _ = self.server.accept()
            except OSError:
                return  # the test is over
            with client:
                client.settimeout(5)
                script(client)
            self.first_has_closed.set()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    with closing(peer.server):
        yield peer
        with contextlib.suppress(OSError):  # a test has closed it already
            peer.server.shutdown(socket.SHUT_RDWR)
    for thread in peer.threads:
        thread.join()


def fate(peer: Peer, *scripts: Script, message: bytes = MESSAGE) -> tuple[Operation, InterfaceEngine]:
    engine = peer.plays(*scripts)
    operation = engine.send(message, Attempt(IDENTITY, number=2, patient=8, workload=3))
    return operation, engine


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (MESSAGE, [ack(b"AA")]),
        (ENHANCED, [ack(b"CA") + ack(b"AA")]),
        (ENHANCED, [ack(b"CA"), ack(b"AA")]),
        (ENHANCED, [ack(b"AA")]),
        (COMMIT_ONLY, [ack(b"CA")]),
        (MESSAGE, [bytes([byte]) for byte in ack(b"AA")]),
    ],
)
def test_a_message_is_acknowledged_by_an_answer_that_says_so_and_names_it(
    peer: Peer, message: bytes, parts: list[bytes]
) -> None:
    operation, engine = fate(peer, answers(*parts), message=message)
    assert (operation.outcome, operation.phase) == (Outcome.ACKNOWLEDGED, Phase.DONE)
    assert (operation.node, engine.node, engine.last_failure, engine.is_open) == (b"mach7-2", "mach7-2", "", True)
    engine.close()


def test_an_operation_holds_what_was_sent_from_where_to_where(peer: Peer) -> None:
    operation, engine = fate(peer, answers(ack(b"AA")))
    assert (operation.run, operation.key, operation.kind, operation.service) == (5, IDENTITY.key, Kind.MESSAGE, Service.HL7)
    assert (operation.attempt, operation.patient, operation.workload) == (2, 8, 3)
    assert (operation.size_bytes, operation.digest) == (len(MESSAGE), xxhash.xxh3_128_digest(MESSAGE))
    assert (text_address(operation.source), text_address(operation.target)) == ("127.1.0.7", "127.0.0.1")
    assert (operation.target_port, operation.session) == (peer.port, engine.session)
    assert operation.begun_ns == operation.intended_ns < operation.ended_ns
    engine.close()


@pytest.mark.parametrize("code", [b"AE", b"AR", b"CE", b"CR"])
def test_a_refusal_is_a_fate_and_the_connection_lives_on(peer: Peer, code: bytes) -> None:
    operation, engine = fate(peer, answers(ack(code)))
    assert (operation.outcome, operation.status) == (Outcome.REFUSED, int.from_bytes(code, "big"))
    assert engine.is_open
    engine.close()


@pytest.mark.parametrize(
    "script",
    [
        answers(ack(b"AA", b"ANOTHER")), answers(ack(b"AA", b"")), answers(ack(b"AA", CODE + b"0")),
        answers(ack(b"AE", b"ANOTHER")),
        answers(ack(b"XX")), answers(b"HTTP/1.0 503 Service Unavailable\r\n\r\n"), answers(frame(b"hello")),
        answers(ack(b"AA") + ack(b"AA")), answers(ack(b"AA") + b"stray"), answers(ack(b"AA")[:-1]),
        answers(b"\r" + ack(b"AA")),
        closes, resets, is_silent,
    ],
)  # fmt: skip
def test_without_an_answer_that_names_it_a_message_is_indeterminate_and_its_connection_is_dropped(
    peer: Peer, script: Script
) -> None:
    operation, engine = fate(peer, script)
    assert operation.outcome == Outcome.INDETERMINATE
    assert operation.phase in (Phase.SEND, Phase.RESPONSE)
    assert engine.last_failure
    assert not engine.is_open


def test_a_commit_without_the_application_answer_that_was_asked_for_is_indeterminate(peer: Peer) -> None:
    operation, _ = fate(peer, answers(ack(b"CA")), message=ENHANCED)
    assert operation.outcome == Outcome.INDETERMINATE


def test_the_next_message_opens_a_new_connection(peer: Peer) -> None:
    first, engine = fate(peer, is_silent, answers(ack(b"AA")))
    second = engine.send(MESSAGE, Attempt(IDENTITY, number=3))
    assert (first.outcome, second.outcome) == (Outcome.INDETERMINATE, Outcome.ACKNOWLEDGED)
    assert second.session > first.session
    engine.close()


def test_a_connection_that_the_node_closed_while_idle_costs_no_message(peer: Peer) -> None:
    def answers_once(client: socket.socket) -> None:
        read_one(client)
        client.sendall(ack(b"AA"))

    _, engine = fate(peer, answers_once, answers(ack(b"AA")))
    first = engine.session
    assert peer.first_has_closed.wait(5)
    assert engine.is_open
    assert engine.send(MESSAGE, Attempt(IDENTITY)).outcome == Outcome.ACKNOWLEDGED
    assert engine.session > first
    engine.close()


def test_where_nobody_listens_a_message_is_refused_while_connecting(peer: Peer) -> None:
    engine = InterfaceEngine(Target("127.0.0.1", peer.port, Service.HL7), "127.1.0.7", timeouts=LET_GO)
    peer.server.close()
    operation = engine.send(MESSAGE, Attempt(IDENTITY))
    assert (operation.outcome, operation.phase, operation.session) == (Outcome.REFUSED, Phase.CONNECT, 0)
    assert operation.size_bytes == len(MESSAGE)
    with pytest.raises(Failed, match="expected a connection"):
        engine.open()


def test_what_is_no_message_is_not_sent(peer: Peer) -> None:
    engine = peer.plays(is_silent)
    with pytest.raises(NoHeader):
        engine.send(b"hello", Attempt(IDENTITY))
    assert not engine.is_open


def test_a_probe_tells_silence_from_an_end(peer: Peer) -> None:
    engine = peer.plays(is_silent, closes)
    assert engine.send_raw(frame(b"hello"), wait_s=0.05) is None
    engine.close()
    assert engine.send_raw(frame(b"hello"), wait_s=5) == b""
    engine.close()


PLAIN = b"\x0bMSH|^~\\&|A|node|C|D|||ACK|1|P|2.5.1\rMSA|AA|" + CODE + b"\r\x1c\r"


@pytest.mark.parametrize("cut", [len(PLAIN), 1, 20, len(PLAIN) - 1])
def test_an_answer_means_the_same_in_one_piece_and_in_two(cut: int) -> None:
    exchange = Exchange(MESSAGE)
    fate = exchange.received(PLAIN[:cut]) or exchange.received(PLAIN[cut:])
    assert fate == Fate(Outcome.ACKNOWLEDGED, Acknowledgement(b"AA", CODE, "node", ""), "")


@pytest.mark.parametrize(
    "answer",
    [
        PLAIN + PLAIN,
        b"stray" + PLAIN,
        PLAIN.replace(b"\rMSA", b"\x1c\rMSA"),
        PLAIN.replace(b"MSH|", b"MSX|"),
        PLAIN.replace(CODE, CODE[:-1]),
    ],
    ids=["two answers", "stray bytes before it", "a frame that ends before MSA", "no MSH", "another's name"],
)
def test_what_only_looks_like_an_acceptance_is_none(answer: bytes) -> None:
    fate = Exchange(MESSAGE).received(answer)
    assert fate is not None
    assert fate.outcome is Outcome.INDETERMINATE
