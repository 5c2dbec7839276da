"""The MLLP listener of a node: `python -m simulators.hl7.listener SETTINGS.json`.

Every accepted message is applied to the node's store and receipted before its acknowledgement leaves. What one turn of the
event loop brought, over all connections, becomes one transaction and one write. After a standstill it applies nothing whose
sender has gone: that one will send it again, or has done so, and another node may have taken later messages since. A
listener that is set to `digest` writes receipts alone: it is what load is driven against. `processes` of them share one
listening socket, store and journal; each writes its pulse. Results that name the receiver in OBR-28 are passed on to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
import time

import msgspec
import uvloop
import xxhash

from simulators.journal import Flag, Journal, pack_receipt
from simulators.misbehaviour import Misbehaviour
from simulators.node_store import NodeStore, Patient, Row
from simulators.operations import Kind, RecordError, Service, run_and_key_of_code
from simulators.prefork import serve_in_processes
from simulators.proxy_protocol import Peer, accept_connections
from simulators.pulse import keep_pulse, pulse_path
from simulators.service import (
    ServiceSettings,
    SettingsError,
    listening_socket,
    settings_of_command_line,
)
from simulators.standstill import Standstill

from .acknowledgement import Acknowledger
from .content import Content, content_of
from .forwarding import Forwarder
from .known_headers import KnownHeaders, content_in, person_in
from .lies import Lies
from .message import Condition, Message, MessageError, wanted_acknowledgements
from .mllp import frame
from .session import LateSession, Session, log
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
        self._forwarder = Forwarder(settings.outbound, settings.node) if settings.outbound else None
        self._waiting: list[Accepted] = []
        self._held: dict[str, Accepted] = {}  # by patient; a lying listener only
        self._updated_ns = 0
        self.loop = asyncio.get_running_loop()
        self._standstill = Standstill(self.loop)
        self._kind = LateSession if settings.has(Misbehaviour.SLOW_BY_20_MS) else Session

    def session(self, client: Peer | None = None) -> Session:
        """Return the protocol of a new connection, of the client that the balancer named."""
        return self._kind(self, client)

    def take(self, session: Session, payload: bytes) -> None:
        """Take one message: refuse it at once, or put it with those that are written at the end of this turn."""
        if self._standstill.is_recent() and session.is_abandoned():
            log(f"left out a message of {session.peer[0]}: it waited while this process stood still, and its sender has gone")
            return
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
            if self._forwarder is not None:
                self._forwarder.offer(accepted.payload)
        if self._lies.swaps_messages:
            self._release(waiting)

    def close(self) -> None:
        """Write what is still held back, and close the store and the journal."""
        self._standstill.close()
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
        log(f"refused a message of {session.peer[0]}: {error.condition.name}, {error.where}")
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


def _cannot_store(error: Exception) -> MessageError:
    log(f"cannot store: {error}")
    return MessageError(Condition.INTERNAL, "MSH", "the message to be stored", "a node that cannot store")


async def serve(settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is in hand, and end.

    Parameters
    ----------
    settings : ServiceSettings
        Of an hl7 service; `listen_fd` is the listening socket.

    Raises
    ------
    SettingsError
        When `listen_fd` is not a listening socket.
    RecordError, OSError, sqlite3.Error
        When the journal, the pulse or the store cannot be opened.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    listening = listening_socket(settings.listen_fd)
    listener = Listener(settings)
    path = pulse_path(settings.node_directory, settings.service)
    pulse = asyncio.create_task(keep_pulse(path, lambda: len(listener.sessions), lambda: listener.handled))
    server = await accept_connections(listening, listener.session, settings.proxied_from)
    await ended.wait()
    server.close()
    listener.write()
    for session in tuple(listener.sessions):
        session.close()
    with contextlib.suppress(TimeoutError):  # a client that reads nothing is not waited for any longer
        await asyncio.wait_for(listener.empty.wait(), _CLOSE_WITHIN_S)
    listener.close()
    pulse.cancel()
    await asyncio.wait((pulse,))


def main() -> None:
    """Run the listener that the command line names; leave with 2, and the reason, when it cannot start."""
    settings = settings_of_command_line(sys.argv)
    try:
        if settings.processes > 1:
            _prepare_for_several(settings)
    except (SettingsError, OSError, sqlite3.Error) as error:
        sys.exit(_cannot_start(settings, error))
    sys.exit(serve_in_processes(settings.processes, lambda _: _served(settings)))


def _prepare_for_several(settings: ServiceSettings) -> None:
    """Make sure that several processes can do the work of one, before there are any.

    They write one store: SQLite lets one in at a time, and a transaction of one turn is short; each reads what the others
    have acknowledged. They write one journal: see RecordFile. A connection, and so its order, belongs to one of them.
    """
    if settings.has(Misbehaviour.SWAPS_MESSAGES):
        found = f"{settings.processes}: a message that is held back waits for the next one of its patient in one process"
        raise SettingsError(f"processes: expected 1 for a listener that swaps messages, found {found}")
    NodeStore(settings.node_directory, "hl7").close()  # two at once could not make it one that both may write
    os.environ["UV_TCP_SINGLE_ACCEPT"] = "1"  # else whoever wakes first takes all the connections of a burst


def _served(settings: ServiceSettings) -> int:
    try:
        uvloop.run(serve(settings))
    except (SettingsError, RecordError, OSError, sqlite3.Error) as error:
        return _cannot_start(settings, error)
    return 0


def _cannot_start(settings: ServiceSettings, error: Exception) -> int:
    log(f"{settings.node} {settings.service}: cannot start: {error}")
    return 2


if __name__ == "__main__":
    main()
