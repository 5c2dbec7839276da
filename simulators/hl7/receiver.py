"""A system that nodes send messages to: an MLLP listener in threads of the calling process.

It keeps nothing: it writes down which message came from which address, and acknowledges it. As real ones do, it lets in only
those that it knows: the connection of anybody else is closed before a byte is read.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Collection
from typing import Self

from simulators.received import Received, ReceivedLog

from .acknowledgement import Acknowledger
from .message import Message, MessageError
from .mllp import Decoder, Frame, FrameTooLarge, frame

_READ_BYTES = 65536
_SILENCE_S = 30.0  # a sender that says nothing for so long is gone
_ENDS_WITHIN_S = 5.0


class MessageReceiver:
    """Listens from its making until it is closed.

    Parameters
    ----------
    listening : socket.socket
        Bound and listening; closed with the receiver.
    name : str
        What it calls itself in MSH-4 of its acknowledgements.
    admitted : collection of str
        The addresses that may connect.
    log : ReceivedLog
        Where it writes down what came.
    """

    def __init__(self, listening: socket.socket, name: str, admitted: Collection[str], log: ReceivedLog) -> None:
        self._listening = listening
        self._admitted = frozenset(admitted)
        self._log = log
        self._acknowledger = Acknowledger(name)
        self._acknowledging = threading.Lock()
        self._thread = threading.Thread(target=self._listen, name="message receiver", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop to listen. A connection that is open ends with its sender."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listening.close()
        self._thread.join(_ENDS_WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, peer = self._listening.accept()
            except OSError:
                return
            if peer[0] not in self._admitted:
                self._log.add(Received(peer[0], "", admitted=False))
                connection.close()
                continue
            serve = threading.Thread(target=self._serve, args=(connection, peer[0]), name=f"from {peer[0]}", daemon=True)
            serve.start()

    def _serve(self, connection: socket.socket, peer: str) -> None:
        decoder = Decoder()
        with connection, contextlib.suppress(OSError, FrameTooLarge):
            connection.settimeout(_SILENCE_S)
            while data := connection.recv(_READ_BYTES):
                for event in decoder.feed(data):
                    if not isinstance(event, Frame):
                        return
                    connection.sendall(frame(self._taken(event.payload, peer)))

    def _taken(self, payload: bytes, peer: str) -> bytes:
        try:
            message = Message(payload)
        except MessageError as error:
            return self._acknowledger.build(None, b"AR", b"", error)
        self._log.add(Received(peer, message.control_id, admitted=True))
        with self._acknowledging:
            return self._acknowledger.build(message, b"AA", message.header.raw(10))
