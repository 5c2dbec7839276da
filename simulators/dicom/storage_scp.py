"""The storage SCP of a node: C-ECHO and C-STORE, on pynetdicom: `python -m simulators.dicom.storage_scp SETTINGS.json`.

What it acknowledges is safe: first the image (in keep), then its receipt, then the row of the index, then the response.
The data set is never decoded: it is digested and kept as it came over the wire.
"""

from __future__ import annotations

import itertools
import sqlite3
from typing import NoReturn, cast

from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import Verification, register_uid, uid_to_service_class  # type: ignore[attr-defined]

from ..misbehaviour import Misbehaviour
from ..operations import RecordError
from ..service import ServiceSettings
from . import scp
from .image_archive import Arrival, ImageArchive, UnreadableImage

SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000  # PS3.4, table B.2-1
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_REAL_TIME_ONLY = "1.2.840.10008.1.2.7."  # SMPTE ST 2110: never stored


def main() -> NoReturn:
    """Run the service until SIGTERM."""
    scp.main(storage_service)


def storage_service(settings: ServiceSettings) -> tuple[list[PresentationContext], scp.Handlers]:
    """Return the presentation contexts and handlers of a storage SCP; opens its archive.

    Raises
    ------
    RecordError, OSError, sqlite3.Error
        When journal, images or index cannot be opened.
    """
    archive = ImageArchive(settings.node_directory, settings.node, keeps=settings.storage == "keep")
    return storage_contexts(), [(evt.EVT_C_ECHO, answer_echo), (evt.EVT_C_STORE, StoreHandler(settings, archive))]


def storage_contexts() -> list[PresentationContext]:
    """Return Verification and every storage SOP class, retired ones included, each with all transfer syntaxes."""
    syntaxes: list[str | UID] = [syntax for syntax in AllTransferSyntaxes if not syntax.startswith(_REAL_TIME_ONLY)]
    contexts = [build_context(Verification)]
    for uid, (_, kind, _, _, keyword) in UID_dictionary.items():
        if kind != "SOP Class" or not uid.startswith(_STORAGE_ROOT) or "Storage" not in keyword:
            continue
        if not issubclass(uid_to_service_class(uid), StorageServiceClass):
            register_uid(uid, keyword, StorageServiceClass)  # retired, or of another industry
        contexts.append(build_context(uid, syntaxes))
    return contexts


def answer_echo(_: Event) -> int:
    """Answer a C-ECHO."""
    return SUCCESS


class StoreHandler:
    """Takes C-STORE requests, of all associations.

    Parameters
    ----------
    settings : ServiceSettings
        For its misbehaviour.
    archive : ImageArchive
        Where images go.
    """

    def __init__(self, settings: ServiceSettings, archive: ImageArchive) -> None:
        self._archive = archive
        self._loses = settings.has(Misbehaviour.LOSES_EVERY_200TH)
        self._doubles = settings.has(Misbehaviour.STORES_ONE_TWICE)
        self._count = itertools.count(1)  # next() of a count is atomic in CPython

    def __call__(self, event: Event) -> int | Dataset:
        """Store one image (EVT_C_STORE) and return the status of its response (PS3.4, B.2.3)."""
        is_200th = next(self._count) % 200 == 0
        if is_200th and self._loses:
            return SUCCESS
        request = cast(C_STORE, event.request)
        if request.DataSet is None:
            return _failure(CANNOT_UNDERSTAND, "no data set")
        arrival = Arrival(
            str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID), UID(event.context.transfer_syntax),
            request.DataSet, scp.peer_of(event), scp.calling_ae_of(event),
        )  # fmt: skip
        try:
            entry = arrival.read()
            if (entry.sop_class, entry.sop_uid) != (arrival.sop_class, arrival.sop_uid):
                return _failure(DOES_NOT_MATCH, "SOP Class or Instance UID of command and data set differ")
            self._archive.store(arrival, entry, times=2 if is_200th and self._doubles else 1)
        except UnreadableImage as error:
            return _failure(CANNOT_UNDERSTAND, str(error))
        except (RecordError, OSError, sqlite3.Error) as error:
            return _failure(OUT_OF_RESOURCES, str(error))
        return SUCCESS


def _failure(status: int, comment: str) -> Dataset:
    response = Dataset()
    response.Status = status
    response.ErrorComment = comment[:64]  # LO
    return response


if __name__ == "__main__":
    main()
