"""Where a node's images go: a Part 10 file, then the receipt, then the row of the index. In this order, so that a kill at any
moment leaves either nothing that was acknowledged, or what the next start can index.
"""  # noqa: D205

from __future__ import annotations

import re
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import xxhash
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread, read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta

from ..journal import Journal, Receipt, journal_path, read_receipts
from ..node_store import Instance, NodeStore, SiteReader
from ..operations import Identity, Service, identity_of_uid

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SAFE_UID = re.compile(r"[0-9.]{1,64}")  # also what keeps a file name inside its folder
_LAST_INDEXED_TAG = 0x0020000E  # Series Instance UID: nothing behind it is read
_INFLATED_AT_MOST = 1 << 20  # of a deflated data set, enough for its index attributes
UNREADABLE_DATA_SET = (  # what pydicom raises on bytes that are no data set
    InvalidDicomError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError, LookupError,
    struct.error, zlib.error,
)  # fmt: skip


class UnreadableImage(Exception):
    """The bytes of a data set are not one, or carry no usable UID."""


class Entry(NamedTuple):
    """The attributes of an image that its index row is made of, as found in the data set."""

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


class Digested:
    """A data set of which nothing is kept but its length and its digest: a `DataSink` for a node that digests."""

    __slots__ = ("_hash", "size_bytes")

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()
        self.size_bytes = 0

    def extend(self, piece: memoryview, /) -> None:
        """Take the next piece."""
        self._hash.update(piece)
        self.size_bytes += len(piece)

    def __len__(self) -> int:
        return self.size_bytes

    def digest(self) -> bytes:
        """Return the xxh3-128 of what was taken."""
        return self._hash.digest()


class Arrival(NamedTuple):
    """One image as it came: what the command says of it, its bytes, who sent it."""

    sop_class: str
    sop_uid: str
    transfer_syntax: str
    data_set: bytearray | memoryview | Digested
    peer: tuple[str, int]
    caller: str

    def read(self) -> Entry:
        """Read the index attributes; pixel data is never touched.

        Raises
        ------
        UnreadableImage
            When the bytes are no data set.
        """
        self.check_uid()
        if isinstance(self.data_set, Digested):
            raise UnreadableImage("expected a data set, found its digest alone")
        return read_entry(self.data_set, UID(self.transfer_syntax))

    def check_uid(self) -> None:
        """Raise UnreadableImage unless the SOP Instance UID of the command is safe to name a file by."""
        if not _SAFE_UID.fullmatch(self.sop_uid):
            raise UnreadableImage("Affected SOP Instance UID: expected digits and dots")


class Taken(NamedTuple):
    """An image that is kept, where images are kept, and is still to be recorded: its receipt, how often it is written, and
    its row (None on a node that digests: it has no index).
    """  # noqa: D205

    receipt: Receipt
    times: int
    row: Instance | None


def read_entry(data_set: bytearray | memoryview, syntax: UID) -> Entry:
    """Read the index attributes from an encoded data set.

    Parameters
    ----------
    data_set : buffer
        Of any length: what is behind the index attributes is neither read nor copied.
    syntax : UID
        Its transfer syntax.

    Raises
    ------
    UnreadableImage
        When the bytes are no data set.
    """
    try:
        stream: BinaryIO = BufferedReader(_Memory(data_set))
        if syntax.is_deflated:
            stream = BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data_set, _INFLATED_AT_MOST))
        found = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=_is_behind_index)
        return _entry(found)
    except UNREADABLE_DATA_SET as error:
        raise UnreadableImage(f"expected a data set in {syntax.name}") from error


class ImageArchive:
    """The images of one node, for all of its associations.

    Parameters
    ----------
    directory : Path
        The node's folder.
    node : str
        The node's name.
    keeps : bool
        Whether images are kept as files and indexed, or only receipted.
    shared : bool
        Whether several processes receipt images; only where they are not kept.

    Raises
    ------
    RecordError, OSError, sqlite3.Error
        When journal, folder or index cannot be opened.

    Notes
    -----
    Files that were receipted and not indexed, because the service was killed in between, are indexed at the start.
    """

    def __init__(self, directory: Path, node: str, *, keeps: bool, shared: bool = False) -> None:
        self._directory = directory
        self._images = directory / "images"
        self._keeps = keeps
        self._lock = threading.Lock()
        self._partial = 0
        self._journal = Journal(directory, node, Service.DICOM, shared=shared)
        self._index: NodeStore | None = None
        self._known = SiteReader((directory,))
        if keeps:
            self._images.mkdir(exist_ok=True)
            self._index = NodeStore(directory, "dicom")
            self._index.put(*self._unindexed())

    @property
    def keeps(self) -> bool:
        """Whether images are kept as files and indexed, or only receipted."""
        return self._keeps

    def take(self, arrival: Arrival, entry: Entry | None, *, times: int = 1) -> Taken:
        """Keep the file of one image, and make its receipt; `record` is to follow.

        Parameters
        ----------
        arrival : Arrival
            What came.
        entry : Entry or None
            Its index attributes; None where the archive does not keep.
        times : int
            How often it is receipted; 1 unless the node misbehaves.

        Raises
        ------
        OSError
            When it could not be kept.
        """
        payload = arrival.data_set
        if isinstance(payload, Digested):
            digest = payload.digest()
        else:
            digest = xxhash.xxh3_128_digest(payload)
            if entry is not None:
                self._keep(arrival, payload)
        receipt = self._journal.receipt_of_digest(
            identity_of_uid(arrival.sop_uid), arrival.sop_uid, digest, len(payload), arrival.peer, arrival.caller
        )
        if entry is None:
            return Taken(receipt, times, None)
        return Taken(receipt, times, _row(entry, arrival.transfer_syntax, f"images/{entry.sop_uid}.dcm", receipt, times))

    def record(self, *taken: Taken) -> None:
        """Receipt images with one write, then index them in one transaction; when this returns they may be acknowledged.

        Raises
        ------
        RecordError, OSError, sqlite3.Error
            When that failed; none of them may be acknowledged then.
        """
        with self._lock:
            self._journal.append(*[one.receipt for one in taken for _ in range(one.times)])
            if self._index is None:
                return
            rows: dict[str, Instance] = {}
            for row in (one.row for one in taken if one.row is not None):
                known = rows.get(row.sop_uid) or next(iter(self._known.instances("sop_uid = ?", (row.sop_uid,))), None)
                rows[row.sop_uid] = row._replace(receipts=row.receipts + (known.receipts if known else 0))
            if rows:
                self._index.put(*rows.values())

    def close(self) -> None:
        """Close journal and index."""
        self._journal.close()
        if self._index is not None:
            self._index.close()
        self._known.close()

    def _keep(self, arrival: Arrival, payload: bytearray | memoryview) -> None:
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
        return _row(_entry(found), found.file_meta.TransferSyntaxUID, f"images/{path.name}", receipt, receipts)


class _Memory(RawIOBase):
    """A file over memory, for readers of its beginning: `BytesIO` would copy all of it."""

    def __init__(self, content: bytearray | memoryview) -> None:
        self._view = memoryview(content)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._at = {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: len(self._view)}[whence] + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        piece = self._view[self._at : self._at + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def part10_header(sop_class: str, sop_uid: str, syntax: str) -> bytes:
    """Return what precedes a data set in a file: preamble, prefix and file meta information (PS3.10, 7.1)."""
    header = DicomBytesIO(bytes(128) + b"DICM")
    header.seek(0, SEEK_END)
    write_file_meta_info(
        header, create_file_meta(sop_class_uid=UID(sop_class), sop_instance_uid=UID(sop_uid), transfer_syntax=UID(syntax))
    )
    return header.getvalue()


def _is_behind_index(tag: BaseTag, _: str | None, __: int) -> bool:
    return int(tag) > _LAST_INDEXED_TAG


def _entry(found: Dataset) -> Entry:
    def text(keyword: str) -> str:
        value = found.get(keyword)
        return "" if value is None else str(value)

    return Entry(
        text("SOPInstanceUID"), text("SOPClassUID"), text("StudyInstanceUID"), text("SeriesInstanceUID"), text("PatientID"),
        text("PatientName"), text("AccessionNumber"), text("StudyDate"), text("StudyDescription"), text("Modality"),
    )  # fmt: skip


def _row(entry: Entry, syntax: str, file: str, receipt: Receipt, receipts: int) -> Instance:
    return Instance(
        entry.sop_uid, entry.sop_class, entry.study_uid, entry.series_uid, entry.patient_id, entry.patient_name,
        entry.accession, entry.study_date, entry.study_description, entry.modality, str(syntax), file, receipt.size_bytes,
        receipt.digest.hex(), receipts, time.time_ns(),
    )  # fmt: skip


def _name_of_receipt(receipt: Receipt) -> tuple[int, int, int]:
    return receipt.run, receipt.kind, receipt.key


def _name_of_uid(uid: str) -> tuple[int, int, int]:
    identity: Identity | None = identity_of_uid(uid)
    return (
        (0, 0, xxhash.xxh3_64_intdigest(uid.encode()))
        if identity is None
        else (identity.run, int(identity.kind), identity.key)
    )
