"""A connected socket on which every wait has a limit: the kernel's in a thread, the event loop's in a gevent greenlet."""

from __future__ import annotations

import ctypes
import itertools
import select
import socket
import struct
from _socket import socket as NativeSocket
from collections.abc import Iterable
from typing import TypeAlias

Buffer: TypeAlias = "bytes | bytearray | memoryview"

SENDMSG_BUFFERS = 1024  # IOV_MAX of Linux: sendmsg(2) takes no more at a time
RECEIVE_BYTES = 4096  # responses are short; a large buffer for each costs more than a second call for a long one
_FIRST_BATCH = 16  # small, and each next one larger: the peer reads the first while we frame the rest
_TIMEVAL = struct.Struct("@ll")  # seconds, microseconds; all zero would be no limit
_MOST_TURNS = 256  # of an eager receive: some 0.2 ms
_NOW = socket.MSG_DONTWAIT
_sched_yield = ctypes.CDLL(None).sched_yield  # os.sched_yield keeps other threads from running meanwhile


class BoundedSocket:
    """A connected socket with a limit on every wait.

    Parameters
    ----------
    connected : socket.socket
        Python's own, or gevent's: then all waiting is done in its event loop, where other greenlets go on.

    Notes
    -----
    All methods raise OSError when the connection has failed; when a wait took too long, a TimeoutError or (from the kernel's
    own limit) a BlockingIOError. `sent_bytes` is how much of what was sent last has left, also after a failure.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.sent_bytes = 0
        self._socket = connected
        self._is_native = isinstance(connected, NativeSocket)
        self._timeout_s = -1.0
        self._turns = _MOST_TURNS
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor, -1 when it is closed."""
        return self._socket.fileno()

    def has_input(self) -> bool:
        """Say, without waiting, whether there is something to receive: bytes, the end or a failure."""
        return bool(self._poll.poll(0))

    def wait_at_most(self, timeout_s: float) -> None:
        """Bound each send and each receive from now on, in seconds; it costs system calls when the limit is a new one."""
        if timeout_s == self._timeout_s:
            return
        if self._is_native:  # the kernel bounds the wait: Python's way is one more poll(2) a call
            self._socket.settimeout(None)
            limit = _TIMEVAL.pack(int(timeout_s), max(1, int(timeout_s % 1 * 1e6)))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        else:
            self._socket.settimeout(timeout_s)
        self._timeout_s = timeout_s

    def send(self, message: Iterable[Buffer]) -> None:
        """Send all of a message."""
        self.sent_bytes = 0
        if isinstance(message, list) and len(message) == 1:
            whole = message[0]
            self.sent_bytes = count = self._socket.send(whole)
            if count == len(whole):
                return
            message = [memoryview(whole)[count:]]
        buffers = iter(message)
        most = _FIRST_BATCH
        while batch := list(itertools.islice(buffers, most)):
            most = min(4 * most, SENDMSG_BUFFERS)
            while batch:
                count = self._socket.sendmsg(batch)
                self.sent_bytes += count
                batch = _unsent(batch, count)

    def send_some(self, message: list[Buffer]) -> list[Buffer]:
        """Send what can leave without waiting, and return the rest. For Python's own sockets."""
        self.sent_bytes = 0
        while message:
            batch = message[:SENDMSG_BUFFERS]
            try:
                count = self._socket.send(batch[0], _NOW) if len(batch) == 1 else self._socket.sendmsg(batch, (), _NOW)
            except BlockingIOError:
                break
            self.sent_bytes += count
            rest = _unsent(batch, count)
            message = rest + message[SENDMSG_BUFFERS:]
            if rest:
                break
        return message

    def receive(self, *, eager: bool = False) -> bytes:
        """Receive what there is, once there is something; nothing means the end.

        `eager`: stay awake for up to 0.2 ms until it comes, and let others have the processor at every turn; never in gevent.
        """
        if eager and self._is_native:
            content = self._received_awake()
            if content is not None:
                return content
        return self._socket.recv(RECEIVE_BYTES)

    def receive_now(self) -> bytes | None:
        """Receive what there is; None when there is nothing yet. For Python's own sockets."""
        try:
            return self._socket.recv(RECEIVE_BYTES, _NOW)
        except BlockingIOError:
            return None

    def give_way(self) -> None:
        """Let others on this very processor run, where that is not gevent's to decide."""
        if self._is_native:
            _sched_yield()

    def _received_awake(self) -> bytes | None:
        """Receive without going to sleep; None when nothing came in time: the next call gives up sooner then."""
        receive, turns = self._socket.recv, self._turns
        for _ in range(turns):
            try:
                content = receive(RECEIVE_BYTES, _NOW)
            except BlockingIOError:
                _sched_yield()
            else:
                self._turns = min(2 * turns, _MOST_TURNS)
                return content
        self._turns = max(1, turns // 2)
        return None


def _unsent(batch: list[Buffer], count: int) -> list[Buffer]:
    """Return what is left of a batch after `count` bytes of it: sendmsg may take only a part."""
    if count == sum(map(len, batch)):
        return []
    done = 0
    while count >= len(batch[done]):
        count -= len(batch[done])
        done += 1
    return [memoryview(batch[done])[count:], *batch[done + 1 :]]
