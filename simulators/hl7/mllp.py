"""MLLP framing without sockets: bytes in, frames out (HL7 v2 Transport Specification: MLLP, Release 1).

A frame is `<VT> payload <FS><CR>`. Everything between two frames is a stray byte: no message, so nothing may answer it.
"""

from __future__ import annotations

from typing import NamedTuple

START = b"\x0b"
END = b"\x1c\r"
_START_BYTE = START[0]
DEFAULT_LIMIT_BYTES = 64 * 1024 * 1024


class FrameTooLarge(Exception):
    """A frame did not end within the limit; the stream cannot be followed any further."""


class Frame(NamedTuple):
    """The payload of one frame, without its delimiters."""

    payload: bytes


class StrayBytes(NamedTuple):
    """Bytes outside of any frame."""

    data: bytes


def frame(payload: bytes) -> bytes:
    """Return a payload in its frame."""
    return b"\x0b%b\x1c\r" % payload


class Decoder:
    """Cuts a stream of bytes into frames, however the network cut it.

    Parameters
    ----------
    limit_bytes : int
        The largest payload that is taken.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held = bytearray()  # the unfinished frame, from its START on
        self._searched = 0  # where the search for END goes on, so that a big frame is read once

    @property
    def is_within_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._held)

    def whole(self, data: bytes) -> bytes | None:
        """Return the payload when the next bytes are one frame, no more and no less: the usual case; otherwise None.

        After None, `feed` has still to be given the bytes.
        """
        if not self._held:
            end = data.find(END)
            if end == len(data) - 2 and end > 0 and data[0] == _START_BYTE and end - 1 <= self._limit_bytes:
                return data[1:end]
        return None

    def feed(self, data: bytes) -> list[Frame | StrayBytes]:
        """Take the next bytes of the stream and return what they completed, in order.

        Raises
        ------
        FrameTooLarge
            When a frame exceeds the limit. Frames that ended before it are lost too: the caller closes the connection.
        """
        self._held += data
        events: list[Frame | StrayBytes] = []
        while self._held and self._cut(events):
            pass
        return events

    def _cut(self, events: list[Frame | StrayBytes]) -> bool:
        """Move one event from what is held to `events`; False when more bytes are needed."""
        held = self._held
        if held[:1] != START:
            begin = held.find(START)
            stray = bytes(held) if begin < 0 else bytes(held[:begin])
            del held[: len(stray)]
            events.append(StrayBytes(stray))
            return True
        end = held.find(END, max(1, self._searched - 1))
        size = (len(held) if end < 0 else end) - 1
        if size > self._limit_bytes:
            raise FrameTooLarge(f"MLLP frame: expected at most {self._limit_bytes} bytes, found {size}; split the message")
        if end < 0:
            self._searched = len(held)
            return False
        with memoryview(held) as view:
            events.append(Frame(bytes(view[1:end])))
        del held[: end + 2]
        self._searched = 0
        return True
