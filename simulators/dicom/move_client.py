"""The retrieving client: a Study Root C-MOVE SCU (PS3.4, C.4.2) that has a node send images to some AE title."""

from __future__ import annotations

from ..client import Attempt, Begun, Failed
from ..operations import Operation
from .dimse import SUCCESS, CommandField, CommandSet, SubOperations, c_move_rq
from .instances import IMPLICIT_LITTLE_ENDIAN
from .move_handler import PENDING, STUDY_ROOT_MOVE
from .negotiation import ProposedContext
from .requestor import Requestor, check_answer

_LEVEL, _STUDY = 0x00080052, 0x0020000D


class MoveClient(Requestor):
    """One client that asks for moves.

    Parameters
    ----------
    target : Target
        Whom it asks.
    source : str
        The source address to bind.
    calling_ae, called_ae : str
        AE titles, 1 to 16 characters.
    timeouts : Timeouts
        The limit of each phase, in seconds; `response_s` bounds the wait for each single response.
    """

    proposes = (ProposedContext(STUDY_ROOT_MOVE, (IMPLICIT_LITTLE_ENDIAN,)),)

    def move(self, study_uid: str, destination: str, attempt: Attempt) -> tuple[Operation, SubOperations]:
        """Ask for a whole study to be sent to an AE title, and wait for the last response.

        Returns
        -------
        Operation
            ACKNOWLEDGED when the final status is 0000, REFUSED at any other.
        SubOperations
            What the last response that came has counted.
        """
        begun = Begun(attempt, self.target, self.source)
        counts = SubOperations()
        try:
            association = self._ready()
            context_id = self._context_of(association, STUDY_ROOT_MOVE)
            message_id = self._next_message_id()
            association.send(context_id, c_move_rq(message_id, STUDY_ROOT_MOVE, destination), (_identifier(study_uid),))
            while True:
                response, _ = association.receive()
                check_answer(response, CommandField.C_MOVE_RSP, message_id)
                counts = _counts_of(response)
                if response.status != PENDING:
                    break
        except Failed as failed:
            return self._failed(begun, failed), counts
        return self._judged(begun, response, {SUCCESS}), counts


def _counts_of(response: CommandSet) -> SubOperations:
    return response.own if isinstance(response.own, SubOperations) else SubOperations()


def _identifier(study_uid: str) -> bytes:
    """Encode the identifier, Implicit VR Little Endian: the level, and the study."""
    return _element(_LEVEL, b"STUDY ") + _element(_STUDY, study_uid.encode("ascii"))


def _element(tag: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + len(value).to_bytes(4, "little") + value
