"""The orders of a site, as new as the databases of its nodes at every look; the newest of them in memory.

A look asks each database whether another connection has changed it since the last one (SQLite's `PRAGMA data_version`, a few
microseconds), and reads what came since. So an order that a node has acknowledged is in the book at the next look, whoever
asks, and nothing is read that did not change.

A site orders for years, and a process must not grow with that: the book holds what was read last, and lets go of the rest.
What it let go of stands in the databases, and is found there. That costs some ten microseconds a query.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..node_store import Order, database_path
from .matching import Range

INDEXED = ("accession", "patient_id", "station_ae", "modality")  # fields of Order that `candidates` narrows by, best first
MOST_HELD = 2048  # rows, at some 0.7 KB each: what a hospital orders in some hours
_NEW_ROWS = "SELECT rowid, * FROM orders WHERE rowid >= ? ORDER BY rowid"
_AT_ONCE = 500  # values in one statement


class _Held(NamedTuple):
    """A row that is in memory: of which node, and where it stands in its database."""

    node: _NodeOrders
    row: int
    order: Order


class OrderBook:
    """The newest state of every order, over all nodes. For one thread at a time.

    Parameters
    ----------
    directories : iterable of Path
        The folders of the nodes. A database that does not exist yet counts as empty.
    most_held : int
        How many rows are held in memory.

    Attributes
    ----------
    version : int
        Another one whenever a look has found something new.

    Raises
    ------
    sqlite3.Error
        From `look` and `candidates`, when a database cannot be read; it is read anew at the next look.
    """

    def __init__(self, directories: Iterable[Path], most_held: int = MOST_HELD) -> None:
        self.version = 0
        self._nodes = [_NodeOrders(database_path(directory, "hl7")) for directory in directories]
        self._most_held = most_held
        self._held: deque[_Held] = deque()  # in the order in which they were read
        self._orders: dict[str, Order] = {}
        self._index: dict[str, dict[str, dict[str, Order]]] = {field: {} for field in (*INDEXED, "start_date")}

    def __len__(self) -> int:
        """Count the orders that are held in memory."""
        return len(self._orders)

    def look(self) -> None:
        """Take in what is new."""
        for node in self._nodes:
            is_new = False
            for row, order in node.news():
                self._take(_Held(node, row, order))
                is_new = True
            self.version += is_new

    def candidates(self, exact: Mapping[str, str], dates: Range | None) -> Iterable[Order]:
        """Return all orders that can meet some conditions, and as few others as the indices allow.

        It may look once more, so that `version` is that of the answer only afterwards.

        Parameters
        ----------
        exact : mapping of str to str
            Fields of `INDEXED`, and the values that they have but for blanks around them.
        dates : Range or None
            Where the start date lies.
        """
        if not any(node.let_go for node in self._nodes):
            return self._in_memory(exact, dates)
        with self._as_of_now():
            older = self._let_go_of(*_condition(exact, dates))
            return [*self._in_memory(exact, dates), *older]

    def close(self) -> None:
        """Close all databases."""
        for node in self._nodes:
            node.close()

    def _in_memory(self, exact: Mapping[str, str], dates: Range | None) -> list[Order]:
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

    @contextlib.contextmanager
    def _as_of_now(self) -> Iterator[None]:
        """Look, and let the databases stay so: a row that is replaced meanwhile would be missed on both sides."""
        try:
            for node in self._nodes:
                node.begin()
            self.look()
            yield
        finally:
            for node in self._nodes:
                node.end()

    def _let_go_of(self, condition: str, values: Sequence[str]) -> list[Order]:
        """Return the orders beyond memory that meet a condition, those left out that are newer elsewhere."""
        found = [order for node in self._nodes for order in node.older(condition, values)]
        newest = self._newest_let_go({order.accession for order in found}) if len(self._nodes) > 1 else {}
        return [
            order for order in found if order.accession not in self._orders and newest.get(order.accession, order) == order
        ]

    def _newest_let_go(self, accessions: Iterable[str]) -> dict[str, Order]:
        """Return the newest state beyond memory of some orders, by accession number."""
        wanted, newest = list(accessions), dict[str, Order]()
        for begin in range(0, len(wanted), _AT_ONCE):
            some = wanted[begin : begin + _AT_ONCE]
            condition = f"accession IN ({','.join('?' * len(some))})"
            for node in self._nodes:
                for order in node.older(condition, some):
                    known = newest.get(order.accession)
                    if known is None or known.updated_ns <= order.updated_ns:
                        newest[order.accession] = order
        return newest

    def _take(self, new: _Held) -> None:
        order = new.order
        known = self._orders.get(order.accession)
        newest = known
        if known is None and any(node.let_go for node in self._nodes):
            newest = self._newest_let_go((order.accession,)).get(order.accession)
        if newest is None or newest.updated_ns <= order.updated_ns:
            self._put(known, order)
        self._held.append(new)
        if len(self._held) > self._most_held:
            oldest = self._held.popleft()
            oldest.node.let_go = max(oldest.node.let_go, oldest.row + 1)
            if self._orders.get(oldest.order.accession) is oldest.order:
                self._drop(oldest.order)

    def _put(self, known: Order | None, order: Order) -> None:
        if known is not None:
            self._drop(known)
        for field, value in _indexed(order):
            self._index[field].setdefault(value, {})[order.accession] = order
        self._orders[order.accession] = order

    def _drop(self, order: Order) -> None:
        del self._orders[order.accession]
        for field, value in _indexed(order):
            of_value = self._index[field][value]
            del of_value[order.accession]
            if not of_value:
                del self._index[field][value]  # else a word would stay for every patient that ever was


class _NodeOrders:
    """The orders in one database: what was not read before, and what is no longer held in memory.

    A row is only ever inserted, or replaced by one whose rowid is beyond all others (that of the last row is used again when
    the last row is replaced). So what is new begins at the last rowid that was read, and what was let go of, in the order in
    which it was read, are the rows before `let_go`.
    """

    def __init__(self, path: Path) -> None:
        self.let_go = 0
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._version = -1
        self._last: tuple[int, Order] | None = None

    def news(self) -> Iterator[tuple[int, Order]]:
        """Yield the rows that are new or may have been replaced, with their rowids; after a failure all that are held."""
        try:
            yield from self._news()
        except sqlite3.Error:
            self.close()
            raise

    def older(self, condition: str, values: Sequence[str]) -> list[Order]:
        """Return the rows that were let go of and meet an SQL condition, the newest state of them or not."""
        database = self._opened() if self.let_go else None
        if database is None:
            return []
        query = f"SELECT * FROM orders WHERE +rowid < ? AND {condition}"  # noqa: S608  conditions are our own, values are bound
        try:
            return [_with_words_shared(Order._make(row)) for row in database.execute(query, (self.let_go, *values))]
        except sqlite3.Error:
            self.close()
            raise

    def begin(self) -> None:
        """See the database as it is now, from the next reading on until `end`."""
        database = self._opened()
        if database is not None:
            database.execute("BEGIN")

    def end(self) -> None:
        """See the database as it is at each reading."""
        if self._database is not None and self._database.in_transaction:
            self._database.execute("COMMIT")

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database, self._version, self._last = None, -1, None

    def _news(self) -> Iterator[tuple[int, Order]]:
        database = self._opened()
        if database is None:
            return
        (version,) = database.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        try:
            rows = database.execute(_NEW_ROWS, (self._last[0] if self._last else self.let_go,))
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return  # its service is just now making it
            raise
        for row in rows:
            found = row[0], _with_words_shared(Order._make(row[1:]))
            if found != self._last:
                self._last = found
                yield found
        self._version = version  # asked before the rows were read: what came in between is read twice, and not missed

    def _opened(self) -> sqlite3.Connection | None:
        if self._database is None and self._path.exists():
            uri = f"{self._path.resolve().as_uri()}?mode=ro"
            self._database = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        return self._database


def _indexed(order: Order) -> Iterator[tuple[str, str]]:
    """Yield the fields and values under which an order is found in memory."""
    for field in INDEXED:
        value = getattr(order, field)
        if field != "accession" or value != value.strip():  # else `_orders` itself finds it: that takes half of the memory
            yield field, value.strip()
    yield "start_date", order.start_date.strip()


def _condition(exact: Mapping[str, str], dates: Range | None) -> tuple[str, list[str]]:
    """Return an SQL condition and its values: by the index that narrows most (`node_store`), and the rest of them."""
    fields = [field for field in INDEXED if field in exact]
    conditions, values = ["1"], [exact[field] for field in fields]
    conditions += [f"{'+' if place else ''}trim({field}) = ?" for place, field in enumerate(fields)]
    if dates is not None:
        sign = "+" if fields else ""
        conditions.append(f"{sign}trim(start_date) >= ?")
        values.append(dates.low)
        if dates.high:
            conditions.append(f"{sign}trim(start_date) <= ?")
            values.append(dates.high)
    return " AND ".join(conditions), values


def _with_words_shared(order: Order) -> Order:
    """Return the order with the words that many orders have in common kept once: a site has very many orders."""
    word = sys.intern
    return order._replace(
        patient_id=word(order.patient_id), patient_name=word(order.patient_name), birth_date=word(order.birth_date),
        sex=word(order.sex), modality=word(order.modality), station_ae=word(order.station_ae),
        start_date=word(order.start_date), start_time=word(order.start_time), description=word(order.description),
        status=word(order.status),
    )  # fmt: skip
