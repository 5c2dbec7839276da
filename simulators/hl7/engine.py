"""The interface engine: sends messages over MLLP, one in flight, and believes only an acknowledgement that names its message.

`Exchange` is what is understood, without a socket; `InterfaceEngine` is one connection of one blocking client around it.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import xxhash

from simulators.bounded_socket import BoundedSocket
from simulators.client import Attempt, Begun, Connection, Failed, Target, Timeouts
from simulators.operations import Operation, Outcome, Phase

from .acknowledgement import NOT_TAKEN, Acknowledgement, read_acknowledgement
from .message import Message, MessageError
from .mllp import Decoder, Frame, FrameTooLarge, StrayBytes, frame

_ON_SUCCESS = ([b"AL"], [b"SU"])
_ACKNOWLEDGED = Outcome.ACKNOWLEDGED  # an enumeration's member is dear to name


class Fate(NamedTuple):
    """What an acknowledgement makes of a message, and why when it was not accepted."""

    outcome: Outcome
    acknowledgement: Acknowledgement | None
    reason: str


class Exchange:
    """One message and the wait for its acknowledgement: bytes in, fate out.

    Parameters
    ----------
    message : bytes
        The message inside its frame; MSH-10, MSH-15 and MSH-16 say which answers to expect.

    Raises
    ------
    MessageError
        When it has no MSH: that is a mistake of the caller, not of the network.
    """

    __slots__ = ("_control_id", "_decoder", "_ends_with_commit", "_usual_end")

    def __init__(self, message: bytes) -> None:
        end = message.find(b"\r")
        fields = (message if end < 0 else message[:end]).split(message[3:4], 17) if message[:3] == b"MSH" else []
        if len(fields) < 10:
            Message(message)  # says what is wrong, where the header is
            raise ValueError(f"message: expected an MSH with its control id, found {len(fields)} fields")
        self._control_id = fields[9]
        wanted = fields[14:16]
        self._ends_with_commit = wanted[:1] in _ON_SUCCESS and wanted[1:] not in _ON_SUCCESS
        self._usual_end = b"\rMSA|AA|%b\r\x1c\r" % self._control_id
        self._decoder: Decoder | None = None

    def received(self, data: bytes) -> Fate | None:
        """Take bytes of the answer; return the message's fate once it is certain (None: wait for more).

        An answer that names another message, that is none, or that stands outside of a frame leaves it indeterminate.
        """
        if self._decoder is None:
            fate = self._usual_fate(data)
            if fate is not None:
                return fate
            self._decoder = Decoder()
        try:
            events = self._decoder.feed(data)
        except FrameTooLarge as error:
            return Fate(Outcome.INDETERMINATE, None, str(error))
        for event in events:
            fate = self._judge(event)
            if fate is not None:
                if event is not events[-1] or self._decoder.is_within_frame:
                    return Fate(Outcome.INDETERMINATE, None, "expected one answer to one message, found bytes behind it")
                return fate
        return None

    def _usual_fate(self, data: bytes) -> Fate | None:
        """Return the fate when the answer came in one piece, of MSH and an MSA that accepts; None: read it in full."""
        end = self._usual_end
        is_usual = data.endswith(end) and data.find(b"\r") == len(data) - len(end) and data.find(b"\x1c") == len(data) - 2
        fields = data.split(b"|", 4) if is_usual else []
        if len(fields) < 5 or fields[0] != b"\x0bMSH":
            return None
        return Fate(_ACKNOWLEDGED, Acknowledgement(b"AA", self._control_id, fields[3].decode("latin-1"), ""), "")

    def _judge(self, event: Frame | StrayBytes) -> Fate | None:
        if isinstance(event, StrayBytes):
            return Fate(Outcome.INDETERMINATE, None, f"expected an MLLP frame, found {event.data[:20]!r}")
        try:
            answer = read_acknowledgement(event.payload)
        except MessageError as error:
            return Fate(Outcome.INDETERMINATE, None, f"expected an acknowledgement, found none: {error}")
        if answer.control_id != self._control_id:
            reason = f"MSA-2: expected {_shown(self._control_id)}, found {_shown(answer.control_id)}"
            return Fate(Outcome.INDETERMINATE, answer, reason)
        if answer.code in NOT_TAKEN:
            return Fate(Outcome.REFUSED, answer, f"MSA-1: expected AA, found {answer.code.decode()}: {answer.reason}")
        if answer.code == b"CA" and not self._ends_with_commit:
            return None  # safe at the node; whether its application takes it is still to be said
        return Fate(Outcome.ACKNOWLEDGED, answer, "")


class InterfaceEngine:
    """One connection of an interface engine to a listener, opened when it is needed.

    One message is in flight at a time: that is the order within a patient. Not for use by two threads at once.

    Parameters
    ----------
    target : Target
        The VIP, or a real server.
    source : str
        The source address.
    timeouts : Timeouts
        For connecting, sending, and each response.
    eager : bool
        Whether to wait for each answer awake, for up to 0.2 ms: for few engines that are to be fast, where there are
        processors enough. Never in gevent, where it has no effect.
    """

    def __init__(self, target: Target, source: str, *, timeouts: Timeouts, eager: bool = False) -> None:
        self.target = target
        self.source = source
        self.timeouts = timeouts
        self.last_failure = ""  # why the last message was not acknowledged, for people
        self.last_acknowledgement: Acknowledgement | None = None
        self._eager = eager
        self._connection: Connection | None = None
        self._socket: BoundedSocket | None = None  # of the connection
        self._raw_decoder = Decoder()
        self._raw_answers: list[bytes] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as this side knows."""
        return self._connection is not None

    @property
    def node(self) -> str:
        """The node behind the connection, as MSH-4 of its last acknowledgement told it; empty when untold."""
        return "" if self._connection is None else self._connection.node

    @property
    def session(self) -> int:
        """The number of the connection within this process; 0 when there is none."""
        return 0 if self._connection is None else self._connection.session

    def open(self) -> None:
        """Connect, unless connected.

        Raises
        ------
        Failed
            REFUSED in phase CONNECT.
        """
        self._opened()

    def send(self, message: bytes, attempt: Attempt) -> Operation:
        """Send one message and wait for its fate. A network that fails is a fate, not an exception.

        Parameters
        ----------
        message : bytes
            The message, without frame. Size and digest of the operation are of these bytes.
        attempt : Attempt
            Whose identity is in the message's MSH-10.

        Raises
        ------
        MessageError, ValueError
            When the message has no header: nothing was sent.
        """
        exchange = Exchange(message)
        begun = Begun(attempt, self.target, self.source)
        digest = xxhash.xxh3_128_digest(message)
        self.last_failure, self.last_acknowledgement = "", None
        connection: Connection | None = None
        try:
            connection = self._opened()
            fate = self._exchange(exchange, message)
        except Failed as failure:
            self.last_failure = failure.reason
            self.close()
            return begun.ended(failure.outcome, failure.phase, connection, size_bytes=len(message), digest=digest)
        answer = self.last_acknowledgement = fate.acknowledgement
        self.last_failure = fate.reason
        status = 0 if answer is None else answer.status
        if answer is not None:
            connection.node = answer.node
        phase = Phase.DONE
        if fate.outcome is Outcome.INDETERMINATE:
            phase = Phase.RESPONSE
            self.close()  # what comes next on this connection belongs to nobody
        return begun.ended(fate.outcome, phase, connection, status=status, size_bytes=len(message), digest=digest)

    def send_raw(self, data: bytes, *, wait_s: float) -> bytes | None:
        """Send bytes as they are, for content that no engine should send, and return what comes back.

        Parameters
        ----------
        data : bytes
            Framed or not, whole or not.
        wait_s : float
            How long to wait for an answer; 0 only sends.

        Returns
        -------
        bytes or None
            The payload of the next answer; `b""` when the node closed the connection; None when it kept silent.

        Raises
        ------
        Failed
            When there is no connection and none can be made.
        """
        if self._socket is None:  # an unread answer belongs to the probe, so it closes nothing here
            self._opened()
        try:
            self._bounded(self.timeouts.send_s).send([data])
        except OSError:
            if not self._raw_answers:
                self.close()  # the node closed first: that is its answer
                return b""
        return self.read_raw(wait_s=wait_s)

    def read_raw(self, *, wait_s: float) -> bytes | None:
        """Return the payload of the next answer to what `send_raw` sent, as `send_raw` does."""
        deadline = time.monotonic() + wait_s
        while not self._raw_answers:
            left = deadline - time.monotonic()
            if self._socket is None:
                return b""
            if left <= 0:
                return None
            try:
                data = self._bounded(left).receive()
            except (TimeoutError, BlockingIOError):
                return None
            except OSError:
                data = b""
            if not data:
                self.close()
                return b""
            for event in self._raw_decoder.feed(data):
                self._raw_answers.append(event.payload if isinstance(event, Frame) else event.data)
        return self._raw_answers.pop(0)

    def close(self) -> None:
        """Close the connection; the next message opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._socket = None
        self._raw_decoder = Decoder()
        self._raw_answers.clear()

    def _opened(self) -> Connection:
        """Return a connection on which nothing waits to be read: neither its end, nor an answer that is nobody's."""
        if self._socket is not None and self._socket.has_input():
            self.close()
        if self._connection is None:
            self._connection = Connection(self.target, self.source, self.timeouts)
            self._socket = BoundedSocket(self._connection.socket)
        return self._connection

    def _bounded(self, timeout_s: float) -> BoundedSocket:
        """Return the open connection's socket, on which each wait is limited from now on."""
        if self._socket is None:
            raise OSError("expected an open connection, found none")
        self._socket.wait_at_most(timeout_s)
        return self._socket

    def _exchange(self, exchange: Exchange, message: bytes) -> Fate:
        """Send the message and read until its fate is certain; raise Failed (INDETERMINATE) when the network ends it."""
        timeouts = self.timeouts
        try:
            self._bounded(timeouts.send_s).send([frame(message)])
        except OSError as error:
            raise self._failed(Phase.SEND, "the whole message to leave", str(error) or "no progress") from error
        deadline = time.monotonic() + timeouts.response_s
        left = timeouts.response_s
        while left > 0:
            try:
                data = self._bounded(left).receive(eager=self._eager)
            except (TimeoutError, BlockingIOError):
                break
            except OSError as error:
                raise self._failed(Phase.RESPONSE, "an acknowledgement", str(error)) from error
            if not data:
                raise self._failed(Phase.RESPONSE, "an acknowledgement", "the end of the connection")
            fate = exchange.received(data)
            if fate is not None:
                return fate
            left = deadline - time.monotonic()
        raise self._failed(Phase.RESPONSE, "an acknowledgement", f"silence for {timeouts.response_s} s")

    def _failed(self, phase: Phase, expected: str, found: str) -> Failed:
        reason = f"{self.source} to {self.target.address}:{self.target.port}: expected {expected}, found {found}"
        return Failed(Outcome.INDETERMINATE, phase, reason)


def _shown(control_id: bytes) -> str:
    return control_id[:40].decode("ascii", "replace") or "nothing"
