"""Records as data frames: the only place where record files become polars frames.

A join never needs the text of an identity: `key` (58 bits, of one run) is enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from simulators.journal import RECEIPT_FIELDS, RECEIPT_MAGIC, Flag
from simulators.operations import HEADER_BYTES, OPERATION_FIELDS, OPERATION_MAGIC, check_header, text_address

_NUMPY = {"B": "u1", "H": "<u2", "I": "<u4", "Q": "<u8", "q": "<i8"}
_TEXT = ("node", "caller")
_ADDRESSES = ("source", "target", "peer")


def _dtype(fields: tuple[tuple[str, str], ...]) -> np.dtype[np.void]:
    columns: list[tuple[str, str]] = []
    for name, code in fields:
        if name == "digest":
            columns += [("digest_a", "<u8"), ("digest_b", "<u8")]
        else:
            columns.append((name, _NUMPY.get(code, "V16")))
    return np.dtype(columns)


OPERATION_DTYPE = _dtype(OPERATION_FIELDS)
RECEIPT_DTYPE = _dtype(RECEIPT_FIELDS)


def operations_frame(paths: Iterable[Path]) -> pl.DataFrame:
    """Return the operations of one or more histories (`simulators.operations.Operation`), one row each, in file order.

    Addresses and node names are text, a digest is two columns of 64 bits. Raises RecordError for another kind of file.
    """
    return _frame(paths, OPERATION_MAGIC, OPERATION_DTYPE)


def receipts_frame(paths: Iterable[Path]) -> pl.DataFrame:
    """Return the receipts of one or more journals (`simulators.journal.Receipt`), one row each, in file order."""
    return _frame(paths, RECEIPT_MAGIC, RECEIPT_DTYPE)


def own_receipts(receipts: pl.DataFrame, run: int) -> pl.DataFrame:
    """Return the receipts of this run's own payloads: neither foreign nor mere observations."""
    flags = pl.col("flags")
    special = int(Flag.FOREIGN | Flag.OBSERVATION)
    return receipts.filter((pl.col("run") == run) & (flags & special == 0))


def _frame(paths: Iterable[Path], magic: bytes, dtype: np.dtype[np.void]) -> pl.DataFrame:
    parts = [_records(path, magic, dtype) for path in paths]
    records = np.concatenate(parts) if parts else np.empty(0, dtype)
    names = dtype.names or ()
    return pl.DataFrame({name: _column(name, records[name]) for name in names})


def _records(path: Path, magic: bytes, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    content = path.read_bytes()
    check_header(path, content[:HEADER_BYTES], magic)
    whole = (len(content) - HEADER_BYTES) // dtype.itemsize
    return np.frombuffer(content, dtype, whole, HEADER_BYTES)


def _column(name: str, values: npt.NDArray[np.void]) -> pl.Series:
    if name not in _TEXT and name not in _ADDRESSES:
        return pl.Series(name, np.ascontiguousarray(values))
    distinct, places = np.unique(values, return_inverse=True)
    spell = _text_of_bytes if name in _TEXT else text_address
    words = [spell(item.tobytes()) for item in distinct]
    if not words:
        return pl.Series(name, [], dtype=pl.String)
    return pl.Series(name, words, dtype=pl.String).gather(pl.Series(places.astype(np.uint32)))


def _text_of_bytes(packed: bytes) -> str:
    return packed.rstrip(b"\x00").decode("ascii", "replace")
