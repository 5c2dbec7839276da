"""When the kernel tells of a long fragment: once enough of it has come, not at each piece (SO_RCVLOWAT, socket(7)).

A balancer hands on what its buffer takes, 16 KB at a time; to be woken for each costs a large image more than to copy it.
The end of a connection is told at once all the same, and so is what a full receive buffer keeps from becoming more.
"""

from __future__ import annotations

import asyncio
import socket

_LONG_BYTES = 1 << 16  # so much is to come of a fragment that is worth the system calls
_AT_ONCE_BYTES = 1 << 17  # what is told of: 512 KB come in 5 pieces then, while the peer sends on


class LowWater:
    """The low-water mark of one connection's reading. Until a long fragment comes it costs nothing but itself."""

    __slots__ = ("_connection", "bytes")

    def __init__(self) -> None:
        self.bytes = 1  # the mark: as much must have come before it is told
        self._connection: socket.socket | None = None

    def set(self, transport: asyncio.Transport, left_bytes: int) -> None:
        """Set the mark for a fragment of which so much is to come; 0: for whatever comes."""
        wanted = 1
        if left_bytes >= _LONG_BYTES or self.bytes > 1:
            wanted = max(1, min(left_bytes, _AT_ONCE_BYTES))
        if wanted == self.bytes:
            return
        if self._connection is None:  # uvloop's stand-in makes such an object for every call
            number = transport.get_extra_info("socket").fileno()
            self._connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
        self.bytes = wanted

    def close(self) -> None:
        """Let go of the socket: the event loop closes it."""
        if self._connection is not None:
            self._connection.detach()
            self._connection = None
