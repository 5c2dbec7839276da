"""One association of an SCP on asyncio, from its connection to the end of it: the acceptor's side of PS3.8 9.2.

An association that is idle costs its few objects and nothing else: no thread, no task, no buffer of its own, no timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Protocol, cast

from ..misbehaviour import LATE_BY_S, Misbehaviour
from ..proxy_protocol import Peer
from ..service import ServiceSettings
from .dimse import VERIFICATION, CommandField, c_echo_rsp
from .errors import ProtocolError
from .low_water import LowWater
from .negotiation import AcceptedContext, AssociateRequested
from .upper_layer import AbortSource, DataSink, Event, Message, State, UpperLayer

MAXIMUM_PDU_BYTES = 1 << 20  # told to the requestor
ACSE_TIMEOUT_S = 5.0  # for the A-ASSOCIATE-RQ after the connection, and for the peer's close after the end (ARTIM)
STALLED_PDU_S = 10.0  # how long the rest of a PDU may not come, or an answer not be read, before the connection is closed
CLOSE_WITHIN_S = 5.0  # how long peers may take to read what they were sent, once the service ends
_LOOK_AGAIN_S = 0.1  # for what came of a PDU and was too little to be told of
_READ_BYTES = 1 << 18  # at a time; it stays in the processor's cache until it is in its message
_EVENTS_AHEAD = 8  # what a peer may ask before it is answered; more is not read

_C_CANCEL_RQ = int(CommandField.C_CANCEL_RQ)  # the member of an enumeration is dear to look up

_Rejection = tuple[int, int, int]
CALLED_AE_NOT_RECOGNIZED: _Rejection = (1, 1, 7)  # rejected permanently by the service user (PS3.8, table 9-21)
LOCAL_LIMIT_EXCEEDED: _Rejection = (2, 3, 2)  # rejected for now by the service provider (presentation)


class Provider(Protocol):
    """A service class as an SCP provides it; Verification is provided for all of them."""

    @property
    def new_sink(self) -> Callable[[], DataSink] | None:
        """What makes the sinks that data sets go into, as `UpperLayer` takes it."""

    @property
    def syntaxes(self) -> Mapping[str, Container[str]]:
        """The transfer syntaxes of each SOP class that is supported."""

    def perform(self, association: Acceptor, message: Message) -> None:
        """Perform one request, now or later; ProtocolError when it is none that belongs into its context."""

    def flush(self) -> None:
        """Answer what can be answered now: something else is to be sent after it."""

    def close(self) -> None:
        """End: what was performed is safe."""


class ApplicationEntity:
    """What all associations of one SCP share. Made in the event loop that they live in.

    Parameters
    ----------
    settings : ServiceSettings
        AE title, limit of associations, and the node's name, which is told as the Implementation Version Name.
    provider : Provider
        What the SCP is there for.
    """

    def __init__(self, settings: ServiceSettings, provider: Provider) -> None:
        self.loop = asyncio.get_running_loop()
        self.provider = provider
        self.node = settings.node
        self.connections: set[Acceptor] = set()
        self.buffer = memoryview(bytearray(_READ_BYTES))  # one for all: what is read is taken before anything else is
        self.held = 0  # associations
        self.handled = 0  # requests
        self._maximum = settings.maximum_associations
        self._ae_title = settings.ae_title
        self._accepts_any = settings.accept_unknown_called_ae or settings.has(Misbehaviour.ACCEPTS_ANY_CALLED_AE)
        self._supported: Mapping[str, Container[str]] = {**provider.syntaxes, VERIFICATION: _AnySyntax()}
        self._empty = asyncio.Event()
        self._kind = LateAcceptor if settings.has(Misbehaviour.SLOW_BY_20_MS) else Acceptor

    def connection(self, client: Peer | None = None) -> Acceptor:
        """Return the protocol of a new connection, of the client that the balancer named."""
        return self._kind(self, client)

    def rejection(self, request: AssociateRequested) -> _Rejection | None:
        """Return result, source and reason of the rejection of a request; None when it is accepted."""
        if not self._accepts_any and request.called_ae != self._ae_title:
            return CALLED_AE_NOT_RECOGNIZED
        return LOCAL_LIMIT_EXCEEDED if self.held >= self._maximum else None

    def chosen(self, request: AssociateRequested) -> dict[int, str | None]:
        """Return the transfer syntax of each context whose abstract syntax is supported: the first one proposed that is."""
        found: dict[int, str | None] = {}
        for context_id, proposed in request.contexts.items():
            supported = self._supported.get(proposed.abstract_syntax)
            if supported is not None:
                found[context_id] = next((syntax for syntax in proposed.transfer_syntaxes if syntax in supported), None)
        return found

    def lost(self, association: Acceptor) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(association)
        if not self.connections:
            self._empty.set()

    async def close(self) -> None:
        """Answer what is in hand, close all connections, and end the provider."""
        self.provider.flush()
        for association in tuple(self.connections):
            association.close()
        if self.connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):  # a peer that reads nothing is not waited for any longer
                await asyncio.wait_for(self._empty.wait(), CLOSE_WITHIN_S)
        self.provider.close()


class _AnySyntax(Container[str]):
    """For Verification, which has no data sets."""

    def __contains__(self, _: object) -> bool:
        return True


class Acceptor(asyncio.BufferedProtocol):
    """One association, as its acceptor.

    Requests are performed one after the other, in the order in which they came, also where one of them takes a thread.

    Parameters
    ----------
    entity : ApplicationEntity
        Whose association it is.
    client : Peer or None
        Who calls, where the balancer said so; else whoever connected.
    """

    __slots__ = (
        "_blocked", "_busy", "_cancelled", "_entity", "_events", "_heard_s", "_holds_back", "_holds_place", "_layer",
        "_low_water", "_timer", "_transport", "_unread_timer", "_when_writable", "calling_ae", "peer",
    )  # fmt: skip

    def __init__(self, entity: ApplicationEntity, client: Peer | None = None) -> None:
        self.peer: tuple[str, int] = client or ("", 0)
        self.calling_ae = ""
        self._entity = entity
        self._layer = UpperLayer(maximum_length=MAXIMUM_PDU_BYTES, new_sink=entity.provider.new_sink)
        self._transport: asyncio.Transport | None = None
        self._low_water = LowWater()
        self._events: list[Event] = []  # not acted upon yet
        self._busy: int | None = None  # the Message ID of the request that takes its time
        self._cancelled: frozenset[int] = frozenset()
        self._blocked = False  # the peer does not read what it is sent
        self._holds_back = False  # we do not read what it sends
        self._holds_place = False
        self._when_writable: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._heard_s = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self._layer.state is State.CLOSED

    @property
    def is_alone(self) -> bool:
        """Whether there is no other connection: nobody to wait for."""
        return len(self._entity.connections) == 1

    def context(self, context_id: int) -> AcceptedContext:
        """Return an accepted presentation context."""
        return self._layer.contexts[context_id]

    def respond(self, context_id: int, command: bytes) -> None:
        """Send a response without a data set, unless the association is over."""
        if not self.is_over:
            self._send(self._layer.command(context_id, command))

    def respond_with(self, context_id: int, command: bytes, data_sets: Iterable[bytes], last: bytes = b"") -> None:
        """Send equal responses, each with a data set of its own, and a last one without, at once; unless it is over."""
        if not self.is_over:
            pieces = [piece for data in data_sets for piece in self._layer.message(context_id, command, (data,))]
            if last:
                pieces.append(self._layer.command(context_id, last))
            self._send(b"".join(pieces))

    def occupy(self, message_id: int) -> None:
        """Let no other request be performed until `free`: this one takes its time."""
        self._busy = message_id

    def free(self) -> None:
        """Go on with what came in the meantime."""
        if self._busy is not None:
            self._cancelled -= {self._busy}
        self._busy = None
        self._proceed()

    def is_cancelled(self, message_id: int) -> bool:
        """Say whether a C-CANCEL came for a request."""
        return message_id in self._cancelled

    def when_writable(self, go_on: Callable[[], None]) -> None:
        """Call back once the peer has been listened to, and reads what it was sent; also when the association is over."""
        if self._blocked:
            self._when_writable = go_on
        else:
            self._entity.loop.call_soon(go_on)

    def abort(self, reason: str) -> None:
        """Answer what can be answered, then end the association with an A-ABORT."""
        _log(f"aborted the association of {self.peer[0]}: {reason}")
        self._entity.provider.flush()
        self._finish(self._layer.abort(AbortSource.SERVICE_PROVIDER))

    def close(self) -> None:
        """Close after what was sent has left."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the A-ASSOCIATE-RQ, for a while (PS3.8, AE-5)."""
        self._transport = cast(asyncio.Transport, transport)  # what a stream server gives
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._entity.connections.add(self)
        peer = transport.get_extra_info("peername")
        if peer is None:  # it was reset before it was accepted
            self._drop()
            return
        if not self.peer[0]:
            self.peer = peer[:2]
        self._timer = self._entity.loop.call_later(ACSE_TIMEOUT_S, self._drop)

    def get_buffer(self, _: int) -> memoryview:
        """Return where to read to."""
        return self._entity.buffer

    def buffer_updated(self, count: int) -> None:
        """Act upon what came."""
        layer = self._layer
        if layer.state is State.CLOSED:
            return  # PS3.8, AA-6: what comes behind the end is nobody's
        try:
            events = layer.receive(self._entity.buffer[:count])
        except ProtocolError as error:
            self.abort(str(error))
            return
        is_between_pdus = layer.is_between_pdus
        if not (is_between_pdus and self._low_water.bytes == 1) and self._transport is not None:
            self._low_water.set(self._transport, layer.fragment_left_bytes)
        if not is_between_pdus:
            self._expect_the_rest()
        if not events:
            return
        if self.is_over:  # the peer aborted
            self._give_place_back()
            self.close()
            return
        for event in events:
            if isinstance(event, Message) and event.command_set.command_field == _C_CANCEL_RQ:
                self._cancel(event.command_set.responded_to)
            else:
                self._events.append(event)
        self._proceed()

    def eof_received(self) -> bool:
        """Answer what was asked before the end, then close."""
        self._entity.provider.flush()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the connection."""
        self._transport = None
        self._low_water.close()
        self._events.clear()
        self._give_place_back()
        for timer in (self._timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._unread_timer = None
        self._entity.lost(self)
        self._go_on()

    def pause_writing(self) -> None:
        """Hold back: the peer does not read. Not for ever."""
        self._blocked = True
        self._unread_timer = self._entity.loop.call_later(STALLED_PDU_S, self._drop)

    def resume_writing(self) -> None:
        """Go on: the peer reads again."""
        self._blocked = False
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        self._go_on()
        self._proceed()

    def _go_on(self) -> None:
        go_on, self._when_writable = self._when_writable, None
        if go_on is not None:
            go_on()

    def _proceed(self) -> None:
        """Perform what waits, as far as that is possible; read on unless too much of it is left."""
        events = self._events
        try:
            while events and self._busy is None and not self._blocked and not self.is_over:
                self._act(events.pop(0))
        except ProtocolError as error:
            self.abort(str(error))
        if self._transport is not None and (len(events) > _EVENTS_AHEAD) is not self._holds_back:
            self._holds_back = not self._holds_back
            if self._holds_back:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
                if not self._layer.is_between_pdus:
                    self._expect_the_rest()  # nobody watched for it while reading was held back

    def _act(self, event: Event) -> None:
        if isinstance(event, Message):
            self._entity.handled += 1
            if self._layer.contexts[event.context_id].abstract_syntax == VERIFICATION:
                self._answer_echo(event)
            else:
                self._entity.provider.perform(self, event)
        elif isinstance(event, AssociateRequested):
            self._answer_request(event)
        else:  # ReleaseRequested: no other event comes to an acceptor
            self._entity.provider.flush()
            self._finish(self._layer.release_answer())

    def _answer_request(self, request: AssociateRequested) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entity = self._entity
        rejection = entity.rejection(request)
        if rejection is not None:
            self._finish(self._layer.reject(*rejection))
            return
        accepted = self._layer.accept(entity.chosen(request), entity.node)
        self.calling_ae = request.calling_ae
        self._holds_place = True
        entity.held += 1
        self._send(accepted)

    def _answer_echo(self, message: Message) -> None:
        command = message.command_set
        if command.command_field != CommandField.C_ECHO_RQ:
            raise ProtocolError(f"Verification: expected a C-ECHO-RQ, found command {command.command_field:04X}H")
        self._entity.provider.flush()
        self.respond(message.context_id, c_echo_rsp(command.message_id))

    def _cancel(self, message_id: int) -> None:
        """Remember a C-CANCEL of a request that is not answered yet; any other one is too late (PS3.7, 9.3.2.3)."""
        waiting = (event.command_set.message_id for event in self._events if isinstance(event, Message))
        if message_id == self._busy or message_id in waiting:
            self._cancelled |= {message_id}

    def _expect_the_rest(self) -> None:
        self._heard_s = self._entity.loop.time()
        if self._timer is None:
            self._timer = self._entity.loop.call_later(STALLED_PDU_S, self._check_the_rest)

    def _check_the_rest(self) -> None:
        """Close when nothing came of half a PDU for so long; look again later when something did."""
        self._timer = None
        if self._layer.is_between_pdus or self._holds_back:
            return
        left_s = self._heard_s + STALLED_PDU_S - self._entity.loop.time()
        if left_s <= 0 and self._low_water.bytes > 1 and self._transport is not None:
            self._low_water.set(self._transport, 0)  # something may have come that was too little to be told of
            left_s = _LOOK_AGAIN_S
        if left_s > 0:
            self._timer = self._entity.loop.call_later(left_s, self._check_the_rest)
        else:
            _log(f"closed the connection of {self.peer[0]}: half a PDU, and nothing for {STALLED_PDU_S:g} s")
            self._drop()

    def _send(self, content: bytes) -> None:
        if self._transport is not None:
            self._transport.write(content)

    def _finish(self, last_words: bytes) -> None:
        """Send the last PDU and wait, for a while, until the peer closes: a close of ours could overtake it as a reset."""
        self._send(last_words)
        self._events.clear()
        self._give_place_back()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._entity.loop.call_later(ACSE_TIMEOUT_S, self._drop)

    def _give_place_back(self) -> None:
        if self._holds_place:
            self._holds_place = False
            self._entity.held -= 1

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class LateAcceptor(Acceptor):
    """An association of a slow SCP: each response leaves later by the same time, so that they stay in order."""

    __slots__ = ()

    def respond(self, context_id: int, command: bytes) -> None:
        """Send a response when its time has come, unless the association is over by then."""
        self._entity.loop.call_later(LATE_BY_S, super().respond, context_id, command)

    def respond_with(self, context_id: int, command: bytes, data_sets: Iterable[bytes], last: bytes = b"") -> None:
        """Send responses when their time has come, unless the association is over by then."""
        self._entity.loop.call_later(LATE_BY_S, super().respond_with, context_id, command, tuple(data_sets), last)


def _log(line: str) -> None:
    with contextlib.suppress(OSError):  # where a disk is full, the log is too: that must keep no answer back
        print(line, file=sys.stderr, flush=True)  # noqa: T201  a service's log is its standard error
