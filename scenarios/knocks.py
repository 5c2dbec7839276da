"""Knocks on a VIP: one connection that says the first words of the VIP's protocol and notes what kind of answer comes.

A client only knows that its peer did not speak its protocol. A knock tells a refusal, a close, and an answer in another
protocol apart: what a device meets where no real server is left.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import msgspec

from lbconfig.site import ServiceKind, Site, Vip
from scenarios.targets import through
from simulators.client import Connection, Failed, Timeouts
from simulators.dicom.dimse import VERIFICATION
from simulators.dicom.instances import IMPLICIT_LITTLE_ENDIAN
from simulators.dicom.negotiation import Proposal, ProposedContext, encode_request
from simulators.hl7.mllp import frame

Answer = Literal["refused", "closed", "http", "other", "silence"]
KNOCK_EVERY_S = 0.4
_ANSWER_BYTES = 4096
_AT_ONCE = 48  # a knock that is answered only when the client gives up must keep no other from knocking


class Knock(msgspec.Struct, frozen=True):
    """One knock: when it began and how it was answered, after how long.

    `refused`: no connection came about. `closed`: it ended without a byte. `http`: the answer is HTTP. `other`: it is not.
    `silence`: nothing came as long as the client waited. All times are `monotonic_ns` of the harness's host.
    """

    vip: str
    begun_ns: int
    ended_ns: int
    answer: Answer


def knock(site: Site, vip: Vip, source: str, within_s: float) -> Knock:
    """Knock once, from a source address; wait for each step at most `within_s` seconds."""
    begun_ns = time.monotonic_ns()
    answer = _answer(site, vip, source, within_s)
    return Knock(vip.name, begun_ns, time.monotonic_ns(), answer)


def knock_until(
    leave: threading.Event, site: Site, source_addresses: Callable[[int], list[str]], within_s: float
) -> list[Knock]:  # fmt: skip
    """Knock on every VIP a few times a second until told to leave, each time as another client that waits for nobody else."""
    with ThreadPoolExecutor(_AT_ONCE, "knock") as pool:
        tasks = []
        while True:
            tasks += [pool.submit(knock, site, vip, source_addresses(1)[0], within_s) for vip in site.vip]
            if leave.wait(KNOCK_EVERY_S):
                return [task.result() for task in tasks]


def first_words(site: Site, service: ServiceKind) -> bytes:
    """Return what a client of a service says first: A-ASSOCIATE-RQ, a framed message, or a TLS ClientHello."""
    match service:
        case "dicom" | "dmwl":
            contexts = (ProposedContext(VERIFICATION, (IMPLICIT_LITTLE_ENDIAN,)),)
            return encode_request(Proposal(site.dicom.calling_ae_titles[0], site.dicom.ae_title, contexts))
        case "hl7":
            return frame(b"PFPROBE")  # no message, should somebody be there: it leaves no receipt
        case "https":
            return _client_hello()


def _answer(site: Site, vip: Vip, source: str, within_s: float) -> Answer:
    try:
        connection = Connection(through(vip), source, Timeouts(connect_s=within_s))
    except Failed:
        return "refused"
    try:
        connection.socket.settimeout(within_s)
        connection.socket.sendall(first_words(site, vip.service))
        content = connection.socket.recv(_ANSWER_BYTES)
    except TimeoutError:
        return "silence"
    except OSError:
        return "closed"
    finally:
        connection.close()
    if not content:
        return "closed"
    return "http" if content.startswith(b"HTTP/") else "other"


def _client_hello() -> bytes:
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="preflight")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise ssl.SSLError("expected a handshake that waits for its peer, found it at its end")
