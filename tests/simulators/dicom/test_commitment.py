"""Storage commitment of any storage SCP of ours: who may ask, what the report says, and from which address it comes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from simulators.client import Attempt
from simulators.dicom.arrival import UNREADABLE_DATA_SET
from simulators.dicom.commitment import (
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    Reference,
    decode_request,
    encode_request,
)
from simulators.dicom.commitment_client import CommitmentClient
from simulators.dicom.instances import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from simulators.dicom.modality import Modality
from simulators.dicom.receiver import NOT_COMMITTED, ImageReceiver
from simulators.dicom.samples import generated_image
from simulators.misbehaviour import Misbehaviour
from simulators.operations import IdentitySource, Kind, Operation, Outcome
from simulators.outbound import Outbound
from simulators.received import Received, ReceivedLog

from .conftest import TIMEOUTS

if TYPE_CHECKING:
    from .conftest import RunningScp, StartScp

RECEIVER = "RECEIVER"
OWN_ADDRESS = "127.0.0.5"  # what the node sends from
IDENTITIES = IdentitySource(run=12, generator=1)
IMAGE = generated_image("CT", 8192, 1).instance
CT = IMAGE.sop_class
ABSENT = Reference(CT, "1.2.3")


@pytest.fixture
def log() -> ReceivedLog:
    return ReceivedLog()


@pytest.fixture
def outbound(log: ReceivedLog) -> Iterator[Outbound]:
    with socket.create_server(("127.0.0.1", 0)) as listening, ImageReceiver(listening, RECEIVER, {OWN_ADDRESS}, log):
        yield outbound_to(listening.getsockname()[1])


def outbound_to(port: int) -> Outbound:
    return Outbound(ae_title=RECEIVER, address="127.0.0.1", dicom_port=port, hl7_port=port, source=OWN_ADDRESS)


def stored(scp: RunningScp) -> Reference:
    study, series, patient = (IDENTITIES.next(kind) for kind in (Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    one = IDENTITIES.next(Kind.INSTANCE)
    with Modality(
        scp.target, "127.0.0.1", calling_ae="MODALITY", called_ae="MACH7", images=[IMAGE], timeouts=TIMEOUTS
    ) as modality:
        operation = modality.store(IMAGE.named(one, study, series, patient, None), Attempt(one))
    assert operation.outcome == Outcome.ACKNOWLEDGED
    return Reference(CT, one.uid)


def asked(scp: RunningScp, *images: Reference, caller: str = RECEIVER) -> tuple[str, Operation]:
    """Ask for a commitment; return the Transaction UID with the operation."""
    attempt = Attempt(IDENTITIES.next(Kind.QUERY))
    with CommitmentClient(scp.target, "127.0.0.1", calling_ae=caller, called_ae="MACH7", timeouts=TIMEOUTS) as client:
        return attempt.identity.uid, client.ask(attempt.identity.uid, images, attempt)


@contextmanager
def listening_port(theirs: ApplicationEntity, handlers: list[EventHandlerType]) -> Iterator[int]:
    """Let pynetdicom listen; yield its port."""
    server = theirs.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def reports(log: ReceivedLog, count: int) -> list[Received]:
    """Return what came once that many came, or what there is after ten seconds."""
    deadline = time.monotonic() + 10
    while len(log.entries()) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return log.entries()


def test_the_report_on_stored_images_comes_from_the_nodes_own_address(
    start_scp: StartScp, outbound: Outbound, log: ReceivedLog
) -> None:
    scp = start_scp("dicom", outbound=outbound)
    images = [stored(scp) for _ in range(3)]
    transaction, operation = asked(scp, *images)
    assert (operation.outcome, operation.status) == (Outcome.ACKNOWLEDGED, 0)
    assert reports(log, 1) == [Received(OWN_ADDRESS, transaction, admitted=True)]


def test_a_report_says_when_an_image_is_missing_or_of_another_class(
    start_scp: StartScp, outbound: Outbound, log: ReceivedLog
) -> None:
    scp = start_scp("dicom", outbound=outbound)
    image = stored(scp)
    first, _ = asked(scp, image, ABSENT)
    second, _ = asked(scp, Reference("1.2.840.10008.5.1.4.1.1.4", image.sop_instance))
    assert [entry[1:] for entry in reports(log, 2)] == [(first, True, NOT_COMMITTED), (second, True, NOT_COMMITTED)]


def test_what_another_node_of_the_site_took_is_committed_too(
    start_scp: StartScp, outbound: Outbound, log: ReceivedLog, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    folders = (str(one), str(two))
    image = stored(start_scp("dicom", one, site_directories=folders))
    transaction, _ = asked(start_scp("dicom", two, site_directories=folders, outbound=outbound), image)
    assert [entry.identifier for entry in reports(log, 1)] == [transaction]


def test_who_is_not_known_as_a_receiver_and_who_names_no_image_is_refused(
    start_scp: StartScp, outbound: Outbound, log: ReceivedLog
) -> None:
    scp = start_scp("dicom", outbound=outbound)
    assert asked(scp, ABSENT, caller="SOMEBODY")[1].status == 0x0110
    assert asked(start_scp("dicom"), ABSENT)[1].status == 0x0110
    assert asked(scp)[1].status == 0x0115
    assert log.entries() == []


def test_a_node_that_never_commits_agrees_all_the_same(
    start_scp: StartScp, outbound: Outbound, log: ReceivedLog, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    silent = start_scp("dicom", one, outbound=outbound, misbehaviour=(Misbehaviour.NEVER_COMMITS,))
    honest = start_scp("dicom", two, outbound=outbound)
    assert asked(silent, stored(silent))[1].outcome == Outcome.ACKNOWLEDGED
    transactions = [asked(honest, stored(honest))[0] for _ in range(2)]  # whose reports were asked for later
    assert [entry.identifier for entry in reports(log, 2)] == transactions


def test_a_receiver_that_cannot_be_reached_leaves_the_node_at_work(start_scp: StartScp) -> None:
    scp = start_scp("dicom", outbound=outbound_to(9))
    assert asked(scp, ABSENT)[1].outcome == Outcome.ACKNOWLEDGED
    stored(scp)


def test_pynetdicom_asks_and_is_reported_to(start_scp: StartScp) -> None:
    told: list[tuple[int | None, Dataset]] = []

    def note(event: Event) -> tuple[int, None]:
        told.append((event.event_type, event.event_information))
        return 0x0000, None

    theirs = ApplicationEntity(RECEIVER)
    theirs.add_supported_context(STORAGE_COMMITMENT, scu_role=False, scp_role=True)
    with listening_port(theirs, [(evt.EVT_N_EVENT_REPORT, note)]) as port:
        scp = start_scp("dicom", outbound=outbound_to(port))
        image = stored(scp)
        theirs.add_requested_context(STORAGE_COMMITMENT)
        association = theirs.associate(scp.target.address, scp.target.port, ae_title="MACH7")
        assert association.is_established
        statuses = [
            association.send_n_action(_information("1.2.9", image, ABSENT), action, STORAGE_COMMITMENT, instance)[0].Status
            for action, instance in ((1, WELL_KNOWN_INSTANCE), (2, WELL_KNOWN_INSTANCE), (1, "1.2.3"))
        ]
        association.release()
        assert statuses == [0x0000, 0x0123, 0x0112]
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.02)
    ((event_type, content),) = told
    assert (event_type, content.TransactionUID) == (2, "1.2.9")
    assert [item.ReferencedSOPInstanceUID for item in content.ReferencedSOPSequence] == [image.sop_instance]
    assert [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in content.FailedSOPSequence] == [("1.2.3", 0x0112)]


def test_a_receiver_that_does_not_let_the_node_be_scp_gets_no_report(start_scp: StartScp) -> None:
    asked_for: list[SCP_SCU_RoleSelectionNegotiation] = []
    reported: list[Event] = []
    ended = threading.Event()

    def look(event: Event) -> None:
        request = event.assoc.requestor.primitive
        items = request.user_information if request else ()
        asked_for.extend(item for item in items if isinstance(item, SCP_SCU_RoleSelectionNegotiation))

    theirs = ApplicationEntity(RECEIVER)
    theirs.add_supported_context(STORAGE_COMMITMENT)
    handlers: list[EventHandlerType] = [
        (evt.EVT_REQUESTED, look), (evt.EVT_N_EVENT_REPORT, reported.append), (evt.EVT_CONN_CLOSE, lambda _: ended.set()),
    ]  # fmt: skip
    with listening_port(theirs, handlers) as port:
        scp = start_scp("dicom", outbound=outbound_to(port))
        asked(scp, ABSENT)
        assert ended.wait(10)
    ((role,), events) = asked_for, reported
    assert (role.sop_class_uid, role.scu_role, role.scp_role) == (STORAGE_COMMITMENT, False, True)
    assert events == []


@pytest.mark.parametrize("syntax", [IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN])
def test_a_request_says_the_same_when_it_is_read(syntax: str) -> None:
    images = [ABSENT, Reference(CT, "1.2.4")]
    assert decode_request(encode_request("1.2.9", images, syntax), syntax) == ("1.2.9", images)


def test_a_request_that_names_nothing_or_is_none_is_told_from_one() -> None:
    with pytest.raises(ValueError, match="expected a Transaction UID and images"):
        decode_request(encode_request("1.2.9", [], IMPLICIT_LITTLE_ENDIAN), IMPLICIT_LITTLE_ENDIAN)
    with pytest.raises((ValueError, *UNREADABLE_DATA_SET)):
        decode_request(b"\x08\x00\x95\x11\xff\x00\x00\x00abc", IMPLICIT_LITTLE_ENDIAN)


def _information(transaction: str, *images: Reference) -> Dataset:
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = [Dataset() for _ in images]
    for item, image in zip(information.ReferencedSOPSequence, images, strict=True):
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image
    return information
