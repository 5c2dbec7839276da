"""What becomes of a request for storage commitment (PS3.4, annex J), whichever engine it came through.

The request is answered at once; the report on it follows on an association that this node opens itself, from its own address:
no balancer is on that way.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..client import Failed
from ..misbehaviour import Misbehaviour
from ..node_store import SiteReader
from ..operations import Outcome, Phase
from ..outbound import TIMEOUTS, Outbound
from ..service import ServiceSettings
from .arrival import UNREADABLE_DATA_SET
from .commitment import (
    ALL_COMMITTED,
    REQUEST_COMMITMENT,
    SOME_NOT,
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    Reference,
    decode_request,
    encode_report,
)
from .dimse import SUCCESS, CommandField, n_event_report_rq
from .errors import ProtocolError
from .instances import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from .negotiation import ProposedContext
from .requestor import Requestor, check_answer
from .store_handler import COMMENT_LETTERS, Answer

# PS3.7, annex C
PROCESSING_FAILURE, NO_SUCH_INSTANCE, INVALID_ARGUMENT, NO_SUCH_ACTION = 0x0110, 0x0112, 0x0115, 0x0123
_MOST_IN_A_QUERY = 500


class CommitmentAsked(NamedTuple):
    """One request as it came: its encoded action information with its transfer syntax, whom it is about, what, who asks."""

    information: bytes
    transfer_syntax: str
    sop_instance: str
    action_type: int
    caller: str


class CommitmentHandler:
    """Takes requests for storage commitment, of all associations and in any thread, and reports on them one after the other.

    Parameters
    ----------
    settings : ServiceSettings
        Where the images of the site are, and whom this node may report to: one AE title, which then is who has to ask.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._directories = tuple(map(Path, settings.site_directories))
        self._ae_title = settings.ae_title
        self._outbound = settings.outbound
        self._is_silent = settings.has(Misbehaviour.NEVER_COMMITS)
        self._reports = ThreadPoolExecutor(1, "commitment")

    def answer(self, asked: CommitmentAsked) -> Answer:
        """Return the answer to a request; when it is a success, the report has been put into the queue."""
        outbound = self._outbound
        if asked.sop_instance != WELL_KNOWN_INSTANCE:
            return Answer(NO_SUCH_INSTANCE, f"expected {WELL_KNOWN_INSTANCE}")
        if asked.action_type != REQUEST_COMMITMENT:
            return Answer(NO_SUCH_ACTION, f"expected Action Type {REQUEST_COMMITMENT}")
        if outbound is None or asked.caller != outbound.ae_title:
            expected = outbound.ae_title if outbound else "nobody at all"
            return Answer(PROCESSING_FAILURE, f"reports go to {expected}"[:COMMENT_LETTERS])
        try:
            transaction, images = decode_request(asked.information, asked.transfer_syntax)
        except ValueError as error:
            return Answer(INVALID_ARGUMENT, str(error)[:COMMENT_LETTERS])
        except UNREADABLE_DATA_SET:
            return Answer(INVALID_ARGUMENT, "the action information cannot be read")
        if not self._is_silent:
            self._reports.submit(self._report, outbound, transaction, images)
        return Answer(SUCCESS)

    def close(self) -> None:
        """Give up the reports that have not begun."""
        self._reports.shutdown(wait=False, cancel_futures=True)

    def _report(self, outbound: Outbound, transaction: str, images: Sequence[Reference]) -> None:
        try:
            known = self._known([image.sop_instance for image in images])
            missing = [image for image in images if image not in known]
            committed = [image for image in images if image in known]
            with _Reporter(outbound, self._ae_title) as reporter:
                reporter.report(transaction, committed, missing)
        except (Failed, ProtocolError, OSError, sqlite3.Error, ValueError) as error:
            print(f"the report on transaction {transaction} was not delivered: {error}", file=sys.stderr, flush=True)  # noqa: T201  the log

    def _known(self, uids: Sequence[str]) -> set[Reference]:
        """Return those of these images that some node of the site has."""
        reader = SiteReader(self._directories)
        try:
            found: set[Reference] = set()
            for begin in range(0, len(uids), _MOST_IN_A_QUERY):
                some = tuple(uids[begin : begin + _MOST_IN_A_QUERY])
                rows = reader.instances(f"sop_uid IN ({','.join('?' * len(some))})", some)
                found.update(Reference(row.sop_class, row.sop_uid) for row in rows)
            return found
        finally:
            reader.close()


class _Reporter(Requestor):
    """Reports on commitments: the SCP of that service, although it opens the association (PS3.7, D.3.3.4)."""

    def __init__(self, outbound: Outbound, calling_ae: str) -> None:
        syntaxes = (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN)
        super().__init__(
            outbound.dicom, outbound.source, calling_ae=calling_ae, called_ae=outbound.ae_title,
            contexts=[ProposedContext(STORAGE_COMMITMENT, syntaxes, as_scp=True)], timeouts=TIMEOUTS,
        )  # fmt: skip

    def report(self, transaction: str, committed: Sequence[Reference], missing: Sequence[Reference]) -> None:
        """Report on one transaction. Raises Failed when the report was not taken."""
        association = self._ready()
        context = association.transfer_syntax_for(STORAGE_COMMITMENT)
        if context is None:
            found = "expected storage commitment to be accepted with its SCP calling, found it refused"
            raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, found)
        context_id, syntax = context
        message_id = self._next_message_id()
        event_type = SOME_NOT if missing else ALL_COMMITTED
        command = n_event_report_rq(message_id, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, event_type)
        information = encode_report(transaction, committed, missing, syntax)
        response, _ = association.request(context_id, command, (information,))
        check_answer(response, CommandField.N_EVENT_REPORT_RSP, message_id)
        if response.status != SUCCESS:
            raise Failed(Outcome.REFUSED, Phase.DONE, f"expected status 0000H, found {response.status:04X}H")
