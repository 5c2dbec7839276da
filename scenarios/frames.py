"""Records as data frames: the only place where record files become polars frames.

`scan_operations` and `scan_receipts` read nothing yet: they return lazy frames, which read the columns and rows that are
asked of them, piece by piece. That is the way for load runs, whose files are larger than memory should be;
`operations_frame` and `receipts_frame` read everything. Checkers take either kind (`Frame`) and get what they need by
`columns`, or by `batches` where even one column too many would not fit.

Addresses and node names are categoricals (a number a row, spelt as text), a digest is two columns of 64 bits. A join never
needs the text of an identity: `key` (58 bits, of one run) is enough.
"""

from __future__ import annotations

import io
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.io.plugins import register_io_source

from simulators.journal import RECEIPT_FIELDS, RECEIPT_MAGIC, Flag
from simulators.operations import HEADER_BYTES, OPERATION_FIELDS, OPERATION_MAGIC, RecordError, check_header, text_address

Frame = pl.DataFrame | pl.LazyFrame
Halves = npt.NDArray[np.uint64]
AFrame = TypeVar("AFrame", pl.DataFrame, pl.LazyFrame)
BATCH_ROWS = 1 << 17
_BLOCK_ROWS = 1 << 12  # half a megabyte of records
_PLACE_BITS = 17
_THREADS = 2  # more than two read faster than checkers judge
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
        for batch in _read_ahead(_pieces(files, dtype), [_Reader(dtype, names, predicate) for _ in range(_THREADS)]):
            yield batch if rows is None else batch.head(rows)
            if rows is not None and (rows := rows - batch.height) <= 0:
                return

    return register_io_source(read, schema=_schema(dtype), is_pure=True)


def _schema(dtype: np.dtype[np.void]) -> dict[str, pl.DataType]:
    empty = np.empty(0, dtype)
    return {
        name: pl.Categorical() if empty[name].dtype == _WORD else pl.Series(empty[name]).dtype for name in dtype.names or ()
    }


class _Piece(NamedTuple):
    """Some records of a file: which, and how many."""

    path: Path
    begin: int
    records: int


def _pieces(files: Sequence[Path], dtype: np.dtype[np.void]) -> Iterator[_Piece]:
    """Yield pieces of at most BATCH_ROWS records, which are all of the files as they are now; a torn record is left out."""
    for path in files:
        whole = (path.stat().st_size - HEADER_BYTES) // dtype.itemsize
        for begin in range(0, whole, BATCH_ROWS):
            yield _Piece(path, begin, min(BATCH_ROWS, whole - begin))


def _read_ahead(pieces: Iterator[_Piece], readers: Sequence[_Reader]) -> Iterator[pl.DataFrame]:
    """Yield pieces as frames, in order, while the next ones are read by a thread for each reader."""
    idle: SimpleQueue[_Reader] = SimpleQueue()
    for reader in readers:
        idle.put(reader)

    def read(piece: _Piece) -> pl.DataFrame:
        reader = idle.get()
        try:
            return reader.read(piece)
        finally:
            idle.put(reader)

    with ThreadPoolExecutor(len(readers)) as pool:
        ahead = deque(pool.submit(read, piece) for piece in itertools.islice(pieces, len(readers) + 1))
        while ahead:
            frame = ahead.popleft().result()
            ahead.extend(pool.submit(read, piece) for piece in itertools.islice(pieces, 1))
            yield frame


class _Reader:
    """Reads some columns of the records that meet a condition; with a buffer and dictionaries of its own, for one thread."""

    def __init__(self, dtype: np.dtype[np.void], names: Sequence[str], predicate: pl.Expr | None) -> None:
        self._names = names
        self._predicate = predicate
        tested = predicate.meta.root_names() if predicate is not None else []
        self._buffer = np.empty(BATCH_ROWS, dtype)
        self._dictionaries = {name: _Dictionary(name) for name in {*names, *tested} if dtype[name] == _WORD}

    def read(self, piece: _Piece) -> pl.DataFrame:
        """Return a piece as a frame. Words are spelt only in records that are kept, unless the condition is on them."""
        records = self._buffer[: piece.records]
        with piece.path.open("rb", buffering=0) as file:
            file.seek(HEADER_BYTES + piece.begin * records.itemsize)
            _fill(file, records)
        if self._predicate is None:
            return pl.DataFrame(self._series(self._names, records))
        tested = pl.DataFrame(self._series(self._predicate.meta.root_names(), records))
        kept = tested.select(self._predicate).to_series()
        return pl.DataFrame(self._series(self._names, records, kept.arg_true().to_numpy()))

    def _series(
        self, names: Sequence[str], records: npt.NDArray[np.void], kept: npt.NDArray[np.uint32] | None = None
    ) -> Iterator[pl.Series]:
        """Yield copies of columns; of the kept rows only, if given."""
        for name, parts in zip(names, _copied(names, records, kept), strict=True):
            if name in self._dictionaries:
                head, tail = (part.view(np.uint64) for part in parts)
                yield self._dictionaries[name].series(name, head, tail)
            else:
                yield pl.Series(name, parts[0])


def _copied(
    names: Sequence[str], records: npt.NDArray[np.void], kept: npt.NDArray[np.uint32] | None
) -> list[list[npt.NDArray[np.generic]]]:
    """Return copies of columns, made for some records after the others: so they stay in the processor's own cache.

    Of kept rows, the whole records are taken out first: numpy takes a record as fast as one field of it.
    """
    rows = len(records) if kept is None else len(kept)
    copies = [[np.empty(rows, part.dtype) for part in _parts(records[name])] for name in names]
    plain = records.view(f"V{records.itemsize}")
    for begin in range(0, rows, _BLOCK_ROWS):
        place = slice(begin, min(begin + _BLOCK_ROWS, rows))
        block = records[place] if kept is None else plain.take(kept[place]).view(records.dtype)
        for name, parts in zip(names, copies, strict=True):
            for copy, part in zip(parts, _parts(block[name]), strict=True):
                copy[place] = part
    return copies


def _parts(values: npt.NDArray[np.void]) -> list[npt.NDArray[np.generic]]:
    """Return a number as it is, a word in two halves."""
    return [values["head"], values["tail"]] if values.dtype == _WORD else [values]


def _fill(file: io.FileIO, buffer: npt.NDArray[np.void]) -> None:
    space = buffer.view(np.uint8).data
    filled = 0
    while filled < len(space):
        more = file.readinto(space[filled:])
        if not more:
            raise RecordError(f"{file.name}: expected {len(space) - filled} bytes more, found the file cut short meanwhile")
        filled += more


class _Dictionary:
    """Spells words of 16 packed bytes, of which there are few that come often: each is decoded once.

    A table of hashes finds nearly every word at once; those that share a place in it are looked up one by one.
    """

    def __init__(self, name: str) -> None:
        self._spell: Callable[[bytes], str] = text_address if name in _ADDRESSES else _text_of_bytes
        self._places = np.zeros(1 << _PLACE_BITS, np.intp)
        self._numbers: dict[bytes, int] = {}
        self._heads, self._tails = np.empty(0, np.uint64), np.empty(0, np.uint64)
        self._words = pl.Series([], dtype=pl.Categorical)

    def series(self, name: str, head: Halves, tail: Halves) -> pl.Series:
        """Return words, given as their first and last eight bytes, as a categorical series."""
        if not self._numbers and len(head):
            self._learn(head[:1], tail[:1])
        numbers = self._places.take(_hashed(head, tail))
        astray = np.flatnonzero((self._heads.take(numbers) != head) | (self._tails.take(numbers) != tail))
        if len(astray):
            first, inverse = _distinct(head[astray], tail[astray])
            numbers[astray] = self._learn(head[astray[first]], tail[astray[first]])[inverse]
        return self._words.gather(pl.Series(numbers)).alias(name)

    def _learn(self, head: Halves, tail: Halves) -> npt.NDArray[np.intp]:
        """Return the numbers of distinct words; new ones are added."""
        items = [item.tobytes() for item in np.column_stack([head, tail])]
        new = np.array([item not in self._numbers for item in items])
        for item in items:
            self._numbers.setdefault(item, len(self._numbers))
        numbers = np.array([self._numbers[item] for item in items], np.intp)
        self._places[_hashed(head[new], tail[new])] = numbers[new]
        self._heads, self._tails = np.concatenate([self._heads, head[new]]), np.concatenate([self._tails, tail[new]])
        words = [self._spell(item) for item in list(self._numbers)[len(self._words) :]]
        self._words = pl.concat([self._words, pl.Series(words, dtype=pl.Categorical)])
        return numbers


def _hashed(head: Halves, tail: Halves) -> npt.NDArray[np.intp]:
    """Return a place for each word (multiplicative hashing: the high bits of a product)."""
    mixed = (head ^ (tail * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xC2B2AE3D27D4EB4F)
    return (mixed >> np.uint64(64 - _PLACE_BITS)).view(np.intp)


def _distinct(head: Halves, tail: Halves) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where each distinct word stands first, and which of them each word is (np.unique of pairs is far slower)."""
    heads, head_of = np.unique(head, return_inverse=True)
    _, tail_of = np.unique(tail, return_inverse=True)
    _, first, inverse = np.unique(tail_of * len(heads) + head_of, return_index=True, return_inverse=True)
    return first, inverse


def _text_of_bytes(packed: bytes) -> str:
    return packed.rstrip(b"\x00").decode("ascii", "replace")
