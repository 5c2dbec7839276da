"""Worklist C-FIND on the wire engine: searched in a thread unless the answer is known, sent as fast as the peer reads it."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..service import ServiceSettings
from .acceptor import Acceptor
from .dimse import CommandField, c_find_rsp
from .errors import ProtocolError
from .find_handler import CANCELLED, SUCCESS, WORKLIST_SYNTAXES, Asked, FindHandler, Found
from .store_handler import Answer
from .upper_layer import Message
from .worklist_client import MODALITY_WORKLIST

_SEARCHES = 2  # at a time: more would only take turns
_AT_ONCE = 32  # responses sent with one write, before the peer is listened to again


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
        known = self._handler.known(asked)
        if known is not None:
            _Responses(association, message, known, self._handler).send()
            return
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
        _Responses(association, message, searched.result(), self._handler).send()


class _Responses:
    """The responses to one query, sent batch after batch."""

    def __init__(self, association: Acceptor, message: Message, found: Found | Answer, handler: FindHandler) -> None:
        self._association = association
        self._context_id = message.context_id
        self._message_id = message.command_set.message_id
        self._handler = handler
        self._final = Answer(SUCCESS) if isinstance(found, Found) else found
        self._matches = map(functools.partial(handler.encoded, found), found.orders) if isinstance(found, Found) else iter(())
        pending = found.pending if isinstance(found, Found) else SUCCESS
        self._pending = c_find_rsp(self._message_id, MODALITY_WORKLIST, pending, has_data_set=True)

    def send(self) -> None:
        """Send a batch, and go on when the peer has been listened to and reads."""
        association = self._association
        if association.is_over:
            return
        if self._handler.heeds_cancel and association.is_cancelled(self._message_id):
            self._end((), Answer(CANCELLED))
            return
        matches = list(itertools.islice(self._matches, _AT_ONCE))
        if len(matches) < _AT_ONCE:
            self._end(matches, self._final)
            return
        association.respond_with(self._context_id, self._pending, matches)
        association.when_writable(self.send)

    def _end(self, matches: Sequence[bytes], answer: Answer) -> None:
        last = c_find_rsp(
            self._message_id, MODALITY_WORKLIST, answer.status, has_data_set=False, error_comment=answer.comment
        )
        self._association.respond_with(self._context_id, self._pending, matches, last)
        self._association.free()
