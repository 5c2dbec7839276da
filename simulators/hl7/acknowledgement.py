"""Acknowledgements: built by a node, read by an interface engine (HL7 v2.5.1, 2.9, 2.15.1 and 2.15.5)."""

from __future__ import annotations

import functools
import itertools
import time
from typing import NamedTuple

from .message import STANDARD_SEPARATORS, Condition, Message, MessageError, escape

TAKEN = frozenset((b"AA", b"CA"))
NOT_TAKEN = frozenset((b"AE", b"AR", b"CE", b"CR"))
_CONDITION_TEXT = {
    Condition.SEGMENT_SEQUENCE: "Segment sequence error",
    Condition.REQUIRED_FIELD_MISSING: "Required field missing",
    Condition.DATA_TYPE: "Data type error",
    Condition.TABLE_VALUE: "Table value not found",
    Condition.UNSUPPORTED_MESSAGE_TYPE: "Unsupported message type",
    Condition.UNSUPPORTED_EVENT: "Unsupported event code",
    Condition.UNSUPPORTED_PROCESSING_ID: "Unsupported processing id",
    Condition.UNSUPPORTED_VERSION: "Unsupported version id",
    Condition.INTERNAL: "Application internal error",
}


class Acknowledgement(NamedTuple):
    """What an acknowledgement says: MSA-1, MSA-2, MSH-4 (a node tells its name there) and the reason of ERR-8 or MSA-3."""

    code: bytes
    control_id: bytes
    node: str
    reason: str

    @property
    def status(self) -> int:
        """The two letters of MSA-1 as big-endian bytes, for the record of an operation."""
        return int.from_bytes(self.code[:2], "big")


def read_acknowledgement(payload: bytes) -> Acknowledgement:
    """Read an acknowledgement.

    Raises
    ------
    MessageError
        When it has no MSH, no MSA, or an MSA-1 that is not of table 0008.
    """
    lines = payload.split(b"\r")
    header, answer = lines[0], lines[1] if len(lines) > 1 else b""
    if header[:4] == b"MSH|" and answer[:4] == b"MSA|":  # the usual case, without a full reading
        fields, codes = header.split(b"|", 4), answer.split(b"|")
        code, control_id, node = codes[1], codes[2] if len(codes) > 2 else b"", fields[3] if len(fields) > 4 else b""
        if code in TAKEN:
            return Acknowledgement(code, control_id, node.decode("latin-1"), "")
    return _read_fully(payload)


class AnswerForm(NamedTuple):
    """The header of an acknowledgement but for its time and its own MSH-10: what stands before, between and after them."""

    before_time: bytes
    before_id: bytes
    after_id: bytes


class Acknowledger:
    """Builds the acknowledgements of one node.

    Parameters
    ----------
    node : str
        The node's name, told in MSH-4.
    """

    def __init__(self, node: str) -> None:
        self._node = node.encode("ascii")
        self._serial = itertools.count(time.time_ns() // 1000 % 10**14)  # MSH-10 of two lives of a node must not be equal
        self._second = 0
        self._time = b""

    def build(self, message: Message | None, code: bytes, control_id: bytes, error: MessageError | None = None) -> bytes:
        """Return the payload of an acknowledgement.

        Parameters
        ----------
        message : Message or None
            What is answered; None for a frame without a usable MSH.
        code : bytes
            MSA-1, of table 0008: AA, AE, AR, CA, CE or CR.
        control_id : bytes
            MSA-2: the MSH-10 of what is answered, as it stood there.
        error : MessageError or None
            Becomes an ERR segment.
        """
        before_time, before_id, after_id = self.form_of(message)
        start = b"%b%b%b%d%b" % (before_time, self._now(), before_id, next(self._serial), after_id)
        separator = b"|" if message is None else message.separators.field
        answer = separator.join((b"MSA", code, control_id))
        return b"%b\r%b\r%b" % (start, answer, b"" if error is None else _error_segment(error, message))

    def form_of(self, message: Message | None) -> AnswerForm:
        """Return what the acknowledgements of all messages with the same header have in common."""
        if message is None:
            return AnswerForm(b"MSH|^~\\&||%b|||" % self._node, b"||ACK|", b"|P|2.5.1")
        fields, separators = message.header.fields, message.separators
        fields = fields if len(fields) > 12 else fields + [b""] * (13 - len(fields))
        after = [b"", fields[11], fields[12] or b"2.5.1"]
        if len(fields) > 18 and fields[18]:
            after += [b"", b"", b"", b"", b"", fields[18]]
        return AnswerForm(
            separators.field.join((b"MSH", fields[2], fields[5], self._node, fields[3], fields[4], b"")),
            separators.field.join((b"", b"", _kind_of_answer(fields[9], separators.component), b"")),
            separators.field.join(after),
        )

    def acceptance(self, form: AnswerForm, control_id: bytes) -> bytes:
        """Return, in its frame, what `build` makes of AA for a message of that form with the standard separators."""
        before_time, before_id, after_id = form
        parts = (before_time, self._now(), before_id, next(self._serial), after_id, control_id)
        return b"\x0b%b%b%b%d%b\rMSA|AA|%b\r\x1c\r" % parts

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._time = second, time.strftime("%Y%m%d%H%M%S", time.localtime(second)).encode()
        return self._time


@functools.lru_cache(maxsize=256)  # the same few in every message
def _kind_of_answer(kind: bytes, component: bytes) -> bytes:
    parts = kind.split(component, 2)
    return component.join((b"ACK", parts[1], b"ACK")) if len(parts) > 1 else b"ACK"


def _error_segment(error: MessageError, message: Message | None) -> bytes:
    segment, _, field = error.where.partition("-")
    location = f"{segment}^1^{field}" if field else f"{segment}^1"
    text = escape(str(error).encode("ascii", "replace").decode())
    line = f"ERR||{location}|{int(error.condition)}^{_CONDITION_TEXT[error.condition]}^HL70357|E||||{text}\r".encode()
    if message is None or message.separators == STANDARD_SEPARATORS:
        return line
    return line.translate(bytes.maketrans(b"|^~\\&", b"".join(message.separators)))


def _read_fully(payload: bytes) -> Acknowledgement:
    message = Message(payload)
    answer = message.required(b"MSA")
    code = answer.raw(1)
    if code not in TAKEN and code not in NOT_TAKEN:
        raise MessageError(Condition.TABLE_VALUE, "MSA-1", "AA, AE, AR, CA, CE or CR", repr(code[:20]))
    errors = message.segment(b"ERR")
    reason = (errors.text(8) or errors.text(3, 2)) if errors is not None else answer.text(3)
    return Acknowledgement(code, answer.raw(2), message.header.text(4), reason)
