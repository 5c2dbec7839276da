import pytest
from hl7apy.consts import VALIDATION_LEVEL  # type: ignore[import-untyped]
from hl7apy.parser import parse_message  # type: ignore[import-untyped]

from simulators.hl7.acknowledgement import Acknowledger, read_acknowledgement
from simulators.hl7.message import Condition, Message, MessageError

REQUEST = Message(b"MSH|^~\\&|RIS|NORTH|MACH7|HOSPITAL|20260101||ADT^A01^ADT_A01|42|P|2.5.1||||||UNICODE UTF-8\r")
MISSING = MessageError(Condition.REQUIRED_FIELD_MISSING, "PID-3", "a patient id", "none")


def test_an_acknowledgement_names_message_and_node_and_goes_back_to_the_sender() -> None:
    answer = Message(Acknowledger("mach7-1").build(REQUEST, b"AA", b"42"))
    assert [answer.header.text(field) for field in (3, 4, 5, 6)] == ["MACH7", "mach7-1", "RIS", "NORTH"]
    assert [answer.header.whole(field) for field in (9, 11, 12, 18)] == ["ACK^A01^ACK", "P", "2.5.1", "UNICODE UTF-8"]
    assert [answer.required(b"MSA").text(field) for field in (1, 2)] == ["AA", "42"]
    assert answer.segment(b"ERR") is None


def test_an_error_says_where_and_why() -> None:
    error = Message(Acknowledger("mach7-1").build(REQUEST, b"AE", b"42", MISSING)).required(b"ERR")
    assert [error.whole(field) for field in (2, 3, 4)] == ["PID^1^3", "101^Required field missing^HL70357", "E"]
    assert error.text(8) == "PID-3: expected a patient id, found none"


@pytest.mark.parametrize("error", [None, MISSING])
def test_hl7apy_finds_acknowledgements_valid(error: MessageError | None) -> None:
    answer = Acknowledger("mach7-1").build(REQUEST, b"AE" if error else b"AA", b"42", error)
    assert parse_message(answer.decode(), validation_level=VALIDATION_LEVEL.STRICT).validate()


def test_the_answer_speaks_in_the_separators_of_the_message() -> None:
    request = Message(b"MSH#*!?%#RIS#N#M#H#1##ADT*A01#7#P#2.5\r")
    answer = Message(Acknowledger("n").build(request, b"AE", b"7", MISSING))
    assert answer.kind == ("ACK", "A01")
    assert answer.required(b"ERR").text(3) == "101"


def test_a_frame_without_header_is_answered_without_a_name() -> None:
    answer = read_acknowledgement(Acknowledger("mach7-1").build(None, b"AR", b"", MISSING))
    assert (answer.code, answer.control_id, answer.node) == (b"AR", b"", "mach7-1")


def test_two_acknowledgements_have_two_control_ids() -> None:
    acknowledger = Acknowledger("n")
    first, second = (Message(acknowledger.build(REQUEST, b"AA", b"42")) for _ in range(2))
    assert first.control_id != second.control_id


def test_refusals_are_read_with_their_reason() -> None:
    answer = read_acknowledgement(Acknowledger("mach7-1").build(REQUEST, b"AE", b"42", MISSING))
    assert (answer.code, answer.control_id, answer.status) == (b"AE", b"42", 0x4145)
    assert answer.reason == "PID-3: expected a patient id, found none"


@pytest.mark.parametrize(
    "payload", [b"", b"HTTP/1.0 503", b"MSH|^~\\&|A|B\r", b"MSH|^~\\&|A|B\rMSA|OK|42\r", b"MSH|^~\\&\rMSA\r"]
)
def test_what_is_no_acknowledgement_is_an_error(payload: bytes) -> None:
    with pytest.raises(MessageError):
        read_acknowledgement(payload)
