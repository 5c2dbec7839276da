"""One composite instance, encoded once for one transfer syntax; each copy differs in its identities alone.

All identities of ours have a fixed length, so they are patched in place: a copy costs one copy of the elements before the
pixel data, which all copies share. pydicom prepares the template; nothing of it runs when images are sent.
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache

import xxhash
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from ..operations import UID_LENGTH, Identity
from .errors import ImageError

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"

_PIXEL_DATA = 0x7FE00010
_SIGNATURES_AND_PADDING = 0xFFFA0000  # digital signatures do not survive new identities; padding says nothing
_SEQUENCE_DELIMITER = bytes.fromhex("FEFFDDE000000000")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_LONGEST_VALUE_BYTES = 0xFFFFFFFE
_REGISTERED = "1.2.840.10008."  # DICOM's own UIDs name kinds of things, never a patient's
_PERSON = "PREFLIGHT^TEST"
_IDENTIFYING = frozenset((
    "PatientBirthTime", "PatientBirthName", "PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers",
    "PatientTelecomInformation", "PatientComments", "PatientInsurancePlanCodeSequence", "PatientReligiousPreference",
    "OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence", "MedicalRecordLocator", "MilitaryRank", "BranchOfService", "EthnicGroup",
    "Occupation", "AdditionalPatientHistory", "CountryOfResidence", "RegionOfResidence", "InsurancePlanIdentification",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers", "AdmissionID", "IssuerOfAdmissionID", "ResponsibleOrganization",
    "IssuerOfAccessionNumberSequence", "IssuerOfAccessionNumber", "DeviceSerialNumber", "OriginalAttributesSequence",
    "EncryptedAttributesSequence", "FillerOrderNumberImagingServiceRequest", "PlacerOrderNumberImagingServiceRequest",
))  # fmt: skip


class Field(enum.Enum):
    """What is patched; the value stands in a template until an identity replaces it, and is as long as one."""

    SOP_INSTANCE = "2.25.9" + "1" * (UID_LENGTH - 6)
    STUDY = "2.25.9" + "2" * (UID_LENGTH - 6)
    SERIES = "2.25.9" + "3" * (UID_LENGTH - 6)
    PATIENT_ID = "PF_PATIENT_ID_______"
    PATIENT_NAME = "PREFLIGHT^TEST^PF_PATIENT_NAME_____"
    ACCESSION = "PF_ACCESSION____"


_ACCESSION_LENGTH = len(Field.ACCESSION.value)
_PLACES = re.compile(b"|".join(re.escape(field.value.encode("ascii")) for field in Field))
_FIELD_OF = {field.value.encode("ascii"): field for field in Field}


def patient_name(patient: Identity) -> str:
    """Return the name of a patient of ours, 35 characters: `PREFLIGHT^TEST^` and the patient id."""
    return f"{_PERSON}^{patient.code}"


@dataclass(frozen=True, eq=False)  # known by itself, so that it is cheap as a key
class Places:
    """Where the fields stand in the head of a template and of all its copies, in bytes.

    `own` are the places of its SOP Instance UID, `others` those of what a series has in common.
    """

    own: tuple[int, ...]
    others: tuple[tuple[int, Field], ...]


@dataclass(frozen=True, eq=False)  # known by itself: comparing 200 MB is nobody's wish
class EncodedInstance:
    """The data set of one instance as on the wire (no file meta information).

    Parameters
    ----------
    sop_class, transfer_syntax : str
        UIDs: what its presentation context must be.
    head : bytes
        Everything up to the value of the pixel data; the whole data set where there is none.
    shared : tuple of memoryview
        What all copies share: the pixel data, and what follows it.
    places : Places
        Where in `head` the fields stand.
    sop_instance : bytes
        The SOP Instance UID that it has now, 44 characters.
    """

    sop_class: str
    transfer_syntax: str
    head: bytes
    shared: tuple[memoryview, ...]
    places: Places
    sop_instance: bytes = Field.SOP_INSTANCE.value.encode("ascii")

    def named(
        self, identity: Identity, study: Identity, series: Identity, patient: Identity, accession: str | None
    ) -> EncodedInstance:
        """Return a copy with these identities; the pixel data is shared.

        Parameters
        ----------
        identity, study, series, patient : Identity
            Become SOP Instance, Study and Series Instance UID, patient id and patient name, nested references included.
        accession : str or None
            The accession number, 16 characters at most; None leaves it empty.

        Raises
        ------
        ImageError
            When the accession number is longer.
        """
        uid = b"2.25.%d" % identity.uuid
        head = bytearray(_head_of_study(self.head, self.places, study, series, patient, accession))
        for at in self.places.own:
            head[at : at + UID_LENGTH] = uid
        copy = object.__new__(EncodedInstance)  # a frozen dataclass sets each field by a call of its own, at twice the price
        copy.__dict__.update(
            sop_class=self.sop_class, transfer_syntax=self.transfer_syntax, head=bytes(head), shared=self.shared,
            places=self.places, sop_instance=uid,
        )  # fmt: skip
        return copy

    @property
    def buffers(self) -> tuple[memoryview, ...]:
        """The data set in pieces, in order."""
        return (memoryview(self.head), *self.shared)

    @cached_property
    def size_bytes(self) -> int:
        """The length of the data set."""
        return len(self.head) + sum(map(len, self.shared))

    @cached_property
    def digest(self) -> bytes:
        """The xxh3-128 of the data set, 16 bytes."""
        state = xxhash.xxh3_128(self.head)
        for piece in self.shared:
            state.update(piece)
        return state.digest()


@lru_cache(maxsize=256)  # the images of a series differ in one UID alone
def _head_of_study(
    template: bytes, places: Places, study: Identity, series: Identity, patient: Identity, accession: str | None
) -> bytes:
    """Return a head with all identities but the instance's own."""
    number = (accession or "").encode("ascii").ljust(_ACCESSION_LENGTH)
    if len(number) != _ACCESSION_LENGTH:
        raise ImageError(f"accession number: expected at most {_ACCESSION_LENGTH} characters, found {accession!r}")
    code = patient.code.encode("ascii")
    values = {
        Field.STUDY: study.uid.encode("ascii"),
        Field.SERIES: series.uid.encode("ascii"),
        Field.PATIENT_ID: code,
        Field.PATIENT_NAME: _PERSON.encode("ascii") + b"^" + code,
        Field.ACCESSION: number,
    }
    head = bytearray(template)
    for at, field in places.others:
        head[at : at + len(values[field])] = values[field]
    return bytes(head)


def encode_instance(
    dataset: Dataset, transfer_syntax: str, name: str, *, keep_private: bool = True, pixels: memoryview | None = None
) -> EncodedInstance:
    """Encode a data set as a template whose identities are ours. The data set given is changed.

    Every person is renamed, what else identifies a patient is emptied or left out, and UIDs that are neither DICOM's own
    nor the instance's, its series' or its study's become others, equal for equal ones. What is burnt into pixels stays.

    Parameters
    ----------
    dataset : Dataset
        With the SOP Class UID; its pixel data must be of the transfer syntax already.
    transfer_syntax : str
        Little endian; not deflated.
    name : str
        What errors call it.
    keep_private : bool
        Whether private elements stay.
    pixels : memoryview or None
        Native pixel data, shared and not copied; None takes those of the data set.

    Raises
    ------
    ImageError
        When something that must be there is missing.
    """
    sop_class = str(dataset.get("SOPClassUID", ""))
    if not sop_class:
        raise ImageError(f"{name}: expected a SOP Class UID (0008,0016), found none; it is no composite instance")
    if not keep_private:
        dataset.remove_private_tags()
    _rename(dataset)
    implicit = transfer_syntax == IMPLICIT_LITTLE_ENDIAN
    before, after = _parted(dataset)
    head = _encoded(before, implicit=implicit)
    shared: list[memoryview] = []
    element = dataset.get_item(_PIXEL_DATA)
    if pixels is None and element is not None and element.value:
        pixels = memoryview(element.value)
    if pixels is not None:
        encapsulated = UID(transfer_syntax).is_encapsulated
        head += _pixel_header(dataset, pixels, name, implicit=implicit, encapsulated=encapsulated)
        shared.append(pixels)
        end = (_SEQUENCE_DELIMITER if encapsulated else b"") + _encoded(after, implicit=implicit)
        shared += [memoryview(end)] if end else []
    return EncodedInstance(sop_class, transfer_syntax, head, tuple(shared), _places_in(head))


def _places_in(head: bytes) -> Places:
    found = [(match.start(), _FIELD_OF[match.group()]) for match in _PLACES.finditer(head)]
    own = tuple(at for at, field in found if field is Field.SOP_INSTANCE)
    return Places(own, tuple((at, field) for at, field in found if field is not Field.SOP_INSTANCE))


def _parted(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Return what stands before and after the pixel data, without signatures and padding."""
    before, after = Dataset(), Dataset()
    for tag in list(dataset.keys()):  # a Dataset iterates over its elements
        if tag != _PIXEL_DATA and tag < _SIGNATURES_AND_PADDING:
            part = before if tag < _PIXEL_DATA else after
            part[tag] = dataset[tag]
    return before, after


def _encoded(dataset: Dataset, *, implicit: bool) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = implicit, True
    write_dataset(file, dataset)
    return file.getvalue()


def _pixel_header(dataset: Dataset, pixels: memoryview, name: str, *, implicit: bool, encapsulated: bool) -> bytes:
    length = _UNDEFINED_LENGTH if encapsulated else len(pixels)
    if len(pixels) % 2 or len(pixels) > _LONGEST_VALUE_BYTES:
        raise ImageError(f"{name}: pixel data: expected an even length below 4 GiB, found {len(pixels)} bytes")
    group, element = _PIXEL_DATA >> 16, _PIXEL_DATA & 0xFFFF
    if implicit:
        return struct.pack("<HHI", group, element, length)
    vr = b"OB" if encapsulated or dataset.get("BitsAllocated", 16) <= 8 else b"OW"  # PS3.5 8.2, A.2, A.4
    return struct.pack("<HH2sHI", group, element, vr, 0, length)


def _rename(dataset: Dataset) -> None:
    own = {
        str(dataset.get("SOPInstanceUID", "")): Field.SOP_INSTANCE.value,
        str(dataset.get("StudyInstanceUID", "")): Field.STUDY.value,
        str(dataset.get("SeriesInstanceUID", "")): Field.SERIES.value,
    }
    _rename_nested(dataset, own)
    dataset.SOPInstanceUID = Field.SOP_INSTANCE.value
    dataset.StudyInstanceUID = Field.STUDY.value
    dataset.SeriesInstanceUID = Field.SERIES.value
    dataset.PatientID = Field.PATIENT_ID.value
    dataset.PatientName = Field.PATIENT_NAME.value
    dataset.AccessionNumber = Field.ACCESSION.value
    dataset.PatientBirthDate = ""


def _rename_nested(dataset: Dataset, own: dict[str, str]) -> None:
    for tag in list(dataset.keys()):
        if tag == _PIXEL_DATA:
            continue
        element = dataset[tag]
        if element.keyword in _IDENTIFYING:
            del dataset[tag]
        elif element.VR == "SQ":
            for item in element.value:
                _rename_nested(item, own)
        elif element.VR == "UI":
            _rename_uids(element, own)
        elif element.VR == "PN" and element.value:
            element.value = _PERSON
        elif element.keyword in ("PatientID", "PatientBirthDate", "AccessionNumber"):
            element.value = ""


def _rename_uids(element: DataElement, own: dict[str, str]) -> None:
    if element.VM > 1:
        element.value = [_other_uid(str(uid), own) for uid in element.value]
    elif element.value:
        element.value = _other_uid(str(element.value), own)


def _other_uid(uid: str, own: dict[str, str]) -> str:
    if not uid or uid.startswith(_REGISTERED):
        return uid
    if uid in own:
        return own[uid]
    number = xxhash.xxh3_128_intdigest(uid.encode("ascii", "replace"))
    return f"2.25.{number & ~(0xF << 76) & ~(0b11 << 62) | 4 << 76 | 0b10 << 62}"  # a UUID of version 4 is never one of ours
