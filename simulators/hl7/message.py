"""Reads the few fields of an HL7 v2 message that a node or an engine needs, straight from its bytes (ER7).

Nothing is parsed before it is asked for: a message of 5 MB costs one search for its segments' ends. The separators are those
of MSH-1 and MSH-2, text is decoded by MSH-18 (HL7 v2.5.1, 2.5, 2.7 and 2.15.9).
"""

from __future__ import annotations

import enum
import functools
from typing import NamedTuple

import msgspec

CHARACTER_SETS = {
    "": "ascii",
    "ASCII": "ascii",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE UTF-8": "utf-8",
}


class Condition(enum.IntEnum):
    """Why a message is not accepted: HL7 table 0357 (v2.5.1, 2.15.5)."""

    SEGMENT_SEQUENCE = 100
    REQUIRED_FIELD_MISSING = 101
    DATA_TYPE = 102
    TABLE_VALUE = 103
    UNSUPPORTED_MESSAGE_TYPE = 200
    UNSUPPORTED_EVENT = 201
    UNSUPPORTED_PROCESSING_ID = 202
    UNSUPPORTED_VERSION = 203
    INTERNAL = 207

    @property
    def is_rejection(self) -> bool:
        """Whether it is answered by AR (not for this receiver) rather than by AE (an error in the content)."""
        return 200 <= self <= 203


class MessageError(Exception):
    """A message cannot be taken. `where` is `SEGMENT-field` as people write it, or the segment alone."""

    def __init__(self, condition: Condition, where: str, expected: str, found: str) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.condition = condition
        self.where = where


class NoHeader(MessageError):
    """A frame that does not begin with a usable MSH segment: there is nobody to answer by name."""


class Separators(NamedTuple):
    """The separators of one message, each one byte. MSH-1 and MSH-2."""

    field: bytes = b"|"
    component: bytes = b"^"
    repetition: bytes = b"~"
    escape: bytes = b"\\"
    subcomponent: bytes = b"&"


STANDARD_SEPARATORS = Separators()


class Segment:
    """One segment: its fields as bytes, and their text on demand. Fields are numbered as in HL7, from 1."""

    __slots__ = ("_codec", "_separators", "fields")

    def __init__(self, fields: list[bytes], separators: Separators, codec: str) -> None:
        self.fields = fields
        self._separators = separators
        self._codec = codec

    @property
    def name(self) -> str:
        """The segment's name, as MSH or PID."""
        return self.fields[0].decode("ascii", "replace")

    def raw(self, field: int) -> bytes:
        """Return a whole field as it stands; empty when the segment ends before it."""
        return self.fields[field] if field < len(self.fields) else b""

    def text(self, field: int, component: int = 1, repetition: int = 1) -> str:
        """Return one component of a field, decoded and with its escapes resolved; empty when it is not there."""
        value = self.fields[field] if field < len(self.fields) else b""
        if component == repetition == 1 and (value.isalnum() or not value):
            return value.decode()  # the usual case: no separator is a letter or a digit
        _, between_components, between_repetitions, escape, _ = self._separators
        if repetition > 1 or between_repetitions in value:
            value = _part(value, between_repetitions, repetition)
        if component > 1 or between_components in value:
            value = _part(value, between_components, component)
        text = value.decode(self._codec)
        return unescape(text, self._separators) if escape in value else text

    def whole(self, field: int, repetition: int = 1) -> str:
        """Return one repetition of a field with its components parted by `^`, as DICOM parts a person's name."""
        value = self.fields[field] if field < len(self.fields) else b""
        if repetition > 1 or self._separators.repetition in value:
            value = _part(value, self._separators.repetition, repetition)
        if self._separators is STANDARD_SEPARATORS and b"\\" not in value:
            return value.decode(self._codec).rstrip("^")
        parts = value.decode(self._codec).split(self._separators.component.decode("latin-1"))
        return "^".join(unescape(part, self._separators) for part in parts).rstrip("^")

    def repetitions(self, field: int) -> list[str]:
        """Return the repetitions of a field as text, not parted into components."""
        values = self.raw(field).split(self._separators.repetition)
        return [unescape(value.decode(self._codec), self._separators) for value in values]


class Message:
    """One message, read as far as it is asked for.

    Parameters
    ----------
    raw : bytes
        The message as it stood in its frame: segments ended by CR.

    Raises
    ------
    NoHeader
        When it does not begin with `MSH` and its separators.
    """

    __slots__ = ("_header", "codec", "raw", "separators")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._header: Segment | None = None
        self.separators = STANDARD_SEPARATORS if raw[:8] == b"MSH|^~\\&" else _separators(_first_line(raw))
        self.codec = "latin-1"  # of the header, until `check_text` has understood MSH-18

    @property
    def header(self) -> Segment:
        """The MSH segment, read when it is first asked for."""
        if self._header is None:
            fields = _first_line(self.raw).split(self.separators.field)
            fields.insert(1, self.separators.field)  # MSH-1 is the separator itself: from here on, index and number agree
            self._header = Segment(fields, self.separators, "latin-1")
        return self._header

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.header.raw(10).decode("latin-1")

    @property
    def kind(self) -> tuple[str, str]:
        """Message code and trigger event of MSH-9, as ("ADT", "A01")."""
        fields = self.header.fields
        return _kind(fields[9] if len(fields) > 9 else b"", self.separators.component)

    @property
    def character_set(self) -> str:
        """MSH-18, its first repetition; empty means ASCII."""
        return self.header.text(18)

    def check_text(self) -> None:
        """Make sure that the whole message can be decoded by its MSH-18; all texts are read by it from here on.

        Raises
        ------
        MessageError
            When the character set is not known, or the bytes are not in it.
        """
        fields = self.header.fields
        codec = _codec(fields[18] if len(fields) > 18 else b"", self.separators.repetition)
        if codec is None:
            known, name = ", ".join(filter(None, CHARACTER_SETS)), self.character_set
            raise MessageError(Condition.TABLE_VALUE, "MSH-18", f"a character set of {known}", repr(name))
        if not self.raw.isascii():
            try:
                self.raw.decode(codec)
            except UnicodeDecodeError as error:
                name = self.character_set
                found = f"byte 0x{self.raw[error.start]:02x} at {error.start}"
                raise MessageError(Condition.DATA_TYPE, "MSH-18", f"text in {name or 'ASCII'}", found) from error
        self.codec = codec

    def segments(self) -> list[Segment]:
        """Return all segments but MSH, in their order."""
        lines = self.raw.split(b"\r")[1:]
        return [Segment(line.split(self.separators.field), self.separators, self.codec) for line in lines if line]

    def segment(self, name: bytes) -> Segment | None:
        """Return the first segment of that name; None when there is none."""
        line = self.line(name)
        return None if line is None else Segment(line.split(self.separators.field), self.separators, self.codec)

    def line(self, name: bytes) -> bytes | None:
        """Return the first segment of that name as it stands; None when there is none."""
        raw, separator, start = self.raw, self.separators.field, b"\r" + name
        begin = raw.find(start)
        while begin >= 0:
            end = begin + len(start)
            if raw[end : end + 1] in (separator, b"\r", b""):  # and no longer name that begins alike
                end = raw.find(b"\r", end)
                return raw[begin + 1 :] if end < 0 else raw[begin + 1 : end]
            begin = raw.find(start, end)
        return None

    def required(self, name: bytes) -> Segment:
        """Return the first segment of that name, or raise MessageError (condition 100)."""
        found = self.segment(name)
        if found is None:
            raise missing_segment(self, name)
        return found


def missing_segment(message: Message, name: bytes) -> MessageError:
    """Return the error of a message that lacks a segment (condition 100)."""
    text = name.decode("ascii")
    return MessageError(Condition.SEGMENT_SEQUENCE, text, f"a segment {text} in {'^'.join(message.kind)}", "none")


def unescape(text: str, separators: Separators = STANDARD_SEPARATORS) -> str:
    """Resolve the escape sequences of a value (HL7 v2.5.1, 2.7): separators, `.br`, hexadecimal. Others stay as they are."""
    escape = separators.escape.decode("latin-1")
    if not escape or escape not in text:
        return text
    parts = text.split(escape)
    output = [parts[0]]
    position = 1
    while position < len(parts):
        resolved = _resolved(parts[position], separators) if position + 1 < len(parts) else None
        if resolved is None:
            output.append(escape + parts[position])
            position += 1
        else:
            output.append(resolved + parts[position + 1])
            position += 2
    return "".join(output)


_LINE_END = "\\.br\\"
_ESCAPED = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "~": "\\R\\", "^": "\\S\\", "&": "\\T\\", "\r": _LINE_END, "\n": _LINE_END}
)


def escape(text: str) -> str:
    """Write a value with the standard separators escaped; a line's end becomes `.br`."""
    return text.replace("\r\n", "\n").translate(_ESCAPED)


class Wanted(msgspec.Struct, frozen=True):
    """Which acknowledgements MSH-15 and MSH-16 ask for (HL7 v2.5.1, 2.9). Original mode: one of A-kind, always."""

    commit: bool
    application: bool


def wanted_acknowledgements(header: Segment, *, accepted: bool) -> Wanted:
    """Return what the sender wants to hear of a message that was accepted, or was not."""
    conditions = (header.raw(15), header.raw(16))
    if conditions == (b"", b""):
        return Wanted(commit=False, application=True)
    when = (b"AL", b"SU") if accepted else (b"AL", b"ER")
    return Wanted(commit=conditions[0] in when, application=conditions[1] in when)


@functools.lru_cache(maxsize=256)  # the same few in every message
def _kind(value: bytes, component: bytes) -> tuple[str, str]:
    parts = value.decode("latin-1").split(component.decode("latin-1"))
    return parts[0], parts[1] if len(parts) > 1 else ""


@functools.lru_cache(maxsize=256)
def _codec(value: bytes, repetition: bytes) -> str | None:
    return CHARACTER_SETS.get(value.split(repetition)[0].decode("latin-1"))


def _first_line(raw: bytes) -> bytes:
    end = raw.find(b"\r")
    return raw if end < 0 else raw[:end]


def _separators(line: bytes) -> Separators:
    marks = line[3:8]
    if line[:3] != b"MSH" or len(set(marks)) < 5 or any(mark < 0x20 or chr(mark).isalnum() for mark in marks):
        expected = "a message that begins with MSH and five separators"
        raise NoHeader(Condition.SEGMENT_SEQUENCE, "MSH", expected, repr(line[:8]))
    return Separators(*(marks[place : place + 1] for place in range(5)))


def _part(value: bytes, separator: bytes, number: int) -> bytes:
    if number == 1:
        return value.partition(separator)[0]
    parts = value.split(separator)
    return parts[number - 1] if number <= len(parts) else b""


def _resolved(code: str, separators: Separators) -> str | None:
    plain = {"E": separators.escape, "F": separators.field, "R": separators.repetition, "S": separators.component}
    if code in plain:
        return plain[code].decode("latin-1")
    if code == "T":
        return separators.subcomponent.decode("latin-1")
    if code == ".br":
        return "\n"
    if code[:1] == "X":
        try:
            return bytes.fromhex(code[1:]).decode("latin-1")
        except ValueError:
            return None
    return None
