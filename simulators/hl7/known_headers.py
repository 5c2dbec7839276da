"""Headers that a full reading has accepted before: an engine sends the same one with every message, but for time and MSH-10.

What such a header means is then known without reading it again: that it may be taken, how its text is encoded, how it is
answered. Only what is usual is known here (the standard separators, original mode, ASCII): the rest is read in full.
"""

from __future__ import annotations

import msgspec

from .acknowledgement import AnswerForm
from .content import Content, Known, is_about_a_patient_alone, person_of, read_content
from .message import STANDARD_SEPARATORS, Message, MessageError

_MOST_KNOWN = 4096  # a sender that changes its header every time must not fill the memory
_PID = b"\rPID"
_FIELD = ord("|")


class KnownHeader(msgspec.Struct, frozen=True):
    """What a header has said once and for all.

    `caller` is its MSH-3, `answer` the form of its acknowledgements, `patient_alone` whether its messages say nothing but who
    a patient is (ADT, but merges).
    """

    codec: str
    code: str
    patient_alone: bool
    caller: bytes
    answer: AnswerForm


class KnownHeaders:
    """The headers that one listener knows, by everything in them that is not MSH-7 or MSH-10."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownHeader] = {}

    def of(self, payload: bytes) -> tuple[KnownHeader, bytes] | None:
        """Return what is known of a message's header, and its MSH-10; None when the message has to be read in full."""
        fields = payload[: payload.find(b"\r")].split(b"|", 10)
        if len(fields) < 11 or not payload.isascii():
            return None
        control_id = fields[9]
        fields[6] = fields[9] = b""
        known = self._known.get(b"|".join(fields))
        return None if known is None or not control_id else (known, control_id)

    def remember(self, message: Message, answer: AnswerForm) -> None:
        """Know the header of a message that was read in full and accepted, where it is a usual one."""
        fields = [message.header.fields[0], *message.header.fields[2:]]
        if message.separators is not STANDARD_SEPARATORS or len(fields) < 11 or any(fields[14:16]):
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        code, event = message.kind
        caller = fields[2][:16]
        fields[6] = fields[9] = b""
        self._known[b"|".join(fields)] = KnownHeader(
            message.codec, code, is_about_a_patient_alone(code, event), caller, answer
        )


def person_in(payload: bytes, header: KnownHeader) -> tuple[str, str, str, str] | None:
    """Return patient id, name, birth date and sex of a message with a known header; None when it has to be read in full."""
    begin = payload.find(_PID) + 1
    end = payload.find(b"\r", begin)
    if not begin or end < begin + 4 or payload[begin + 3] != _FIELD:
        return None
    try:
        return person_of(payload[begin:end], STANDARD_SEPARATORS, header.codec)
    except MessageError:
        return None


def content_in(payload: bytes, header: KnownHeader, known: Known, updated_ns: int) -> Content | None:
    """Return the content of a message with a known header; None when it cannot be taken: a full reading will say why."""
    message = Message(payload)
    message.codec = header.codec
    try:
        return read_content(header.code, message, known, updated_ns)
    except MessageError:
        return None
