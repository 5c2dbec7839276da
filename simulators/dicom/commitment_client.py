"""The client of storage commitment (PS3.4, annex J): it asks; the report comes to whoever has its AE title."""

from __future__ import annotations

from collections.abc import Sequence

from ..client import Attempt, Begun, Failed
from ..operations import Operation
from .commitment import REQUEST_COMMITMENT, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, Reference, encode_request
from .dimse import SUCCESS, CommandField, n_action_rq
from .instances import IMPLICIT_LITTLE_ENDIAN
from .negotiation import ProposedContext
from .requestor import Requestor, check_answer


class CommitmentClient(Requestor):
    """One client that asks for commitments.

    Parameters
    ----------
    target : Target
        Whom it asks.
    source : str
        The source address to bind.
    calling_ae, called_ae : str
        AE titles, 1 to 16 characters; reports go to `calling_ae`, wherever the peer believes that to be.
    timeouts : Timeouts
        The limit of each phase, in seconds.
    """

    proposes = (ProposedContext(STORAGE_COMMITMENT, (IMPLICIT_LITTLE_ENDIAN,)),)

    def ask(self, transaction_uid: str, images: Sequence[Reference], attempt: Attempt) -> Operation:
        """Ask for the commitment of some images.

        Returns
        -------
        Operation
            ACKNOWLEDGED when the request was taken, which is not yet the commitment; REFUSED at any other status than 0000.
        """
        begun = Begun(attempt, self.target, self.source)
        try:
            association = self._ready()
            context_id = self._context_of(association, STORAGE_COMMITMENT)
            message_id = self._next_message_id()
            command = n_action_rq(message_id, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, REQUEST_COMMITMENT)
            information = encode_request(transaction_uid, images, IMPLICIT_LITTLE_ENDIAN)
            response, _ = association.request(context_id, command, (information,))
            check_answer(response, CommandField.N_ACTION_RSP, message_id)
        except Failed as failed:
            return self._failed(begun, failed)
        return self._judged(begun, response, {SUCCESS})
