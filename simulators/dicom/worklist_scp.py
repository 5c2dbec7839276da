"""The worklist SCP of a node: C-ECHO and Modality Worklist C-FIND: `python -m simulators.dicom.worklist_scp SETTINGS.json`.

It shows the orders that HL7 brought to any node of its site, as they are now: nothing is cached.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, cast

from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification  # type: ignore[attr-defined]

from ..journal import Flag, Journal
from ..misbehaviour import Misbehaviour
from ..node_store import Order, SiteReader
from ..operations import Kind, RecordError, Service, identity_of_code
from ..service import ServiceSettings
from . import scp
from .image_archive import UNREADABLE_DATA_SET
from .worklist_query import Query, QueryRefused

SUCCESS, CANCELLED, PENDING, PENDING_WITHOUT_SOME_KEYS = 0x0000, 0xFE00, 0xFF00, 0xFF01  # PS3.4, table C.4-1
OUT_OF_RESOURCES, DOES_NOT_MATCH, UNABLE_TO_PROCESS = 0xA700, 0xA900, 0xC000
_BETWEEN_CANCELS = 8  # responses sent before the peer is listened to again
_ACCESSIONS_AT_A_TIME = 500  # SQLite takes 999 values in one statement

Response = tuple[int | Dataset, Dataset | None]


def main() -> NoReturn:
    """Run the service until SIGTERM."""
    scp.main(worklist_service)


def worklist_service(settings: ServiceSettings) -> tuple[list[PresentationContext], scp.Handlers]:
    """Return the presentation contexts and handlers of a worklist SCP; opens its journal.

    Raises
    ------
    RecordError, OSError
        When the journal cannot be opened.
    """
    syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
    contexts = [build_context(Verification), build_context(ModalityWorklistInformationFind, list(syntaxes))]
    journal = Journal(settings.node_directory, settings.node, Service.DMWL)
    return contexts, [(evt.EVT_C_ECHO, lambda _: SUCCESS), (evt.EVT_C_FIND, FindHandler(settings, journal))]


class FindHandler:
    """Answers C-FIND requests, of all associations.

    Parameters
    ----------
    settings : ServiceSettings
        Where the orders are, and the misbehaviour.
    journal : Journal
        Where queries of ours are noted, before they are answered.
    """

    def __init__(self, settings: ServiceSettings, journal: Journal) -> None:
        hides = settings.has(Misbehaviour.HIDES_ORDERS_OF_OTHERS)
        self._directories = tuple(map(Path, (settings.directory,) if hides else settings.site_directories))
        self._journal = journal
        self._truncates = settings.has(Misbehaviour.TRUNCATES_WORKLIST)
        self._mixes_up = settings.has(Misbehaviour.MIXES_UP_PATIENTS)
        self._ignores_cancel = settings.has(Misbehaviour.IGNORES_CANCEL)

    def __call__(self, event: Event) -> Iterator[Response]:
        """Yield the responses to one query (EVT_C_FIND): status, and the identifier of each match (PS3.4, C.4.1)."""
        try:
            query = Query(event.identifier)
        except QueryRefused as error:
            yield _failure(DOES_NOT_MATCH, str(error)), None
            return
        except UNREADABLE_DATA_SET:
            yield _failure(UNABLE_TO_PROCESS, "the identifier cannot be read"), None
            return
        try:
            self._note(event, query)
            found = self._found(query)
        except (RecordError, sqlite3.Error) as error:
            yield _failure(OUT_OF_RESOURCES, str(error)), None
            return
        yield from self._responses(event, query, found)

    def _responses(self, event: Event, query: Query, found: list[Order]) -> Iterator[Response]:
        pending = PENDING_WITHOUT_SOME_KEYS if query.has_unsupported_keys else PENDING
        connection = cast(scp.WaitingSocket, event.assoc.dul.socket)
        for number, order in enumerate(found, 1):
            if number % _BETWEEN_CANCELS == 0:
                connection.wait_until_heard()
            if event.is_cancelled and not self._ignores_cancel:
                yield CANCELLED, None
                return
            yield pending, query.answer(order)

    def _note(self, event: Event, query: Query) -> None:
        identity = identity_of_code(query.patient_id, Kind.QUERY)
        if identity is None:
            return
        identifier = cast(C_FIND, event.request).Identifier
        payload = identifier.getbuffer() if identifier else b""
        peer, caller = scp.peer_of(event), scp.calling_ae_of(event)
        self._journal.append(self._journal.receipt(identity, query.patient_id, payload, peer, caller, Flag.OBSERVATION))

    def _found(self, query: Query) -> list[Order]:
        reader = SiteReader(self._directories)
        try:
            found = [order for order in _candidates(reader, query) if query.matches(order)]
        finally:
            reader.close()
        found.sort(key=lambda order: (order.start_date, order.start_time, order.accession))
        if self._mixes_up:
            found = [order._replace(patient_name="PREFLIGHT^SOMEBODY^ELSE") for order in found]
        return found[:-1] if self._truncates and len(found) > 1 else found


def _candidates(reader: SiteReader, query: Query) -> Iterator[Order]:
    """Yield the newest state of every order that some node once knew to meet what the query says in SQL.

    Two steps, since the condition may hold for an old state on one node and not for the newest one on another.
    """
    where, values = query.narrowed()
    known = reader.orders(where, values)
    if where == "1":
        yield from known
        return
    accessions = [order.accession for order in known]
    for first in range(0, len(accessions), _ACCESSIONS_AT_A_TIME):
        some = accessions[first : first + _ACCESSIONS_AT_A_TIME]
        yield from reader.orders(f"accession IN ({','.join('?' * len(some))})", tuple(some))


def _failure(status: int, comment: str) -> Dataset:
    response = Dataset()
    response.Status = status
    response.ErrorComment = comment[:64].replace("\\", "/")  # LO
    return response


if __name__ == "__main__":
    main()
