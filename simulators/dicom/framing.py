"""P-DATA-TF framing (PS3.8 9.3.5, annex E): a message of a command set and a data set becomes PDUs. Nothing is copied."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Buffer: TypeAlias = "bytes | bytearray | memoryview"

LARGEST_FRAGMENT_BYTES = 1 << 20  # what we put into one P-DATA-TF where the peer sets no bound
PDU = struct.Struct(">BxI")  # type, length (PS3.8 9.3.1)
PDV = struct.Struct(">IBB")  # length, presentation context id, message control header (9.3.5.1, annex E.2)
PDU_AND_PDV = struct.Struct(">BxIIBB")
P_DATA_TF = 4  # the PDU type, without the price of an enum where it counts
COMMAND = 0b01  # of the message control header
LAST = 0b10

_WHOLE_COMMAND = COMMAND | LAST


def fragment_bytes(maximum_length: int) -> int:
    """Return the longest fragment that goes to a peer which takes P-DATA-TF of at most so many bytes (0: of any length).

    The bound is on the PDVs with their headers (PS3.8 D.1.1), and fragments have an even length (E.1).
    """
    bound = maximum_length or LARGEST_FRAGMENT_BYTES + PDV.size
    return max(2, min(bound - PDV.size, LARGEST_FRAGMENT_BYTES) & ~1)


def whole_command(context_id: int, command: Buffer) -> bytes:
    """Return one P-DATA-TF with a whole command set, as which a short message goes to most peers."""
    length = len(command)
    return PDU_AND_PDV.pack(P_DATA_TF, length + 6, length + 2, context_id, _WHOLE_COMMAND) + command


def framed_message(context_id: int, command: Buffer, data: Sequence[Buffer], largest: int) -> Iterable[Buffer]:
    """Return the buffers of one message, to be sent in this order. They share the memory of what is given.

    Parameters
    ----------
    context_id : int
        The presentation context.
    command : buffer
        The command set.
    data : sequence of buffers
        The data set, in pieces of any size; empty when the command announces none.
    largest : int
        The longest fragment, in bytes: `fragment_bytes` of what the peer takes.
    """
    size_bytes = sum(map(len, data))
    if max(len(command), size_bytes) > largest:
        return _fragmented(context_id, command, data, largest)
    if not data:
        return [whole_command(context_id, command)]
    length = len(command)
    return [
        PDU_AND_PDV.pack(P_DATA_TF, length + 6, length + 2, context_id, _WHOLE_COMMAND), command,
        PDU_AND_PDV.pack(P_DATA_TF, size_bytes + 6, size_bytes + 2, context_id, LAST), *data,
    ]  # fmt: skip


def _fragmented(context_id: int, command: Buffer, data: Sequence[Buffer], largest: int) -> Iterator[Buffer]:
    yield from _fragments(context_id, COMMAND, [command], largest)
    if data:
        yield from _fragments(context_id, 0, data, largest)


def _fragments(context_id: int, control: int, pieces: Sequence[Buffer], largest: int) -> Iterator[Buffer]:
    left = sum(map(len, pieces))
    full = PDU_AND_PDV.pack(P_DATA_TF, largest + 6, largest + 2, context_id, control)
    room = 0
    for piece in pieces:
        at, end = 0, len(piece)
        view = piece if end <= room or (room == 0 and end <= largest) else memoryview(piece)
        while at < end:
            if room == 0:
                room = min(left, largest)
                left -= room
                last = PDU_AND_PDV.pack(P_DATA_TF, room + 6, room + 2, context_id, control | LAST)
                yield full if left else last
            taken = min(room, end - at)
            yield view if taken == end else view[at : at + taken]
            at += taken
            room -= taken
