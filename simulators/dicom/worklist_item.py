"""Identifiers of worklist queries and answers, encoded and decoded by hand: pydicom takes a millisecond for each.

Implicit VR Little Endian alone: every SCP must accept it (PS3.5, 10.1).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from pydicom.charset import convert_encodings, decode_bytes

from .errors import ProtocolError

_CHARACTER_SET = 0x00080005
_STEP_SEQUENCE = 0x00400100
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 16  # sequences within sequences, in an answer that is not made to harm
_HEADER = struct.Struct("<HHI")
_UIDS = frozenset((0x0020000D,))
_FIELDS = {
    0x00080050: "accession", 0x00100010: "patient_name", 0x00100020: "patient_id", 0x00100030: "birth_date",
    0x00100040: "sex", 0x0020000D: "study_uid", 0x00321060: "description", 0x00401001: "procedure_id",
}  # fmt: skip
_STEP_FIELDS = {
    0x00080060: "modality", 0x00400001: "station_ae", 0x00400002: "start_date", 0x00400003: "start_time",
    0x00400007: "step_description", 0x00400009: "step_id",
}  # fmt: skip


class WorklistQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The matching keys of a query, as DICOM writes them: wildcards, ranges (`20260101-20260131`). Empty: universal."""

    patient_id: str = ""
    patient_name: str = ""
    accession: str = ""
    modality: str = ""
    station_ae: str = ""
    start_date: str = ""
    start_time: str = ""

    def encode(self) -> bytes:
        """Return the identifier: these keys, and as return keys all else that a WorklistItem holds."""
        step = b"".join(_element(tag, self._key(field)) for tag, field in sorted(_STEP_FIELDS.items()))
        sequence = _header(_STEP_SEQUENCE, len(step) + _HEADER.size) + _header(_ITEM, len(step)) + step
        elements = {tag: _element(tag, self._key(field)) for tag, field in _FIELDS.items()} | {_STEP_SEQUENCE: sequence}
        if not all(getattr(self, field).isascii() for field in self.__struct_fields__):
            elements[_CHARACTER_SET] = _element(_CHARACTER_SET, "ISO_IR 192")
        return b"".join(elements[tag] for tag in sorted(elements))

    def _key(self, field: str) -> str:
        return getattr(self, field) if field in self.__struct_fields__ else ""


class WorklistItem(NamedTuple):
    """One scheduled procedure step. What the answer does not carry is empty."""

    accession: str = ""
    patient_id: str = ""
    patient_name: str = ""
    modality: str = ""
    station_ae: str = ""
    start_date: str = ""
    start_time: str = ""
    step_id: str = ""
    study_uid: str = ""
    birth_date: str = ""
    sex: str = ""
    procedure_id: str = ""
    description: str = ""
    step_description: str = ""


@functools.lru_cache(maxsize=4096)  # a modality is told the same items again and again
def decode_item(identifier: bytes) -> WorklistItem:
    """Decode the identifier of a pending response; equal ones are decoded once.

    Parameters
    ----------
    identifier : bytes
        In Implicit VR Little Endian.

    Raises
    ------
    ProtocolError
        When an element runs past the end, or sequences are nested beyond reason.
    """
    found = dict(_elements(identifier, 0, len(identifier), 0))
    step = dict(_first_item(found.get(_STEP_SEQUENCE, b"")))
    names = found.get(_CHARACTER_SET, b"").decode("ascii", "replace").strip("\0 ").split("\\")
    encodings = convert_encodings(names if any(names) else ["ISO_IR 6"])
    values = {field: _text(found[tag], encodings) for tag, field in _FIELDS.items() if tag in found}
    values |= {field: _text(step[tag], encodings) for tag, field in _STEP_FIELDS.items() if tag in step}
    return WorklistItem(**values)


def _header(tag: int, length: int) -> bytes:
    return _HEADER.pack(tag >> 16, tag & 0xFFFF, length)


def _element(tag: int, value: str) -> bytes:
    content = value.encode()
    if len(content) % 2:
        content += b"\0" if tag in _UIDS else b" "
    return _header(tag, len(content)) + content


def _elements(content: bytes, at: int, end: int, depth: int) -> Iterator[tuple[int, bytes]]:
    """Yield tag and value of each element between two places; of one with undefined length, all up to its delimiter."""
    while at < end:
        tag, at, after, following = _span(content, at, end, depth)
        yield tag, content[at:after]
        at = following


def _span(content: bytes, at: int, end: int, depth: int) -> tuple[int, int, int, int]:
    """Return tag, beginning and end of the value of the element at a place, and where the next one begins."""
    if end - at < _HEADER.size or depth > _DEEPEST:
        raise ProtocolError(f"identifier: expected an element at {at}, found {end - at} bytes at depth {depth}")
    group, element, length = _HEADER.unpack_from(content, at)
    begin = at + _HEADER.size
    if length != _UNDEFINED:
        if length > end - begin:
            raise ProtocolError(
                f"identifier: ({group:04X},{element:04X}): expected at most {end - begin} bytes, found {length}"
            )
        return group << 16 | element, begin, begin + length, begin + length
    inner = begin
    while True:
        tag, _, _, following = _span(content, inner, end, depth + 1)
        if tag in (_ITEM_END, _SEQUENCE_END):
            return group << 16 | element, begin, inner, following
        inner = following


def _first_item(sequence: bytes) -> Iterator[tuple[int, bytes]]:
    if sequence:
        tag, begin, after, _ = _span(sequence, 0, len(sequence), 1)
        if tag != _ITEM:
            raise ProtocolError(f"identifier: expected an item in the sequence, found {tag:08X}")
        yield from _elements(sequence, begin, after, 1)


def _text(value: bytes, encodings: list[str]) -> str:
    return decode_bytes(value, encodings, {0x5C, 0x5E, 0x3D}).strip("\0 ")  # \, ^ and = end an escape sequence's reach
