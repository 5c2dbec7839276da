"""What a message means to a node: the rows that it puts into the node's store.

One place says where each value stands in a message, for the node that reads it; `samples.py` writes to the same places:
ADT in PID and MRG; ORM (IHE RAD-4) in ORC, OBR-4, OBR-18 (accession number), OBR-19 (requested procedure), OBR-20 (scheduled
step), OBR-21 (station AE title), OBR-24 (modality), OBR-36 (start), ZDS-1 (study); OMI in TQ1-7 and IPC; ORU in OBR-18 or
OBR-3 (accession number) and OBX-5; SIU in SCH-26 or SCH-27 (accession number) and AIS-4 or SCH-11 (start).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

from simulators.node_store import Order, Patient, Result, Row

from .message import STANDARD_SEPARATORS, Condition, Message, MessageError, Segment, Separators, missing_segment

_MERGES = frozenset(("A18", "A30", "A40"))
_EVENTS = {
    "ADT": frozenset(("A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A11", "A12", "A13", "A28", "A31")) | _MERGES,
    "ORM": frozenset(("O01",)),
    "OMI": frozenset(("O23",)),
    "ORU": frozenset(("R01",)),
    "SIU": frozenset(("S12", "S13", "S14", "S15")),
}
_NEW_ORDER = frozenset(("NW", "SN", ""))
_TIME = re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d+)?)?)?)?([+-]\d{4})?")
_STUDY_OBSERVATION = "113014"  # DCM: DICOM Study; its OBX-5 is the Study Instance UID (IHE RAD-28)
_TEXT_TYPES = frozenset(("TX", "FT", "ST", "CE", "CWE", "NM"))


class Known(Protocol):
    """What the nodes of the site know already."""

    def order(self, accession: str) -> Order | None:
        """Return the newest order with this accession number."""

    def orders_of(self, patient_id: str) -> list[Order]:
        """Return the orders of a patient."""

    def patient(self, patient_id: str) -> Patient | None:
        """Return what the last ADT said of a patient."""


class Content(NamedTuple):
    """The patient that a message is about, and the rows that it puts."""

    patient_id: str
    rows: tuple[Row, ...]


def content_of(message: Message, known: Known, updated_ns: int) -> Content:
    """Read a message as a node does.

    Parameters
    ----------
    message : Message
        Well framed, with an MSH.
    known : Known
        Asked only for changes: cancelled or rescheduled orders, merges.
    updated_ns : int
        Written into the rows; of two rows about one thing the later wins.

    Raises
    ------
    MessageError
        When the message is not for a node, or lacks what it needs; nothing may be stored then.
    """
    fields = message.header.fields
    code = _plain_code(fields[9], fields[11], fields[12]) if len(fields) > 12 and fields[10] else None
    if code is None or message.separators is not STANDARD_SEPARATORS:
        code = _check_header(message)
    message.check_text()
    return read_content(code, message, known, updated_ns)


def read_content(code: str, message: Message, known: Known, updated_ns: int) -> Content:
    """Read a message as `content_of` does, whose header has been checked already: `code` is its message code."""
    return _READERS[code](message, known, updated_ns)


def is_about_a_patient_alone(code: str, event: str) -> bool:
    """Say whether messages of this kind hold nothing but the PID of one patient for a node."""
    return code == "ADT" and event not in _MERGES


@functools.lru_cache(maxsize=4096)  # a patient's messages come one upon another, each with the same PID
def person_of(line: bytes, separators: Separators, codec: str) -> tuple[str, str, str, str]:
    """Return id, name, birth date and sex of a PID segment."""
    person = Segment(line.split(separators.field), separators, codec)
    patient_id = person.text(3)
    if not patient_id:
        raise MessageError(Condition.REQUIRED_FIELD_MISSING, "PID-3", "a patient id", "none")
    return patient_id, _name(person.whole(5)), _date(person, 7), person.text(8)


@functools.lru_cache(maxsize=256)  # the same few in every message
def _plain_code(kind: bytes, processing_id: bytes, version: bytes) -> str | None:
    """Return the message code of a header with the standard separators when a look at it is enough to accept it."""
    code, event, *_ = (*kind.decode("latin-1").split("^"), "")
    accepted = event in _EVENTS.get(code, ()) and processing_id[:1] in (b"P", b"T", b"D") and version[:2] == b"2."
    return code if accepted else None


def _check_header(message: Message) -> str:
    header = message.header
    code, event = message.kind
    if not header.raw(10):
        raise MessageError(Condition.REQUIRED_FIELD_MISSING, "MSH-10", "a message control id", "none")
    if not code:
        raise MessageError(Condition.REQUIRED_FIELD_MISSING, "MSH-9", "a message type", "none")
    if code not in _EVENTS:
        raise MessageError(Condition.UNSUPPORTED_MESSAGE_TYPE, "MSH-9", f"one of {', '.join(sorted(_EVENTS))}", repr(code))
    if event not in _EVENTS[code]:
        expected = f"{code} with {', '.join(sorted(_EVENTS[code]))}"
        raise MessageError(Condition.UNSUPPORTED_EVENT, "MSH-9", expected, repr(event))
    if header.raw(11)[:1] not in (b"P", b"T", b"D"):
        raise MessageError(Condition.UNSUPPORTED_PROCESSING_ID, "MSH-11", "P, T or D", repr(header.text(11)))
    if header.raw(12)[:2] != b"2.":
        raise MessageError(Condition.UNSUPPORTED_VERSION, "MSH-12", "version 2.x", repr(header.text(12)))
    return code


def _patient(message: Message, updated_ns: int) -> Patient:
    line = message.line(b"PID")
    if line is None:
        raise missing_segment(message, b"PID")
    return Patient(*person_of(line, message.separators, message.codec), "", updated_ns)


def _admission(message: Message, known: Known, updated_ns: int) -> Content:
    patient = _patient(message, updated_ns)
    if message.kind[1] not in _MERGES:
        return Content(patient.patient_id, (patient,))
    prior = message.required(b"MRG").text(1)
    if not prior:
        raise MessageError(Condition.REQUIRED_FIELD_MISSING, "MRG-1", "the prior patient id", "none")
    merged = known.patient(prior) or Patient(prior, "", "", "", "", updated_ns)
    merged = merged._replace(merged_into=patient.patient_id, updated_ns=updated_ns)
    moved = [
        order._replace(patient_id=patient.patient_id, patient_name=patient.patient_name, updated_ns=updated_ns)
        for order in known.orders_of(prior)
    ]
    return Content(patient.patient_id, (patient, merged, *moved))


def _general_order(message: Message, known: Known, updated_ns: int) -> Content:
    patient, rows, control = _patient(message, updated_ns), list[Row](), None
    message.required(b"ORC")
    message.required(b"OBR")
    study_uid = study.text(1) if (study := message.segment(b"ZDS")) is not None else ""
    for segment in message.segments():
        if segment.name == "ORC":
            control = segment
        elif segment.name == "OBR" and control is not None:
            start = _start(segment, 36) if segment.raw(36) else _start(control, 7, 4)
            rows.append(_order(patient, control, known, updated_ns)(
                accession=_accession(segment.text(18) or segment.text(3) or control.text(3), "OBR-18"),
                modality=segment.text(24), station_ae=segment.text(21), start=start, step_id=segment.text(20),
                procedure_id=segment.text(19), description=segment.text(4, 2), study_uid=study_uid,
            ))  # fmt: skip
    return Content(patient.patient_id, (patient, *rows))


def _imaging_order(message: Message, known: Known, updated_ns: int) -> Content:
    patient, rows = _patient(message, updated_ns), list[Row]()
    control, request = message.required(b"ORC"), message.required(b"OBR")
    message.required(b"IPC")
    start = ("", "")
    for segment in message.segments():
        if segment.name == "ORC":
            control = segment
        elif segment.name == "TQ1":
            start = _start(segment, 7)
        elif segment.name == "OBR":
            request = segment
        elif segment.name == "IPC":
            rows.append(_order(patient, control, known, updated_ns)(
                accession=_accession(segment.text(1), "IPC-1"), modality=segment.text(5), station_ae=segment.text(9),
                start=start, step_id=segment.text(4), procedure_id=segment.text(2), description=request.text(4, 2),
                study_uid=segment.text(3),
            ))  # fmt: skip
    return Content(patient.patient_id, (patient, *rows))


def _order(patient: Patient, control: Segment, known: Known, updated_ns: int) -> Callable[..., Order]:
    """Return what makes an order: a change keeps what it does not mention."""

    def make(*, accession: str, start: tuple[str, str], **fields: str) -> Order:
        status = control.text(1)
        order = Order(
            accession=accession, patient_id=patient.patient_id, patient_name=patient.patient_name,
            birth_date=patient.birth_date, sex=patient.sex, start_date=start[0], start_time=start[1], status=status or "NW",
            updated_ns=updated_ns, **fields,
        )  # fmt: skip
        before = None if status in _NEW_ORDER else known.order(accession)
        if before is None:
            return order
        return Order._make(new or old for new, old in zip(order, before, strict=True))

    return make


def _observation(message: Message, _: Known, updated_ns: int) -> Content:
    patient = _patient(message, updated_ns)
    message.required(b"OBR")
    message.required(b"OBX")
    rows: list[Row] = []
    request: Segment | None = None
    control: Segment | None = None
    observations: list[Segment] = []
    for segment in message.segments():
        if segment.name == "ORC":
            control = segment
        elif segment.name == "OBR":
            if request is not None:
                rows.append(_result(patient, control, request, observations, updated_ns + len(rows)))
            request, observations = segment, []
        elif segment.name == "OBX":
            observations.append(segment)
    if request is not None:
        rows.append(_result(patient, control, request, observations, updated_ns + len(rows)))
    return Content(patient.patient_id, tuple(rows))


def _result(
    patient: Patient, control: Segment | None, request: Segment, observations: list[Segment], updated_ns: int,
) -> Result:  # fmt: skip
    accession = request.text(18) or request.text(3) or (control.text(3) if control is not None else "")
    study_uid, lines = "", []
    for observation in observations:
        if observation.text(3) == _STUDY_OBSERVATION:
            study_uid = observation.text(5)
        elif observation.raw(2).decode("latin-1") in _TEXT_TYPES:
            lines += observation.repetitions(5)
    text = "\n".join(lines)
    return Result(_accession(accession, "OBR-18"), study_uid, patient.patient_id, request.text(25), text, updated_ns)


def _appointment(message: Message, known: Known, updated_ns: int) -> Content:
    patient, schedule = _patient(message, updated_ns), message.required(b"SCH")
    order = known.order(schedule.text(26) or schedule.text(27))
    if order is None:
        return Content(patient.patient_id, (patient,))  # an appointment without an order of ours: the patient is all we learn
    service = message.segment(b"AIS")
    start = _start(service, 4) if service is not None and service.raw(4) else _start(schedule, 11, 4)
    status = "CA" if message.kind[1] == "S15" else order.status
    date, clock = start if start[0] else (order.start_date, order.start_time)
    changed = order._replace(start_date=date, start_time=clock, status=status, updated_ns=updated_ns)
    return Content(patient.patient_id, (patient, changed))


def _accession(value: str, where: str) -> str:
    if not value:
        raise MessageError(Condition.REQUIRED_FIELD_MISSING, where, "an accession number", "none")
    return value


def _name(value: str) -> str:
    """Return the five components of a DICOM name: HL7 has suffix and prefix the other way round (PS3.5, 6.2)."""
    if value.count("^") < 3:
        return value
    family, given, middle, suffix, prefix = (*value.split("^"), "", "")[:5]
    return "^".join((family, given, middle, prefix, suffix)).rstrip("^")


def _time(segment: Segment, field: int, component: int = 1) -> str:
    value = segment.text(field, component)
    if value and _is_no_time(value):
        where = f"{segment.name}-{field}"
        raise MessageError(Condition.DATA_TYPE, where, "a time YYYYMMDD[HHMM[SS]]", repr(value[:30]))
    return value


@functools.lru_cache(maxsize=4096)  # birth dates and days come again and again
def _is_no_time(value: str) -> bool:
    return _TIME.fullmatch(value) is None


def _date(segment: Segment, field: int) -> str:
    return _time(segment, field)[:8]


def _start(segment: Segment, field: int, component: int = 1) -> tuple[str, str]:
    value = re.split(r"[.+-]", _time(segment, field, component))[0]
    return value[:8], value[8:].ljust(6, "0") if len(value) > 8 else ""


_READERS: dict[str, Callable[[Message, Known, int], Content]] = {
    "ADT": _admission, "ORM": _general_order, "OMI": _imaging_order, "ORU": _observation, "SIU": _appointment,
}  # fmt: skip
