"""The storage SCP of a node, on pynetdicom: `python -m simulators.dicom.storage_scp SETTINGS.json`.

It answers C-ECHO, C-STORE, C-MOVE and requests for storage commitment. The data set is never decoded: it is digested and
kept as it came over the wire, and moved as it was kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_MOVE, C_STORE, N_ACTION
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove, Verification, register_uid, uid_to_service_class  # type: ignore[attr-defined]

from ..service import ServiceSettings
from . import scp
from .arrival import Arrival
from .commitment import STORAGE_COMMITMENT
from .commitment_handler import CommitmentAsked, CommitmentHandler
from .image_archive import Taken
from .move_handler import MoveAsked, Moved, MoveHandler
from .storage_classes import storage_sop_classes, storage_syntaxes
from .store_handler import NO_DATA_SET, SUCCESS, Answer, StoreHandler


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
    contexts, store = storage_contexts(), StoreHandler(settings)
    handlers: scp.Handlers = [(evt.EVT_C_ECHO, answer_echo), (evt.EVT_C_STORE, answer_store, [store])]
    if store.keeps:
        contexts.append(build_context(StudyRootQueryRetrieveInformationModelMove))
        handlers.append((evt.EVT_C_MOVE, answer_move, [MoveHandler(settings)]))
        contexts.append(build_context(STORAGE_COMMITMENT))
        handlers.append((evt.EVT_N_ACTION, answer_action, [CommitmentHandler(settings)]))
    return contexts, handlers


def storage_contexts() -> list[PresentationContext]:
    """Return Verification and every storage SOP class, retired ones included, each with all transfer syntaxes."""
    syntaxes: list[str | UID] = list(storage_syntaxes())
    contexts = [build_context(Verification)]
    for uid, keyword in storage_sop_classes().items():
        if not issubclass(uid_to_service_class(uid), StorageServiceClass):
            register_uid(uid, keyword, StorageServiceClass)  # retired, or of another industry
        contexts.append(build_context(uid, syntaxes))
    return contexts


def answer_echo(_: Event) -> int:
    """Answer a C-ECHO."""
    return SUCCESS


def answer_store(event: Event, handler: StoreHandler) -> int | Dataset:
    """Store one image (EVT_C_STORE) and return the status of its response (PS3.4, B.2.3)."""
    request = cast(C_STORE, event.request)
    if request.DataSet is None:
        return scp.status_of(*NO_DATA_SET)
    arrival = Arrival(
        str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID), event.context.transfer_syntax,
        request.DataSet.getbuffer(), scp.peer_of(event), scp.calling_ae_of(event),
    )  # fmt: skip
    taken = handler.take(arrival)
    answer: Answer = handler.record([taken]) if isinstance(taken, Taken) else taken
    return scp.status_of(*answer)


def answer_move(event: Event, handler: MoveHandler) -> Iterator[Moved]:
    """Yield the responses to one C-MOVE (EVT_C_MOVE), as `scp` sends them."""
    request = cast(C_MOVE, event.request)
    asked = MoveAsked(
        request.Identifier.getvalue() if request.Identifier else b"", event.context.transfer_syntax,
        str(request.MoveDestination or ""), request.MessageID or 0, scp.calling_ae_of(event),
    )  # fmt: skip
    return handler.perform(asked, lambda: event.is_cancelled)


def answer_action(event: Event, handler: CommitmentHandler) -> tuple[int | Dataset, None]:
    """Agree, or not, to report on the commitment of some images (EVT_N_ACTION)."""
    request = cast(N_ACTION, event.request)
    asked = CommitmentAsked(
        request.ActionInformation.getvalue() if request.ActionInformation else b"", event.context.transfer_syntax,
        str(request.RequestedSOPInstanceUID), request.ActionTypeID or 0, scp.calling_ae_of(event),
    )  # fmt: skip
    return scp.status_of(*handler.answer(asked)), None


if __name__ == "__main__":
    main()
