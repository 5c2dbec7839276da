"""What a listener sends of its own accord: copies of results, to the receiver that OBR-28 names (HL7 v2.5.1, 4.5.3.28).

A thread of its own sends them, one after the other, from the node's own address: no balancer is on that way. Nothing waits
for it: the sender of a result has its acknowledgement before the copy leaves, and what has not left when the service ends is
dropped.
"""

from __future__ import annotations

import queue
import threading
import time

from simulators.client import Attempt
from simulators.operations import Identity, Kind, Outcome, identity_of_code
from simulators.outbound import TIMEOUTS, Outbound

from .engine import InterfaceEngine
from .message import Message, MessageError
from .session import log

_TRIES = 3
_BETWEEN_TRIES_S = 1.0
_MOST_WAITING = 1000  # beyond, copies are dropped: the log says so
_COPIES_TO = 28


class Forwarder:
    """Sends copies of results.

    Parameters
    ----------
    outbound : Outbound
        Who may be sent to, and from which address.
    node : str
        The node's name, told in MSH-4.
    """

    def __init__(self, outbound: Outbound, node: str) -> None:
        self._outbound = outbound
        self._node = node.encode("ascii")
        self._receiver = outbound.ae_title.encode("ascii")
        self._engine = InterfaceEngine(outbound.hl7, outbound.source, timeouts=TIMEOUTS)
        self._waiting: queue.Queue[bytes] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None  # made when it is needed: threads do not survive a fork

    def offer(self, payload: bytes) -> None:
        """Take a message that was acknowledged; if it is a result that the receiver is to get a copy of, send that soon."""
        copy = self._copy(payload) if self._receiver in payload else None
        if copy is None:
            return
        try:
            self._waiting.put_nowait(copy)
        except queue.Full:
            log(f"dropped a copy for {self._outbound.ae_title}: expected at most {_MOST_WAITING} that wait")
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="forwarder", daemon=True)
            self._thread.start()

    def _copy(self, payload: bytes) -> bytes | None:
        """Return the copy that is to be sent of a message: the same, from this node, to the receiver; None: none is."""
        message = Message(payload)
        try:
            request = message.segment(b"OBR")
        except MessageError:
            return None
        if message.kind[0] != "ORU" or request is None or request.raw(_COPIES_TO) != self._receiver:
            return None
        head, cr, rest = payload.partition(b"\r")
        separator = message.separators.field
        fields = head.split(separator)
        fields[2:6] = [fields[4], self._node, self._receiver, b""]
        return separator.join(fields) + cr + rest

    def _send_all(self) -> None:
        while True:
            self._send(self._waiting.get())

    def _send(self, copy: bytes) -> None:
        control_id = Message(copy).control_id
        identity = identity_of_code(control_id, Kind.MESSAGE) or Identity(0, Kind.MESSAGE, 0, 0)
        for number in range(1, _TRIES + 1):
            outcome = self._engine.send(copy, Attempt(identity, number)).outcome
            if outcome is not Outcome.ACKNOWLEDGED:
                log(f"copy for {self._outbound.ae_title}, try {number}: {self._engine.last_failure}")
            if outcome is Outcome.ACKNOWLEDGED or self._engine.last_acknowledgement is not None:
                break
            if number < _TRIES:
                time.sleep(_BETWEEN_TRIES_S)
        self._engine.close()
