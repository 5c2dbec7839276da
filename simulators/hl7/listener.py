"""The MLLP listener of a node: `python -m simulators.hl7.listener SETTINGS.json`.

Every accepted message is applied to the node's store and receipted before its acknowledgement leaves. What one turn of the
event loop brought, over all connections, becomes one transaction and one write. A listener that is set to `digest` writes
receipts alone: it is what load is driven against.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sqlite3
import sys
import time
from typing import cast

import msgspec
import uvloop
import xxhash

from simulators.journal import Flag, Journal, pack_receipt
from simulators.misbehaviour import LATE_BY_S, Misbehaviour
from simulators.node_store import NodeStore, Patient, Row
from simulators.operations import Kind, RecordError, Service, packed_address, run_and_key_of_code
from simulators.service import ServiceSettings, settings_of_command_line

from .acknowledgement import Acknowledger
from .content import Content, content_of
from .known_headers import KnownHeaders, content_in, person_in
from .lies import Lies
from .message import Condition, Message, MessageError, wanted_acknowledgements
from .mllp import Decoder, FrameTooLarge, StrayBytes, frame
from .site_knowledge import SiteKnowledge

_MESSAGE, _HL7, _FOREIGN = int(Kind.MESSAGE), int(Service.HL7), int(Flag.FOREIGN)  # an enumeration's member is dear to name
_CLOSE_WITHIN_S = 5.0  # how long clients may take to read what they were sent, once the listener ends


class HeldBack(msgspec.Struct, frozen=True):
    """What a lying listener acknowledges and writes only later: the message, and how often it is written then."""

    message: Message
    content: Content
    copies: int


class Accepted(msgspec.Struct, frozen=True):
    """A message whose answer leaves as soon as its rows and its packed receipts are written."""

    session: Session
    payload: bytes
    receipts: bytes
    answer: bytes
    patient_id: str = ""  # known where a listener lies
    held: HeldBack | None = None


class Listener:
    """What the connections of one listener share: the store, the journal, and what waits to be written.

    Parameters
    ----------
    settings : ServiceSettings
        Of an hl7 service.

    Attributes
    ----------
    sessions : set of Session
        The connections that are open.
    empty : asyncio.Event
        Set while there is none.
    handled : int
        The messages that were acknowledged since the start.

    Raises
    ------
    RecordError, sqlite3.Error
        When the journal or the store cannot be opened.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.sessions: set[Session] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        self.handled = 0
        self._acknowledger = Acknowledger(settings.node)
        self._lies = Lies(settings.misbehaviour)
        self._is_honest = not settings.misbehaviour
        self._node = settings.node.encode("ascii")
        self._keeps = settings.storage == "keep"
        self._journal = Journal(settings.node_directory, settings.node, Service.HL7, shared=settings.processes > 1)
        self._store = NodeStore(settings.node_directory, "hl7")
        self._rows: list[Row] = []  # of the messages in `_waiting`; SiteKnowledge reads it too
        self._known = SiteKnowledge(settings.site_directories, self._rows)
        self._headers = KnownHeaders()
        self._waiting: list[Accepted] = []
        self._held: dict[str, Accepted] = {}  # by patient; a lying listener only
        self._updated_ns = 0
        self.loop = asyncio.get_running_loop()
        self._kind = LateSession if settings.has(Misbehaviour.SLOW_BY_20_MS) else Session

    def session(self) -> Session:
        """Return the protocol of a new connection."""
        return self._kind(self)

    def take(self, session: Session, payload: bytes) -> None:
        """Take one message: refuse it at once, or put it with those that are written at the end of this turn."""
        message: Message | None = None
        try:
            if self._is_honest and self._take_usual(session, payload):
                return
            message = Message(payload)
            content = content_of(message, self._known, self._next_ns())
        except MessageError as error:
            self._refuse(session, message, error)
            return
        except sqlite3.Error as error:
            self._refuse(session, message, _cannot_store(error))
            return
        if self._is_honest:
            self._headers.remember(message, self._acknowledger.form_of(message))
            receipt = self._receipt(session, payload, message.header.fields[10], message.header.fields[3][:16])
            answer = self._answer_to(message, b"A", message.header.fields[10])
            self._put(Accepted(session, payload, receipt, answer), content.rows)
        else:
            self._take_lying(session, message, content)

    def write(self) -> None:
        """Store and receipt what waits, then acknowledge it; refuse it all when it cannot be stored."""
        waiting = self._waiting
        if not waiting:
            return
        self._waiting = []
        try:
            self._store_all(waiting)
        except (RecordError, sqlite3.Error) as error:
            refusal = _cannot_store(error)
            for accepted in waiting:
                self._refuse(accepted.session, Message(accepted.payload), refusal)
            return
        self.handled += len(waiting)
        for accepted in waiting:
            accepted.session.send(accepted.answer)
        if self._lies.swaps_messages:
            self._release(waiting)

    def close(self) -> None:
        """Write what is still held back, and close the store and the journal."""
        self.write()
        self._write_late(list(self._held.values()))
        self._store.close()
        self._known.close()
        self._journal.close()

    def _take_usual(self, session: Session, payload: bytes) -> bool:
        """Take a message as a full reading would, where a glance shows that it would; False: it must be read in full."""
        found = self._headers.of(payload)
        if found is None:
            return False
        header, control_id = found
        rows: tuple[Row, ...] = ()
        if header.patient_alone:
            person = person_in(payload, header)
            if person is None:
                return False
            if self._keeps:
                rows = (Patient(*person, "", self._next_ns()),)
        else:
            content = content_in(payload, header, self._known, self._next_ns())
            if content is None:
                return False
            rows = content.rows
        receipt = self._receipt(session, payload, control_id, header.caller)
        self._put(Accepted(session, payload, receipt, self._acknowledger.acceptance(header.answer, control_id)), rows)
        return True

    def _take_lying(self, session: Session, message: Message, content: Content) -> None:
        control_id = message.header.fields[10]
        treatment = self._lies.treatment(control_id, content.patient_id)
        held = HeldBack(message, content, treatment.copies) if treatment.held else None
        copies = 0 if held else treatment.copies
        receipts = self._receipt(session, message.raw, control_id, message.header.fields[3][:16]) * copies
        answer = self._answer_to(message, b"A", treatment.answer_id)
        rows = content.rows if copies else ()
        self._put(Accepted(session, message.raw, receipts, answer, content.patient_id, held), rows)

    def _put(self, accepted: Accepted, rows: tuple[Row, ...]) -> None:
        if not self._waiting:
            self.loop.call_soon(self.write)
        self._waiting.append(accepted)
        if self._keeps:
            self._rows += rows

    def _store_all(self, waiting: list[Accepted]) -> None:
        try:
            if self._rows:
                self._store.put(*self._rows)
        finally:
            self._rows.clear()
        self._journal.append_packed([accepted.receipts for accepted in waiting])

    def _release(self, acknowledged: list[Accepted]) -> None:
        """Write what was held back of the patients whose next message is acknowledged now."""
        late = []
        for accepted in acknowledged:
            patient = accepted.patient_id
            if patient in self._held:
                late.append(self._held.pop(patient))
            if accepted.held:
                self._held[patient] = accepted
        self._write_late(late)

    def _write_late(self, late: list[Accepted]) -> None:
        receipts = list[bytes]()
        for accepted in late:
            if (held := accepted.held) is not None:
                if self._keeps:
                    self._store.put(*held.content.rows)
                # a receipt says when a message was taken for good: this one is taken only now
                fields = held.message.header.fields
                receipts += [self._receipt(accepted.session, accepted.payload, fields[10], fields[3][:16])] * held.copies
        self._journal.append_packed(receipts)

    def _refuse(self, session: Session, message: Message | None, error: MessageError) -> None:
        if self._waiting:
            self.write()  # answers leave in the order of their messages
        control_id = b"" if message is None else message.header.raw(10)
        if self._lies.accepts_bad_messages and error.condition is not Condition.INTERNAL:
            session.send(self._answer_to(message, b"A", control_id))
            return
        _log(f"refused a message of {session.peer[0]}: {error.condition.name}, {error.where}")
        letter = b"R" if message is None or error.condition.is_rejection else b"E"
        session.send(self._answer_to(message, letter, control_id, error))

    def _answer_to(
        self, message: Message | None, letter: bytes, control_id: bytes, error: MessageError | None = None,
    ) -> bytes:  # fmt: skip
        """Return the frames that answer a message: one, or in enhanced mode those that its sender wants."""
        build = self._acknowledger.build
        if message is None or not any(message.header.fields[15:17]):  # original mode
            return frame(build(message, b"A" + letter, control_id, error))
        wanted, answer = wanted_acknowledgements(message.header, accepted=error is None), b""
        if wanted.commit:
            answer += frame(build(message, b"C" + letter, control_id, error))
        if wanted.application and (error is None or not wanted.commit):
            answer += frame(build(message, b"A" + letter, control_id, error))
        return answer

    def _receipt(self, session: Session, payload: bytes, control_id: bytes, caller: bytes) -> bytes:
        """Make a receipt as `Journal.receipt` does, packed, with the address that the session has packed already."""
        run_and_key = run_and_key_of_code(control_id)
        if run_and_key is None:
            run, key, kind, flags = 0, xxhash.xxh3_64_intdigest(control_id.decode("latin-1").encode()), 0, _FOREIGN
        else:
            run, key = run_and_key
            kind, flags = _MESSAGE, 0
        return pack_receipt(
            run, key, kind, _HL7, flags, time.monotonic_ns(), time.time_ns(), len(payload), xxhash.xxh3_128_digest(payload),
            session.packed_peer, session.peer_port, caller, self._node,
        )  # fmt: skip

    def _next_ns(self) -> int:
        self._updated_ns = max(time.time_ns(), self._updated_ns + 1000)  # later is greater, whatever the clock does
        return self._updated_ns


class Session(asyncio.Protocol):
    """One connection: cuts frames, hands messages to the listener, ends at the first stray byte.

    Parameters
    ----------
    listener : Listener
        The listener that it belongs to.
    """

    peer: tuple[str, int]
    packed_peer: bytes
    peer_port: int

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who calls."""
        self._transport = cast(asyncio.Transport, transport)  # what a stream server gives
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = transport.get_extra_info("peername")[:2]
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
        _log(f"closed the connection of {self.peer[0]}: {reason}")
        self._listener.write()
        self.close()


class LateSession(Session):
    """A connection of a slow listener: each answer leaves later by the same time, so that they stay in order."""

    def send(self, data: bytes) -> None:
        """Send when the time has come, unless the peer has gone by then."""
        self._listener.loop.call_later(LATE_BY_S, super().send, data)


def _cannot_store(error: Exception) -> MessageError:
    _log(f"cannot store: {error}")
    return MessageError(Condition.INTERNAL, "MSH", "the message to be stored", "a node that cannot store")


def _log(line: str) -> None:
    with contextlib.suppress(OSError):  # where a disk is full, the log is too: that must keep no answer back
        print(line, file=sys.stderr, flush=True)  # noqa: T201  a service's log is its standard error


async def serve(settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is in hand, and end.

    Parameters
    ----------
    settings : ServiceSettings
        Of an hl7 service; `listen_fd` is the listening socket.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    listener = Listener(settings)
    server = await loop.create_server(listener.session, sock=socket.socket(fileno=settings.listen_fd))
    await ended.wait()
    server.close()
    listener.write()
    for session in tuple(listener.sessions):
        session.close()
    with contextlib.suppress(TimeoutError):  # a client that reads nothing is not waited for any longer
        await asyncio.wait_for(listener.empty.wait(), _CLOSE_WITHIN_S)
    listener.close()


def main() -> None:
    """Run the listener that the command line names."""
    uvloop.run(serve(settings_of_command_line(sys.argv)))


if __name__ == "__main__":
    main()
