"""What the wire engine alone must do: crowds, batches, peers that send ahead or do not read. The rest, all engines share."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import pytest

from simulators.dicom.dimse import VERIFICATION, c_cancel_rq, c_echo_rq, c_find_rq, c_store_rq
from simulators.dicom.negotiation import Proposal, ProposedContext
from simulators.dicom.upper_layer import Event, Message, Released, UpperLayer
from simulators.dicom.worklist_client import MODALITY_WORKLIST, WorklistQuery
from simulators.node_store import NodeStore
from simulators.operations import IdentitySource, Kind

from .conftest import ORDER

if TYPE_CHECKING:
    from .conftest import RunningScp, StartScp

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
CONTEXTS = tuple(ProposedContext(syntax, (IMPLICIT,)) for syntax in (VERIFICATION, CT, MODALITY_WORKLIST))
ECHO_ID, CT_ID, FIND_ID = 1, 3, 5
IDENTITIES = IdentitySource(run=11, generator=4)
LIMIT_S = 20.0


@pytest.fixture(scope="session", params=["wire"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Peer:
    """A requestor that sends what it is told to, when it is told to."""

    def __init__(self, scp: RunningScp, *, maximum_length: int = 16384, receive_buffer_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(("127.0.0.1", scp.port))
        self.layer = UpperLayer()
        self.events: list[Event] = []
        self.socket.sendall(self.layer.associate(Proposal("MODALITY", "MACH7", CONTEXTS, maximum_length)))
        self.next_event()

    def message(self, context_id: int, command: bytes, data: bytes = b"") -> bytes:
        """Return one message as it goes over this association."""
        return b"".join(self.layer.message(context_id, command, (data,) if data else ()))

    def next_event(self) -> Event:
        """Return what comes next."""
        while not self.events:
            content = self.socket.recv(65536)
            assert content, "expected an answer, found the end of the connection"
            self.events += self.layer.receive(content)
        return self.events.pop(0)

    def next_answer(self) -> tuple[int, int]:
        """Return which message is responded to, and the status."""
        event = self.next_event()
        assert isinstance(event, Message)
        return event.command_set.responded_to, event.command_set.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def image(size_bytes: int) -> tuple[str, bytes]:
    """Return an instance in Implicit VR Little Endian, and its UID."""
    uid = IDENTITIES.next(Kind.INSTANCE).uid

    def element(group: int, number: int, value: bytes) -> bytes:
        return group.to_bytes(2, "little") + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value

    head = element(8, 0x16, CT.encode() + b"\0" * (len(CT) % 2)) + element(8, 0x18, uid.encode())
    return uid, head + element(0x7FE0, 0x10, bytes(size_bytes))


def writes_of(scp: RunningScp) -> int:
    """Return how often the process has called write(2) or writev(2)."""
    return calls_of(scp, "syscw")


def calls_of(scp: RunningScp, name: str) -> int:
    """Return how often the process has called read(2) ("syscr") or write(2) ("syscw"), and their like."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{scp.process.pid}/io").read_text().splitlines())
    return int(fields[name])


def wait_until_stopped(scp: RunningScp) -> None:
    os.waitid(os.P_PID, scp.process.pid, os.WSTOPPED | os.WNOWAIT)


def put(directory: Path, count: int) -> None:
    store = NodeStore(directory, "hl7")
    store.put(*(ORDER._replace(accession=f"ACC{number}") for number in range(count)))
    store.close()


def test_what_one_turn_of_the_event_loop_brought_is_receipted_with_one_write(start_scp: StartScp) -> None:
    scp = start_scp("dicom", storage="digest")
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(scp)) for _ in range(10)]
        before = writes_of(scp)
        scp.process.send_signal(signal.SIGSTOP)
        wait_until_stopped(scp)
        for peer in peers:
            uid, data = image(1000)
            peer.socket.sendall(peer.message(CT_ID, c_store_rq(1, CT, uid), data))
        scp.process.send_signal(signal.SIGCONT)
        assert [peer.next_answer() for peer in peers] == [(1, 0x0000)] * len(peers)
        assert len(scp.receipts()) == len(peers)
        assert writes_of(scp) - before == len(peers) + 1


def test_what_was_asked_ahead_of_the_release_is_answered_before_it(storage_scp: RunningScp) -> None:
    uid, data = image(1000)
    with Peer(storage_scp) as peer:
        store = peer.message(CT_ID, c_store_rq(1, CT, uid), data)
        echo = peer.message(ECHO_ID, c_echo_rq(2))
        peer.socket.sendall(store + echo + peer.layer.release())
        assert [peer.next_answer() for _ in range(2)] == [(1, 0x0000), (2, 0x0000)]
        assert isinstance(peer.next_event(), Released)
    assert len(storage_scp.receipts()) == 1


def test_a_large_image_that_a_thread_keeps_is_answered_before_what_follows_it(storage_scp: RunningScp) -> None:
    (large_uid, large), (uid, small) = image(5 << 20), image(1000)
    with Peer(storage_scp) as peer:
        peer.socket.sendall(
            peer.message(CT_ID, c_store_rq(1, CT, large_uid), large)
            + peer.message(CT_ID, c_store_rq(2, CT, uid), small)
            + peer.message(ECHO_ID, c_echo_rq(3))
        )
        assert [peer.next_answer() for _ in range(3)] == [(1, 0x0000), (2, 0x0000), (3, 0x0000)]
    assert [receipt.size_bytes for receipt in storage_scp.receipts()] == [len(large), len(small)]
    [kept] = storage_scp.directory.glob(f"images/{large_uid}.dcm")
    assert kept.read_bytes().endswith(large)


def test_an_image_in_pieces_of_one_byte_is_an_image(storage_scp: RunningScp) -> None:
    uid, data = image(100)
    with Peer(storage_scp) as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in peer.message(CT_ID, c_store_rq(1, CT, uid), data):
            peer.socket.sendall(bytes((byte,)))
        assert peer.next_answer() == (1, 0x0000)


def test_a_large_image_in_many_pieces_is_read_in_few(start_scp: StartScp) -> None:
    scp = start_scp("dicom", storage="digest")
    uid, data = image(1 << 19)
    with Peer(scp) as peer:
        message = peer.message(CT_ID, c_store_rq(1, CT, uid), data)
        before = calls_of(scp, "syscr")
        for at in range(0, len(message), 1 << 14):
            time.sleep(0.005)  # each piece comes alone, as from a balancer that hands on what its buffer takes
            peer.socket.sendall(message[at : at + (1 << 14)])
        assert peer.next_answer() == (1, 0x0000)
    assert calls_of(scp, "syscr") - before < 16


def test_a_peer_that_takes_tiny_pdus_is_answered_in_tiny_pdus(storage_scp: RunningScp) -> None:
    uid, data = image(100)
    with Peer(storage_scp, maximum_length=32) as peer:
        peer.socket.sendall(peer.message(CT_ID, c_store_rq(1, CT, uid), data))
        assert peer.next_answer() == (1, 0x0000)


def test_a_command_that_does_not_belong_into_its_context_is_answered_with_an_abort(storage_scp: RunningScp) -> None:
    with Peer(storage_scp) as peer:
        peer.socket.sendall(peer.message(CT_ID, c_echo_rq(1)))
        assert peer.socket.recv(4096)[:1] == b"\x07"


def test_an_association_takes_no_thread_and_one_file(start_scp: StartScp) -> None:
    scp = start_scp("dicom", maximum_associations=500)
    process = psutil.Process(scp.process.pid)
    with ExitStack() as stack:
        stack.enter_context(Peer(scp))
        threads, files = process.num_threads(), process.num_fds()
        peers = [stack.enter_context(Peer(scp)) for _ in range(300)]
        for peer in peers:
            peer.socket.sendall(peer.message(ECHO_ID, c_echo_rq(1)))
        assert [peer.next_answer() for peer in peers] == [(1, 0x0000)] * len(peers)
        assert (process.num_threads(), process.num_fds()) == (threads, files + len(peers))


def test_an_aborted_association_gives_its_place_back(start_scp: StartScp) -> None:
    scp = start_scp("dicom", maximum_associations=1)
    with Peer(scp) as peer:
        peer.socket.sendall(peer.layer.abort())
        assert peer.socket.recv(4096) == b""
    assert scp.dcmtk("echoscu").returncode == 0


def test_a_connection_that_is_reset_before_it_is_accepted_leaves_no_trace(storage_scp: RunningScp) -> None:
    assert storage_scp.dcmtk("echoscu").returncode == 0
    files = psutil.Process(storage_scp.process.pid).num_fds()
    storage_scp.process.send_signal(signal.SIGSTOP)
    wait_until_stopped(storage_scp)
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", storage_scp.port), LIMIT_S) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    storage_scp.process.send_signal(signal.SIGCONT)
    assert storage_scp.dcmtk("echoscu").returncode == 0
    assert storage_scp.log.read_text() == ""
    deadline = time.monotonic() + LIMIT_S
    while psutil.Process(storage_scp.process.pid).num_fds() > files:
        assert time.monotonic() < deadline, "expected all connections closed"


def test_a_connection_that_asks_for_nothing_is_closed(standing_scp: RunningScp) -> None:
    with socket.create_connection(("127.0.0.1", standing_scp.port), LIMIT_S) as silent:
        try:
            assert silent.recv(1) == b""
        except ConnectionResetError:
            return


def test_a_peer_that_does_not_read_is_not_read_either_and_others_do_not_notice(storage_scp: RunningScp) -> None:
    most = 64 << 20
    with Peer(storage_scp, receive_buffer_bytes=4096) as peer:
        echo = peer.message(ECHO_ID, c_echo_rq(1))
        many = echo * (1 << 12)
        sent = 0
        peer.socket.setblocking(False)
        while sent < most and select.select([], [peer.socket], [], 0.5)[1]:
            sent += peer.socket.send(many[sent % len(echo) :])
        assert len(echo) < sent < most
        assert storage_scp.dcmtk("echoscu").returncode == 0
        peer.socket.settimeout(LIMIT_S)
        assert [peer.next_answer() for _ in range(sent // len(echo))] == [(1, 0x0000)] * (sent // len(echo))


def test_a_cancel_that_comes_with_its_query_leaves_no_match(start_scp: StartScp, tmp_path: Path) -> None:
    put(tmp_path, 20)
    scp = start_scp("dmwl", tmp_path)
    query = WorklistQuery().encode()
    with Peer(scp) as peer:
        cancel = peer.message(FIND_ID, c_cancel_rq(1))
        peer.socket.sendall(peer.message(FIND_ID, c_find_rq(1, MODALITY_WORKLIST), query) + cancel)
        assert peer.next_answer() == (1, 0xFE00)


def test_a_cancel_that_comes_too_late_does_not_cancel_the_next_query(start_scp: StartScp, tmp_path: Path) -> None:
    put(tmp_path, 1)
    scp = start_scp("dmwl", tmp_path)
    with Peer(scp) as peer:
        find = peer.message(FIND_ID, c_find_rq(1, MODALITY_WORKLIST), WorklistQuery().encode())
        for _ in range(2):
            peer.socket.sendall(find)
            assert [peer.next_answer() for _ in range(2)] == [(1, 0xFF00), (1, 0x0000)]
            peer.socket.sendall(peer.message(FIND_ID, c_cancel_rq(1)))
            peer.socket.sendall(peer.message(ECHO_ID, c_echo_rq(2)))
            assert peer.next_answer() == (2, 0x0000)


def test_sigterm_closes_open_associations_and_ends_with_code_0(start_scp: StartScp) -> None:
    scp = start_scp("dicom", storage="digest")
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(scp)) for _ in range(5)]
        for peer in peers:
            uid, data = image(1000)
            peer.socket.sendall(peer.message(CT_ID, c_store_rq(1, CT, uid), data))
            assert peer.next_answer() == (1, 0x0000)
        assert scp.end() == 0
        assert [peer.socket.recv(1) for peer in peers] == [b""] * len(peers)
    assert len(scp.receipts()) == len(peers)
