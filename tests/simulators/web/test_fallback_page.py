from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[3]


class Fallback(NamedTuple):
    """A running fallback page and where it listens."""

    process: subprocess.Popen[bytes]
    address: tuple[str, int]


@pytest.fixture
def fallback() -> Iterator[Fallback]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "simulators.web.fallback_page", str(listener.fileno())]
        process = subprocess.Popen(command, pass_fds=(listener.fileno(),), cwd=REPOSITORY)
        address = listener.getsockname()
    yield Fallback(process, address)
    process.kill()
    process.wait(10)


def test_every_http_request_is_told_that_the_service_is_away(fallback: Fallback) -> None:
    client = http.client.HTTPConnection(*fallback.address, timeout=10)
    client.request("GET", "/studies?limit=1", headers={"Host": "imaging.hospital.example"})
    response = client.getresponse()
    assert (response.status, response.getheader("Connection")) == (503, "close")
    assert b"The service is not available at the moment" in response.read()
    client.close()


@pytest.mark.parametrize("first", [b"\x01\x00\x00\x00\x00\x10", b"\x0bMSH|^~\\&|", b"\x16\x03\x01\x02\x00"])
def test_who_does_not_speak_http_is_answered_all_the_same_as_the_appliance_does(fallback: Fallback, first: bytes) -> None:
    with socket.create_connection(fallback.address, 10) as client:
        client.sendall(first)
        assert client.recv(12) == b"HTTP/1.1 400"


def test_a_client_that_leaves_in_mid_request_leaves_the_page_to_others(fallback: Fallback) -> None:
    with socket.create_connection(fallback.address, 10) as client:
        client.sendall(b"GET / HT")
    test_every_http_request_is_told_that_the_service_is_away(fallback)


def test_sigterm_ends_it_with_0(fallback: Fallback) -> None:
    test_every_http_request_is_told_that_the_service_is_away(fallback)
    fallback.process.send_signal(signal.SIGTERM)
    assert fallback.process.wait(10) == 0


def test_a_missing_descriptor_is_refused() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "simulators.web.fallback_page"], cwd=REPOSITORY, check=False, capture_output=True
    )
    assert ended.returncode == 1
    assert b"usage: python -m simulators.web.fallback_page FD" in ended.stderr
