"""One image as it comes: what its command says of it, and what is read of its data set. Pixel data is never looked at."""

from __future__ import annotations

import re
import struct
import zlib
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, BytesIO, RawIOBase
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import xxhash
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from .framing import Buffer

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
    data_set: Buffer | Digested
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
        return read_entry(self.payload, UID(self.transfer_syntax))

    @property
    def payload(self) -> Buffer:
        """The data set.

        Raises
        ------
        UnreadableImage
            When there is only its digest.
        """
        if isinstance(self.data_set, Digested):
            raise UnreadableImage("expected a data set, found its digest alone")
        return self.data_set

    def check_uid(self) -> None:
        """Raise UnreadableImage unless the SOP Instance UID of the command is safe to name a file by."""
        if not _SAFE_UID.fullmatch(self.sop_uid):
            raise UnreadableImage("Affected SOP Instance UID: expected digits and dots")


def read_entry(data_set: Buffer, syntax: UID) -> Entry:
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
        return entry_of(found)
    except UNREADABLE_DATA_SET as error:
        raise UnreadableImage(f"expected a data set in {syntax.name}") from error


def entry_of(found: Dataset) -> Entry:
    """Return the index attributes of a data set that was read."""

    def text(keyword: str) -> str:
        value = found.get(keyword)
        return "" if value is None else str(value)

    return Entry(
        text("SOPInstanceUID"), text("SOPClassUID"), text("StudyInstanceUID"), text("SeriesInstanceUID"), text("PatientID"),
        text("PatientName"), text("AccessionNumber"), text("StudyDate"), text("StudyDescription"), text("Modality"),
    )  # fmt: skip


class _Memory(RawIOBase):
    """A file over memory, for readers of its beginning: `BytesIO` would copy all of it."""

    def __init__(self, content: Buffer) -> None:
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


def _is_behind_index(tag: BaseTag, _: str | None, __: int) -> bool:
    return int(tag) > _LAST_INDEXED_TAG
