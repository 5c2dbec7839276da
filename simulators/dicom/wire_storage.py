"""C-STORE on the wire engine: what one turn of the event loop brought, over all associations, is recorded with one write.

C-MOVE is performed by threads: its sub-operations wait for another SCP. So are the reports of storage commitment.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ..service import ServiceSettings
from .acceptor import Acceptor
from .arrival import Arrival, Digested
from .commitment import STORAGE_COMMITMENT
from .commitment_handler import CommitmentAsked, CommitmentHandler
from .dimse import CommandField, c_move_rsp, c_store_rsp, n_action_rsp
from .errors import ProtocolError
from .image_archive import Taken
from .instances import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from .move_handler import STUDY_ROOT_MOVE, MoveAsked, Moved, MoveHandler
from .storage_classes import storage_sop_classes, storage_syntaxes
from .store_handler import NO_DATA_SET, Answer, StoreHandler
from .upper_layer import DataSink, Message

_MOVES = 4  # at a time
_LARGE_BYTES = 1 << 20  # from here on a thread keeps the image: writing it takes longer than handing it over


class _Request(NamedTuple):
    """What an answer needs to know of its request."""

    association: Acceptor
    context_id: int
    message_id: int
    sop_class: str
    sop_instance: str


class StorageProvider:
    """Performs C-STORE, and C-MOVE and storage commitment where images are kept. Made in the event loop of its associations.

    Parameters
    ----------
    settings : ServiceSettings
        Of a dicom service.

    Raises
    ------
    RecordError, OSError, sqlite3.Error
        When journal, images or index cannot be opened.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.syntaxes: dict[str, Container[str]] = dict.fromkeys(storage_sop_classes(), frozenset(storage_syntaxes()))
        self._handler = StoreHandler(settings)
        self._mover = MoveHandler(settings)
        self._commitment = CommitmentHandler(settings)
        self._threads = ThreadPoolExecutor(_MOVES, "move")
        if self._handler.keeps:
            for other in (STUDY_ROOT_MOVE, STORAGE_COMMITMENT):
                self.syntaxes[other] = frozenset((IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN))
        self.new_sink: Callable[[], DataSink] | None = None if self._handler.keeps else Digested
        self._others: dict[str, tuple[CommandField, Callable[[Acceptor, Message], None]]] = {
            STUDY_ROOT_MOVE: (CommandField.C_MOVE_RQ, self._begin_move),
            STORAGE_COMMITMENT: (CommandField.N_ACTION_RQ, self._agree),
        }
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[_Request, Taken]] = []  # to be recorded at the end of this turn, then answered

    def perform(self, association: Acceptor, message: Message) -> None:
        """Take one image, begin to move some, or agree to report on some."""
        command = message.command_set
        other = self._others.get(association.context(message.context_id).abstract_syntax)
        expected = CommandField.C_STORE_RQ if other is None else other[0]
        if command.command_field != expected:
            raise ProtocolError(f"storage: expected a {expected.name}, found command {command.command_field:04X}H")
        if other is not None:
            other[1](association, message)
            return
        request = _Request(association, message.context_id, command.message_id, command.sop_class, command.sop_instance)
        data_set = message.sink if isinstance(message.sink, Digested) else message.data
        if data_set is None:
            self._taken(request, NO_DATA_SET)
            return
        arrival = Arrival(
            command.sop_class, command.sop_instance, association.context(message.context_id).transfer_syntax, data_set,
            association.peer, association.calling_ae,
        )  # fmt: skip
        if len(data_set) < _LARGE_BYTES or not self._handler.keeps:
            self._taken(request, self._handler.take(arrival))
            return
        association.occupy(command.message_id)
        kept = self._loop.run_in_executor(None, self._handler.take, arrival)
        kept.add_done_callback(functools.partial(self._kept, request))

    def flush(self) -> None:
        """Record what waits, then answer it."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            answer = self._handler.record([taken for _, taken in waiting])
            for request, _ in waiting:
                _respond(request, answer)

    def close(self) -> None:
        """Record what waits, and close the archive."""
        self.flush()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._commitment.close()
        self._handler.close()

    def _begin_move(self, association: Acceptor, message: Message) -> None:
        command = message.command_set
        asked = MoveAsked(
            bytes(message.data or b""), association.context(message.context_id).transfer_syntax, str(command.own or ""),
            command.message_id, association.calling_ae,
        )  # fmt: skip
        association.occupy(command.message_id)

        def is_over() -> bool:
            return association.is_over or association.is_cancelled(command.message_id)

        def perform() -> None:
            for moved in self._mover.perform(asked, is_over):
                self._loop.call_soon_threadsafe(_respond_move, association, message, moved)

        performed = self._loop.run_in_executor(self._threads, perform)
        performed.add_done_callback(functools.partial(_moved, association))

    def _agree(self, association: Acceptor, message: Message) -> None:
        command = message.command_set
        action_type = command.own if isinstance(command.own, int) else 0
        self.flush()  # images that it may be about
        syntax = association.context(message.context_id).transfer_syntax
        information = bytes(message.data or b"")
        asked = CommitmentAsked(information, syntax, command.sop_instance, action_type, association.calling_ae)
        answer = self._commitment.answer(asked)
        response = n_action_rsp(command.message_id, STORAGE_COMMITMENT, command.sop_instance, action_type, *answer)
        association.respond(message.context_id, response)

    def _kept(self, request: _Request, kept: asyncio.Future[Taken | Answer]) -> None:
        error = kept.exception()
        if error is not None:
            request.association.abort(repr(error))
            return
        self._taken(request, kept.result())
        request.association.free()

    def _taken(self, request: _Request, taken: Taken | Answer) -> None:
        if isinstance(taken, Answer):
            self.flush()  # answers leave in the order of their requests
            _respond(request, taken)
            return
        self._waiting.append((request, taken))
        if request.association.is_alone:  # nobody else to write together with
            self.flush()
        elif len(self._waiting) == 1:
            self._loop.call_soon(self.flush)


def _respond(request: _Request, answer: Answer) -> None:
    association, context_id, message_id, sop_class, sop_instance = request
    association.respond(context_id, c_store_rsp(message_id, sop_class, sop_instance, answer.status, answer.comment))


def _respond_move(association: Acceptor, message: Message, moved: Moved) -> None:
    response = c_move_rsp(
        message.command_set.message_id, STUDY_ROOT_MOVE, moved.status, moved.counts, is_final=moved.is_final,
        error_comment=moved.comment,
    )  # fmt: skip
    association.respond(message.context_id, response)


def _moved(association: Acceptor, performed: asyncio.Future[None]) -> None:
    """Go on with the association; what its thread has said stands in the loop before this."""
    if performed.cancelled():
        return  # the service ends
    error = performed.exception()
    if error is not None:
        association.abort(repr(error))
        return
    association.free()
