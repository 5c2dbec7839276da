"""What the storage and the worklist SCP share: the inherited socket, associations and their limit, start and end.

Both stand on pynetdicom, the reference implementation. Five of its habits are put right here, each next to its reason:
it polls every idle association a thousand times a second, reads in pieces of 4 KB, copies all presentation contexts for
every association, lets a connection that says nothing hold an association's place, and stores the images of a C-MOVE with a
requestor that may miss their answers.
"""

from __future__ import annotations

import functools
import logging
import os
import select
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Container, Iterator
from typing import Any, NoReturn, cast

from pydicom.dataset import Dataset
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_MOVE
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import QueryRetrieveServiceClass
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from ..misbehaviour import LATE_BY_S, Misbehaviour
from ..operations import RecordError
from ..proxy_protocol import ProxyHeaderError, read_client
from ..service import ServiceSettings, SettingsError, listening_socket, settings_of_command_line
from .dimse import CANCELLED
from .move_handler import Moved

MAXIMUM_PDU_BYTES = 1 << 20  # told to the requestor; few large PDUs are what makes pynetdicom fast
ACSE_TIMEOUT_S = 5.0  # for the A-ASSOCIATE-RQ after the connection, and for the release
STALLED_PDU_S = 10.0  # how long the rest of a PDU may not come, or an answer not be read, before the connection is closed
_LARGEST_PDU_READ = 2 * MAXIMUM_PDU_BYTES
_IDLE_AFTER_NS = 250_000_000
_IDLE_WAIT_S = 0.05

REJECTED_TRANSIENT, BY_PRESENTATION, LOCAL_LIMIT_EXCEEDED = 0x02, 0x03, 0x02  # PS3.8, table 9-21

Handlers = list[EventHandlerType]
Service = Callable[[ServiceSettings], tuple["list[PresentationContext]", "Handlers"]]


def main(make_service: Service) -> NoReturn:
    """Run a service as the settings on the command line say, until SIGTERM.

    Parameters
    ----------
    make_service : callable
        Returns the presentation contexts and the event handlers of the service; may raise SettingsError, RecordError,
        OSError or sqlite3.Error.

    Notes
    -----
    Leaves with 0 at SIGTERM, at once: whatever was acknowledged is on disk by then. Leaves with 2, and the reason on
    standard error, when it cannot start.
    """
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    settings = settings_of_command_line(sys.argv)
    try:
        contexts, handlers = make_service(settings)
        server = make_server(settings, contexts, handlers)
    except (SettingsError, RecordError, OSError, sqlite3.Error) as error:
        print(f"{settings.node} {settings.service}: cannot start: {error}", file=sys.stderr)  # noqa: T201  the service's log
        sys.exit(2)
    server.serve_forever()
    os._exit(0)


def make_server(settings: ServiceSettings, contexts: list[PresentationContext], handlers: Handlers) -> InheritedServer:
    """Return the server on the inherited socket; it serves once `serve_forever` is called.

    Raises
    ------
    SettingsError
        When `listen_fd` is not a listening TCP socket, the AE title is none, or several processes are wanted.
    """
    if settings.processes != 1:
        raise SettingsError(
            f"processes: expected 1 for an engine of pynetdicom, found {settings.processes}; take the wire engine"
        )
    _config.LOG_HANDLER_LEVEL = "none"  # its own handlers format every message, for nobody
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False  # they would be patients
    try:
        entity = ApplicationEntity(settings.ae_title)
    except ValueError as error:
        raise SettingsError(f"ae_title: expected an AE title of 1 to 16 characters, found {settings.ae_title!r}") from error
    accepts_any = settings.accept_unknown_called_ae or settings.has(Misbehaviour.ACCEPTS_ANY_CALLED_AE)
    entity.require_called_aet = not accepts_any
    entity.implementation_version_name = settings.node  # this is how a node tells its name
    entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
    entity.acse_timeout = ACSE_TIMEOUT_S
    entity.network_timeout = None  # a modality may be silent for as long as the balancer lets it
    entity.maximum_associations = sys.maxsize  # AssociationLimit counts instead
    limit = AssociationLimit(settings.maximum_associations)
    if settings.has(Misbehaviour.SLOW_BY_20_MS):
        handlers = [_late(handler) for handler in handlers]
    ours: Handlers = [(evt.EVT_REQUESTED, limit.take), (evt.EVT_CONN_CLOSE, limit.give_back)]
    return InheritedServer(entity, listening_socket(settings.listen_fd), contexts, ours + handlers, settings.proxied_from)


def _late(handler: EventHandlerType) -> EventHandlerType:
    """Return a handler that answers later. Each association has a thread of its own, which alone waits."""
    event, answer, *rest = handler

    def answer_late(*arguments: Any) -> Any:  # noqa: ANN401  whatever pynetdicom passes and expects
        time.sleep(LATE_BY_S)
        return answer(*arguments)

    return (event, answer_late, *rest)  # type: ignore[return-value]


def peer_of(event: Event) -> tuple[str, int]:
    """Return the address and port of the peer as this node sees it."""
    requestor = event.assoc.requestor
    return requestor.address, requestor.port


def calling_ae_of(event: Event) -> str:
    """Return the calling AE title of the association."""
    return event.assoc.requestor.ae_title


def status_of(status: int, comment: str) -> int | Dataset:
    """Return the status of a response as pynetdicom takes it, with its Error Comment where there is one."""
    if not comment:
        return status
    response = Dataset()
    response.Status = status
    response.ErrorComment = comment
    return response


class AssociationLimit:
    """Counts associations from their request to the end of their connection, and rejects those above the limit.

    pynetdicom counts threads instead: that includes connections which have not asked for anything (a health check) and
    associations which have just ended.

    Parameters
    ----------
    maximum : int
        Associations at a time.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._lock = threading.Lock()
        self._held: set[Association] = set()

    def take(self, event: Event) -> None:
        """Take a place for an association that was asked for, or reject it (EVT_REQUESTED)."""
        association = event.assoc
        with self._lock:
            if len(self._held) >= self._maximum:
                self._held = {held for held in self._held if held.is_alive()}
            admitted = len(self._held) < self._maximum
            if admitted:
                self._held.add(association)
        if not admitted:
            association.acse.send_reject(REJECTED_TRANSIENT, BY_PRESENTATION, LOCAL_LIMIT_EXCEEDED)
            association.kill()

    def give_back(self, event: Event) -> None:
        """Give the place back (EVT_CONN_CLOSE), and end the wait for a request that cannot come any more."""
        association = event.assoc
        with self._lock:
            self._held.discard(association)
        if association.requestor.primitive is None:
            association.dul.to_user_queue.put(cast(Any, None))  # what its reactor takes for the end of its wait


class InheritedServer(ThreadedAssociationServer):
    """An association server on a socket that is bound and listening already.

    Parameters
    ----------
    entity : ApplicationEntity
        AE title, time-outs and what else all associations share.
    listening : socket.socket
        The socket to accept from.
    contexts : list of PresentationContext
        What is supported.
    handlers : list
        The event handlers.
    proxied_from : container of str
        The addresses whose connections begin with a header of the PROXY protocol.
    """

    daemon_threads = True

    def __init__(
        self, entity: ApplicationEntity, listening: socket.socket, contexts: list[PresentationContext], handlers: Handlers,
        proxied_from: Container[str] = (),
    ) -> None:  # fmt: skip
        self._listening = listening
        self.proxied_from = proxied_from
        super().__init__(
            entity,
            listening.getsockname(),
            entity.ae_title,
            _Unchanging(contexts),
            evt_handlers=handlers,
            request_handler=_Handler,
        )

    def server_bind(self) -> None:
        """Adopt the inherited socket in place of the one that the base class has just made."""
        cast(socket.socket, self.socket).close()
        self.socket = self._listening
        self.server_address = self._listening.getsockname()

    def server_activate(self) -> None:
        """Leave the socket as it is: it listens, with the backlog that its maker chose."""

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; it answers without Nagle's delay and never blocks a thread for ever."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(STALLED_PDU_S)
        return connection, address


class _Unchanging(list[PresentationContext]):
    """Contexts that associations may share: negotiation only reads them, and copying 200 of them takes 30 ms."""

    def __deepcopy__(self, _: dict[int, Any]) -> list[PresentationContext]:
        return list(self)


class _Handler(RequestHandler):
    """Gives every association the socket below and a reactor that rests with it."""

    def handle(self) -> None:
        """Find out who calls, where the balancer says so first; then serve the association."""
        server = cast(InheritedServer, self.server)
        connection = cast(socket.socket, self.request)
        if self.client_address[0] in server.proxied_from:
            try:
                self.client_address = read_client(connection) or self.client_address
            except ProxyHeaderError as error:
                print(f"closed a connection of {self.client_address[0]}: {error}", file=sys.stderr, flush=True)  # noqa: T201  the log
                connection.close()
                return
        super().handle()

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.event_queue.get_nowait()  # the connection's event of the socket that is replaced here
        connection = WaitingSocket(association, client_socket=cast(socket.socket, self.request))
        association.dul.socket = connection
        association._serve_request = functools.partial(_serve, association)  # type: ignore[method-assign]
        association._reactor_checkpoint = _Checkpoint(connection)
        association._reactor_checkpoint.set()
        return association


def _serve(association: Association, message: Any, context_id: int) -> None:  # noqa: ANN401  any message of DIMSE
    """Perform a request: a C-MOVE by its handler alone, which yields what is to be answered; all else as pynetdicom does."""
    if not isinstance(message, C_MOVE):
        Association._serve_request(association, message, context_id)
        return
    association.dimse.cancel_req = {}
    answer, arguments = cast(tuple[Callable[..., Iterator[Moved]], list[Any]], association.get_handlers(evt.EVT_C_MOVE))
    request = {
        "request": message, "context": association._accepted_cx[context_id].as_tuple,
        "_is_cancelled": QueryRetrieveServiceClass(association).is_cancelled,
    }  # fmt: skip
    for moved in answer(Event(association, evt.EVT_C_MOVE, request), *arguments):
        association.dimse.send_msg(_move_response(message, moved), context_id)


def _move_response(request: C_MOVE, moved: Moved) -> C_MOVE:
    response = C_MOVE()
    response.MessageIDBeingRespondedTo = request.MessageID
    response.AffectedSOPClassUID = request.AffectedSOPClassUID
    response.Status = moved.status
    response.ErrorComment = moved.comment or None  # type: ignore[assignment]
    if not moved.is_final or moved.status == CANCELLED:
        response.NumberOfRemainingSuboperations = moved.counts.remaining
    response.NumberOfCompletedSuboperations = moved.counts.completed
    response.NumberOfFailedSuboperations = moved.counts.failed
    response.NumberOfWarningSuboperations = moved.counts.warning
    return response


class WaitingSocket(AssociationSocket):
    """A socket that waits for data while its association is idle, where pynetdicom asks a thousand times a second.

    It also reads a PDU into one buffer, and refuses PDUs far beyond the maximum length that was negotiated.
    """

    def __init__(self, association: Association, client_socket: socket.socket) -> None:
        super().__init__(association, client_socket=client_socket)
        self.awake = threading.Event()
        self._last_ns = time.monotonic_ns()
        self._polls = 0
        self._polled = threading.Condition()

    @property
    def is_idle(self) -> bool:
        """Whether nothing has come or gone for a quarter of a second."""
        return time.monotonic_ns() - self._last_ns > _IDLE_AFTER_NS

    @property
    def ready(self) -> bool:
        """Whether there is something to read, the end of the connection included."""
        if self.socket is None or not self._is_connected or not self.event_queue.empty():
            return False  # what was read before is acted upon first: rubbish is answered before more of it is waited for
        try:
            found = bool(select.select([self.socket], [], [], _IDLE_WAIT_S if self.is_idle else 0)[0])
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed
            return False
        if found:
            self._stir()
        with self._polled:
            self._polls += 1
            self._polled.notify_all()
        return found

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly `nr_bytes`, or fewer when the connection ends before.

        Raises
        ------
        OSError
            When the length is beyond reason, or nothing comes for STALLED_PDU_S.
        """
        if nr_bytes > _LARGEST_PDU_READ:
            raise OSError(f"PDU length: expected at most {MAXIMUM_PDU_BYTES} bytes as negotiated, found {nr_bytes}")
        content = bytearray(nr_bytes)
        view, have = memoryview(content), 0
        while have < nr_bytes:
            try:
                count = cast(socket.socket, self.socket).recv_into(view[have:])
            except ConnectionResetError:
                count = 0  # how a balancer's health check ends: no news for the log
            if not count:
                return content[:have]
            have += count
        return content

    def send(self, bytestream: bytes) -> None:
        """Send all of it."""
        self._stir()
        super().send(bytestream)

    def wait_until_heard(self) -> None:
        """Wait until what is queued has been sent and the peer has been listened to since.

        pynetdicom reads nothing while it has something to send; a C-CANCEL is only seen in between.
        """
        with self._polled:
            heard = self._polls + 2  # the second poll begins after the first one's PDU was acted upon
            while self._polls < heard and self.assoc.is_established:
                self._polled.wait(STALLED_PDU_S)

    def _stir(self) -> None:
        self._last_ns = time.monotonic_ns()
        self.awake.set()


class _Checkpoint(threading.Event):
    """Where an association's reactor pauses in each round: here it rests while the association is idle."""

    def __init__(self, connection: WaitingSocket) -> None:
        super().__init__()
        self._connection = connection

    def wait(self, timeout: float | None = None) -> bool:
        if self._connection.is_idle:
            self._connection.awake.clear()
            if self._connection.is_idle:  # still: what came in between must not be slept over
                self._connection.awake.wait(_IDLE_WAIT_S)
        return super().wait(timeout)
