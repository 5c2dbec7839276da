"""One client address with one habit: the same small conversation over each of the four services.

A talker says one identified thing at a time (an image, a message, a query, a note), writes its fate into the run's history,
and can hang up in between. That is all that traffic under faults needs to know of a protocol.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Protocol

from scenarios.kit import Kit, WebAccess
from scenarios.run import PlacedOrder, Run
from simulators.client import Attempt, Target, Timeouts
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.modality import Modality
from simulators.dicom.worklist_client import WorklistClient, WorklistQuery
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.samples import OrderDetails, SamplePatient, Template
from simulators.operations import Identity, Kind, Operation, Outcome, Service

LOSS_STATION = "PFLOSS"  # the station of all orders that LOSS-1 looks for on the worklists


class Talker(Protocol):
    """A source address that talks to one target."""

    source: str

    def new_identity(self) -> Identity:
        """Take the identity of the next thing to say."""

    def say(self, attempt: Attempt) -> Operation:
        """Say it, opening a session when none is open, and record what became of it."""

    def hang_up(self) -> None:
        """End the session in the protocol's orderly way."""


class StorageTalker:
    """A modality that stores one small image at a time, all of one study."""

    def __init__(self, run: Run, target: Target, source: str, timeouts: Timeouts, image: EncodedInstance) -> None:
        self.source = source
        self._run = run
        self._image = image
        self._study = run.identities.next(Kind.STUDY)
        self._series = run.identities.next(Kind.SERIES)
        self._patient = run.identities.next(Kind.PATIENT)
        dicom = run.site.dicom
        self._modality = Modality(
            target, source, calling_ae=dicom.calling_ae_titles[0], called_ae=dicom.ae_title, images=[image], timeouts=timeouts
        )

    def new_identity(self) -> Identity:
        """Take the identity of the next image."""
        return self._run.identities.next(Kind.INSTANCE)

    def say(self, attempt: Attempt) -> Operation:
        """Store one image."""
        instance = self._image.named(attempt.identity, self._study, self._series, self._patient, None)
        return self._run.record(self._modality.store(instance, attempt._replace(patient=self._patient.key)))

    def hang_up(self) -> None:
        """Release the association."""
        self._modality.release()


class MessageTalker:
    """An interface engine line: the messages of two patients in turn, now and then an order."""

    def __init__(
        self, run: Run, target: Target, source: str, timeouts: Timeouts, templates: Mapping[str, Template]
    ) -> None:  # fmt: skip
        self.source = source
        self._run = run
        self._templates = templates
        self._patients = [SamplePatient(run.identities.next(Kind.PATIENT)) for _ in range(2)]
        self._engine = InterfaceEngine(target, source, timeouts=timeouts)
        self._said = 0
        self._prepared: tuple[Identity, SamplePatient, bytes] | None = None

    def new_identity(self) -> Identity:
        """Take the identity of the next message, and make the message: every attempt sends the same bytes."""
        identity = self._run.identities.next(Kind.MESSAGE)
        patient = self._patients[self._said % 2]
        self._said += 1
        self._prepared = (identity, patient, self._message(identity, patient))
        return identity

    def say(self, attempt: Attempt) -> Operation:
        """Send the message."""
        if self._prepared is None or self._prepared[0] != attempt.identity:
            raise ValueError("a message is said with the identity that new_identity gave last")
        _, patient, message = self._prepared
        return self._run.record(self._engine.send(message, attempt._replace(patient=patient.identity.key)))

    def hang_up(self) -> None:
        """Close the connection."""
        self._engine.close()

    def _message(self, identity: Identity, patient: SamplePatient) -> bytes:
        if self._said % 5:
            return self._templates["ADT^A08"].message(identity, patient)
        order = order_details(self._run, station_ae=LOSS_STATION)
        self._run.orders[identity.key] = PlacedOrder(order.accession, LOSS_STATION)
        return self._templates["ORM^O01"].message(identity, patient, order)


class WorklistTalker:
    """A modality that polls its worklist: each query is for a patient id of its own, so that a node's journal can name it."""

    def __init__(self, run: Run, target: Target, source: str, timeouts: Timeouts) -> None:
        self.source = source
        self._run = run
        dicom = run.site.dicom
        self._client = WorklistClient(
            target, source, calling_ae=dicom.calling_ae_titles[0], called_ae=dicom.ae_title, timeouts=timeouts
        )

    def new_identity(self) -> Identity:
        """Take the identity of the next query."""
        return self._run.identities.next(Kind.QUERY)

    def say(self, attempt: Attempt) -> Operation:
        """Ask the worklist."""
        operation, _ = self._client.find(WorklistQuery(patient_id=attempt.identity.code), attempt)
        return self._run.record(operation)

    def hang_up(self) -> None:
        """Release the association."""
        self._client.release()


class ViewerTalker:
    """A person at a web client: logs in where no session is known, then writes a note on a study."""

    def __init__(self, run: Run, target: Target, source: str, timeouts: Timeouts, web: WebAccess) -> None:
        self.source = source
        self._run = run
        self._web = web
        self._viewer = web.viewer(target, source, timeouts)

    def new_identity(self) -> Identity:
        """Take the identity of the next note."""
        return self._run.identities.next(Kind.NOTE)

    def say(self, attempt: Attempt) -> Operation:
        """Write a note; log in first where there is no session, and once more where the node has forgotten it.

        The login is an operation of its own. When it fails, it is what is returned: the note was not attempted.
        """
        if not self._viewer.has_session:
            login = self._login(attempt)
            if login.outcome != Outcome.ACKNOWLEDGED:
                return login
        return self._run.record(self._viewer.note(self._web.study_uid, f"seen {attempt.identity.code}", attempt))

    def hang_up(self) -> None:
        """Drop the connection and keep the session's cookie, as a browser does."""
        self._viewer.disconnect()

    def _login(self, attempt: Attempt) -> Operation:
        identity = self._run.identities.next(Kind.ECHO)
        login = Attempt(identity, workload=attempt.workload)
        return self._run.record(self._viewer.login(self._web.user, self._web.password, login))


def order_details(run: Run, *, station_ae: str, modality: str = "CT") -> OrderDetails:
    """Make up an order of today with identities of the run."""
    today = datetime.datetime.now(tz=datetime.UTC)
    return OrderDetails(
        accession=run.identities.next(Kind.ORDER).accession,
        modality=modality,
        station_ae=station_ae,
        start_date=f"{today:%Y%m%d}",
        start_time=f"{today:%H%M}00",
        study_uid=run.identities.next(Kind.STUDY).uid,
    )


def talker(run: Run, kit: Kit, target: Target, source: str, timeouts: Timeouts) -> Talker:
    """Make the talker of a target's service."""
    if target.service is Service.DICOM:
        return StorageTalker(run, target, source, timeouts, kit.small_image)
    if target.service is Service.HL7:
        return MessageTalker(run, target, source, timeouts, kit.templates)
    if target.service is Service.DMWL:
        return WorklistTalker(run, target, source, timeouts)
    return ViewerTalker(run, target, source, timeouts, kit.web)
