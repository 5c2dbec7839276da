"""The worklist client: a Modality Worklist SCU (PS3.4, annex K) that writes down what became of every query."""

from __future__ import annotations

from typing import NamedTuple

import xxhash

from ..client import Attempt, Begun, Failed
from ..operations import Operation, Outcome, Phase
from .association import Association
from .dimse import CANCELLED, SUCCESS, CommandField, CommandSet, c_cancel_rq, c_find_rq
from .errors import ProtocolError
from .instances import IMPLICIT_LITTLE_ENDIAN
from .negotiation import ProposedContext
from .requestor import Requestor, check_answer
from .worklist_item import WorklistItem, WorklistQuery, decode_item

__all__ = ["FindAnswer", "WorklistClient", "WorklistItem", "WorklistQuery"]

MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
_PENDING = frozenset((0xFF00, 0xFF01))  # the second: some optional keys were not supported (PS3.4, table C.4-1)


class FindAnswer(NamedTuple):
    """What a query was answered: the items, the status that ended it (-1: none came), the number of pending responses."""

    items: tuple[WorklistItem, ...]
    final_status: int
    pending: int


class WorklistClient(Requestor):
    """One modality that asks for its worklist.

    Parameters
    ----------
    target : Target
        Whom it asks.
    source : str
        The source address to bind.
    calling_ae, called_ae : str
        AE titles, 1 to 16 characters.
    timeouts : Timeouts
        The limit of each phase, in seconds; `response_s` bounds the wait for each single response of a query.
    """

    proposes = (ProposedContext(MODALITY_WORKLIST, (IMPLICIT_LITTLE_ENDIAN,)),)

    def find(
        self, query: WorklistQuery, attempt: Attempt, *, cancel_after: int | None = None
    ) -> tuple[Operation, FindAnswer]:
        """Send a C-FIND, on a new association when none is open, and gather its answer.

        Parameters
        ----------
        query : WorklistQuery
            What is asked.
        attempt : Attempt
            Whose attempt this is.
        cancel_after : int or None
            Send a C-CANCEL once that many items have come (0: at once); None: never.

        Returns
        -------
        Operation
            ACKNOWLEDGED when the final status is 0000 or FE00, REFUSED at any other; size and digest are of the identifier.
        FindAnswer
            What came, up to the failure if there was one.
        """
        begun = Begun(attempt, self.target, self.source)
        identifier = query.encode()
        size_bytes, digest = len(identifier), xxhash.xxh3_128_digest(identifier)
        items: list[WorklistItem] = []
        try:
            association = self._ready()
            final = self._asked(association, identifier, items, cancel_after)
        except Failed as failed:
            return self._failed(begun, failed, size_bytes, digest), FindAnswer(tuple(items), -1, len(items))
        operation = self._judged(begun, final, (SUCCESS, CANCELLED), size_bytes, digest)
        return operation, FindAnswer(tuple(items), final.status, len(items))

    def _asked(
        self, association: Association, identifier: bytes, items: list[WorklistItem], cancel_after: int | None
    ) -> CommandSet:
        """Send the query, append the items as they come, and return the final response."""
        context_id = self._context_of(association, MODALITY_WORKLIST)
        message_id = self._next_message_id()
        association.send(context_id, c_find_rq(message_id, MODALITY_WORKLIST), (identifier,))
        while True:
            if len(items) == cancel_after:
                self._cancel(association, context_id, message_id)
                cancel_after = None
            response, content = association.receive()
            check_answer(response, CommandField.C_FIND_RSP, message_id)
            if response.status not in _PENDING:
                return response
            try:
                items.append(decode_item(content or b""))
            except ProtocolError as error:
                raise Failed(Outcome.INDETERMINATE, Phase.RESPONSE, str(error)) from error

    def _cancel(self, association: Association, context_id: int, message_id: int) -> None:
        try:
            association.send(context_id, c_cancel_rq(message_id))
        except Failed as failed:  # whatever became of the C-CANCEL: the query itself has left
            raise Failed(Outcome.INDETERMINATE, Phase.RESPONSE, failed.reason) from failed
