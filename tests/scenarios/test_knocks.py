"""Knocks at real sockets: who is there decides what kind of answer comes."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import msgspec
import pytest

from lbconfig.site import ServiceKind, Site
from lbconfig.site_file import load_site
from scenarios.knocks import first_words, knock, knock_until
from scenarios.options import DEFAULT_SITE

SITE = load_site(DEFAULT_SITE)
SOURCE, WITHIN_S = "127.1.0.1", 5.0
SERVICES: tuple[ServiceKind, ...] = ("dicom", "hl7", "dmwl", "https")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WITHIN_S)
        yield server


def site_at(port: int) -> Site:
    """Return the site with every VIP at one port of 127.0.0.1."""
    vips = tuple(msgspec.structs.replace(vip, address="127.0.0.1", port=port) for vip in SITE.vip)
    return msgspec.structs.replace(SITE, vip=vips)


def answered(
    listener: socket.socket, answer: bytes | None, service: ServiceKind = "dicom", within_s: float = WITHIN_S
) -> str:
    """Knock at a listener that gives one answer once it has heard something; None: it keeps silent."""
    site = site_at(listener.getsockname()[1])
    is_over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            if answer is None:
                is_over.wait(WITHIN_S)
            else:
                connection.sendall(answer)

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        return knock(site, site.vip_of("dicom"), SOURCE, within_s).answer
    finally:
        is_over.set()
        serving.join()


@pytest.mark.parametrize("service", SERVICES)
def test_the_fallback_page_answers_every_protocol_in_http(listener: socket.socket, service: ServiceKind) -> None:
    listener.set_inheritable(True)
    command = [sys.executable, "-m", "simulators.web.fallback_page", str(listener.fileno())]
    page = subprocess.Popen(command, pass_fds=[listener.fileno()])
    try:
        site = site_at(listener.getsockname()[1])
        assert knock(site, site.vip_of(service), SOURCE, 20.0).answer == "http"
    finally:
        page.terminate()
        page.wait(10)


def test_a_port_where_nobody_listens_refuses(listener: socket.socket) -> None:
    site = site_at(listener.getsockname()[1])
    listener.close()
    assert knock(site, site.vip_of("hl7"), SOURCE, WITHIN_S).answer == "refused"


def test_a_peer_that_closes_answers_otherwise_or_keeps_silent_is_told_apart(listener: socket.socket) -> None:
    assert answered(listener, b"") == "closed"
    assert answered(listener, b"\x03\x00\x00\x00\x00\x04") == "other"
    assert answered(listener, None, within_s=0.2) == "silence"


def test_the_first_words_are_those_of_the_protocol() -> None:
    assert first_words(SITE, "dicom")[0] == first_words(SITE, "dmwl")[0] == 0x01  # A-ASSOCIATE-RQ (PS3.8 9.3.2)
    assert first_words(SITE, "hl7").startswith(b"\x0b")
    assert first_words(SITE, "https").startswith(b"\x16\x03")  # a TLS handshake record


def test_knocks_go_on_until_told_to_leave_each_from_another_address(listener: socket.socket) -> None:
    site = site_at(listener.getsockname()[1])
    listener.close()
    leave, given = threading.Event(), list[str]()

    def addresses(count: int) -> list[str]:
        fresh = [f"127.1.0.{len(given) + number}" for number in range(1, count + 1)]
        given.extend(fresh)
        if len(given) >= 2 * len(site.vip):
            leave.set()
        return fresh

    knocks = knock_until(leave, site, addresses, WITHIN_S)
    assert [one.vip for one in knocks] == 2 * [vip.name for vip in site.vip]
    assert {one.answer for one in knocks} == {"refused"}
    assert len(set(given)) == len(knocks)
