"""What a node knows, beyond its receipts: orders and results, the index of its images, the notes of its users.

Each service of each node writes a database of its own (SQLite, WAL), so that a paused service locks nobody out. Readers
open every node's databases read-only and merge them: orders and studies are shared by the nodes of a site.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

_SCHEMA = {
    "hl7": """
        CREATE TABLE IF NOT EXISTS orders (
            accession TEXT PRIMARY KEY, patient_id TEXT, patient_name TEXT, birth_date TEXT, sex TEXT, modality TEXT,
            station_ae TEXT, start_date TEXT, start_time TEXT, step_id TEXT, procedure_id TEXT, description TEXT,
            study_uid TEXT, status TEXT, updated_ns INTEGER);
        CREATE INDEX IF NOT EXISTS orders_by_patient ON orders (patient_id);
        CREATE INDEX IF NOT EXISTS orders_by_study ON orders (study_uid);
        CREATE INDEX IF NOT EXISTS orders_by_trimmed_accession ON orders (trim(accession));
        CREATE INDEX IF NOT EXISTS orders_by_trimmed_patient ON orders (trim(patient_id));
        CREATE INDEX IF NOT EXISTS orders_by_trimmed_station ON orders (trim(station_ae));
        CREATE INDEX IF NOT EXISTS orders_by_trimmed_date ON orders (trim(start_date));
        CREATE TABLE IF NOT EXISTS patients (
            patient_id TEXT PRIMARY KEY, patient_name TEXT, birth_date TEXT, sex TEXT, merged_into TEXT, updated_ns INTEGER);
        CREATE TABLE IF NOT EXISTS results (
            accession TEXT, study_uid TEXT, patient_id TEXT, status TEXT, text TEXT, updated_ns INTEGER,
            PRIMARY KEY (accession, updated_ns));
        CREATE INDEX IF NOT EXISTS results_by_study ON results (study_uid);
    """,
    "dicom": """
        CREATE TABLE IF NOT EXISTS instances (
            sop_uid TEXT PRIMARY KEY, sop_class TEXT, study_uid TEXT, series_uid TEXT, patient_id TEXT, patient_name TEXT,
            accession TEXT, study_date TEXT, study_description TEXT, modality TEXT, transfer_syntax TEXT, file TEXT,
            size_bytes INTEGER, digest TEXT, receipts INTEGER, updated_ns INTEGER);
        CREATE INDEX IF NOT EXISTS instances_by_study ON instances (study_uid);
    """,
    "https": """
        CREATE TABLE IF NOT EXISTS notes (
            identity TEXT PRIMARY KEY, study_uid TEXT, author TEXT, text TEXT, updated_ns INTEGER);
        CREATE INDEX IF NOT EXISTS notes_of_study ON notes (study_uid, updated_ns);
    """,
}


class Order(NamedTuple):
    """One ordered procedure step, as an ORM or OMI message brought it. Dates are YYYYMMDD, times HHMMSS."""

    accession: str
    patient_id: str
    patient_name: str  # DICOM PN, components parted by ^
    birth_date: str
    sex: str
    modality: str
    station_ae: str
    start_date: str
    start_time: str
    step_id: str
    procedure_id: str
    description: str
    study_uid: str
    status: str  # the order control code of ORC-1: NW, SC, CA, …
    updated_ns: int


class Result(NamedTuple):
    """The text of one result (ORU), of the order with its accession number."""

    accession: str
    study_uid: str
    patient_id: str
    status: str
    text: str
    updated_ns: int


class Instance(NamedTuple):
    """One stored image.

    `file` is its path below its node's folder, empty when only its receipt is kept; `receipts` counts how often it came.
    """

    sop_uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    patient_id: str
    patient_name: str
    accession: str
    study_date: str
    study_description: str
    modality: str
    transfer_syntax: str
    file: str
    size_bytes: int
    digest: str  # xxh3-128, hexadecimal
    receipts: int
    updated_ns: int


class Patient(NamedTuple):
    """One patient as the last ADT said; `merged_into` is the surviving patient id after an A40, else empty."""

    patient_id: str
    patient_name: str
    birth_date: str
    sex: str
    merged_into: str
    updated_ns: int


class Note(NamedTuple):
    """A note that a user wrote on a study's page."""

    identity: str
    study_uid: str
    author: str
    text: str
    updated_ns: int


_CACHE_KB = (
    512  # of pages of a database: full soon, so that no service grows for long (SQLite itself would take four times that)
)
_TABLE: dict[type, str] = {Order: "orders", Result: "results", Instance: "instances", Patient: "patients", Note: "notes"}
Row = Order | Result | Instance | Patient | Note
_R = TypeVar("_R", Order, Result, Instance, Patient, Note)
_N = TypeVar("_N", Order, Patient, Note)


class NodeStore:
    """The database of one service of one node, open for writing by that service alone.

    Parameters
    ----------
    directory : Path
        The node's folder.
    service : str
        "hl7", "dicom" or "https".
    """

    def __init__(self, directory: Path, service: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(database_path(directory, service), isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")  # outlives the process; a power cut of the lab is not its subject
        self._database.execute(f"PRAGMA cache_size=-{_CACHE_KB}")
        self._database.executescript(_SCHEMA[service])

    def put(self, *rows: Row) -> None:
        """Insert or replace rows, in one transaction."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for row in rows:
                marks = ",".join("?" * len(row))
                self._database.execute(f"INSERT OR REPLACE INTO {_TABLE[type(row)]} VALUES ({marks})", row)  # noqa: S608  table names are ours
            self._database.execute("COMMIT")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()


class SiteReader:
    """Reads what the nodes of a site know, through read-only connections of its own. One for each thread.

    Parameters
    ----------
    directories : iterable of Path
        The folders of the nodes. A database that does not exist yet counts as empty.
    """

    def __init__(self, directories: Iterable[Path]) -> None:
        self._directories = tuple(directories)
        self._open: dict[Path, sqlite3.Connection] = {}

    def orders(self, where: str = "1", values: tuple[object, ...] = ()) -> list[Order]:
        """Return the orders that match an SQL condition on the columns of Order; the newest of each accession number."""
        return _newest(self._rows(Order, "hl7", where, values), "accession")

    def patients(self, where: str = "1", values: tuple[object, ...] = ()) -> list[Patient]:
        """Return the patients that match; the newest of each patient id."""
        return _newest(self._rows(Patient, "hl7", where, values), "patient_id")

    def results(self, where: str = "1", values: tuple[object, ...] = ()) -> list[Result]:
        """Return the results that match, the newest last."""
        return sorted(self._rows(Result, "hl7", where, values), key=lambda result: result.updated_ns)

    def instances(self, where: str = "1", values: tuple[object, ...] = ()) -> list[Instance]:
        """Return the stored images that match; one for each SOP Instance UID, `receipts` summed over the nodes."""
        found: dict[str, Instance] = {}
        for row in self._rows(Instance, "dicom", where, values):
            known = found.get(row.sop_uid)
            found[row.sop_uid] = row if known is None else row._replace(receipts=row.receipts + known.receipts)
        return list(found.values())

    def notes(self, where: str = "1", values: tuple[object, ...] = ()) -> list[Note]:
        """Return the notes that match; the newest of each identity."""
        return _newest(self._rows(Note, "https", where, values), "identity")

    def close(self) -> None:
        """Close all connections."""
        for database in self._open.values():
            database.close()
        self._open.clear()

    def _rows(self, kind: type[_R], service: str, where: str, values: tuple[object, ...]) -> Iterator[_R]:
        query = f"SELECT * FROM {_TABLE[kind]} WHERE {where}"  # noqa: S608  conditions come from our own code, values are bound
        for directory in self._directories:
            database = self._connection(database_path(directory, service))
            if database is None:
                continue
            try:
                found = database.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                continue  # its service is just now making it
            yield from map(kind._make, found)

    def _connection(self, path: Path) -> sqlite3.Connection | None:
        if path not in self._open:
            if not path.exists():
                return None
            uri = f"{path.resolve().as_uri()}?mode=ro"
            self._open[path] = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        return self._open[path]


def database_path(directory: Path, service: str) -> Path:
    """Return where the database of a service lies in its node's folder."""
    return directory / f"{service}.sqlite"


def _newest(rows: Iterable[_N], identity: str) -> list[_N]:
    found: dict[str, _N] = {}
    for row in rows:
        known = found.get(getattr(row, identity))
        if known is None or known.updated_ns <= row.updated_ns:
            found[getattr(row, identity)] = row
    return list(found.values())
