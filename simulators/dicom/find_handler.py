"""What becomes of a Modality Worklist C-FIND request (PS3.4, annex K), whichever engine it came through.

An engine has two steps: `search`, which may run in any thread, then a response for each order that was found, as fast as its
peer takes them and until the peer cancels. What is shown are the orders that HL7 brought to any node of the site, as they
are now: every search looks for what is new. What has not changed since is not searched, nor encoded, again.
"""

from __future__ import annotations

import sqlite3
import threading
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
from ..node_store import Order
from ..operations import Kind, RecordError, Service, identity_of_code
from ..service import ServiceSettings
from .arrival import UNREADABLE_DATA_SET
from .order_book import OrderBook
from .store_handler import COMMENT_LETTERS, Answer
from .worklist_answer import AnswerLayout
from .worklist_query import Query, QueryRefused

SUCCESS, CANCELLED, PENDING, PENDING_WITHOUT_SOME_KEYS = 0x0000, 0xFE00, 0xFF00, 0xFF01  # PS3.4, table C.4-1
OUT_OF_RESOURCES, DOES_NOT_MATCH, UNABLE_TO_PROCESS = 0xA700, 0xA900, 0xC000
BETWEEN_CANCELS = 8  # responses sent before the peer is listened to again
WORKLIST_SYNTAXES = tuple(
    map(str, (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian))
)
_MOST_QUERIES = 1024  # that are known again; a modality asks the same one every time
_MOST_FOUND = 8192  # orders in the answers to these, and that are kept encoded, at some 1.5 KB each


class Asked(NamedTuple):
    """One query as it came: its encoded identifier, the transfer syntax of that, and who asks."""

    identifier: bytes
    transfer_syntax: str
    peer: tuple[str, int]
    caller: str


class Found(NamedTuple):
    """The answer to a query: the status of its pending responses, and the orders, in the order of their start.

    `version` is that of the order book that they are from, `syntax` the transfer syntax of the query and of its responses.
    """

    query: Query
    syntax: UID
    pending: int
    orders: tuple[Order, ...] = ()
    version: int = -1


class _Answers(NamedTuple):
    """Answers of one layout that are kept encoded: the order of each as it was then, by accession number."""

    layout: AnswerLayout
    known: dict[str, tuple[Order, bytes]]


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
        self._book = OrderBook(map(Path, (settings.directory,) if hides else settings.site_directories))
        self._lock = threading.Lock()  # for the book and for what is known
        self._journal = Journal(settings.node_directory, settings.node, Service.DMWL, shared=settings.processes > 1)
        self._known: dict[tuple[bytes, str], Found] = {}  # by identifier and transfer syntax
        self._found = 0  # orders in all of these
        self._encoded: dict[tuple[object, str], _Answers] = {}  # by return keys and transfer syntax
        self._answers = 0  # in all of these
        self._truncates = settings.has(Misbehaviour.TRUNCATES_WORKLIST)
        self._mixes_up = settings.has(Misbehaviour.MIXES_UP_PATIENTS)
        self.heeds_cancel = not settings.has(Misbehaviour.IGNORES_CANCEL)

    def search(self, asked: Asked) -> Found | Answer:
        """Note a query of ours in the journal, and find its orders; or return the answer to a query that fails."""
        try:
            found = self._known.get(asked[:2]) or _understood(asked)
        except QueryRefused as error:
            return _failure(DOES_NOT_MATCH, str(error))
        except UNREADABLE_DATA_SET:
            return _failure(UNABLE_TO_PROCESS, "the identifier cannot be read")
        try:
            self._note(asked, found.query)
            with self._lock:
                self._book.look()
                if found.version != self._book.version:
                    orders = self._orders(found.query)  # it may look once more
                    found = found._replace(orders=orders, version=self._book.version)
                    self._remember(asked, found)
        except (RecordError, sqlite3.Error) as error:
            return _failure(OUT_OF_RESOURCES, str(error))
        return found

    def known(self, asked: Asked) -> Found | Answer | None:
        """Do as `search` does where that takes no time, because nothing has changed; return None where it would."""
        found = self._known.get(asked[:2])
        if found is None or not self._lock.acquire(blocking=False):
            return None
        try:
            self._book.look()
            if found.version != self._book.version:
                return None
            self._note(asked, found.query)
        except (RecordError, sqlite3.Error) as error:
            return _failure(OUT_OF_RESOURCES, str(error))
        finally:
            self._lock.release()
        return found

    def encoded(self, found: Found, order: Order) -> bytes:
        """Return the response identifier for an order, in the transfer syntax of the query. For one thread at a time."""
        layout, answers = self._answers_of(found)
        known = answers.get(order.accession)
        if known is not None and known[0] == order:
            return known[1]
        encoded = layout.encode(order)
        if self._answers >= _MOST_FOUND:
            self._encoded.clear()
            self._answers = 0
            layout, answers = self._answers_of(found)
        answers[order.accession] = order, encoded
        self._answers += known is None
        return encoded

    def close(self) -> None:
        """Close the journal and the databases."""
        self._book.close()
        self._journal.close()

    def _answers_of(self, found: Found) -> _Answers:
        key = found.query.return_keys, str(found.syntax)
        if key not in self._encoded:
            self._encoded[key] = _Answers(found.query.layout(found.syntax), {})
        return self._encoded[key]

    def _remember(self, asked: Asked, found: Found) -> None:
        """Keep an answer in the place of the one before; what is kept of all queries has a bound."""
        before = self._known.pop(asked[:2], None)
        self._found -= len(before.orders) if before else 0
        if len(found.orders) > _MOST_FOUND:
            return
        if len(self._known) >= _MOST_QUERIES or self._found + len(found.orders) > _MOST_FOUND:
            self._known.clear()
            self._found = 0
        self._known[asked[:2]] = found
        self._found += len(found.orders)

    def _note(self, asked: Asked, query: Query) -> None:
        identity = identity_of_code(query.patient_id, Kind.QUERY)
        if identity is None:
            return
        receipt = self._journal.receipt_of_digest(
            identity, query.patient_id, xxhash.xxh3_128_digest(asked.identifier), len(asked.identifier), asked.peer,
            asked.caller, Flag.OBSERVATION,
        )  # fmt: skip
        self._journal.append(receipt)

    def _orders(self, query: Query) -> tuple[Order, ...]:
        found = [order for order in self._book.candidates(query.exact, query.dates) if query.matches(order)]
        found.sort(key=lambda order: (order.start_date, order.start_time, order.accession))
        if self._mixes_up:
            found = [order._replace(patient_name="PREFLIGHT^SOMEBODY^ELSE") for order in found]
        return tuple(found[:-1] if self._truncates and len(found) > 1 else found)


def _understood(asked: Asked) -> Found:
    """Return the answer to a query before anything was searched for."""
    syntax = UID(asked.transfer_syntax)
    identifier = decode(BytesIO(asked.identifier), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    query = Query(identifier)
    return Found(query, syntax, PENDING_WITHOUT_SOME_KEYS if query.has_unsupported_keys else PENDING)


def _failure(status: int, comment: str) -> Answer:
    return Answer(status, comment[:COMMENT_LETTERS].replace("\\", "/"))
