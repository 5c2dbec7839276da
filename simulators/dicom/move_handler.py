"""What becomes of a C-MOVE request of the Study Root (PS3.4, C.4.2), whichever engine it came through.

What any node of the site has taken is sent to the one destination that is known, by C-STORE sub-operations on an association
that this node opens itself, from its own address: no balancer is on that way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode

from ..client import Failed
from ..node_store import Instance, SiteReader
from ..operations import Outcome, Phase
from ..outbound import TIMEOUTS, Outbound
from ..service import ServiceSettings
from .arrival import UNREADABLE_DATA_SET
from .dimse import CANCELLED, SUCCESS, WARNINGS, CommandField, SubOperations, c_store_rq
from .errors import ProtocolError
from .image_archive import data_set_of_file
from .negotiation import ProposedContext
from .requestor import Requestor, check_answer
from .store_handler import COMMENT_LETTERS

STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
PENDING, SOME_FAILED = 0xFF00, 0xB000  # PS3.4, table C.4-2
NO_SUB_OPERATION, DESTINATION_UNKNOWN, DOES_NOT_MATCH, UNABLE_TO_PROCESS = 0xA702, 0xA801, 0xA900, 0xC000
_LEVELS = {"STUDY": ("StudyInstanceUID", "study_uid"), "SERIES": ("SeriesInstanceUID", "series_uid"),
           "IMAGE": ("SOPInstanceUID", "sop_uid")}  # fmt: skip


class MoveAsked(NamedTuple):
    """One request as it came: its encoded identifier with its transfer syntax, its destination, its Message ID, who asks."""

    identifier: bytes
    transfer_syntax: str
    destination: str
    message_id: int
    caller: str


class Moved(NamedTuple):
    """How far a request is: the status of the response to send now; pending as long as sub-operations remain."""

    status: int
    counts: SubOperations = SubOperations()
    comment: str = ""

    @property
    def is_final(self) -> bool:
        """Whether no other response follows."""
        return self.status != PENDING


class MoveHandler:
    """Performs C-MOVE requests, of all associations and in any thread.

    Parameters
    ----------
    settings : ServiceSettings
        Where the images of the site are, and whom this node may send to.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._directories = tuple(map(Path, settings.site_directories))
        self._ae_title = settings.ae_title
        self._outbound = settings.outbound

    def perform(self, asked: MoveAsked, is_cancelled: Callable[[], bool]) -> Iterator[Moved]:
        """Yield the responses to a request, the last one final; what they say has been done when they are yielded."""
        outbound = self._outbound
        if outbound is None or asked.destination != outbound.ae_title:
            yield _refused(DESTINATION_UNKNOWN, f"expected {outbound.ae_title if outbound else 'no destination at all'}")
            return
        try:
            level, uids = _understood(asked)
            found = self._found(level, uids)
        except ValueError as error:
            yield _refused(DOES_NOT_MATCH, str(error))
            return
        except UNREADABLE_DATA_SET:
            yield _refused(UNABLE_TO_PROCESS, "the identifier cannot be read")
            return
        except sqlite3.Error as error:
            yield _refused(UNABLE_TO_PROCESS, str(error))
            return
        yield from self._sent(asked, outbound, found, is_cancelled)

    def _sent(
        self, asked: MoveAsked, outbound: Outbound, found: Sequence[Instance], is_cancelled: Callable[[], bool]
    ) -> Iterator[Moved]:
        sender = _Sender(outbound, self._ae_title, found)
        counts = SubOperations(remaining=len(found))
        comment = ""
        try:
            for instance in found:
                if is_cancelled():
                    yield Moved(CANCELLED, counts)
                    return
                try:
                    status = sender.store(instance, self._data_set(instance), (asked.caller, asked.message_id))
                    comment = "" if status in (SUCCESS, *WARNINGS) else f"the destination answered {status:04X}H"
                except (Failed, ProtocolError, OSError) as error:
                    status, comment = -1, str(error)
                counts = _counted(counts, status)
                if counts.remaining:
                    yield Moved(PENDING, counts)
        finally:
            sender.release()
        yield _ended(counts, comment)

    def _found(self, level: str, uids: Sequence[str]) -> list[Instance]:
        column = _LEVELS[level][1]
        reader = SiteReader(self._directories)
        try:
            return reader.instances(f"{column} IN ({','.join('?' * len(uids))})", tuple(uids))
        finally:
            reader.close()

    def _data_set(self, instance: Instance) -> bytes:
        for directory in self._directories:
            path = directory / instance.file
            if instance.file and path.exists():
                return data_set_of_file(path)
        raise OSError("expected the image on a node of the site, found its row alone")


class _Sender(Requestor):
    """Stores kept images at a destination, as they were received."""

    def __init__(self, outbound: Outbound, calling_ae: str, images: Sequence[Instance]) -> None:
        pairs = dict.fromkeys((image.sop_class, image.transfer_syntax) for image in images)
        super().__init__(
            outbound.dicom, outbound.source, calling_ae=calling_ae, called_ae=outbound.ae_title,
            contexts=[ProposedContext(sop_class, (syntax,)) for sop_class, syntax in pairs], timeouts=TIMEOUTS,
        )  # fmt: skip

    def store(self, image: Instance, data_set: bytes, originator: tuple[str, int]) -> int:
        """Store one image; return the status that it was answered. Raises Failed when it was not answered."""
        association = self._ready()
        context_id = association.context_for(image.sop_class, image.transfer_syntax)
        if context_id is None:
            found = f"expected {image.sop_class} in {image.transfer_syntax} to be accepted, found it refused"
            raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, found)
        message_id = self._next_message_id()
        command = c_store_rq(message_id, image.sop_class, image.sop_uid, originator=originator)
        response, _ = association.request(context_id, command, (data_set,))
        check_answer(response, CommandField.C_STORE_RSP, message_id)
        return response.status


def _understood(asked: MoveAsked) -> tuple[str, list[str]]:
    """Return the level of a request and the UIDs that it names there. Raises ValueError when it has none."""
    syntax = UID(asked.transfer_syntax)
    identifier: Dataset = decode(
        BytesIO(asked.identifier), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated
    )
    level = str(identifier.get("QueryRetrieveLevel", "")).strip()
    if level not in _LEVELS:
        raise ValueError(f"Query/Retrieve Level: expected one of {', '.join(_LEVELS)}")
    value = identifier.get(_LEVELS[level][0]) or ()
    uids = [value] if isinstance(value, str) else list(value)
    if not any(uids):
        raise ValueError(f"{_LEVELS[level][0]}: expected at least one UID")
    return level, [str(uid) for uid in uids]


def _counted(counts: SubOperations, status: int) -> SubOperations:
    counts = counts._replace(remaining=counts.remaining - 1)
    if status == SUCCESS:
        return counts._replace(completed=counts.completed + 1)
    if status in WARNINGS:
        return counts._replace(warning=counts.warning + 1)
    return counts._replace(failed=counts.failed + 1)


def _ended(counts: SubOperations, comment: str) -> Moved:
    """Return the final response: success, a warning when some sub-operations failed, a refusal when all did (C.4.2.3.1)."""
    if not counts.failed and not counts.warning:
        return Moved(SUCCESS, counts)
    if counts.completed or counts.warning:
        return Moved(SOME_FAILED, counts, _comment(comment))
    return Moved(NO_SUB_OPERATION, counts, _comment(comment))


def _refused(status: int, comment: str) -> Moved:
    return Moved(status, SubOperations(), _comment(comment))


def _comment(text: str) -> str:
    return text[:COMMENT_LETTERS].replace("\\", "/")
