"""The exchanges of DMWL-1: orders that HL7 brings to either node, and the queries that every node must answer alike."""

from __future__ import annotations

import datetime
from typing import NamedTuple

import msgspec

from scenarios.checkers.cases import Case
from scenarios.exchanges.places import Desk, Place
from simulators.client import Attempt
from simulators.dicom.worklist_client import WorklistClient, WorklistItem, WorklistQuery
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.samples import OrderDetails, SamplePatient
from simulators.operations import Kind, Outcome

MANY = 1200  # orders of one station: the answer that is cancelled before it has come whole
_MODALITIES = ("CT", "MR", "US")
_CANCELLED = 0xFE00


class Ordered(NamedTuple):
    """One order that was acknowledged, as the worklist must show it."""

    accession: str
    patient_id: str
    patient_name: str
    modality: str
    station_ae: str
    start_date: str


class Question(msgspec.Struct, frozen=True):
    """One query by name, and the orders that it must be answered with, to the letter."""

    what: str
    query: WorklistQuery
    orders: frozenset[Ordered]


def stations(desk: Desk) -> tuple[str, str]:
    """Return the station AE titles of this run: of the few orders, and of the many."""
    return f"PFW{desk.run.number:08X}", f"PFM{desk.run.number:08X}"


def place_orders(desk: Desk, engines: list[Place]) -> list[Ordered]:
    """Order by HL7, in turn at each real server, so that every node must know what the other was told."""
    few, many = stations(desk)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    wanted = [
        (few, _MODALITIES[n % 3], today + datetime.timedelta(days=n % 2), f"PREFLIGHT^{'ADA' if n % 4 else 'BOB'}")
        for n in range(24)
    ]
    wanted += [(many, "CT", today, "PREFLIGHT^MANY")] * MANY
    lines = [InterfaceEngine(place.target, place.source, timeouts=desk.timeouts) for place in engines]
    patients = [SamplePatient(desk.run.identities.next(Kind.PATIENT)) for _ in range(8)]
    placed: list[Ordered] = []
    for n, (station, modality, day, name) in enumerate(wanted):
        patient = (
            patients[n % 8]._replace(name=name)
            if station == few
            else SamplePatient(desk.run.identities.next(Kind.PATIENT), name)
        )
        order = OrderDetails(
            accession=desk.run.identities.next(Kind.ORDER).accession, study_uid=desk.run.identities.next(Kind.STUDY).uid,
            modality=modality, station_ae=station, start_date=f"{day:%Y%m%d}", start_time=f"{8 + n % 8:02d}1500",
        )  # fmt: skip
        attempt = desk.attempt(Kind.MESSAGE)
        message = desk.kit.templates["ORM^O01"].message(attempt.identity, patient, order)
        if desk.record(lines[n % len(lines)].send(message, attempt)).outcome == Outcome.ACKNOWLEDGED:
            code = patient.identity.code
            placed.append(Ordered(order.accession, code, name, modality, station, order.start_date))
    for line in lines:
        line.close()
    return placed


def questions(desk: Desk, placed: list[Ordered]) -> list[Question]:
    """Return the queries of each kind of key, all within the station of this run, with what they must be answered."""
    few, _ = stations(desk)
    own = [order for order in placed if order.station_ae == few]
    if not own:
        return []
    day, patient = own[0].start_date, own[0].patient_id
    last = max(order.start_date for order in own)
    return [
        Question("AE title", WorklistQuery(station_ae=few), frozenset(own)),
        Question("date", WorklistQuery(station_ae=few, start_date=day), frozenset(o for o in own if o.start_date == day)),
        Question("date range", WorklistQuery(station_ae=few, start_date=f"{day}-{last}"), frozenset(own)),
        Question("modality", WorklistQuery(station_ae=few, modality="MR"), frozenset(o for o in own if o.modality == "MR")),
        Question("patient id", WorklistQuery(patient_id=patient), frozenset(o for o in own if o.patient_id == patient)),
        Question(
            "wildcard", WorklistQuery(station_ae=few, patient_name="PREFLIGHT^B*"),
            frozenset(o for o in own if o.patient_name.endswith("BOB")),
        ),
        Question("no match", WorklistQuery(station_ae=few, patient_id="PF-NOBODY"), frozenset()),
    ]  # fmt: skip


QUESTIONS = ("AE title", "date", "date range", "modality", "patient id", "wildcard", "no match")
CANCEL = "C-CANCEL among many"


def asked(desk: Desk, place: Place, question: Question) -> Case:
    """Ask one question at one place: the answer must be the expected items, all of them, once each."""
    expected = f"{len(question.orders)} items"
    items, failure = found_items(desk, place, question.query)
    if failure:
        return Case(question.what, place.name, expected, failure)
    found = [
        Ordered(item.accession, item.patient_id, item.patient_name, item.modality, item.station_ae, item.start_date)
        for item in items
    ]
    if len(found) == len(set(found)) and set(found) == question.orders:
        return Case(question.what, place.name, expected, expected)
    return Case(question.what, place.name, expected, _difference(question.orders, found))


def _difference(orders: frozenset[Ordered], found: list[Ordered]) -> str:
    """Say how an answer differs: items that are missing, that are spare, and right ones with a wrong content."""
    wanted = {order.accession: order for order in orders}
    missing = len(wanted.keys() - {item.accession for item in found})
    spare = sum(item.accession not in wanted for item in found) + len(found) - len({item.accession for item in found})
    wrong = [
        f"{field} {value!r} for {right!r}"
        for item in found
        if item.accession in wanted
        for field, value, right in zip(Ordered._fields, item, wanted[item.accession], strict=True)
        if value != right
    ]
    said = f"; {wrong[0]}" if wrong else ""
    return f"{len(found)} items: {missing} missing, {spare} spare, {len(wrong)} wrong values{said}"


def found_items(desk: Desk, place: Place, query: WorklistQuery) -> tuple[tuple[WorklistItem, ...], str]:
    """Return the items of a query, and why there are none when it failed."""
    client = _client(desk, place)
    operation, answer = client.find(query, _observation(desk))
    desk.record(operation)
    failure = "" if operation.outcome == Outcome.ACKNOWLEDGED else client.last_failure or f"status 0x{operation.status:04X}"
    client.release()
    return answer.items, failure


def cancelled(desk: Desk, place: Place, placed: list[Ordered]) -> Case:
    """Ask for many items and cancel after the first."""
    _, many = stations(desk)
    total = sum(order.station_ae == many for order in placed)
    expected = "ended by 0xFE00 before all had come"
    client = _client(desk, place)
    operation, answer = client.find(WorklistQuery(station_ae=many), _observation(desk), cancel_after=1)
    desk.record(operation)
    client.release()
    early = answer.final_status == _CANCELLED and answer.pending < total
    found = expected if early else f"status 0x{answer.final_status & 0xFFFF:04X} after {answer.pending} of {total} items"
    return Case(CANCEL, place.name, expected, found if total >= 1000 else "")


def _observation(desk: Desk) -> Attempt:
    return desk.attempt(Kind.QUERY)


def _client(desk: Desk, place: Place) -> WorklistClient:
    dicom = desk.run.site.dicom
    return WorklistClient(
        place.target, place.source, calling_ae=dicom.calling_ae_titles[0], called_ae=dicom.ae_title, timeouts=desk.timeouts
    )
