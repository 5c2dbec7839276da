"""The exchange of OUTBOUND-1: every node is asked to send images, reports and results to a receiver on the clients' side."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from compose.lab import CanReceive, LabError
from lbconfig.site import ServiceKind, Vip
from scenarios.checkers.outbound import Asked
from scenarios.exchanges.places import Desk, Place
from scenarios.faults import MissingAbilityError
from scenarios.play import wait_until
from scenarios.talkers import order_details
from simulators.dicom.commitment import Reference
from simulators.dicom.commitment_client import CommitmentClient
from simulators.dicom.modality import Modality
from simulators.dicom.move_client import MoveClient
from simulators.dicom.receiver import ImageReceiver
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.receiver import MessageReceiver
from simulators.hl7.samples import SamplePatient
from simulators.operations import Kind, Operation, Outcome
from simulators.received import Received, ReceivedLog

OF_EACH_PLACE = 3
STATION = "PFOUTBOUND"


def sent_on(desk: Desk, vip: Vip, where: list[Place], not_admitted: Collection[str]) -> tuple[list[Asked], list[Received]]:
    """Have something sent on at each place; return what was asked of whom, and what came.

    Parameters
    ----------
    desk : Desk
        The run, the samples, the time-outs.
    vip : Vip
        Of a dicom or hl7 service.
    where : list of Place
        Every real server, then the VIP.
    not_admitted : collection of str
        Nodes that the receiver turns away: a defect.

    Raises
    ------
    MissingAbilityError
        When there is no place that nodes could reach.
    """
    ask = asked_of_images if vip.service == "dicom" else asked_to_copy
    nodes = {server.label: server.node for server in vip.real_server}
    asked: list[Asked] = []
    with _receiving(desk, vip.service, not_admitted) as log:
        for place in where:
            asked += ask(desk, place, nodes.get(place.name, ""))
        expected = {one.identifier for one in asked if not one.failure}
        wait_until(
            lambda: expected <= {entry.identifier for entry in log.entries()} or _turned_away(log), vip.limits.operation_s
        )
        return asked, log.entries()


def asked_of_images(desk: Desk, place: Place, node: str) -> list[Asked]:
    """Store a study of some images at a place; ask there for a C-MOVE of it to the receiver, and for its commitment."""
    run, site = desk.run, desk.run.site
    study, series, patient = (run.identities.next(kind) for kind in (Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    image = desk.kit.small_image
    uids = []
    with Modality(
        place.target, place.source, calling_ae=site.dicom.calling_ae_titles[0], called_ae=site.dicom.ae_title,
        images=[image], timeouts=desk.timeouts,
    ) as modality:  # fmt: skip
        for _ in range(OF_EACH_PLACE):
            attempt = desk.attempt(Kind.INSTANCE)
            instance = image.named(attempt.identity, study, series, patient, None)
            desk.record(modality.store(instance, attempt._replace(patient=patient.key)))
            uids.append(attempt.identity.uid)
    images = [Reference(image.sop_class, uid) for uid in uids]
    return [*_asked_to_move(desk, place, node, study.uid, uids), _asked_to_commit(desk, place, node, images)]


def _asked_to_move(desk: Desk, place: Place, node: str, study_uid: str, uids: list[str]) -> list[Asked]:
    site = desk.run.site
    calling_ae, called_ae = site.dicom.calling_ae_titles[0], site.dicom.ae_title
    client = MoveClient(place.target, place.source, calling_ae=calling_ae, called_ae=called_ae, timeouts=desk.timeouts)
    with client:
        operation, counts = client.move(study_uid, site.receiver.ae_title, desk.attempt(Kind.QUERY))
    desk.record(operation)
    told = f"C-MOVE: {client.last_failure}, {counts.completed} of {len(uids)} completed"
    failure = "" if operation.outcome == Outcome.ACKNOWLEDGED else told
    return [Asked(node or _node_met(operation), uid, failure) for uid in uids]


def _asked_to_commit(desk: Desk, place: Place, node: str, images: list[Reference]) -> Asked:
    """Ask for the commitment of images in the receiver's name, so that the report comes to it."""
    site = desk.run.site
    attempt = desk.attempt(Kind.QUERY)
    transaction_uid = attempt.identity.uid
    client = CommitmentClient(
        place.target, place.source, calling_ae=site.receiver.ae_title, called_ae=site.dicom.ae_title, timeouts=desk.timeouts
    )
    with client:
        operation = desk.record(client.ask(transaction_uid, images, attempt))
    failure = "" if operation.outcome == Outcome.ACKNOWLEDGED else f"storage commitment: {client.last_failure}"
    return Asked(node or _node_met(operation), transaction_uid, failure, "reports of storage commitment")


def asked_to_copy(desk: Desk, place: Place, node: str) -> list[Asked]:
    """Send some results to a place of which the receiver is to get a copy."""
    engine = InterfaceEngine(place.target, place.source, timeouts=desk.timeouts)
    asked = []
    for _ in range(OF_EACH_PLACE):
        attempt = desk.attempt(Kind.MESSAGE)
        patient = SamplePatient(desk.run.identities.next(Kind.PATIENT))
        message = desk.kit.templates["ORU^R01"].message(
            attempt.identity, patient, order_details(desk.run, station_ae=STATION), text="No finding.",
            copies_to=desk.run.site.receiver.ae_title,
        )  # fmt: skip
        operation = desk.record(engine.send(message, attempt._replace(patient=patient.identity.key)))
        failure = "" if operation.outcome == Outcome.ACKNOWLEDGED else engine.last_failure
        asked.append(Asked(node or _node_met(operation), attempt.identity.code, failure))
    engine.close()
    return asked


@contextmanager
def _receiving(desk: Desk, service: ServiceKind, not_admitted: Collection[str]) -> Iterator[ReceivedLog]:
    """Listen on the clients' side, as the site's receiver."""
    lab, site = desk.run.lab, desk.run.site
    if not isinstance(lab, CanReceive):
        raise MissingAbilityError("be reached by nodes")
    admitted = [node.address for node in site.node if node.name not in not_admitted]
    port = site.receiver.dicom_port if service == "dicom" else site.receiver.hl7_port
    try:
        listening = socket.create_server((lab.receiver_address(), port))
    except OSError as error:
        raise LabError(f"receiver: expected a free port {port} on {lab.receiver_address()}, found {error}") from error
    log = ReceivedLog()
    listen: Callable[..., ImageReceiver | MessageReceiver] = ImageReceiver if service == "dicom" else MessageReceiver
    with listen(listening, site.receiver.ae_title, admitted, log):
        yield log


def _turned_away(log: ReceivedLog) -> bool:
    return any(not entry.admitted for entry in log.entries())


def _node_met(operation: Operation) -> str:
    return operation.node.rstrip(b"\x00").decode("ascii")
