"""Messages to send: templates of the eight types, and the user's own files.

A template is cut into pieces once; a message is those pieces and the values between them, joined. Where each value stands is
said in `content.py`. The patients are visibly nobody: their family name is PREFLIGHT.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Literal, NamedTuple

import msgspec

from simulators.operations import Identity

from .message import CHARACTER_SETS, escape

MESSAGE_TYPES = ("ADT^A01", "ADT^A04", "ADT^A08", "ADT^A40", "ORM^O01", "OMI^O23", "ORU^R01", "SIU^S12")
Mode = Literal["original", "enhanced"]


class SampleError(Exception):
    """A sample cannot be made or read; the message names what, what was expected and what was found."""


class SamplePatient(NamedTuple):
    """A patient of ours. `name` is DICOM's: components parted by `^`; dates are YYYYMMDD; `sex` is M, F or O."""

    identity: Identity
    name: str = "PREFLIGHT^TEST"
    birth_date: str = "19700101"
    sex: str = "O"


class OrderDetails(msgspec.Struct, frozen=True, kw_only=True):
    """One ordered procedure step, as orders, results and appointments name it.

    Parameters
    ----------
    accession : str
        `Identity.accession` of an identity of kind ORDER.
    study_uid : str
        `Identity.uid` of an identity of kind STUDY.
    modality, station_ae : str
        Where the step is to be done.
    start_date, start_time : str
        YYYYMMDD and HHMMSS.
    procedure : str
        What is to be done, in words.
    control : str
        ORC-1: NW for a new order, CA for a cancelled one, XO for a changed one.
    """

    accession: str
    study_uid: str
    modality: str = "CT"
    station_ae: str = "PREFLIGHT"
    start_date: str = "20260101"
    start_time: str = "080000"
    procedure: str = "CT of the head"
    control: str = "NW"

    @property
    def step_id(self) -> str:
        """The scheduled procedure step's id: the accession number's own."""
        return self.accession

    @property
    def procedure_id(self) -> str:
        """The requested procedure's id: the accession number's own."""
        return self.accession


def _segment(name: str, fields: Mapping[int, str]) -> str:
    """Write a segment by its field numbers; what is not named is empty."""
    return "|".join((name, *(fields.get(number, "") for number in range(1, max(fields) + 1))))


_REFERRING = "0002^PREFLIGHT^REFERRING^^^DR"
_ORDER_NUMBER = "{accession}^PREFLIGHT"
_PROCEDURE = "PF01^{procedure}^99PREFLIGHT"
_HEADER = _segment("MSH", {  # numbered one less than in HL7: MSH-1 is the separator itself
    1: "^~\\&", 2: "PREFLIGHT", 3: "PREFLIGHT", 4: "{receiving_application}", 5: "{receiving_facility}", 6: "{now}",
    8: "{type}", 9: "{control_id}", 10: "P", 11: "2.5.1", 14: "{accept}", 15: "{application}", 17: "{character_set}",
})  # fmt: skip
_PERSON = _segment("PID", {
    1: "1", 3: "{patient_id}^^^PREFLIGHT^MR", 5: "{patient_name}", 7: "{birth_date}", 8: "{sex}",
    11: "1 TEST STREET^^TESTVILLE^^00000", 13: "555-0100", 18: "{visit}^^^PREFLIGHT^AN",
})  # fmt: skip
_STAY = _segment("PV1", {
    1: "1", 2: "I", 3: "RAD^1^1^PREFLIGHT", 7: "0001^PREFLIGHT^ATTENDING^^^DR", 8: _REFERRING, 10: "RAD",
    19: "{visit}^^^PREFLIGHT^VN", 44: "{now}",
})  # fmt: skip
_CONTROL = _segment("ORC", {
    1: "{control}", 2: _ORDER_NUMBER, 3: _ORDER_NUMBER, 5: "{status}", 7: "{timing}", 9: "{now}", 12: _REFERRING,
})  # fmt: skip
_REQUEST = _segment("OBR", {
    1: "1", 2: _ORDER_NUMBER, 3: _ORDER_NUMBER, 4: _PROCEDURE, 7: "{observed}", 16: _REFERRING, 18: "{accession}",
    19: "{accession}", 20: "{accession}", 21: "{station_ae}", 22: "{reported}", 24: "{modality}", 25: "{result_status}",
    28: "{copies_to}", 36: "{start}",
})  # fmt: skip
_IMAGING = _segment("IPC", {
    1: _ORDER_NUMBER, 2: _ORDER_NUMBER, 3: "{study_uid}^PREFLIGHT", 4: _ORDER_NUMBER, 5: "{modality}", 6: _PROCEDURE,
    9: "{station_ae}",
})  # fmt: skip
_STUDY = _segment("OBX", {1: "1", 2: "ST", 3: "113014^DICOM Study^DCM", 5: "{study_uid}", 11: "F", 14: "{now}"})
_TEXT = _segment("OBX", {1: "2", 2: "TX", 3: "18782-3^Radiology Study observation^LN", 5: "{text}", 11: "F", 14: "{now}"})
_SCHEDULE = _segment("SCH", {
    1: _ORDER_NUMBER, 2: _ORDER_NUMBER, 6: "NEW^New^99PREFLIGHT", 7: _PROCEDURE, 9: "30", 10: "min", 11: "1^^30^{start}",
    16: "0003^PREFLIGHT^SCHEDULER", 20: "0003^PREFLIGHT^SCHEDULER", 25: "BOOKED", 26: _ORDER_NUMBER, 27: _ORDER_NUMBER,
})  # fmt: skip
_EVENT = "EVN|{event}|{now}"
_ADMISSION = (_HEADER, _EVENT, _PERSON, _STAY)
_LINES: dict[str, tuple[str, ...]] = {
    "ADT^A01": _ADMISSION,
    "ADT^A04": _ADMISSION,
    "ADT^A08": _ADMISSION,
    "ADT^A40": (_HEADER, _EVENT, _PERSON, "MRG|{prior_id}^^^PREFLIGHT^MR"),
    "ORM^O01": (_HEADER, _PERSON, _STAY, _CONTROL, _REQUEST, "ZDS|{study_uid}^PREFLIGHT^Application^DICOM"),
    "OMI^O23": (_HEADER, _PERSON, _STAY, _CONTROL, _segment("TQ1", {1: "1", 7: "{start}", 9: "R"}), _REQUEST, _IMAGING),
    "ORU^R01": (_HEADER, _PERSON, _STAY, _CONTROL, _REQUEST, _STUDY, _TEXT),
    "SIU^S12": (
        _HEADER, _SCHEDULE, _PERSON, _STAY, "RGS|1|A",
        _segment("AIS", {1: "1", 2: "A", 3: _PROCEDURE, 4: "{start}", 7: "30", 8: "min"}),
    ),
}  # fmt: skip
_OF_RESULTS = "ORU^R01"


class Template:
    """A message of one type with slots for what changes from message to message.

    Parameters
    ----------
    message_type : str
        One of MESSAGE_TYPES.
    receiving_application, receiving_facility : str
        MSH-5 and MSH-6.
    character_set : str
        MSH-18: one of `message.CHARACTER_SETS`.
    mode : "original" or "enhanced"
        Enhanced asks for a commit and an application acknowledgement (MSH-15 and MSH-16 AL).

    Raises
    ------
    SampleError
        For an unknown type or character set.
    """

    def __init__(
        self, message_type: str, *, receiving_application: str = "MACH7", receiving_facility: str = "HOSPITAL",
        character_set: str = "UNICODE UTF-8", mode: Mode = "original",
    ) -> None:  # fmt: skip
        if message_type not in _LINES:
            raise SampleError(f"template: expected one of {', '.join(MESSAGE_TYPES)}, found {message_type!r}")
        if character_set not in CHARACTER_SETS:
            raise SampleError(f"template: expected a character set of {', '.join(CHARACTER_SETS)}, found {character_set!r}")
        self.message_type = message_type
        self.character_set = character_set
        self._codec = CHARACTER_SETS[character_set]
        event = message_type[4:]
        structure = {"A04": "A01", "A08": "A01", "A40": "A39"}.get(event, event)
        wanted = "AL" if mode == "enhanced" else ""
        result = message_type == _OF_RESULTS
        fixed = {
            "receiving_application": escape(receiving_application), "receiving_facility": escape(receiving_facility),
            "type": f"{message_type}^{message_type[:3]}_{structure}", "event": event, "accept": wanted, "application": wanted,
            "character_set": character_set, "result_status": "F" if result else "", "status": "CM" if result else "SC",
        }  # fmt: skip
        self._pieces, self._slots = _cut("\r".join(_LINES[message_type]) + "\r", fixed, self._codec)

    def message(
        self, identity: Identity, patient: SamplePatient, order: OrderDetails | None = None, *, text: str = "",
        copies_to: str = "", prior: Identity | None = None, when: datetime | None = None,
    ) -> bytes:  # fmt: skip
        """Make a message.

        Parameters
        ----------
        identity : Identity
            Becomes MSH-10.
        patient : SamplePatient
            Becomes PID.
        order : OrderDetails or None
            Needed for ORM, OMI, ORU and SIU.
        text : str
            The result's text (ORU); any size, lines parted by a line feed.
        copies_to : str
            OBR-28: who is to get a copy of the result.
        prior : Identity or None
            Needed for A40: the patient that is merged into `patient`.
        when : datetime or None
            The message's time; None is now.

        Returns
        -------
        bytes
            Without a frame.

        Raises
        ------
        SampleError
            When the type needs what was not given, or a value cannot be written in the template's character set.
        """
        values = {
            "control_id": identity.code, "patient_id": patient.identity.code, "visit": patient.identity.accession,
            "patient_name": "^".join(escape(part) for part in _person_name(patient.name)),
            "birth_date": patient.birth_date, "sex": patient.sex, "now": (when or datetime.now()).strftime("%Y%m%d%H%M%S"),
        }  # fmt: skip
        if order is not None:
            values |= self._order_values(order, text, copies_to)
        if prior is not None:
            values["prior_id"] = prior.code
        try:
            parts = [values[slot].encode(self._codec) for slot in self._slots]
        except KeyError as error:
            needs = "the prior patient" if error.args[0] == "prior_id" else "an order"
            raise SampleError(f"{self.message_type}: expected {needs}, found none") from error
        except UnicodeEncodeError as error:
            found = error.object[error.start : error.end]
            expected = f"text in {self.character_set or 'ASCII'}"
            raise SampleError(f"{self.message_type}: expected {expected}, found {found!r}") from error
        joined = [b""] * (2 * len(parts) + 1)
        joined[::2], joined[1::2] = self._pieces, parts
        return b"".join(joined)

    def _order_values(self, order: OrderDetails, text: str, copies_to: str) -> Mapping[str, str]:
        start = order.start_date + order.start_time
        result = self.message_type == _OF_RESULTS
        return {
            "accession": order.accession, "study_uid": order.study_uid, "modality": order.modality, "start": start,
            "station_ae": escape(order.station_ae), "procedure": escape(order.procedure), "text": escape(text),
            "control": "RE" if result else order.control, "timing": f"1^^^{start}^^R", "observed": start if result else "",
            "reported": start if result else "", "copies_to": escape(copies_to),
        }  # fmt: skip


def sample_templates(
    receiving_application: str = "MACH7", receiving_facility: str = "HOSPITAL", *, character_set: str = "UNICODE UTF-8",
    mode: Mode = "original",
) -> dict[str, Template]:  # fmt: skip
    """Return a template of every type, by its type, for one receiver. See Template."""
    return {
        message_type: Template(
            message_type, receiving_application=receiving_application, receiving_facility=receiving_facility,
            character_set=character_set, mode=mode,
        )
        for message_type in MESSAGE_TYPES
    }  # fmt: skip


def result_text(size_bytes: int) -> str:
    """Return a plain result of exactly `size_bytes` ASCII characters, for big OBX segments."""
    sentence = "No finding: this text was made by Preflight. "
    return (sentence * (size_bytes // len(sentence) + 1))[:size_bytes]


def today() -> str:
    """Return today as YYYYMMDD, for orders that a worklist should show."""
    return date.today().strftime("%Y%m%d")


def _cut(text: str, fixed: Mapping[str, str], codec: str) -> tuple[list[bytes], tuple[str, ...]]:
    """Cut a text at its slots: the pieces around them, one more than the slots."""
    pieces, slots = [""], []
    for place, part in enumerate(text.replace("}", "{").split("{")):
        if place % 2 == 0:
            pieces[-1] += part
        elif part in fixed:
            pieces[-1] += fixed[part]
        else:
            slots.append(part)
            pieces.append("")
    return [piece.encode(codec) for piece in pieces], tuple(slots)


def _person_name(name: str) -> list[str]:
    """Return the components as HL7 orders them: prefix and suffix change places (XPN; PS3.5 6.2)."""
    parts = name.split("^")
    if len(parts) > 3:
        family, given, middle, prefix, suffix = (*parts, "", "")[:5]
        parts = [family, given, middle, suffix, prefix]
    return parts
