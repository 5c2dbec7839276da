"""Worklist C-FIND on the wire engine: searched in a thread, answered in batches as fast as the peer reads them."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from ..service import ServiceSettings
from .acceptor import Acceptor
from .dimse import CommandField, c_find_rsp
from .errors import ProtocolError
from .find_handler import (
    BETWEEN_CANCELS,
    CANCELLED,
    SUCCESS,
    UNABLE_TO_PROCESS,
    WORKLIST_SYNTAXES,
    Asked,
    FindHandler,
    Found,
)
from .store_handler import Answer
from .upper_layer import Message
from .worklist_client import MODALITY_WORKLIST

_SEARCHES = 2  # at a time: more would only take turns


class WorklistProvider:
    """Performs Modality Worklist C-FIND. Made in the event loop of its associations.

    Parameters
    ----------
    settings : ServiceSettings
        Of a dmwl service.

    Raises
    ------
    RecordError, OSError
        When the journal cannot be opened.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.syntaxes = {MODALITY_WORKLIST: WORKLIST_SYNTAXES}
        self.new_sink = None
        self._handler = FindHandler(settings)
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(_SEARCHES, "search")

    def perform(self, association: Acceptor, message: Message) -> None:
        """Begin to search; the answers follow."""
        command = message.command_set
        if command.command_field != CommandField.C_FIND_RQ:
            raise ProtocolError(f"worklist: expected a C-FIND-RQ, found command {command.command_field:04X}H")
        syntax = association.context(message.context_id).transfer_syntax
        asked = Asked(bytes(message.data or b""), syntax, association.peer, association.calling_ae)
        association.occupy(command.message_id)
        searched = self._loop.run_in_executor(self._threads, self._handler.search, asked)
        searched.add_done_callback(functools.partial(self._searched, association, message))

    def flush(self) -> None:
        """Do nothing: answers are sent as soon as there are any."""

    def close(self) -> None:
        """End the threads, and close what they read from."""
        self._threads.shutdown(cancel_futures=True)
        self._handler.close()

    def _searched(self, association: Acceptor, message: Message, searched: asyncio.Future[Found | Answer]) -> None:
        if searched.cancelled():
            return  # the service ends
        error = searched.exception()
        if error is not None:
            association.abort(repr(error))
            return
        _Responses(association, message, searched.result(), heeds_cancel=self._handler.heeds_cancel).send()


class _Responses:
    """The responses to one query, sent batch after batch."""

    def __init__(self, association: Acceptor, message: Message, found: Found | Answer, *, heeds_cancel: bool) -> None:
        self._association = association
        self._context_id = message.context_id
        self._message_id = message.command_set.message_id
        self._syntax = UID(association.context(message.context_id).transfer_syntax)
        self._heeds_cancel = heeds_cancel
        self._final = Answer(SUCCESS) if isinstance(found, Found) else found
        self._matches = map(found.query.answer, found.orders) if isinstance(found, Found) else iter(())
        pending = found.pending if isinstance(found, Found) else SUCCESS
        self._pending = c_find_rsp(self._message_id, MODALITY_WORKLIST, pending, has_data_set=True)

    def send(self) -> None:
        """Send a batch, and go on when the peer has been listened to and reads."""
        association = self._association
        for _ in range(BETWEEN_CANCELS):
            if association.is_over:
                return
            if self._heeds_cancel and association.is_cancelled(self._message_id):
                self._end(Answer(CANCELLED))
                return
            match = next(self._matches, None)
            if match is None:
                self._end(self._final)
                return
            encoded = self._encoded(match)
            if encoded is None:
                self._end(Answer(UNABLE_TO_PROCESS, "an order cannot be encoded"))
                return
            association.respond(self._context_id, self._pending, encoded)
        association.when_writable(self.send)

    def _encoded(self, match: Dataset) -> bytes | None:
        return encode(match, self._syntax.is_implicit_VR, self._syntax.is_little_endian, self._syntax.is_deflated)

    def _end(self, answer: Answer) -> None:
        last = c_find_rsp(
            self._message_id, MODALITY_WORKLIST, answer.status, has_data_set=False, error_comment=answer.comment
        )
        self._association.respond(self._context_id, last)
        self._association.free()
