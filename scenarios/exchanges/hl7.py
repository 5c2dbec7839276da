"""The exchanges of HL7-1 and HL7-2: every kind of message, and what a listener must refuse, or take whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import xxhash

from scenarios.checkers.cases import Case
from scenarios.exchanges.places import Desk, Place
from scenarios.talkers import order_details
from simulators.client import Attempt, Begun, Connection, Failed
from simulators.hl7.acknowledgement import read_acknowledgement
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.message import MessageError
from simulators.hl7.mllp import frame
from simulators.hl7.samples import SamplePatient, Template, result_text
from simulators.operations import Identity, Kind, Outcome, Phase

TYPES = ("ADT^A01", "ADT^A04", "ADT^A08", "ORM^O01", "OMI^O23", "ORU^R01", "SIU^S12")
MERGE = "ADT^A40"
LARGE_RESULT_BYTES = 5 * 10**6
STATION = "PFHL7"
_ACCEPTED = "accepted, and named"
_REFUSED = "refused, and named"


def every_type(desk: Desk, place: Place) -> list[Case]:
    """Send a message of every type that the site allows, then the user's own, on one connection."""
    engine = InterfaceEngine(place.target, place.source, timeouts=desk.timeouts)
    cases = [_sent(desk, place, engine, name, _sample(desk, name)) for name in types_of(desk)]
    cases += [_sent(desk, place, engine, own.file.name, own.message) for own in desk.kit.own_messages]
    engine.close()
    return cases


def types_of(desk: Desk) -> list[str]:
    """Return the message types that this site may be sent."""
    return [*TYPES, MERGE] if desk.run.site.hl7.allow_merge else list(TYPES)


def bad_content(desk: Desk, place: Place) -> list[Case]:
    """Send what must be refused, and bytes that are no frame; then see that a good message still goes through."""
    cases = [
        _refused(desk, place, "unknown message type", lambda good: good.replace(b"ADT^A08^ADT_A01", b"ZZZ^Z99^ZZZ_Z99")),
        _refused(desk, place, "required segment missing", _without_patient),
        _without_header(desk, place),
        _stray_bytes(desk, place),
    ]
    engine = InterfaceEngine(place.target, place.source, timeouts=desk.timeouts)
    cases.append(_sent(desk, place, engine, "a good message afterwards", _sample(desk, "ADT^A08")))
    engine.close()
    return cases


def whole_content(desk: Desk, place: Place) -> list[Case]:
    """Send messages in fragments, several at once, a large one, and in both character sets."""
    site = desk.run.site.hl7
    engine = InterfaceEngine(place.target, place.source, timeouts=desk.timeouts)

    def large(identity: Identity, patient: SamplePatient) -> bytes:
        order = order_details(desk.run, station_ae=STATION)
        return desk.kit.templates["ORU^R01"].message(identity, patient, order, text=result_text(LARGE_RESULT_BYTES))

    def spelled(character_set: str) -> Callable[[Identity, SamplePatient], bytes]:
        template = Template(
            "ADT^A08", receiving_application=site.receiving_application, receiving_facility=site.receiving_facility,
            character_set=character_set,
        )  # fmt: skip
        return lambda identity, patient: template.message(identity, patient._replace(name="PREFLIGHT^ÄÖÜ"))

    cases = [
        _raw(desk, place, "in fragments", 1, _fragments),
        _raw(desk, place, "three frames in one segment", 3, lambda frames: iter([frames])),
        _sent(desk, place, engine, "OBX of 5 MB", large),
        _sent(desk, place, engine, "UTF-8", spelled("UNICODE UTF-8")),
        _sent(desk, place, engine, "8859/1", spelled("8859/1")),
    ]
    engine.close()
    return cases


def _sample(desk: Desk, message_type: str) -> Callable[[Identity, SamplePatient], bytes]:
    order = order_details(desk.run, station_ae=STATION)
    prior = desk.run.identities.next(Kind.PATIENT) if message_type == MERGE else None
    template = desk.kit.templates[message_type]
    return lambda identity, patient: template.message(identity, patient, order, text="No finding.", prior=prior)


def _sent(
    desk: Desk, place: Place, engine: InterfaceEngine, what: str, make: Callable[[Identity, SamplePatient], bytes]
) -> Case:
    attempt = desk.attempt(Kind.MESSAGE)
    patient = SamplePatient(desk.run.identities.next(Kind.PATIENT))
    operation = desk.record(engine.send(make(attempt.identity, patient), attempt._replace(patient=patient.identity.key)))
    return Case(what, place.name, _ACCEPTED, _ACCEPTED if operation.outcome == Outcome.ACKNOWLEDGED else engine.last_failure)


def _refused(desk: Desk, place: Place, what: str, spoil: Callable[[bytes], bytes]) -> Case:
    attempt = desk.attempt(Kind.MESSAGE)
    patient = SamplePatient(desk.run.identities.next(Kind.PATIENT))
    engine = InterfaceEngine(place.target, place.source, timeouts=desk.timeouts)
    operation = desk.record(engine.send(spoil(desk.kit.templates["ADT^A08"].message(attempt.identity, patient)), attempt))
    answer = engine.last_acknowledgement
    named = answer is not None and answer.control_id == attempt.identity.code.encode()
    found = _REFUSED if operation.outcome == Outcome.REFUSED and named else "accepted"
    if operation.outcome == Outcome.INDETERMINATE:
        found = engine.last_failure
    engine.close()
    return Case(what, place.name, _REFUSED, found)


def _without_patient(message: bytes) -> bytes:
    return b"".join(segment for segment in message.splitlines(keepends=True) if not segment.startswith(b"PID"))


def _without_header(desk: Desk, place: Place) -> Case:
    expected = "AR that names nothing"
    engine = InterfaceEngine(place.target, place.source, timeouts=desk.timeouts)
    try:
        answer = engine.send_raw(frame(b"PID|1||NOBODY\r"), wait_s=desk.timeouts.response_s)
        code, named = _answer(answer)
        found = expected if code == "AR" and not named else f"{code} that names {named or 'nothing'}"
    except Failed as failed:
        found = failed.reason
    engine.close()
    return Case("a frame without MSH", place.name, expected, found)


def _stray_bytes(desk: Desk, place: Place) -> Case:
    expected = "no answer, closed"
    engine = InterfaceEngine(place.target, place.source, timeouts=desk.timeouts)
    try:
        answer = engine.send_raw(b"GET / HTTP/1.1\r\n\r\n", wait_s=desk.run.site.hl7.stray_bytes_closed_within_s)
        found = {None: "left open", b"": expected}.get(answer, "an answer")
    except Failed as failed:
        found = failed.reason
    engine.close()
    return Case("bytes outside of a frame", place.name, expected, found)


def _raw(desk: Desk, place: Place, what: str, count: int, cut: Callable[[bytes], Iterator[bytes]]) -> Case:
    """Send messages as bytes cut in some way, and take their answers; each is an operation in the history."""
    attempts = [desk.attempt(Kind.MESSAGE) for _ in range(count)]
    messages = [_message(desk, attempt) for attempt in attempts]
    begun = [Begun(attempt, place.target, place.source) for attempt in attempts]
    accepted: list[str] = []
    try:
        connection = Connection(place.target, place.source, desk.timeouts)
    except Failed as failed:
        return Case(what, place.name, _ACCEPTED, failed.reason)
    try:
        for piece in cut(b"".join(map(frame, messages))):
            connection.socket.sendall(piece)
        accepted = _acknowledged(connection, count, desk.timeouts.response_s)
    except OSError as error:
        accepted.append(str(error))
    finally:
        connection.close()
    for start, attempt, message in zip(begun, attempts, messages, strict=True):
        taken = attempt.identity.code in accepted
        outcome = Outcome.ACKNOWLEDGED if taken else Outcome.INDETERMINATE
        digest = xxhash.xxh3_128_digest(message)
        desk.record(
            start.ended(outcome, Phase.DONE if taken else Phase.RESPONSE, connection, size_bytes=len(message), digest=digest)
        )
    found = (
        _ACCEPTED if accepted == [attempt.identity.code for attempt in attempts] else f"{len(accepted)} of {count} accepted"
    )
    return Case(what, place.name, _ACCEPTED, found)


def _message(desk: Desk, attempt: Attempt) -> bytes:
    return desk.kit.templates["ADT^A08"].message(attempt.identity, SamplePatient(desk.run.identities.next(Kind.PATIENT)))


def _acknowledged(connection: Connection, count: int, wait_s: float) -> list[str]:
    """Return the MSA-2 of the AA answers, in their order, until there are enough or the peer falls silent."""
    connection.socket.settimeout(wait_s)
    received = b""
    while received.count(b"\x1c\r") < count:
        data = connection.socket.recv(65536)
        if not data:
            break
        received += data
    answers = [_answer(part.lstrip(b"\x0b")) for part in received.split(b"\x1c\r") if part]
    return [named for code, named in answers if code == "AA"]


def _fragments(frames: bytes) -> Iterator[bytes]:
    for start in range(0, len(frames), 7):
        yield frames[start : start + 7]


def _answer(payload: bytes | None) -> tuple[str, str]:
    if not payload:
        return ("the connection closed" if payload is not None else "silence"), ""
    try:
        answer = read_acknowledgement(payload)
    except MessageError as error:
        return str(error), ""
    return answer.code.decode("ascii", "replace"), answer.control_id.decode("ascii", "replace")
