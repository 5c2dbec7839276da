"""One connection of a listener, and the listener's log."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
from typing import TYPE_CHECKING, cast

from simulators.misbehaviour import LATE_BY_S
from simulators.operations import packed_address
from simulators.proxy_protocol import Peer

from .mllp import Decoder, FrameTooLarge, StrayBytes

if TYPE_CHECKING:
    from .listener import Listener


class Session(asyncio.Protocol):
    """One connection: cuts frames, hands messages to the listener, ends at the first stray byte.

    Parameters
    ----------
    listener : Listener
        The listener that it belongs to.
    client : Peer or None
        Whose it is, where the balancer said so; else whoever connected.
    """

    peer: tuple[str, int]
    packed_peer: bytes
    peer_port: int

    def __init__(self, listener: Listener, client: Peer | None = None) -> None:
        self._listener = listener
        self._client = client
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who calls."""
        self._transport = cast(asyncio.Transport, transport)  # what a stream server gives
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = self._client or transport.get_extra_info("peername")[:2]
        self.packed_peer, self.peer_port = packed_address(self.peer[0]), self.peer[1]
        self._listener.sessions.add(self)
        self._listener.empty.clear()

    def data_received(self, data: bytes) -> None:
        """Take the messages that the bytes completed."""
        payload = self._decoder.whole(data)
        if payload is not None:
            self._listener.take(self, payload)
        elif not self._take_all(data):
            return
        if len(self._listener.sessions) == 1:
            self._listener.write()  # nobody else to write together with

    def eof_received(self) -> bool:
        """Answer what was sent before the end, then close."""
        self._listener.write()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the connection."""
        self._listener.sessions.discard(self)
        if not self._listener.sessions:
            self._listener.empty.set()
        self._transport = None

    def send(self, data: bytes) -> None:
        """Send, unless the peer has gone or there is nothing to say."""
        transport = self._transport
        if data and transport is not None and not transport.is_closing():
            transport.write(data)

    def is_abandoned(self) -> bool:
        """Say whether the peer has closed or reset the connection, even if there is something left to read on it."""
        if self._transport is None:
            return True
        looking = select.poll()
        looking.register(self._transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(looking.poll(0))

    def close(self) -> None:
        """Close after what was sent has left."""
        if self._transport is not None:
            self._transport.close()

    def _take_all(self, data: bytes) -> bool:
        """Take whatever frames the bytes complete; False when they end the connection."""
        try:
            events = self._decoder.feed(data)
        except FrameTooLarge as error:
            self._end(str(error))
            return False
        for event in events:
            if isinstance(event, StrayBytes):
                self._end(f"expected MLLP frames only, found {len(event.data)} bytes outside of one")
                return False
            self._listener.take(self, event.payload)
        return True

    def _end(self, reason: str) -> None:
        log(f"closed the connection of {self.peer[0]}: {reason}")
        self._listener.write()
        self.close()


class LateSession(Session):
    """A connection of a slow listener: each answer leaves later by the same time, so that they stay in order."""

    def send(self, data: bytes) -> None:
        """Send when the time has come, unless the peer has gone by then."""
        self._listener.loop.call_later(LATE_BY_S, super().send, data)


def log(line: str) -> None:
    """Write a line to the service's log, which is its standard error."""
    with contextlib.suppress(OSError):  # where a disk is full, the log is too: that must keep no answer back
        print(line, file=sys.stderr, flush=True)  # noqa: T201
