"""The orders of a site in memory, as new as the databases of its nodes at every look.

A look asks each database whether another connection has changed it since the last one (SQLite's `PRAGMA data_version`, a few
microseconds), and reads what came since. So an order that a node has acknowledged is in the book at the next look, whoever
asks, and nothing is read that did not change.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..node_store import Order, database_path
from .matching import Range

INDEXED = ("accession", "patient_id", "modality", "station_ae")  # fields of Order that `candidates` narrows by
_NEW_ROWS = "SELECT rowid, * FROM orders WHERE rowid >= ? ORDER BY rowid"


class OrderBook:
    """The newest state of every order, over all nodes. For one thread at a time.

    Parameters
    ----------
    directories : iterable of Path
        The folders of the nodes. A database that does not exist yet counts as empty.

    Attributes
    ----------
    version : int
        Another one whenever a look has found something new.
    """

    def __init__(self, directories: Iterable[Path]) -> None:
        self.version = 0
        self._nodes = [_NodeOrders(database_path(directory, "hl7")) for directory in directories]
        self._orders: dict[str, Order] = {}
        self._index: dict[str, defaultdict[str, dict[str, Order]]] = {
            field: defaultdict(dict) for field in (*INDEXED, "start_date")
        }

    def look(self) -> None:
        """Take in what is new; raises sqlite3.Error when a database cannot be read, and reads it anew at the next look."""
        for node in self._nodes:
            news = node.news()
            for order in news:
                known = self._orders.get(order.accession)
                if known is None or known.updated_ns <= order.updated_ns:
                    self._put(known, order)
            self.version += bool(news)

    def candidates(self, exact: Mapping[str, str], dates: Range | None) -> Iterable[Order]:
        """Return all orders that can meet some conditions, and as few others as the index allows.

        Parameters
        ----------
        exact : mapping of str to str
            Fields of `INDEXED`, and the values that they have but for blanks around them.
        dates : Range or None
            Where the start date lies.
        """
        sets = [self._index[field].get(value, {}) for field, value in exact.items() if field != "accession"]
        if (accession := exact.get("accession")) is not None:
            named = self._orders.get(accession)
            sets.append({**self._index["accession"].get(accession, {}), **({accession: named} if named else {})})
        if sets:
            return list(min(sets, key=len).values())
        if dates is not None:
            of_dates = self._index["start_date"]
            return [order for date, orders in of_dates.items() if dates.admits(date) for order in orders.values()]
        return list(self._orders.values())

    def close(self) -> None:
        """Close all databases."""
        for node in self._nodes:
            node.close()

    def _put(self, known: Order | None, order: Order) -> None:
        for field, index in self._index.items():
            if field == "accession" and order.accession == order.accession.strip():
                continue  # `_orders` itself finds it: an index of one order an entry would take half of the memory
            if known is not None:
                index[getattr(known, field).strip()].pop(order.accession, None)
            index[getattr(order, field).strip()][order.accession] = order
        self._orders[order.accession] = order


class _NodeOrders:
    """The orders in one database: what was not read before.

    A row is only ever inserted, or replaced by one whose rowid is beyond all others (that of the last row is used again when
    the last row is replaced). So what is new begins at the last rowid that was read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._version = -1
        self._last_row = 0

    def news(self) -> list[Order]:
        """Return the rows that are new or may have been replaced; all of them after a failure."""
        try:
            return self._news()
        except sqlite3.Error:
            self.close()
            raise

    def _news(self) -> list[Order]:
        if self._database is None:
            if not self._path.exists():
                return []
            uri = f"{self._path.resolve().as_uri()}?mode=ro"
            self._database = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return []
        try:
            rows = self._database.execute(_NEW_ROWS, (self._last_row,)).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []  # its service is just now making it
            raise
        self._version = version  # asked before the rows were read: what came in between is read twice, and not missed
        if rows:
            self._last_row = rows[-1][0]
        return [_with_words_shared(Order._make(row[1:])) for row in rows]

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database, self._version, self._last_row = None, -1, 0


def _with_words_shared(order: Order) -> Order:
    """Return the order with the words that many orders have in common kept once: a site has very many orders."""
    word = sys.intern
    return order._replace(
        patient_id=word(order.patient_id), patient_name=word(order.patient_name), birth_date=word(order.birth_date),
        sex=word(order.sex), modality=word(order.modality), station_ae=word(order.station_ae),
        start_date=word(order.start_date), start_time=word(order.start_time), description=word(order.description),
        status=word(order.status),
    )  # fmt: skip
