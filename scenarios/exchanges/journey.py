"""JOURNEY-1: one patient from the order to the page that a person reads, each step awaited where it must show."""

from __future__ import annotations

import time
from collections.abc import Callable

from lbconfig.site import ServiceKind
from scenarios.checkers.journey import Step
from scenarios.exchanges.dmwl import found_items
from scenarios.exchanges.places import Desk, Place
from scenarios.play import wait_until
from scenarios.talkers import order_details
from simulators.dicom.modality import Modality
from simulators.dicom.worklist_client import WorklistQuery
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.samples import OrderDetails, SamplePatient
from simulators.operations import Identity, Kind, Outcome
from simulators.web.page_reader import StudyPage

IMAGES = 3
STATION = "PFJOURNEY"


class Journey:
    """One patient's way through the site.

    Parameters
    ----------
    desk : Desk
        The run, the samples, the time-outs.
    places : mapping of service to its places
        Every real server, then the VIP (`places.places`).
    """

    def __init__(self, desk: Desk, places: dict[ServiceKind, list[Place]]) -> None:
        self._desk = desk
        self._places = places
        self._patient = SamplePatient(desk.run.identities.next(Kind.PATIENT), "PREFLIGHT^JOURNEY")
        self._study = desk.run.identities.next(Kind.STUDY)
        self._order: OrderDetails = _with_study(order_details(desk.run, station_ae=STATION), self._study)
        self._text = f"Journey {self._order.accession}: no finding."

    @property
    def expected_steps(self) -> int:
        """How many steps a whole journey has."""
        return 4 + len(self._places["dmwl"]) + len(self._places["https"])

    def steps(self) -> list[Step]:
        """Go the way; it ends at the first step that is not seen in time."""
        limits = self._desk.run.site.journey
        way: list[tuple[str, float, Callable[[], bool]]] = [
            ("order accepted", limits.worklist_s, _once(lambda: self._said("ORM^O01")))
        ]
        way += [(f"worklist item at {place.name}", limits.worklist_s, self._item_at(place)) for place in self._places["dmwl"]]
        way.append(("images stored", limits.image_s, _once(self._images_stored)))
        way.append(("result accepted", limits.result_s, _once(lambda: self._said("ORU^R01"))))
        way += [
            (f"images and result on the page at {p.name}", limits.result_s, self._page_at(p)) for p in self._places["https"]
        ]
        way.append(("study found by QIDO-RS", limits.image_s, self._found_by_qido))
        steps: list[Step] = []
        for what, limit_s, seen in way:
            steps.append(self._timed(what, limit_s, seen))
            if steps[-1].took_s is None:
                break
        return steps

    def _timed(self, what: str, limit_s: float, seen: Callable[[], bool]) -> Step:
        begun = time.monotonic()
        held = wait_until(seen, limit_s)
        return Step(what, round(time.monotonic() - begun, 3) if held else None, limit_s)

    def _said(self, message_type: str) -> bool:
        place = self._places["hl7"][-1]
        engine = InterfaceEngine(place.target, place.source, timeouts=self._desk.timeouts)
        attempt = self._desk.attempt(Kind.MESSAGE)
        message = self._desk.kit.templates[message_type].message(
            attempt.identity, self._patient, self._order, text=self._text
        )
        operation = self._desk.record(engine.send(message, attempt._replace(patient=self._patient.identity.key)))
        engine.close()
        return operation.outcome == Outcome.ACKNOWLEDGED

    def _item_at(self, place: Place) -> Callable[[], bool]:
        def seen() -> bool:
            items, _ = found_items(self._desk, place, WorklistQuery(accession=self._order.accession))
            return [(item.study_uid, item.patient_id, item.patient_name) for item in items] == [
                (self._study.uid, self._patient.identity.code, self._patient.name)
            ]

        return seen

    def _images_stored(self) -> bool:
        desk, place = self._desk, self._places["dicom"][-1]
        dicom = desk.run.site.dicom
        image = desk.kit.small_image
        modality = Modality(
            place.target, place.source, calling_ae=dicom.calling_ae_titles[0], called_ae=dicom.ae_title, images=[image],
            timeouts=desk.timeouts,
        )  # fmt: skip
        series = desk.run.identities.next(Kind.SERIES)
        outcomes = []
        for _ in range(IMAGES):
            attempt = desk.attempt(Kind.INSTANCE)
            instance = image.named(attempt.identity, self._study, series, self._patient.identity, self._order.accession)
            outcomes.append(desk.record(modality.store(instance, attempt)).outcome)
        modality.release()
        return all(outcome == Outcome.ACKNOWLEDGED for outcome in outcomes)

    def _page_at(self, place: Place) -> Callable[[], bool]:
        desk = self._desk
        viewer = desk.kit.web.viewer(place.target, place.source, desk.timeouts)

        def seen() -> bool:
            if not viewer.has_session:
                desk.record(viewer.login(desk.kit.web.user, desk.kit.web.password, desk.attempt(Kind.ECHO)))
            operation, page = viewer.study(self._study.uid, desk.attempt(Kind.QUERY))
            desk.record(operation)
            viewer.disconnect()
            return self._is_complete(page)

        return seen

    def _is_complete(self, page: StudyPage) -> bool:
        return (
            page.patient_id == self._patient.identity.code
            and page.images == IMAGES
            and page.accession == self._order.accession
            and any(self._text in text for text in page.results)
        )

    def _found_by_qido(self) -> bool:
        desk, place = self._desk, self._places["https"][-1]
        viewer = desk.kit.web.viewer(place.target, place.source, desk.timeouts)
        desk.record(viewer.login(desk.kit.web.user, desk.kit.web.password, desk.attempt(Kind.ECHO)))
        operation, found = viewer.qido({"AccessionNumber": self._order.accession}, desk.attempt(Kind.QUERY))
        desk.record(operation)
        viewer.close()
        return len(found) == 1


def _once(act: Callable[[], bool]) -> Callable[[], bool]:
    """Do something the first time, and say ever after how that went: what was refused is not tried again until it works."""
    outcomes: list[bool] = []

    def done() -> bool:
        if not outcomes:
            outcomes.append(act())
        return outcomes[0]

    return done


def _with_study(order: OrderDetails, study: Identity) -> OrderDetails:
    return OrderDetails(
        accession=order.accession, study_uid=study.uid, modality=order.modality, station_ae=order.station_ae,
        start_date=order.start_date, start_time=order.start_time,
    )  # fmt: skip
