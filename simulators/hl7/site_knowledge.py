"""What the nodes of a site know already of an order or a patient: written, or about to be written in this turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from simulators.node_store import Order, Patient, Row, SiteReader


class SiteKnowledge:
    """Looks first at the rows that wait to be written, then into the stores of all nodes.

    Parameters
    ----------
    directories : iterable of str
        The folders of the nodes.
    waiting : sequence of rows
        The caller's own list, the newest last; read at each question.

    Raises
    ------
    sqlite3.Error
        From every question, when a store cannot be read.
    """

    def __init__(self, directories: Iterable[str], waiting: Sequence[Row]) -> None:
        self._reader = SiteReader(Path(directory) for directory in directories)
        self._waiting = waiting

    def order(self, accession: str) -> Order | None:
        """Return the newest order with this accession number."""
        for row in reversed(self._waiting):
            if isinstance(row, Order) and row.accession == accession:
                return row
        found = self._reader.orders("accession = ?", (accession,))
        return found[0] if found else None

    def orders_of(self, patient_id: str) -> list[Order]:
        """Return the newest state of every order of a patient."""
        orders = {order.accession: order for order in self._reader.orders("patient_id = ?", (patient_id,))}
        orders |= {row.accession: row for row in self._waiting if isinstance(row, Order)}
        return [order for order in orders.values() if order.patient_id == patient_id]

    def patient(self, patient_id: str) -> Patient | None:
        """Return what the last ADT said of a patient."""
        for row in reversed(self._waiting):
            if isinstance(row, Patient) and row.patient_id == patient_id:
                return row
        found = self._reader.patients("patient_id = ?", (patient_id,))
        return found[0] if found else None

    def close(self) -> None:
        """Close the stores."""
        self._reader.close()
