from __future__ import annotations

import contextlib
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from simulators.relay import BitFlipper, RelaySettings

TAG = b"\xe0\x7f\x10\x00"
LIMIT_S = 10.0


def p_data(*items: tuple[int, bytes]) -> bytes:
    """Encode a P-DATA-TF of items (message control header, content), PS3.8 9.3.5."""
    body = b"".join(struct.pack(">IBB", len(content) + 2, 1, control) + content for control, content in items)
    return struct.pack(">BBI", 4, 0, len(body)) + body


def damaged_at(before: bytes, after: bytes) -> list[int]:
    assert len(before) == len(after)
    return [index for index, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]


def test_one_bit_of_the_pixel_data_is_flipped() -> None:
    content = b"\x01" * 100 + TAG + bytes(500)
    stream = p_data((3, b"command"), (2, content))
    after = BitFlipper().feed(stream)
    place = stream.index(TAG) + 4 + 64
    assert damaged_at(stream, after) == [place]
    assert after[place] == stream[place] ^ 1


def test_each_data_set_of_an_association_is_damaged_once() -> None:
    image = p_data((3, b"command")) + p_data((0, TAG + bytes(300))) + p_data((2, TAG + bytes(300)))
    assert len(damaged_at(image * 3, BitFlipper().feed(image * 3))) == 3


def test_a_tag_cut_in_two_by_fragments_is_found_and_headers_are_left_alone() -> None:
    stream = (
        p_data((3, b"command"))
        + p_data((0, b"\x01" * 50 + TAG[:3]))
        + p_data((0, TAG[3:] + bytes(60)))
        + p_data((2, bytes(9)))
    )
    assert damaged_at(stream, BitFlipper().feed(stream)) == [len(stream) - 9 + 4]


def test_the_chunks_in_which_the_stream_comes_do_not_matter() -> None:
    chance = random.Random(1)
    stream = (
        b"\x01\x00\x00\x00\x00\x04abcd"
        + (p_data((3, b"command"), (0, b"\x01" * 99 + TAG[:1])) + p_data((2, TAG[1:] + bytes(200)))) * 5
    )
    whole = BitFlipper().feed(stream)
    flipper, rest, pieces = BitFlipper(), stream, b""
    while rest:
        size = chance.randint(1, 40)
        pieces += flipper.feed(rest[:size])
        rest = rest[size:]
    assert pieces == whole
    assert len(damaged_at(stream, whole)) == 5


def test_commands_other_pdus_and_small_images_pass_as_they_are() -> None:
    request = struct.pack(">BBI", 1, 0, 200) + TAG + bytes(196)
    stream = request + p_data((3, TAG + bytes(200))) + p_data((2, TAG + bytes(20)))
    assert BitFlipper().feed(stream) == stream


@pytest.fixture
def echo() -> Iterator[socket.socket]:
    """Listen, and send back what each connection brings until its end of stream."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(LIMIT_S)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while chunk := connection.recv(65536):
                    connection.sendall(chunk)

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(LIMIT_S)


@pytest.fixture
def relay(echo: socket.socket, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Run a relay before the echo; return where it listens."""
    with running(echo, tmp_path) as place:
        yield place


@contextlib.contextmanager
def running(echo: socket.socket, tmp_path: Path, cut_idle_s: float = 0.0) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = RelaySettings(
            listen_fd=listener.fileno(), upstream_address="127.0.0.1", upstream_port=echo.getsockname()[1],
            source_address="127.0.0.77", cut_idle_s=cut_idle_s,
        )  # fmt: skip
        (tmp_path / "relay.json").write_bytes(msgspec.json.encode(settings))
        process = subprocess.Popen(
            [sys.executable, "-m", "simulators.relay", str(tmp_path / "relay.json")], pass_fds=[listener.fileno()]
        )
        yield listener.getsockname()
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0


def test_a_relay_forwards_both_ways_damages_one_bit_and_passes_the_end_on(relay: tuple[str, int]) -> None:
    stream = p_data((3, b"command"), (2, TAG + random.Random(2).randbytes(200_000)))
    with socket.create_connection(relay, LIMIT_S) as client:
        client.sendall(stream)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    assert len(damaged_at(stream, received)) == 1


def test_a_relay_that_cuts_idle_lines_ends_them_in_order_and_damages_nothing(echo: socket.socket, tmp_path: Path) -> None:
    image = p_data((2, TAG + bytes(2000)))
    with running(echo, tmp_path, cut_idle_s=0.2) as relay, socket.create_connection(relay, LIMIT_S) as client:
        client.sendall(image)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    assert received == image


def test_a_relay_comes_from_the_address_it_is_told(echo: socket.socket, relay: tuple[str, int]) -> None:
    with socket.create_connection(relay, LIMIT_S) as client:
        client.sendall(b"\x05\x00\x00\x00\x00\x04abcd")
        assert client.recv(10) == b"\x05\x00\x00\x00\x00\x04abcd"
        peers = Path("/proc/net/tcp").read_text()
    assert "4D00007F:" in peers  # 127.0.0.77, as the kernel writes it
