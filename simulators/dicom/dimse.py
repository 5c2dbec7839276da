"""DIMSE command sets (PS3.7, 6.3 and annex E), encoded and decoded by hand: Implicit VR Little Endian, group 0000 only."""

from __future__ import annotations

import enum
import functools
import struct
from typing import NamedTuple, TypeAlias

from ..operations import UID_LENGTH
from .errors import ProtocolError

VERIFICATION = "1.2.840.10008.1.1"
SUCCESS = 0x0000
CANCELLED = 0xFE00
WARNINGS = frozenset((0xB000, 0xB006, 0xB007))  # PS3.4 B.2.3: stored, with coerced or discarded elements
NO_DATA_SET = 0x0101
DATA_SET = 0x0001  # any value but 0101H says that a data set follows (PS3.7 E.1)
PRIORITY_MEDIUM = 0x0000
RESPONSE = 0x8000

_GROUP_LENGTH = 0x0000
_SOP_CLASS = 0x0002
_REQUESTED_SOP_CLASS = 0x0003
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_RESPONDED_TO = 0x0120
_PRIORITY = 0x0700
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_SOP_INSTANCE = 0x1000
_REQUESTED_SOP_INSTANCE = 0x1001
_EVENT_TYPE, _ACTION_TYPE = 0x1002, 0x1008
_MOVE_DESTINATION = 0x0600
_REMAINING, _COMPLETED, _FAILED, _WARNING = 0x1020, 0x1021, 0x1022, 0x1023  # sub-operations of a C-MOVE
_ORIGINATOR_AE, _ORIGINATOR_MESSAGE_ID = 0x1030, 0x1031
_HEADER = struct.Struct("<HHI")
_US = struct.Struct("<H")
_Places: TypeAlias = "dict[int, tuple[int, int]]"  # of the value of each element: where it begins, where it ends


class CommandField(enum.IntEnum):
    """The commands that are spoken here (PS3.7 E.1)."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    C_CANCEL_RQ = 0x0FFF
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130


class SubOperations(NamedTuple):
    """How many C-STORE sub-operations of a C-MOVE are yet to be done, and how the others ended."""

    remaining: int = 0
    completed: int = 0
    failed: int = 0
    warning: int = 0


class CommandSet(NamedTuple):
    """A decoded command set. What it does not carry is 0 or empty, `status` -1.

    `command_field` is the number on the wire: it may be one that `CommandField` does not name. SOP class and instance are
    the affected ones, in an N-ACTION-RQ the requested ones. `own` is what only some commands have: the destination of a
    C-MOVE-RQ, the counts of a C-MOVE-RSP, the Action Type ID of an N-ACTION-RQ; None in all others.
    """

    command_field: int
    message_id: int = 0
    responded_to: int = 0
    sop_class: str = ""
    sop_instance: str = ""
    status: int = -1
    error_comment: str = ""
    has_data_set: bool = False
    own: str | int | SubOperations | None = None


def decode_command(command: bytes | bytearray) -> CommandSet:
    """Decode a command set.

    Parameters
    ----------
    command : bytes
        All fragments of it, joined.

    Raises
    ------
    ProtocolError
        When an element runs past the end, is of another group, or one that must be there is missing or of a wrong size.
    """
    return _command_set(bytes(command), _places(command))


class CommandDecoder:
    """Decodes the command sets of one association, as `decode_command` does.

    Most of them differ from the one before in message id and SOP Instance UID alone, and these two lie in the same places:
    then they are read, and all else is compared.
    """

    def __init__(self) -> None:
        self._command = b""  # the one before
        self._last = CommandSet(0)
        self._id_at = self._uid_at = self._uid_end = 0
        self._parts = (b"", b"", b"")  # before the message id, between it and the UID, behind the UID

    @property
    def last(self) -> CommandSet:
        """What was decoded last."""
        return self._last

    @property
    def places(self) -> tuple[int, int, int]:
        """Where in the last one the message id begins, the SOP Instance UID begins and ends; all 0 in one of its own kind."""
        return (self._id_at, self._uid_at, self._uid_end) if self._id_at else (0, 0, 0)

    def decode(self, command: bytes) -> CommandSet:
        """Decode a command set; the errors are those of `decode_command`."""
        if command and command == self._command:
            return self._last
        id_at, uid_at, uid_end = self._id_at, self._uid_at, self._uid_end
        same = len(command) == len(self._command) and id_at != 0
        if same and self._parts == (command[:id_at], command[id_at + 2 : uid_at], command[uid_end:]):
            field, _, _, sop_class, _, status, comment, has_data_set, _ = self._last
            uid = command[uid_at:uid_end].decode("ascii", "replace").strip(" \x00")
            number = command[id_at] | command[id_at + 1] << 8
            ids = (0, number) if field & RESPONSE else (number, 0)
            found = CommandSet(field, *ids, sop_class, uid, status, comment, has_data_set)
        else:
            places = _places(command)
            found = _command_set(command, places)
            self._learn(command, places, found)
        self._command, self._last = command, found
        return found

    def _learn(self, command: bytes, places: _Places, found: CommandSet) -> None:
        """Remember how a command set is laid out, unless it is a kind of its own: then the next one is decoded too."""
        wanted, other = (_RESPONDED_TO, _MESSAGE_ID) if found.command_field & RESPONSE else (_MESSAGE_ID, _RESPONDED_TO)
        self._id_at = 0
        if wanted in places and other not in places and found.own is None:
            id_at = places[wanted][0]
            uid_at, uid_end = places.get(_SOP_INSTANCE, (len(command), len(command)))
            if id_at < uid_at:
                self._id_at, self._uid_at, self._uid_end = id_at, uid_at, uid_end
                self._parts = (command[:id_at], command[id_at + 2 : uid_at], command[uid_end:])


def c_echo_rq(message_id: int) -> bytes:
    """Encode a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return _command(
        (_SOP_CLASS, _uid(VERIFICATION)), (_COMMAND_FIELD, _US.pack(CommandField.C_ECHO_RQ)),
        (_MESSAGE_ID, _US.pack(message_id)), (_DATA_SET_TYPE, _US.pack(NO_DATA_SET)),
    )  # fmt: skip


def c_echo_rsp(responded_to: int, status: int = SUCCESS) -> bytes:
    """Encode a C-ECHO-RSP (PS3.7 9.3.5.2)."""
    return _command(
        (_SOP_CLASS, _uid(VERIFICATION)), (_COMMAND_FIELD, _US.pack(CommandField.C_ECHO_RSP)),
        (_RESPONDED_TO, _US.pack(responded_to)), (_DATA_SET_TYPE, _US.pack(NO_DATA_SET)), (_STATUS, _US.pack(status)),
    )  # fmt: skip


def c_store_rq(message_id: int, sop_class: str, sop_instance: str, *, originator: tuple[str, int] | None = None) -> bytes:
    """Encode a C-STORE-RQ of medium priority (PS3.7 9.3.1.1).

    A sub-operation of a C-MOVE names its originator: the AE title and the Message ID of who asked for that.
    """
    named = () if originator is None else (
        (_ORIGINATOR_AE, _ae_title(originator[0])), (_ORIGINATOR_MESSAGE_ID, _US.pack(originator[1])),
    )  # fmt: skip
    return _command(
        (_SOP_CLASS, _uid(sop_class)), (_COMMAND_FIELD, _US.pack(CommandField.C_STORE_RQ)),
        (_MESSAGE_ID, _US.pack(message_id)), (_PRIORITY, _US.pack(PRIORITY_MEDIUM)), (_DATA_SET_TYPE, _US.pack(DATA_SET)),
        (_SOP_INSTANCE, _uid(sop_instance)), *named,
    )  # fmt: skip


def c_store_rsp(
    responded_to: int, sop_class: str, sop_instance: str, status: int = SUCCESS, error_comment: str = ""
) -> bytes:
    """Encode a C-STORE-RSP (PS3.7 9.3.1.2), with an Error Comment of at most 64 characters where there is one."""
    uid = _uid(sop_instance)
    before, between = _around_the_id(sop_class, len(uid), status, error_comment)
    return before + _US.pack(responded_to) + between + uid


def c_find_rq(message_id: int, sop_class: str) -> bytes:
    """Encode a C-FIND-RQ of medium priority; its identifier follows as the data set (PS3.7 9.3.2.1)."""
    return _command(
        (_SOP_CLASS, _uid(sop_class)), (_COMMAND_FIELD, _US.pack(CommandField.C_FIND_RQ)),
        (_MESSAGE_ID, _US.pack(message_id)), (_PRIORITY, _US.pack(PRIORITY_MEDIUM)), (_DATA_SET_TYPE, _US.pack(DATA_SET)),
    )  # fmt: skip


def c_find_rsp(responded_to: int, sop_class: str, status: int, *, has_data_set: bool, error_comment: str = "") -> bytes:
    """Encode a C-FIND-RSP; a pending one carries a match as its data set (PS3.7 9.3.2.2)."""
    return _command(
        (_SOP_CLASS, _uid(sop_class)), (_COMMAND_FIELD, _US.pack(CommandField.C_FIND_RSP)),
        (_RESPONDED_TO, _US.pack(responded_to)), (_DATA_SET_TYPE, _US.pack(DATA_SET if has_data_set else NO_DATA_SET)),
        (_STATUS, _US.pack(status)), *_comment(error_comment),
    )  # fmt: skip


def c_move_rq(message_id: int, sop_class: str, destination: str) -> bytes:
    """Encode a C-MOVE-RQ of medium priority to an AE title; its identifier follows as the data set (PS3.7 9.3.4.1)."""
    return _command(
        (_SOP_CLASS, _uid(sop_class)), (_COMMAND_FIELD, _US.pack(CommandField.C_MOVE_RQ)),
        (_MESSAGE_ID, _US.pack(message_id)), (_MOVE_DESTINATION, _ae_title(destination)),
        (_PRIORITY, _US.pack(PRIORITY_MEDIUM)), (_DATA_SET_TYPE, _US.pack(DATA_SET)),
    )  # fmt: skip


def c_move_rsp(
    responded_to: int, sop_class: str, status: int, counts: SubOperations, *, is_final: bool, error_comment: str = ""
) -> bytes:
    """Encode a C-MOVE-RSP; only one that is not the last says how much remains (PS3.7 9.3.4.2)."""
    remaining = () if is_final and status != CANCELLED else ((_REMAINING, _US.pack(counts.remaining)),)
    return _command(
        (_SOP_CLASS, _uid(sop_class)), (_COMMAND_FIELD, _US.pack(CommandField.C_MOVE_RSP)),
        (_RESPONDED_TO, _US.pack(responded_to)), (_DATA_SET_TYPE, _US.pack(NO_DATA_SET)), (_STATUS, _US.pack(status)),
        *_comment(error_comment), *remaining, (_COMPLETED, _US.pack(counts.completed)), (_FAILED, _US.pack(counts.failed)),
        (_WARNING, _US.pack(counts.warning)),
    )  # fmt: skip


def c_cancel_rq(responded_to: int) -> bytes:
    """Encode a C-CANCEL-RQ for the request with that Message ID (PS3.7 9.3.2.3)."""
    return _command(
        (_COMMAND_FIELD, _US.pack(CommandField.C_CANCEL_RQ)), (_RESPONDED_TO, _US.pack(responded_to)),
        (_DATA_SET_TYPE, _US.pack(NO_DATA_SET)),
    )  # fmt: skip


def n_action_rq(message_id: int, sop_class: str, sop_instance: str, action_type: int) -> bytes:
    """Encode an N-ACTION-RQ; its action information follows as the data set (PS3.7 10.3.5.1)."""
    return _command(
        (_REQUESTED_SOP_CLASS, _uid(sop_class)), (_COMMAND_FIELD, _US.pack(CommandField.N_ACTION_RQ)),
        (_MESSAGE_ID, _US.pack(message_id)), (_DATA_SET_TYPE, _US.pack(DATA_SET)),
        (_REQUESTED_SOP_INSTANCE, _uid(sop_instance)), (_ACTION_TYPE, _US.pack(action_type)),
    )  # fmt: skip


def n_action_rsp(
    responded_to: int, sop_class: str, sop_instance: str, action_type: int, status: int = SUCCESS, error_comment: str = ""
) -> bytes:
    """Encode an N-ACTION-RSP without an action reply (PS3.7 10.3.5.2)."""
    return _command(
        (_SOP_CLASS, _uid(sop_class)), (_COMMAND_FIELD, _US.pack(CommandField.N_ACTION_RSP)),
        (_RESPONDED_TO, _US.pack(responded_to)), (_DATA_SET_TYPE, _US.pack(NO_DATA_SET)), (_STATUS, _US.pack(status)),
        *_comment(error_comment), (_SOP_INSTANCE, _uid(sop_instance)), (_ACTION_TYPE, _US.pack(action_type)),
    )  # fmt: skip


def n_event_report_rq(message_id: int, sop_class: str, sop_instance: str, event_type: int) -> bytes:
    """Encode an N-EVENT-REPORT-RQ; its event information follows as the data set (PS3.7 10.3.1.1)."""
    return _command(
        (_SOP_CLASS, _uid(sop_class)), (_COMMAND_FIELD, _US.pack(CommandField.N_EVENT_REPORT_RQ)),
        (_MESSAGE_ID, _US.pack(message_id)), (_DATA_SET_TYPE, _US.pack(DATA_SET)), (_SOP_INSTANCE, _uid(sop_instance)),
        (_EVENT_TYPE, _US.pack(event_type)),
    )  # fmt: skip


class _Patchable:
    """A command set encoded once: a message id, and the SOP Instance UID that it ends with, are patched in place."""

    def __init__(self, encoded: bytes, sop_class: str) -> None:
        self.encoded = encoded
        self._sop_class_bytes = len(_uid(sop_class))
        self.stands_in(encoded, 0)

    def stands_in(self, whole: bytes, at: int) -> None:
        """From now on, patch a larger whole (what goes over an association) in which this command set stands at `at`."""
        self.buffer = bytearray(whole)
        self._message_id_at = at + 12 + 8 + self._sop_class_bytes + 10 + 8  # group length, SOP class, command field, header
        self._uid_end = at + len(self.encoded)
        self._uid_at = self._uid_end - UID_LENGTH

    def patched(self, message_id: int, sop_instance: bytes) -> bytearray:
        """Return the one buffer of this template, patched; it holds until the next call.

        Parameters
        ----------
        message_id : int
            0 to 65535.
        sop_instance : bytes
            44 characters: another length would move what follows.

        Raises
        ------
        ValueError
            When the UID is of another length.
        """
        if len(sop_instance) != UID_LENGTH:
            raise ValueError(f"SOP Instance UID: expected {UID_LENGTH} characters, found {len(sop_instance)}")
        _US.pack_into(self.buffer, self._message_id_at, message_id)
        self.buffer[self._uid_at : self._uid_end] = sop_instance
        return self.buffer


class StoreRequest(_Patchable):
    """A C-STORE-RQ of one SOP class, encoded once; Message ID and SOP Instance UID are patched in place.

    Parameters
    ----------
    sop_class : str
        The Affected SOP Class UID.
    """

    def __init__(self, sop_class: str) -> None:
        super().__init__(c_store_rq(0, sop_class, "0" * UID_LENGTH), sop_class)


class StoreResponse(_Patchable):
    """A C-STORE-RSP of one SOP class with status 0, encoded once, to be patched likewise (the message id responded to).

    Parameters
    ----------
    sop_class : str
        The Affected SOP Class UID.
    """

    def __init__(self, sop_class: str) -> None:
        super().__init__(c_store_rsp(0, sop_class, "0" * UID_LENGTH), sop_class)


def _command(*elements: tuple[int, bytes]) -> bytes:
    body = b"".join([_HEADER.pack(0, element, len(value)) + value for element, value in elements])
    return _HEADER.pack(0, _GROUP_LENGTH, 4) + struct.pack("<I", len(body)) + body


def _places(command: bytes | bytearray) -> _Places:
    """Return where the value of each element begins and ends."""
    found: _Places = {}
    at, end = 0, len(command)
    unpack = _HEADER.unpack_from
    while at < end:
        if end - at < 8:
            raise ProtocolError(f"command set: expected an element header of 8 bytes at {at}, found {end - at} bytes")
        group, element, length = unpack(command, at)
        at += 8
        if group or length > end - at:
            raise ProtocolError(
                f"command set: expected an element of group 0000 with at most {end - at} bytes, "
                f"found ({group:04X},{element:04X}) with {length}"
            )
        found[element] = at, at + length
        at += length
    return found


def _command_set(command: bytes, places: _Places) -> CommandSet:
    found = {element: command[begin:end] for element, (begin, end) in places.items()}
    return CommandSet(
        _number(found, _COMMAND_FIELD), _number(found, _MESSAGE_ID, 0), _number(found, _RESPONDED_TO, 0),
        _text(found, _SOP_CLASS) or _text(found, _REQUESTED_SOP_CLASS),
        _text(found, _SOP_INSTANCE) or _text(found, _REQUESTED_SOP_INSTANCE), _number(found, _STATUS, -1),
        _text(found, _ERROR_COMMENT), _number(found, _DATA_SET_TYPE) != NO_DATA_SET, _own(found),
    )  # fmt: skip


def _own(found: dict[int, bytes]) -> str | int | SubOperations | None:
    """Return what only some commands have; counts that the response to a C-MOVE leaves out are 0."""
    if _MOVE_DESTINATION in found:
        return _text(found, _MOVE_DESTINATION)
    field = _number(found, _COMMAND_FIELD)
    if field == CommandField.N_ACTION_RQ:
        return _number(found, _ACTION_TYPE)
    if field == CommandField.C_MOVE_RSP:
        return SubOperations(*(_number(found, count, 0) for count in (_REMAINING, _COMPLETED, _FAILED, _WARNING)))
    return None


@functools.lru_cache(maxsize=256)
def _around_the_id(sop_class: str, uid_bytes: int, status: int, error_comment: str) -> tuple[bytes, bytes]:
    """Return what stands before and behind the message id of a C-STORE-RSP, up to the value of its SOP Instance UID."""
    whole = _command(
        (_SOP_CLASS, _uid(sop_class)), (_COMMAND_FIELD, _US.pack(CommandField.C_STORE_RSP)),
        (_RESPONDED_TO, _US.pack(0)), (_DATA_SET_TYPE, _US.pack(NO_DATA_SET)), (_STATUS, _US.pack(status)),
        *_comment(error_comment), (_SOP_INSTANCE, bytes(uid_bytes)),
    )  # fmt: skip
    id_at = _places(whole)[_RESPONDED_TO][0]
    return whole[:id_at], whole[id_at + 2 : len(whole) - uid_bytes]


def _comment(text: str) -> list[tuple[int, bytes]]:
    encoded = text.encode("ascii", "replace")
    return [(_ERROR_COMMENT, encoded + b" " * (len(encoded) % 2))] if text else []


def _ae_title(title: str) -> bytes:
    encoded = title.encode("ascii", "replace")
    return encoded + b" " * (len(encoded) % 2)


def _uid(uid: str) -> bytes:
    encoded = uid.encode("ascii", "replace")  # a peer's UID may be none: it is told back as far as it can be
    return encoded + b"\x00" if len(encoded) % 2 else encoded  # PS3.5 9.1: padded with one null


def _number(found: dict[int, bytes], element: int, default: int | None = None) -> int:
    value = found.get(element)
    if value is None and default is not None:
        return default
    if value is None or len(value) != 2:
        raise ProtocolError(f"command set: expected (0000,{element:04X}) with 2 bytes, found {value!r}")
    return value[0] | value[1] << 8


def _text(found: dict[int, bytes], element: int) -> str:
    value = found.get(element)
    return value.decode("ascii", "replace").strip(" \x00") if value else ""
