"""The exchanges of DICOM-1 and DICOM-2: C-ECHO, an unknown called AE title, one image of each kind and size."""

from __future__ import annotations

from lbconfig.site import Vip
from scenarios.checkers.cases import THROUGH_VIP, Case
from scenarios.exchanges.places import Desk, Place
from scenarios.kit import LARGEST_BYTES
from simulators.client import Failed
from simulators.dicom.modality import Modality
from simulators.dicom.samples import SampleImage, generated_image
from simulators.dicom.worklist_client import WorklistClient
from simulators.operations import Kind, Outcome, Phase, Service

UNKNOWN_CALLED_AE = "PF-NOBODY"


def asked_echo(desk: Desk, place: Place) -> Case:
    """Send a C-ECHO to the site's AE title."""
    client = _client(desk, place, desk.run.site.dicom.ae_title)
    operation = desk.record(client.echo(desk.attempt(Kind.ECHO)))
    found = f"0x{operation.status:04X}" if operation.outcome == Outcome.ACKNOWLEDGED else client.last_failure
    client.release()
    return Case("C-ECHO", place.name, "0x0000", found)


def asked_unknown_ae(desk: Desk, place: Place) -> Case:
    """Ask for an association with an AE title that nobody has."""
    client = _client(desk, place, UNKNOWN_CALLED_AE)
    found = "accepted"
    try:
        client.open()
    except Failed as failed:
        rejected = failed.outcome is Outcome.REFUSED and failed.phase is Phase.NEGOTIATE and failed.status
        found = "rejected" if rejected else failed.reason
    client.release()
    return Case("unknown called AE title", place.name, desk.run.site.dicom.unknown_called_ae, found)


def stored_images(desk: Desk, where: list[Place]) -> dict[int, str]:
    """Store one image of each kind at each place, and the largest through the VIP alone; return their names by key.

    All images of one place belong to one study.
    """
    names: dict[int, str] = {}
    largest = generated_image("CR", LARGEST_BYTES, 200)
    for place in where:
        images = (*desk.kit.images, largest) if place.name == THROUGH_VIP else desk.kit.images
        names |= _stored(desk, place, images)
    return names


def images_required(desk: Desk, vip: Vip) -> int:
    """Return how many images `stored_images` has to store."""
    return len(desk.kit.images) * (len(vip.real_server) + 1) + 1


def _stored(desk: Desk, place: Place, images: tuple[SampleImage, ...]) -> dict[int, str]:
    dicom = desk.run.site.dicom
    modality = Modality(
        place.target, place.source, calling_ae=dicom.calling_ae_titles[0], called_ae=dicom.ae_title, images=images,
        timeouts=desk.timeouts,
    )  # fmt: skip
    study, series, patient = (desk.run.identities.next(kind) for kind in (Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    names: dict[int, str] = {}
    for image in images:
        attempt = desk.attempt(Kind.INSTANCE)
        instance = image.instance.named(attempt.identity, study, series, patient, None)
        desk.record(modality.store(instance, attempt._replace(patient=patient.key)))
        names[attempt.identity.key] = image.name
    modality.release()
    return names


def _client(desk: Desk, place: Place, called_ae: str) -> Modality | WorklistClient:
    calling_ae = desk.run.site.dicom.calling_ae_titles[0]
    if place.target.service is Service.DMWL:
        return WorklistClient(place.target, place.source, calling_ae=calling_ae, called_ae=called_ae, timeouts=desk.timeouts)
    return Modality(place.target, place.source, calling_ae=calling_ae, called_ae=called_ae, timeouts=desk.timeouts)
