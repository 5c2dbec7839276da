"""Storage commitment, Push Model (PS3.4, annex J): what both of its sides say."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"  # whom all requests and reports are about
REQUEST_COMMITMENT = 1  # the only Action Type ID
ALL_COMMITTED, SOME_NOT = 1, 2  # Event Type IDs
NO_SUCH_OBJECT = 0x0112  # the Failure Reason of an instance that nobody has


class Reference(NamedTuple):
    """One image: its SOP Class and its SOP Instance UID."""

    sop_class: str
    sop_instance: str


def encode_request(transaction_uid: str, images: Sequence[Reference], transfer_syntax: str) -> bytes:
    """Encode the action information of a request: these images, under this Transaction UID."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_item(image) for image in images]
    return _encoded(information, transfer_syntax)


def decode_request(information: bytes, transfer_syntax: str) -> tuple[str, list[Reference]]:
    """Return the Transaction UID and the images of a request.

    Raises
    ------
    ValueError
        When it names no transaction or no image.
    arrival.UNREADABLE_DATA_SET
        When it cannot be read.
    """
    content = _decoded(information, transfer_syntax)
    transaction = str(content.get("TransactionUID") or "")
    images = [
        Reference(str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or ""))
        for item in content.get("ReferencedSOPSequence") or ()
    ]
    if not transaction or not images or not all(image.sop_instance for image in images):
        raise ValueError("expected a Transaction UID and images")
    return transaction, images


def encode_report(
    transaction_uid: str, committed: Sequence[Reference], missing: Sequence[Reference], transfer_syntax: str
) -> bytes:
    """Encode the event information of a report: what is committed, and what is not, since nobody has it."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    if committed:
        information.ReferencedSOPSequence = [_item(image) for image in committed]
    if missing:
        information.FailedSOPSequence = [_item(image) for image in missing]
        for item in information.FailedSOPSequence:
            item.FailureReason = NO_SUCH_OBJECT
    return _encoded(information, transfer_syntax)


def _item(image: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image
    return item


def _encoded(content: Dataset, transfer_syntax: str) -> bytes:
    syntax = UID(transfer_syntax)
    encoded = encode(content, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if encoded is None:
        raise ValueError(f"storage commitment: expected UIDs, found what cannot be encoded: {content}")
    return encoded


def _decoded(content: bytes, transfer_syntax: str) -> Dataset:
    syntax = UID(transfer_syntax)
    return decode(BytesIO(content), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
