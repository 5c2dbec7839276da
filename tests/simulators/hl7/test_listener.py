from __future__ import annotations

import itertools
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import xxhash

from simulators.client import Attempt
from simulators.hl7.acknowledgement import read_acknowledgement
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.message import Condition
from simulators.hl7.mllp import frame
from simulators.hl7.samples import MESSAGE_TYPES, Mode, OrderDetails, SamplePatient, Template, result_text
from simulators.journal import Flag
from simulators.misbehaviour import Misbehaviour
from simulators.operations import IdentitySource, Kind, Operation, Outcome, Phase, Service, text_address

if TYPE_CHECKING:
    from tests.simulators.hl7.conftest import RunningListener, StartListener

IDENTITIES = IdentitySource(run=11, generator=3)
ADMISSION = Template("ADT^A01")
GOOD = (
    b"MSH|^~\\&|RIS|NORTH|MACH7|HOSPITAL|20260101||ORM^O01^ORM_O01|ID7|P|2.5.1||||||UNICODE UTF-8\r"
    b"PID|1||77\rORC|NW|A1\rOBR|1|A1|A1|||||||||||||||A1\r"
)


def patient() -> SamplePatient:
    return SamplePatient(IDENTITIES.next(Kind.PATIENT))


def order() -> OrderDetails:
    return OrderDetails(accession=IDENTITIES.next(Kind.ORDER).accession, study_uid=IDENTITIES.next(Kind.STUDY).uid)


def sent(engine: InterfaceEngine, whose: SamplePatient | None = None) -> Operation:
    identity = IDENTITIES.next(Kind.MESSAGE)
    return engine.send(ADMISSION.message(identity, whose or patient()), Attempt(identity))


def answered(engine: InterfaceEngine, data: bytes) -> bytes:
    answer = engine.send_raw(data, wait_s=5)
    assert answer is not None, "expected an answer within 5 s, found silence"
    return answer


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("expected the condition within 10 s, found it still unmet")


@pytest.mark.parametrize("mode", ["original", "enhanced"])
@pytest.mark.parametrize("message_type", MESSAGE_TYPES)
def test_every_type_is_acknowledged_and_receipted(
    listener: RunningListener, engine: InterfaceEngine, message_type: str, mode: Mode
) -> None:
    identity = IDENTITIES.next(Kind.MESSAGE)
    prior = IDENTITIES.next(Kind.PATIENT)
    message = Template(message_type, mode=mode).message(identity, patient(), order(), text="no finding", prior=prior)
    operation = engine.send(message, Attempt(identity))
    receipt = listener.receipts()[-1]
    assert (operation.outcome, operation.phase, operation.status) == (Outcome.ACKNOWLEDGED, Phase.DONE, 0x4141)
    assert (operation.node, operation.size_bytes) == (b"mach7-1", len(message))
    assert (receipt.run, receipt.key, receipt.kind, receipt.flags) == (11, identity.key, Kind.MESSAGE, Flag.NONE)
    assert receipt.digest == operation.digest == xxhash.xxh3_128_digest(message)
    assert (receipt.service, receipt.caller.rstrip(b"\0")) == (Service.HL7, b"PREFLIGHT")
    assert (text_address(receipt.peer), receipt.peer_port) == ("127.1.0.1", operation.source_port)
    assert receipt.received_ns < operation.ended_ns


def test_an_order_its_appointment_and_its_result_are_in_the_store_once_acknowledged(
    listener: RunningListener, engine: InterfaceEngine
) -> None:
    whose, details = patient(), order()
    later = OrderDetails(accession=details.accession, study_uid=details.study_uid, start_date="20260909", start_time="101500")
    for message_type, wanted in (("ORM^O01", details), ("SIU^S12", later), ("ORU^R01", later)):
        identity = IDENTITIES.next(Kind.MESSAGE)
        message = Template(message_type).message(identity, whose, wanted, text="no finding")
        assert engine.send(message, Attempt(identity)).outcome == Outcome.ACKNOWLEDGED
    (known,) = listener.store.orders("accession = ?", (details.accession,))
    (result,) = listener.store.results("accession = ?", (details.accession,))
    assert (known.patient_id, known.study_uid) == (whose.identity.code, details.study_uid)
    assert (known.start_date, known.start_time) == ("20260909", "101500")
    assert (result.text, result.study_uid) == ("no finding", details.study_uid)


def test_a_foreign_message_is_receipted_as_foreign(listener: RunningListener, engine: InterfaceEngine) -> None:
    answer = read_acknowledgement(answered(engine, frame(GOOD)))
    receipt = listener.receipts()[-1]
    assert (answer.code, answer.control_id) == (b"AA", b"ID7")
    assert (receipt.run, receipt.kind, receipt.flags) == (0, 0, Flag.FOREIGN)
    assert (receipt.key, receipt.caller.rstrip(b"\0")) == (xxhash.xxh3_64_intdigest(b"ID7"), b"RIS")


BAD_CONTENT = [
    ("no header", b"hello", b"AR", b"", Condition.SEGMENT_SEQUENCE),
    ("an empty frame", b"", b"AR", b"", Condition.SEGMENT_SEQUENCE),
    ("no control id", GOOD.replace(b"|ID7|", b"||"), b"AE", b"", Condition.REQUIRED_FIELD_MISSING),
    ("no type", GOOD.replace(b"ORM^O01^ORM_O01", b""), b"AE", b"ID7", Condition.REQUIRED_FIELD_MISSING),
    ("an unknown type", GOOD.replace(b"ORM^O01^ORM_O01", b"ZZZ^Z01"), b"AR", b"ID7", Condition.UNSUPPORTED_MESSAGE_TYPE),
    ("an unknown event", GOOD.replace(b"ORM^O01^ORM_O01", b"ADT^Z01"), b"AR", b"ID7", Condition.UNSUPPORTED_EVENT),
    ("an unknown processing id", GOOD.replace(b"|P|", b"|X|"), b"AR", b"ID7", Condition.UNSUPPORTED_PROCESSING_ID),
    ("another version", GOOD.replace(b"2.5.1", b"3.0"), b"AR", b"ID7", Condition.UNSUPPORTED_VERSION),
    ("an unknown character set", GOOD.replace(b"UNICODE UTF-8", b"KLINGON"), b"AE", b"ID7", Condition.TABLE_VALUE),
    ("bytes not in UTF-8", GOOD.replace(b"|77", b"|7\xff7"), b"AE", b"ID7", Condition.DATA_TYPE),
    ("no PID", GOOD.replace(b"PID|1||77\r", b""), b"AE", b"ID7", Condition.SEGMENT_SEQUENCE),
    ("no patient id", GOOD.replace(b"|77", b"|"), b"AE", b"ID7", Condition.REQUIRED_FIELD_MISSING),
    ("no OBR", GOOD[: GOOD.index(b"OBR")], b"AE", b"ID7", Condition.SEGMENT_SEQUENCE),
    ("no accession number", GOOD.replace(b"A1", b""), b"AE", b"ID7", Condition.REQUIRED_FIELD_MISSING),
    ("an impossible date", GOOD.replace(b"|77", b"|77||||20261399"), b"AE", b"ID7", Condition.DATA_TYPE),
]


@pytest.mark.parametrize(
    ("payload", "code", "control_id", "condition"), [case[1:] for case in BAD_CONTENT], ids=[case[0] for case in BAD_CONTENT]
)
def test_bad_content_is_refused_by_name_and_leaves_nothing(
    listener: RunningListener, engine: InterfaceEngine, payload: bytes, code: bytes, control_id: bytes, condition: Condition
) -> None:
    before = len(listener.receipts()), len(listener.store.orders())
    raw = answered(engine, frame(payload))
    answer = read_acknowledgement(raw)
    assert (answer.code, answer.control_id, answer.node) == (code, control_id, "mach7-1")
    assert b"|%d^" % condition in raw
    assert (len(listener.receipts()), len(listener.store.orders())) == before
    assert sent(engine).outcome == Outcome.ACKNOWLEDGED


@pytest.mark.parametrize("stray", [b"MSH|^~\\&|A", b"\r\n", b"\x1c\r", b"GET / HTTP/1.0\r\n\r\n"])
def test_bytes_outside_of_a_frame_close_the_connection_and_harm_nobody_else(
    listener: RunningListener, engine: InterfaceEngine, stray: bytes
) -> None:
    assert engine.send_raw(stray, wait_s=5) == b""
    assert not engine.is_open
    assert sent(engine).outcome == Outcome.ACKNOWLEDGED


def test_a_message_before_stray_bytes_is_still_acknowledged(engine: InterfaceEngine) -> None:
    assert read_acknowledgement(answered(engine, frame(GOOD) + b"stray")).code == b"AA"
    assert engine.read_raw(wait_s=5) == b""


def test_several_frames_in_one_segment_are_answered_in_their_order(engine: InterfaceEngine) -> None:
    bad = GOOD.replace(b"|ID7|", b"|BAD|").replace(b"PID|1||77\r", b"")
    eight, nine = (GOOD.replace(b"|ID7|", name) for name in (b"|ID8|", b"|ID9|"))
    stream = b"".join(map(frame, (GOOD, eight, bad, nine)))
    answers = [read_acknowledgement(answered(engine, stream))]
    answers += [read_acknowledgement(answered(engine, b"")) for _ in range(3)]
    found = [(answer.code, answer.control_id) for answer in answers]
    assert found == [(b"AA", b"ID7"), (b"AA", b"ID8"), (b"AE", b"BAD"), (b"AA", b"ID9")]


def test_a_message_in_fragments_of_one_byte_arrives_whole(listener: RunningListener, engine: InterfaceEngine) -> None:
    framed = frame(GOOD)
    for place in range(len(framed) - 1):
        assert engine.send_raw(framed[place : place + 1], wait_s=0) is None
    assert read_acknowledgement(answered(engine, framed[-1:])).code == b"AA"
    assert listener.receipts()[-1].digest == xxhash.xxh3_128_digest(GOOD)


def test_a_client_that_half_closes_is_still_answered(listener: RunningListener) -> None:
    with socket.create_connection(("127.0.0.1", listener.port), 5) as client:
        client.sendall(frame(GOOD))
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"MSA|AA|ID7" in answer


@pytest.mark.parametrize("character_set", ["UNICODE UTF-8", "8859/1"])
def test_a_big_result_arrives_whole_in_its_character_set(
    listener: RunningListener, engine: InterfaceEngine, character_set: str
) -> None:
    identity, details, text = IDENTITIES.next(Kind.MESSAGE), order(), "Größe: " + result_text(5_000_000)
    message = Template("ORU^R01", character_set=character_set).message(identity, patient(), details, text=text)
    assert engine.send(message, Attempt(identity)).outcome == Outcome.ACKNOWLEDGED
    (result,) = listener.store.results("accession = ?", (details.accession,))
    assert result.text == text
    assert listener.receipts()[-1].size_bytes == len(message)


def test_thirty_two_connections_have_every_message_receipted_once_in_the_order_of_its_patient(
    start_listener: StartListener,
) -> None:
    listener = start_listener()
    operations: list[list[Operation]] = [[] for _ in range(32)]

    def send(number: int) -> None:
        engine, whose = listener.engine(), patient()
        operations[number] = [sent(engine, whose) for _ in range(20)]
        engine.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place = {receipt.key: number for number, receipt in enumerate(listener.receipts())}
    assert len(listener.receipts()) == len(place) == 640
    assert {operation.outcome for history in operations for operation in history} == {Outcome.ACKNOWLEDGED}
    assert all(place[a.key] < place[b.key] for history in operations for a, b in itertools.pairwise(history))


def test_what_was_acknowledged_outlives_a_kill(start_listener: StartListener) -> None:
    listener = start_listener()
    engine, acknowledged = listener.engine(), list[Operation]()

    def kill_amid_traffic() -> None:
        until(lambda: len(acknowledged) > 100)
        listener.process.kill()

    killer = threading.Thread(target=kill_amid_traffic)
    killer.start()
    while (operation := sent(engine)).outcome == Outcome.ACKNOWLEDGED:
        acknowledged.append(operation)
    killer.join()
    receipts = {receipt.key: receipt.digest for receipt in listener.receipts()}
    patients = len(listener.store.patients())
    assert all(receipts.get(operation.key) == operation.digest for operation in acknowledged)
    assert len(acknowledged) <= len(receipts) <= len(acknowledged) + 1
    assert patients >= len(receipts)


def test_a_listener_that_cannot_store_never_acknowledges(start_listener: StartListener) -> None:
    listener = start_listener(storage="digest")
    engine = listener.engine()
    assert sent(engine).outcome == Outcome.ACKNOWLEDGED
    size = (listener.directory / "journal" / "hl7.receipts").stat().st_size
    resource.prlimit(listener.process.pid, resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
    refused = sent(engine)
    resource.prlimit(listener.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert (refused.outcome, refused.status) == (Outcome.REFUSED, 0x4145)
    assert "cannot store" in engine.last_failure
    assert sent(engine).outcome == Outcome.ACKNOWLEDGED
    assert len(listener.receipts()) == 2


def test_a_listener_ends_at_sigterm_with_code_zero_and_closes_its_connections(start_listener: StartListener) -> None:
    listener = start_listener()
    engine = listener.engine()
    sent(engine)
    assert listener.end() == 0
    assert engine.read_raw(wait_s=5) == b""
    assert len(listener.receipts()) == 1


def test_a_listener_that_digests_receipts_and_stores_nothing(start_listener: StartListener) -> None:
    listener = start_listener(storage="digest")
    assert sent(listener.engine()).outcome == Outcome.ACKNOWLEDGED
    assert (len(listener.receipts()), listener.store.patients()) == (1, [])


def test_loses_every_200th(start_listener: StartListener) -> None:
    listener = start_listener(Misbehaviour.LOSES_EVERY_200TH)
    engine = listener.engine()
    operations = [sent(engine) for _ in range(401)]
    receipts = {receipt.key for receipt in listener.receipts()}
    assert {operation.outcome for operation in operations} == {Outcome.ACKNOWLEDGED}
    assert [number for number, operation in enumerate(operations, 1) if operation.key not in receipts] == [200, 400]


def test_stores_one_twice(start_listener: StartListener) -> None:
    listener = start_listener(Misbehaviour.STORES_ONE_TWICE)
    engine = listener.engine()
    operations = [sent(engine) for _ in range(201)]
    counts = Counter(receipt.key for receipt in listener.receipts())
    assert [number for number, operation in enumerate(operations, 1) if counts[operation.key] != 1] == [200]
    assert counts[operations[199].key] == 2


def test_acknowledges_another(start_listener: StartListener) -> None:
    engine = start_listener(Misbehaviour.ACKNOWLEDGES_ANOTHER).engine()
    assert [sent(engine).outcome for _ in range(10)] == ([Outcome.ACKNOWLEDGED] * 4 + [Outcome.INDETERMINATE]) * 2


def test_swaps_messages(start_listener: StartListener) -> None:
    listener = start_listener(Misbehaviour.SWAPS_MESSAGES)
    engine, whose = listener.engine(), patient()
    keys = [sent(engine, whose).key for _ in range(13)]
    until(lambda: len(listener.receipts()) == 13)
    swapped = [*keys[:10], keys[11], keys[10], keys[12]]  # the tenth that follows another is the eleventh
    assert [receipt.key for receipt in listener.receipts()] == swapped


def test_a_message_held_back_is_written_at_the_end(start_listener: StartListener) -> None:
    listener = start_listener(Misbehaviour.SWAPS_MESSAGES)
    engine, whose = listener.engine(), patient()
    keys = [sent(engine, whose).key for _ in range(11)]
    assert listener.end() == 0
    assert [receipt.key for receipt in listener.receipts()] == keys


@pytest.mark.parametrize("payload", [b"hello", GOOD.replace(b"PID|1||77\r", b""), GOOD.replace(b"ORM^O01", b"ZZZ^Z01")])
def test_accepts_bad_messages(start_listener: StartListener, payload: bytes) -> None:
    listener = start_listener(Misbehaviour.ACCEPTS_BAD_MESSAGES)
    assert read_acknowledgement(answered(listener.engine(), frame(payload))).code == b"AA"
    assert listener.receipts() == []
