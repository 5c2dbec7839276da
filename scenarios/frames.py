"""Records as data frames: the only place where record files become polars frames.

`scan_operations` and `scan_receipts` read nothing yet: they return lazy frames, which read the columns and rows that are
asked of them, piece by piece. That is the way for load runs, whose files are larger than memory should be;
`operations_frame` and `receipts_frame` read everything. Checkers take either kind (`Frame`) and get what they need by
`columns`, or by `batches` where even one column too many would not fit.

Addresses and node names are categoricals (a number a row, spelt as text), a digest is two columns of 64 bits. A join never
needs the text of an identity: `key` (58 bits, of one run) is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.io.plugins import register_io_source

from simulators.journal import RECEIPT_FIELDS, RECEIPT_MAGIC, Flag
from simulators.operations import HEADER_BYTES, OPERATION_FIELDS, OPERATION_MAGIC, check_header, text_address

Frame = pl.DataFrame | pl.LazyFrame
AFrame = TypeVar("AFrame", pl.DataFrame, pl.LazyFrame)
BATCH_ROWS = 1 << 17
_BUFFER_ROWS = 1 << 14  # two megabytes: what is read is still in the processor's cache when its columns are taken out
_NUMPY = {"B": "u1", "H": "<u2", "I": "<u4", "Q": "<u8", "q": "<i8"}
_WORD = np.dtype([("head", "<u8"), ("tail", "<u8")])
_NAMES = ("node", "caller")
_ADDRESSES = ("source", "target", "peer")


def _dtype(fields: tuple[tuple[str, str], ...]) -> np.dtype[np.void]:
    columns: list[tuple[str, str | np.dtype[np.void]]] = []
    for name, code in fields:
        if name == "digest":
            columns += [("digest_a", "<u8"), ("digest_b", "<u8")]
        else:
            columns.append((name, _NUMPY.get(code, _WORD)))
    return np.dtype(columns)


OPERATION_DTYPE = _dtype(OPERATION_FIELDS)
RECEIPT_DTYPE = _dtype(RECEIPT_FIELDS)


def scan_operations(paths: Iterable[Path]) -> pl.LazyFrame:
    """Return the operations of one or more histories (`simulators.operations.Operation`), one row each, in file order.

    Every collection reads the files again, as they are then. Raises RecordError for another kind of file.
    """
    return _scan(paths, OPERATION_MAGIC, OPERATION_DTYPE)


def scan_receipts(paths: Iterable[Path]) -> pl.LazyFrame:
    """Return the receipts of one or more journals (`simulators.journal.Receipt`), as `scan_operations` does."""
    return _scan(paths, RECEIPT_MAGIC, RECEIPT_DTYPE)


def operations_frame(paths: Iterable[Path]) -> pl.DataFrame:
    """Return all columns of the operations of one or more histories. Raises RecordError for another kind of file."""
    return scan_operations(paths).collect()


def receipts_frame(paths: Iterable[Path]) -> pl.DataFrame:
    """Return all columns of the receipts of one or more journals. Raises RecordError for another kind of file."""
    return scan_receipts(paths).collect()


def own_receipts(receipts: AFrame, run: int) -> AFrame:
    """Return the receipts of this run's own payloads: neither foreign nor mere observations."""
    special = int(Flag.FOREIGN | Flag.OBSERVATION)
    return receipts.filter((pl.col("run") == run) & (pl.col("flags") & special == 0))


def columns(frame: Frame, *names: str) -> pl.DataFrame:
    """Return some columns of a frame, all rows, in memory."""
    return frame.lazy().select(names).collect()


def batches(frame: Frame, *names: str) -> Iterator[pl.DataFrame]:
    """Yield some columns of a frame, about 131,072 rows at a time, so that never all of them are in memory."""
    yield from frame.lazy().select(names).collect_batches(chunk_size=BATCH_ROWS)


def _scan(paths: Iterable[Path], magic: bytes, dtype: np.dtype[np.void]) -> pl.LazyFrame:
    files = list(paths)
    for path in files:
        with path.open("rb") as file:
            check_header(path, file.read(HEADER_BYTES), magic)

    def read(wanted: list[str] | None, predicate: pl.Expr | None, rows: int | None, _: int | None) -> Iterator[pl.DataFrame]:
        names = wanted if wanted is not None else list(dtype.names or ())
        tested = predicate.meta.root_names() if predicate is not None else []
        for batch in _batches(files, dtype, [*names, *(name for name in tested if name not in names)]):
            kept = (batch if predicate is None else batch.filter(predicate)).select(names)
            yield kept if rows is None else kept.head(rows)
            if rows is not None and (rows := rows - kept.height) <= 0:
                return

    return register_io_source(read, schema=_schema(dtype), is_pure=True)


def _schema(dtype: np.dtype[np.void]) -> dict[str, pl.DataType]:
    empty = np.empty(0, dtype)
    return {
        name: pl.Categorical() if empty[name].dtype == _WORD else pl.Series(empty[name]).dtype for name in dtype.names or ()
    }


def _batches(files: Sequence[Path], dtype: np.dtype[np.void], names: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield columns of all records of some files, BATCH_ROWS at a time."""
    buffer = np.empty(_BUFFER_ROWS, dtype)
    dictionaries = {name: _Dictionary(text_address if name in _ADDRESSES else _text_of_bytes) for name in names}
    for path in files:
        with path.open("rb", buffering=0) as file:
            file.seek(HEADER_BYTES)
            while True:
                filled = {name: np.empty(BATCH_ROWS, dtype[name]) for name in names}
                count = 0
                while count < BATCH_ROWS and (more := _fill(file.readinto, buffer)):
                    for name, column in filled.items():
                        column[count : count + more] = buffer[name][:more]
                    count += more
                if not count:
                    break
                yield pl.DataFrame(
                    [
                        dictionaries[name].series(name, column[:count])
                        if column.dtype == _WORD
                        else pl.Series(name, column[:count])
                        for name, column in filled.items()
                    ]
                )


def _fill(read_into: Callable[[memoryview], int | None], buffer: npt.NDArray[np.void]) -> int:
    """Fill a buffer with whole records as far as there are any; return how many. A torn one at the end is left out."""
    space = buffer.view(np.uint8).data
    filled = 0
    while filled < len(space) and (more := read_into(space[filled:])):
        filled += more
    return filled // buffer.itemsize


class _Dictionary:
    """Spells words of 16 packed bytes, of which there are few that come often: each is decoded once.

    A table of hashes finds nearly every word at once; those that share a place in it are looked up one by one.
    """

    def __init__(self, spell: Callable[[bytes], str]) -> None:
        self._spell = spell
        self._places = np.zeros(1 << 17, np.uint32)
        self._numbers: dict[bytes, int] = {}
        self._known = np.empty(0, _WORD)
        self._words = pl.Series([], dtype=pl.Categorical)

    def series(self, name: str, packed: npt.NDArray[np.void]) -> pl.Series:
        """Return packed words as a categorical series."""
        head, tail = packed["head"], packed["tail"]
        places = _hashed(head, tail)
        numbers = self._places[places]
        if not len(self._known):
            astray = np.arange(len(packed))
        else:
            astray = np.flatnonzero((self._known["head"][numbers] != head) | (self._known["tail"][numbers] != tail))
        if len(astray):
            first, inverse = _distinct(head[astray], tail[astray])
            numbers[astray] = self._learn(packed[astray[first]])[inverse]
        return self._words.gather(pl.Series(numbers)).alias(name)

    def _learn(self, distinct: npt.NDArray[np.void]) -> npt.NDArray[np.uint32]:
        """Return the numbers of words; new ones are added."""
        items = [item.tobytes() for item in distinct]
        new = [item for item in items if item not in self._numbers]
        for item in new:
            self._numbers[item] = len(self._numbers)
        if new:
            added = np.frombuffer(b"".join(new), _WORD)
            self._places[_hashed(added["head"], added["tail"])] = [self._numbers[item] for item in new]
            self._known = np.concatenate([self._known, added])
            self._words = pl.Series([*self._words, *map(self._spell, new)], dtype=pl.Categorical)
        return np.array([self._numbers[item] for item in items], np.uint32)


def _hashed(head: npt.NDArray[np.uint64], tail: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a place for each word, 0 to 2**17 - 1 (multiplicative hashing: the high bits of a product)."""
    return ((head ^ (tail * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xC2B2AE3D27D4EB4F)) >> np.uint64(47)


def _distinct(
    head: npt.NDArray[np.uint64], tail: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where each distinct word stands first, and which of them each word is (np.unique of pairs is far slower)."""
    heads, head_of = np.unique(head, return_inverse=True)
    _, tail_of = np.unique(tail, return_inverse=True)
    _, first, inverse = np.unique(tail_of * len(heads) + head_of, return_index=True, return_inverse=True)
    return first, inverse


def _text_of_bytes(packed: bytes) -> str:
    return packed.rstrip(b"\x00").decode("ascii", "replace")
