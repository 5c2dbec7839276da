import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.hl7.message import (
    Condition,
    Message,
    MessageError,
    NoHeader,
    escape,
    unescape,
    wanted_acknowledgements,
)  # fmt: skip

ORDER = (
    b"MSH|^~\\&|RIS|NORTH|MACH7|HOSPITAL|20260101||ORM^O01^ORM_O01|42|P|2.5.1||||||8859/1\r"
    b"PID|1||77^^^NORTH^MR~88||M\xfcller^Ann\\T\\Eve\r"
    b"OBR|1\r"
)


def test_fields_are_numbered_as_in_the_standard() -> None:
    message = Message(ORDER)
    assert message.kind == ("ORM", "O01")
    assert message.control_id == "42"
    assert message.header.text(4) == "NORTH"
    assert message.header.text(18) == "8859/1"


def test_components_repetitions_and_escapes_are_resolved() -> None:
    message = Message(ORDER)
    message.check_text()
    person = message.required(b"PID")
    assert (person.text(3), person.text(3, 4), person.text(3, 1, 2)) == ("77", "NORTH", "88")
    assert person.whole(5) == "Müller^Ann&Eve"
    assert person.text(99) == ""


def test_a_message_may_bring_its_own_separators() -> None:
    message = Message(b"MSH#*!?%#RIS#N#M#H#1##ADT*A01#7#P#2.5\rPID###55*X!66##A?S?B*C\r")
    person = message.required(b"PID")
    assert (message.kind, message.control_id) == (("ADT", "A01"), "7")
    assert (person.text(3), person.text(5), person.text(5, 2)) == ("55", "A*B", "C")


@pytest.mark.parametrize("raw", [b"", b"MSH", b"PID|1\r", b"MSH|^~", b"MSH||||||", b"hello", b"MSHABCDE|x"])
def test_what_does_not_begin_with_a_header_is_no_message(raw: bytes) -> None:
    with pytest.raises(NoHeader):
        Message(raw)


@pytest.mark.parametrize(
    ("raw", "condition"),
    [
        (ORDER.replace(b"8859/1", b"KLINGON"), Condition.TABLE_VALUE),
        (ORDER.replace(b"8859/1", b"UNICODE UTF-8"), Condition.DATA_TYPE),
        (ORDER.replace(b"||||||8859/1", b""), Condition.DATA_TYPE),
    ],
)
def test_text_outside_of_its_character_set_is_an_error(raw: bytes, condition: Condition) -> None:
    with pytest.raises(MessageError, match="MSH-18") as caught:
        Message(raw).check_text()
    assert caught.value.condition is condition


def test_a_missing_segment_is_an_error_that_names_it() -> None:
    with pytest.raises(MessageError, match=r"ZDS: expected a segment ZDS in ORM\^O01, found none"):
        Message(ORDER).required(b"ZDS")


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n")))
def test_what_is_escaped_comes_back(text: str) -> None:
    written = escape(text)
    assert not set(written) & set("|^~&")
    assert unescape(written) == text


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("a\\.br\\b", "a\nb"), ("\\X41\\!", "A!"), ("\\XZZ\\", "\\XZZ\\"),
        ("\\H\\bold\\N\\", "\\H\\bold\\N\\"), ("half\\F", "half\\F"),
    ],
)  # fmt: skip
def test_escape_sequences_are_resolved_or_left_alone(written: str, text: str) -> None:
    assert unescape(written) == text


@pytest.mark.parametrize(
    ("conditions", "accepted", "commit", "application"),
    [
        (b"|", True, False, True), (b"|", False, False, True),
        (b"AL|AL", True, True, True), (b"AL|NE", True, True, False), (b"NE|AL", True, False, True),
        (b"ER|AL", True, False, True), (b"ER|AL", False, True, True), (b"SU|SU", False, False, False),
        (b"AL|", True, True, False),
    ],
)  # fmt: skip
def test_the_sender_says_which_acknowledgements_it_wants(
    conditions: bytes, accepted: bool, commit: bool, application: bool
) -> None:
    header = Message(b"MSH|^~\\&|A|B|C|D|1||ADT^A01|1|P|2.5|||" + conditions).header
    wanted = wanted_acknowledgements(header, accepted=accepted)
    assert (wanted.commit, wanted.application) == (commit, application)
