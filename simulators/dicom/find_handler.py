"""What becomes of a Modality Worklist C-FIND request (PS3.4, annex K), whichever engine it came through.

An engine has two steps: `search`, which may run in any thread, then a response for each order that was found, as fast as its
peer takes them and until the peer cancels. What is shown are the orders that HL7 brought to any node of the site, as they
are now: nothing is cached.
"""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import xxhash
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.dsutils import decode

from ..journal import Flag, Journal
from ..misbehaviour import Misbehaviour
from ..node_store import Order, SiteReader
from ..operations import Kind, RecordError, Service, identity_of_code
from ..service import ServiceSettings
from .arrival import UNREADABLE_DATA_SET
from .store_handler import COMMENT_LETTERS, Answer
from .worklist_query import Query, QueryRefused

SUCCESS, CANCELLED, PENDING, PENDING_WITHOUT_SOME_KEYS = 0x0000, 0xFE00, 0xFF00, 0xFF01  # PS3.4, table C.4-1
OUT_OF_RESOURCES, DOES_NOT_MATCH, UNABLE_TO_PROCESS = 0xA700, 0xA900, 0xC000
BETWEEN_CANCELS = 8  # responses sent before the peer is listened to again
WORKLIST_SYNTAXES = tuple(
    map(str, (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian))
)
_ACCESSIONS_AT_A_TIME = 500  # SQLite takes 999 values in one statement


class Asked(NamedTuple):
    """One query as it came: its encoded identifier, the transfer syntax of that, and who asks."""

    identifier: bytes
    transfer_syntax: str
    peer: tuple[str, int]
    caller: str


class Found(NamedTuple):
    """The answer to a query: the status of its pending responses, and the orders, in the order of their start."""

    pending: int
    query: Query
    orders: list[Order]


class FindHandler:
    """Answers C-FIND requests, of all associations.

    Parameters
    ----------
    settings : ServiceSettings
        Where the orders are, and the misbehaviour.

    Raises
    ------
    RecordError, OSError
        When the journal cannot be opened.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        hides = settings.has(Misbehaviour.HIDES_ORDERS_OF_OTHERS)
        self._directories = tuple(map(Path, (settings.directory,) if hides else settings.site_directories))
        self._journal = Journal(settings.node_directory, settings.node, Service.DMWL, shared=settings.processes > 1)
        self._readers: queue.SimpleQueue[SiteReader] = queue.SimpleQueue()  # those that no search uses just now
        self._truncates = settings.has(Misbehaviour.TRUNCATES_WORKLIST)
        self._mixes_up = settings.has(Misbehaviour.MIXES_UP_PATIENTS)
        self.heeds_cancel = not settings.has(Misbehaviour.IGNORES_CANCEL)

    def search(self, asked: Asked) -> Found | Answer:
        """Note a query of ours in the journal, and find its orders; or return the answer to a query that fails."""
        syntax = UID(asked.transfer_syntax)
        try:
            identifier = decode(BytesIO(asked.identifier), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
            query = Query(identifier)
        except QueryRefused as error:
            return _failure(DOES_NOT_MATCH, str(error))
        except UNREADABLE_DATA_SET:
            return _failure(UNABLE_TO_PROCESS, "the identifier cannot be read")
        try:
            self._note(asked, query)
            orders = self._found(query)
        except (RecordError, sqlite3.Error) as error:
            return _failure(OUT_OF_RESOURCES, str(error))
        return Found(PENDING_WITHOUT_SOME_KEYS if query.has_unsupported_keys else PENDING, query, orders)

    def close(self) -> None:
        """Close the journal and the databases that no search uses just now."""
        while not self._readers.empty():
            self._readers.get_nowait().close()
        self._journal.close()

    def _note(self, asked: Asked, query: Query) -> None:
        identity = identity_of_code(query.patient_id, Kind.QUERY)
        if identity is None:
            return
        receipt = self._journal.receipt_of_digest(
            identity, query.patient_id, xxhash.xxh3_128_digest(asked.identifier), len(asked.identifier), asked.peer,
            asked.caller, Flag.OBSERVATION,
        )  # fmt: skip
        self._journal.append(receipt)

    def _found(self, query: Query) -> list[Order]:
        try:
            reader = self._readers.get_nowait()  # opening databases takes longer than asking them
        except queue.Empty:
            reader = SiteReader(self._directories)
        try:
            found = [order for order in _candidates(reader, query) if query.matches(order)]
        except sqlite3.Error:
            reader.close()
            raise
        self._readers.put(reader)
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


def _failure(status: int, comment: str) -> Answer:
    return Answer(status, comment[:COMMENT_LETTERS].replace("\\", "/"))
