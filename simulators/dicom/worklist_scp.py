"""The worklist SCP of a node, on pynetdicom: `python -m simulators.dicom.worklist_scp SETTINGS.json`.

It answers C-ECHO and Modality Worklist C-FIND.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn, cast

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification  # type: ignore[attr-defined]

from ..service import ServiceSettings
from . import scp
from .find_handler import BETWEEN_CANCELS, CANCELLED, SUCCESS, WORKLIST_SYNTAXES, Asked, FindHandler, Found

Response = tuple[int | Dataset, Dataset | None]


def main() -> NoReturn:
    """Run the service until SIGTERM."""
    scp.main(worklist_service)


def worklist_service(settings: ServiceSettings) -> tuple[list[PresentationContext], scp.Handlers]:
    """Return the presentation contexts and handlers of a worklist SCP; opens its journal.

    Raises
    ------
    RecordError, OSError
        When the journal cannot be opened.
    """
    contexts = [build_context(Verification), build_context(ModalityWorklistInformationFind, list(WORKLIST_SYNTAXES))]
    return contexts, [(evt.EVT_C_ECHO, lambda _: SUCCESS), (evt.EVT_C_FIND, answer_find, [FindHandler(settings)])]


def answer_find(event: Event, handler: FindHandler) -> Iterator[Response]:
    """Yield the responses to one query (EVT_C_FIND): status, and the identifier of each match (PS3.4, C.4.1)."""
    identifier = cast(C_FIND, event.request).Identifier
    found = handler.search(
        Asked(
            identifier.getvalue() if identifier else b"", event.context.transfer_syntax, scp.peer_of(event),
            scp.calling_ae_of(event),
        )
    )  # fmt: skip
    if not isinstance(found, Found):
        yield scp.status_of(*found), None
        return
    connection = cast(scp.WaitingSocket, event.assoc.dul.socket)
    for number, order in enumerate(found.orders, 1):
        if number % BETWEEN_CANCELS == 0:
            connection.wait_until_heard()
        if event.is_cancelled and handler.heeds_cancel:
            yield CANCELLED, None
            return
        yield found.pending, found.query.answer(order)


if __name__ == "__main__":
    main()
