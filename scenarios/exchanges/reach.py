"""An answer at the service's own protocol, leaving no data behind."""

from __future__ import annotations

import socket

from lbconfig.site import Vip
from scenarios.checkers.cases import Case
from scenarios.exchanges.dicom import asked_echo
from scenarios.exchanges.places import Desk, Place
from simulators.client import Failed
from simulators.hl7.engine import InterfaceEngine
from simulators.operations import Kind, Service

ANSWER_WITHIN_S = 10.0
_NO_MESSAGE = b"\x0bPREFLIGHT|this is no message\r\x1c\r"  # a listener answers it, and keeps nothing


def answer_of(desk: Desk, place: Place) -> Case:
    """Exchange the least that proves that the right service is there: C-ECHO, an MLLP answer, an HTTP answer."""
    if place.target.service is Service.HL7:
        return _mllp_answer(desk, place)
    if place.target.service is Service.HTTPS:
        return _http_answer(desk, place)
    return Case("C-ECHO", place.name, "0x0000", asked_echo(desk, place).found)


def resolved(vip: Vip) -> list[str] | None:
    """Return the addresses that the VIP's name resolves to; None when the site names none."""
    if vip.hostname is None:
        return None
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(vip.hostname, vip.port, type=socket.SOCK_STREAM)})
    except OSError:
        return []


def _mllp_answer(desk: Desk, place: Place) -> Case:
    engine = InterfaceEngine(place.target, place.source, timeouts=desk.timeouts)
    try:
        answer = engine.send_raw(_NO_MESSAGE, wait_s=ANSWER_WITHIN_S)
    except Failed as failed:
        return Case("MLLP", place.name, "an acknowledgement", failed.reason)
    finally:
        engine.close()
    found = {None: "silence", b"": "the connection closed"}.get(
        answer, "an acknowledgement" if b"MSA|" in (answer or b"") else "other bytes"
    )
    return Case("MLLP", place.name, "an acknowledgement", found)


def _http_answer(desk: Desk, place: Place) -> Case:
    viewer = desk.kit.web.viewer(place.target, place.source, desk.timeouts)
    try:
        operation, answer = viewer.get("/", desk.attempt(Kind.ECHO))
        desk.record(operation)
        return Case("HTTPS", place.name, "an HTTP answer", "an HTTP answer" if answer is not None else viewer.last_failure)
    finally:
        viewer.close()
