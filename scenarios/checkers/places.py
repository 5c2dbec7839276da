"""A place for each identity in arrays: what joins twenty million operations with their receipts without a hash or a sort.

Keys are given out densely, counted from 1 by each generator, so where a key lies can be looked up in an array. Keys that are
not dense (a few operations of a long run) are searched for in sorted order instead: slower, and no larger than they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulators.operations import GENERATOR_BITS, SEQUENCE_BITS

Keys = npt.NDArray[np.uint64]
Found = npt.NDArray[np.intp]

_GENERATORS = 1 << GENERATOR_BITS
_SEQUENCE = np.uint64((1 << SEQUENCE_BITS) - 1)
_SHIFT = np.uint64(SEQUENCE_BITS)
_BLOCK = 1 << 17  # keys at a time: what is computed in between stays in the cache
_SPARSE = 16  # an array of more places than this for each key is not worth its memory


class Places:
    """The distinct keys among some, numbered from 0 in the order of their value.

    Parameters
    ----------
    keys : array of uint64, any order, repetitions allowed
        Join keys of one run, each below 2**58.

    Attributes
    ----------
    count : int
        How many distinct keys there are.
    """

    def __init__(self, keys: Keys) -> None:
        self._last = np.full(_GENERATORS + 1, -1, np.int64)  # of each generator; the one too many has no keys
        for block in _blocks(keys):
            generator = (block >> _SHIFT).astype(np.intp)
            if generator[0] == generator[-1] and (generator == generator[0]).all():  # of one history: as it is, mostly
                self._last[generator[0]] = max(self._last[generator[0]], int((block & _SEQUENCE).max()))
            else:
                np.maximum.at(self._last, generator, (block & _SEQUENCE).astype(np.int64))
        spans = self._last + 1
        self._begin = np.cumsum(spans) - spans
        span = int(spans.sum())
        self._sorted: Keys | None = np.unique(keys) if span > _SPARSE * len(keys) + _BLOCK else None
        if self._sorted is not None:
            self.count = len(self._sorted)
            return
        known = np.zeros(span + 1, np.bool_)  # the last place is that of all unknown keys
        for block in _blocks(keys):
            known[self._offsets(block)] = True
        self._number = np.cumsum(known, dtype=np.int32)
        self.count = int(self._number[-1])
        self._number -= 1
        self._number[~known] = -1

    def of(self, keys: Keys) -> Found:
        """Return the number of each key, -1 for one that was not among those given."""
        found = np.empty(len(keys), np.intp)
        done = 0
        for block in _blocks(keys):
            found[done : done + len(block)] = self._found(block)
            done += len(block)
        return found

    def _found(self, keys: Keys) -> npt.NDArray[np.integer]:
        if self._sorted is None:
            return self._number[self._offsets(keys)]
        if not self.count:
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self._sorted, keys), self.count - 1)
        return np.where(self._sorted[at] == keys, at, -1)

    def _offsets(self, keys: Keys) -> Found:
        generator = np.minimum(keys >> _SHIFT, np.uint64(_GENERATORS)).astype(np.intp)
        sequence = (keys & _SEQUENCE).astype(np.int64)
        return np.where(sequence <= self._last[generator], self._begin[generator] + sequence, -1)


def _blocks(keys: Keys) -> list[Keys]:
    return [keys[begin : begin + _BLOCK] for begin in range(0, len(keys), _BLOCK)]
