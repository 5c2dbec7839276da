"""The short way to read a message, held against the full one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.hl7.acknowledgement import Acknowledger
from simulators.hl7.content import content_of
from simulators.hl7.known_headers import KnownHeaders, content_in, person_in
from simulators.hl7.message import Message, MessageError
from simulators.hl7.mllp import frame
from simulators.hl7.site_knowledge import SiteKnowledge
from simulators.node_store import Patient

ACKNOWLEDGER = Acknowledger("mach7-1")
HEADER = b"MSH|^~\\&|RIS|NORTH|MACH7|HOSPITAL|20260101||ADT^A08^ADT_A01|ID7|P|2.5.1||||||UNICODE UTF-8\r"
ADMISSION = HEADER + b"EVN|A08\rPID|1||77^^^NORTH^MR||DOE^Jane||19700101|F\r"
ORDER = HEADER.replace(b"ADT^A08^ADT_A01", b"ORM^O01^ORM_O01") + b"PID|1||77\rORC|NW|A1\rOBR|1|A1|A1|||||||||||||||A1\r"


SITE = SiteKnowledge([], [])  # which knows no order and no patient


def knowing(*payloads: bytes) -> KnownHeaders:
    headers = KnownHeaders()
    for payload in payloads:
        message = Message(payload)
        content_of(message, SITE, 1)
        headers.remember(message, ACKNOWLEDGER.form_of(message))
    return headers


def test_a_header_is_known_again_whatever_its_time_and_control_id() -> None:
    found = knowing(ADMISSION).of(ADMISSION.replace(b"20260101", b"20270202").replace(b"ID7", b"ID8"))
    assert found is not None
    header, control_id = found
    assert (control_id, header.code, header.caller, header.codec) == (b"ID8", "ADT", b"RIS", "utf-8")
    assert header.patient_alone


@pytest.mark.parametrize(
    "other",
    [
        ADMISSION.replace(b"|ID7|", b"||"), ADMISSION.replace(b"NORTH|M", b"SOUTH|M"), ADMISSION.replace(b"A08^", b"A04^"),
        ADMISSION.replace(b"|P|", b"|X|"), ADMISSION.replace(b"UTF-8", b"UTF-9"), ADMISSION.replace(b"DOE", "DÖE".encode()),
        b"", b"\r", b"MSH", HEADER[:30], ADMISSION.replace(b"|", b"#"), ADMISSION.replace(b"2.5.1||", b"2.5.1|7|"),
    ],
)  # fmt: skip
def test_what_is_not_the_same_header_or_no_plain_text_is_read_in_full(other: bytes) -> None:
    assert knowing(ADMISSION).of(other) is None


@pytest.mark.parametrize("payload", [ADMISSION.replace(b"2.5.1||||", b"2.5.1|||AL|AL"), ADMISSION.replace(b"^", b"*")])
def test_enhanced_mode_and_other_separators_are_never_known(payload: bytes) -> None:
    assert knowing(payload).of(payload) is None


def test_as_many_headers_as_fit_are_known_and_no_more() -> None:
    headers = KnownHeaders()
    message = Message(ADMISSION)
    content_of(message, SITE, 1)
    form = ACKNOWLEDGER.form_of(message)
    payloads = [ADMISSION.replace(b"RIS", b"RIS%d" % number) for number in range(4097)]
    for payload in payloads:
        headers.remember(Message(payload), form)
    assert [headers.of(payload) is None for payload in (payloads[0], payloads[-1])] == [True, False]


def test_an_acceptance_says_what_the_full_acknowledgement_says() -> None:
    message = Message(ADMISSION)
    one = ACKNOWLEDGER.acceptance(ACKNOWLEDGER.form_of(message), b"ID7")
    other = frame(ACKNOWLEDGER.build(message, b"AA", b"ID7"))
    cut = [answer.split(b"|") for answer in (one, other)]
    for fields in cut:
        fields[6] = fields[9] = b""  # its time and its own control id
    assert cut[0] == cut[1]


segments = st.lists(
    st.one_of(
        st.sampled_from(
            [b"PID|1||77||DOE^J||19700101|F", b"PID", b"PID|1", b"PIDX|1||78", b"PID|1||79||||2026", b"PV1|1", b""]
        ),
        st.sampled_from([b"PID^1^^77", b"OBR|1|A1", b"ORC|NW|A1", b"PID|1||80||A\\T\\B^C^^^^x|", b"MRG|5", b"ZDS|1.2"]),
    ),
    max_size=4,
)


@given(segments, st.booleans())
def test_a_patient_read_the_short_way_is_the_patient_of_the_full_reading(lines: list[bytes], ended: bool) -> None:
    payload = HEADER + b"\r".join(lines) + b"\r" * ended
    found = knowing(ADMISSION).of(payload)
    assert found is not None
    person = person_in(payload, found[0])
    if person is not None:
        assert content_of(Message(payload), SITE, 5).rows == (Patient(*person, "", 5),)


@given(segments)
def test_content_read_the_short_way_is_that_of_the_full_reading(lines: list[bytes]) -> None:
    payload = ORDER.partition(b"\r")[0] + b"\r" + b"\r".join(lines) + b"\r"
    found = knowing(ORDER).of(payload)
    assert found is not None
    short = content_in(payload, found[0], SITE, 5)
    try:
        full = content_of(Message(payload), SITE, 5)
    except MessageError:
        full = None
    assert short == full
