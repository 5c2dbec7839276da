"""What becomes of a C-STORE request (PS3.4, annex B), whichever engine it came through.

An engine has two steps: `take` for each image, which may run in any thread, then `record` for as many as it likes at a
time, and then it answers. What is acknowledged is safe: first the image (in keep), then its receipt, then its row.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import xxhash

from ..journal import Journal
from ..misbehaviour import Misbehaviour
from ..operations import RecordError, Service, run_key_and_kind_of_uid
from ..service import ServiceSettings, SettingsError
from .arrival import Arrival, Digested, UnreadableImage
from .image_archive import ImageArchive, Taken, receipt_of

SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000  # PS3.4, table B.2-1
COMMENT_LETTERS = 64  # an Error Comment is an LO


class Answer(NamedTuple):
    """The status of a response, and its Error Comment where it fails."""

    status: int
    comment: str = ""


STORED = Answer(SUCCESS)
NO_DATA_SET = Answer(CANNOT_UNDERSTAND, "no data set")


class StoreHandler:
    """Takes C-STORE requests, of all associations.

    Parameters
    ----------
    settings : ServiceSettings
        Where the images go, and the misbehaviour.

    Raises
    ------
    SettingsError
        When several processes are to keep images: each copies, counts and indexes as if it were alone.
    RecordError, OSError, sqlite3.Error
        When journal, images or index cannot be opened.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        shared = settings.processes > 1
        self.keeps = settings.storage == "keep"  # images as files, indexed; else their receipts alone
        if self.keeps and shared:
            raise SettingsError(
                f'processes: expected 1 where images are kept, found {settings.processes}; set storage to "digest" for more'
            )
        self._journal = Journal(settings.node_directory, settings.node, Service.DICOM, shared=shared)
        self._archive = ImageArchive(settings.node_directory, self._journal) if self.keeps else None
        self._loses = settings.has(Misbehaviour.LOSES_EVERY_200TH)
        self._loses_rarely = settings.has(Misbehaviour.LOSES_EVERY_5000TH)
        self._doubles = settings.has(Misbehaviour.STORES_ONE_TWICE)
        self._count = itertools.count(1)  # next() of a count is atomic in CPython

    def take(self, arrival: Arrival) -> Taken | Answer:
        """Check and keep one image; return what is to be recorded before it is acknowledged, or the answer if it is not.

        A node that keeps reads the data set as far as its index attributes; one that digests does not look into it.
        """
        number = next(self._count)
        is_200th = number % 200 == 0
        if (is_200th and self._loses) or (self._loses_rarely and number % 5000 == 2500):  # in the middle: most runs have one
            return STORED
        times = 2 if is_200th and self._doubles else 1
        try:
            if self._archive is None:
                return self._digested(arrival, times)
            entry = arrival.read()
            if (entry.sop_class, entry.sop_uid) != (arrival.sop_class, arrival.sop_uid):
                return _failure(DOES_NOT_MATCH, "SOP Class or Instance UID of command and data set differ")
            return self._archive.take(arrival, entry, times=times)
        except UnreadableImage as error:
            return _failure(CANNOT_UNDERSTAND, str(error))
        except OSError as error:
            return _failure(OUT_OF_RESOURCES, str(error))

    def record(self, taken: Sequence[Taken]) -> Answer:
        """Write receipts and rows of images; return the answer to all of them."""
        try:
            if self._archive is None:
                self._journal.append_packed([one.receipt * one.times for one in taken])
            else:
                self._archive.record(taken)
        except (RecordError, OSError, sqlite3.Error) as error:
            return _failure(OUT_OF_RESOURCES, str(error))
        return STORED

    def close(self) -> None:
        """Close archive and journal."""
        if self._archive is not None:
            self._archive.close()
        self._journal.close()

    def _digested(self, arrival: Arrival, times: int) -> Taken:
        named = run_key_and_kind_of_uid(arrival.sop_uid)
        if named is None:  # ours are safe
            arrival.check_uid()
        data_set = arrival.data_set
        digest = data_set.digest() if isinstance(data_set, Digested) else xxhash.xxh3_128_digest(data_set)
        return Taken(receipt_of(arrival, named, digest, len(data_set), self._journal), times)


def _failure(status: int, comment: str) -> Answer:
    return Answer(status, comment[:COMMENT_LETTERS])
