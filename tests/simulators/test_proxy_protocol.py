from __future__ import annotations

import asyncio
import socket

import pytest

from simulators.proxy_protocol import Peer, ProxyHeaderError, accept_connections, client_of, read_client

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
FROM_10_1_2_3 = SIGNATURE + bytes.fromhex("2111000c0a010203c0a86e64d4312b68")  # port 54321, to 192.168.110.100:11112
LOCAL = SIGNATURE + bytes.fromhex("20000000")
WITH_MORE = SIGNATURE + bytes.fromhex("211100100a010203c0a86e64d4312b6804000100")  # a TLV behind the addresses
WRONG = {
    "DICOM": bytes.fromhex("0100000000de00010000") + bytes(16),
    "version 1": b"PROXY TCP4 10.1.2.3 192.168.110.100 54321 11112\r\n",
    "nothing": b"",
    "another version": SIGNATURE + bytes.fromhex("3111000c") + bytes(12),
    "too long": SIGNATURE + bytes.fromhex("2111ffff"),
    "IPv6": SIGNATURE + bytes.fromhex("21210024") + bytes(36),
    "cut off": FROM_10_1_2_3[:20],
}


def test_a_header_names_the_client() -> None:
    assert client_of(FROM_10_1_2_3) == Peer("10.1.2.3", 54321)
    assert client_of(WITH_MORE) == Peer("10.1.2.3", 54321)


def test_a_balancer_that_speaks_for_itself_names_nobody() -> None:
    assert client_of(LOCAL) is None


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_header_is_refused(wrong: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(WRONG[wrong])
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ProxyHeaderError, match=r"expected|PROXY header"):
            read_client(ours)


def test_what_follows_a_header_is_left_to_be_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(WITH_MORE + b"\x01DICOM")
        assert read_client(ours) == Peer("10.1.2.3", 54321)
        assert ours.recv(100) == b"\x01DICOM"


class Telling(asyncio.Protocol):
    """Sends whom it takes the connection to be of, and what it got."""

    def __init__(self, client: Peer | None) -> None:
        self.client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer."""
        who = self.client.address if self.client else "nobody named"
        self.transport.write(f"{who} {data.decode()}".encode())  # type: ignore[attr-defined]


async def exchange(source: str, proxied_from: tuple[str, ...], *pieces: bytes) -> bytes:
    """Send pieces from an address to a service; return its answer, empty when it closed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        accepting = await accept_connections(listening, Telling, proxied_from)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            answer = await reader.read(100)
        writer.close()
        accepting.close()
        await accepting.wait_closed()
        return answer


def test_a_service_is_told_the_client_by_those_who_may_say_it() -> None:
    for pieces in ((FROM_10_1_2_3 + b"hi",), (FROM_10_1_2_3[:5], FROM_10_1_2_3[5:20], FROM_10_1_2_3[20:] + b"hi")):
        assert asyncio.run(exchange("127.0.0.2", ("127.0.0.2",), *pieces)) == b"10.1.2.3 hi"
    assert asyncio.run(exchange("127.0.0.2", ("127.0.0.2",), LOCAL + b"hi")) == b"nobody named hi"


def test_nobody_else_may_claim_to_be_another() -> None:
    answer = asyncio.run(exchange("127.0.0.3", ("127.0.0.2",), b"hi"))
    assert answer.startswith(b"nobody named ")
    assert asyncio.run(exchange("127.0.0.3", (), b"hi")) == b"nobody named hi"


def test_a_connection_without_the_header_that_is_due_is_closed(capfd: pytest.CaptureFixture[str]) -> None:
    assert asyncio.run(exchange("127.0.0.2", ("127.0.0.2",), b"\x0bMSH|^~\\&|A|B\r\x1c\r")) == b""
    assert "closed a connection of 127.0.0.2: expected a PROXY header of version 2, found 0b4d" in capfd.readouterr().err


def test_a_silent_peer_keeps_nobody_else_waiting() -> None:
    async def run() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            accepting = await accept_connections(listening, Telling, ("127.0.0.2",))
            target = listening.getsockname()
            silent = await asyncio.open_connection(*target, local_addr=("127.0.0.2", 0))
            reader, writer = await asyncio.open_connection(*target, local_addr=("127.0.0.2", 0))
            writer.write(FROM_10_1_2_3 + b"hi")
            async with asyncio.timeout(2):
                answer = await reader.read(100)
            for stream in (silent[1], writer):
                stream.close()
            accepting.close()
            return answer

    assert asyncio.run(run()) == b"10.1.2.3 hi"
