"""Where a node's images go: a Part 10 file, then the receipt, then the row of the index. In this order, so that a kill at any
moment leaves either nothing that was acknowledged, or what the next start can index.
"""  # noqa: D205

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from io import SEEK_END
from pathlib import Path
from typing import NamedTuple

import xxhash
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta

from ..journal import Journal, Receipt, journal_path, read_receipts
from ..node_store import Instance, NodeStore, SiteReader
from ..operations import Service, run_key_and_kind_of_uid
from .arrival import Arrival, Entry, entry_of
from .framing import Buffer


class Taken(NamedTuple):
    """An image that is safe but for its records: its packed receipt, how often that is written, and its row of the index.

    There is no row on a node that digests.
    """

    receipt: bytes
    times: int
    row: Instance | None = None


class ImageArchive:
    """The images that one node keeps, of all of its associations.

    Parameters
    ----------
    directory : Path
        The node's folder.
    journal : Journal
        Where they are receipted; whoever gave it closes it.

    Raises
    ------
    RecordError, OSError, sqlite3.Error
        When journal, folder or index cannot be opened.

    Notes
    -----
    Files that were receipted and not indexed, because the service was killed in between, are indexed at the start.
    """

    def __init__(self, directory: Path, journal: Journal) -> None:
        self._directory = directory
        self._images = directory / "images"
        self._lock = threading.Lock()
        self._partial = 0
        self._journal = journal
        self._index = NodeStore(directory, "dicom")
        self._known = SiteReader((directory,))
        self._images.mkdir(exist_ok=True)
        self._index.put(*self._unindexed())

    def take(self, arrival: Arrival, entry: Entry, *, times: int = 1) -> Taken:
        """Keep the file of one image, and make its receipt and its row; `record` is to follow.

        Parameters
        ----------
        arrival : Arrival
            What came, with its data set.
        entry : Entry
            Its index attributes.
        times : int
            How often it is receipted; 1 unless the node misbehaves.

        Raises
        ------
        OSError
            When it could not be kept.
        """
        payload = arrival.payload
        digest, size_bytes = xxhash.xxh3_128_digest(payload), len(payload)
        self._keep(arrival, payload)
        row = _row(entry, arrival.transfer_syntax, f"images/{entry.sop_uid}.dcm", size_bytes, digest, times)
        named = run_key_and_kind_of_uid(arrival.sop_uid)
        return Taken(receipt_of(arrival, named, digest, size_bytes, self._journal), times, row)

    def record(self, taken: Sequence[Taken]) -> None:
        """Receipt images with one write, then index them in one transaction; when this returns they may be acknowledged.

        Raises
        ------
        RecordError, OSError, sqlite3.Error
            When that failed; none of them may be acknowledged then.
        """
        with self._lock:
            self._journal.append_packed([one.receipt * one.times for one in taken])
            rows: dict[str, Instance] = {}
            for row in (one.row for one in taken if one.row is not None):
                known = rows.get(row.sop_uid) or next(iter(self._known.instances("sop_uid = ?", (row.sop_uid,))), None)
                rows[row.sop_uid] = row._replace(receipts=row.receipts + (known.receipts if known else 0))
            if rows:
                self._index.put(*rows.values())

    def close(self) -> None:
        """Close the index."""
        self._index.close()
        self._known.close()

    def _keep(self, arrival: Arrival, payload: Buffer) -> None:
        with self._lock:
            self._partial += 1
            partial = self._images / f"{self._partial}.partial"
        try:
            with partial.open("wb", buffering=0) as file:
                file.write(part10_header(arrival.sop_class, arrival.sop_uid, arrival.transfer_syntax))
                view, written = memoryview(payload), 0
                while written < len(view):
                    written += file.write(view[written:]) or 0
            partial.replace(self._images / f"{arrival.sop_uid}.dcm")
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def _unindexed(self) -> Iterator[Instance]:
        """Yield a row for every kept image whose receipts are more than its row says; remove what was half written."""
        for partial in self._images.glob("*.partial"):
            partial.unlink()
        receipts = list(read_receipts(journal_path(self._directory, Service.DICOM)))
        counted = Counter(map(_name_of_receipt, receipts))
        newest = {_name_of_receipt(receipt): receipt for receipt in receipts}
        indexed = {row.sop_uid: row.receipts for row in self._known.instances()}
        for path in self._images.glob("*.dcm"):
            name = _name_of_uid(path.stem)
            if counted[name] > indexed.get(path.stem, 0):
                yield self._row_of_file(path, newest[name], counted[name])

    def _row_of_file(self, path: Path, receipt: Receipt, receipts: int) -> Instance:
        found = dcmread(path, stop_before_pixels=True)
        syntax = found.file_meta.TransferSyntaxUID
        return _row(entry_of(found), syntax, f"images/{path.name}", receipt.size_bytes, receipt.digest, receipts)


def receipt_of(
    arrival: Arrival, named: tuple[int, int, int] | None, digest: bytes, size_bytes: int, journal: Journal
) -> bytes:
    """Return the packed receipt of an image that its UID names so (None: not ours), of that digest and length."""
    return journal.packed_receipt(named, arrival.sop_uid, digest, size_bytes, arrival.peer, arrival.caller)


def part10_header(sop_class: str, sop_uid: str, syntax: str) -> bytes:
    """Return what precedes a data set in a file: preamble, prefix and file meta information (PS3.10, 7.1)."""
    header = DicomBytesIO(bytes(128) + b"DICM")
    header.seek(0, SEEK_END)
    write_file_meta_info(
        header, create_file_meta(sop_class_uid=UID(sop_class), sop_instance_uid=UID(sop_uid), transfer_syntax=UID(syntax))
    )
    return header.getvalue()


def data_set_of_file(path: Path) -> bytes:
    """Return what `part10_header` precedes in a kept file: the data set, as it came over the wire."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]  # the first element says how long its group is


def _row(entry: Entry, syntax: str, file: str, size_bytes: int, digest: bytes, receipts: int) -> Instance:
    return Instance(
        entry.sop_uid, entry.sop_class, entry.study_uid, entry.series_uid, entry.patient_id, entry.patient_name,
        entry.accession, entry.study_date, entry.study_description, entry.modality, str(syntax), file, size_bytes,
        digest.hex(), receipts, time.time_ns(),
    )  # fmt: skip


def _name_of_receipt(receipt: Receipt) -> tuple[int, int, int]:
    return receipt.run, receipt.key, receipt.kind


def _name_of_uid(uid: str) -> tuple[int, int, int]:
    return run_key_and_kind_of_uid(uid) or (0, xxhash.xxh3_64_intdigest(uid.encode()), 0)
