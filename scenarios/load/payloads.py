"""What simulated clients send: images and messages that are encoded before the run and only patched while it goes on."""

from __future__ import annotations

import bisect
import datetime
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from simulators.dicom.instances import EncodedInstance
from simulators.dicom.samples import LARGEST_IMAGE_BYTES, SMALLEST_IMAGE_BYTES, generated_image
from simulators.hl7.samples import OrderDetails, SamplePatient, Template
from simulators.operations import Identity, IdentitySource, Kind

from .plan import StudyMix

ORDER_STATION = "PFLOADORDER"  # no worklist client asks for it, so that answers stay as long as they were
_SMALL_BYTES = 8 * 1024  # what a modality stores in a storm
_GENERATED = {"CT": "CT", "MR": "MR", "US": "US"}  # what pixels a modality's images have; all others have those of CR
_PATIENTS_A_LINE = 16
_ORDER_EVERY = 10  # sequence numbers of a generator: a hospital's ADT traffic is many times its imaging orders
_UPDATE, _ORDER = "ADT^A08", "ORM^O01"
_NS_A_SECOND = 1_000_000_000


class Series(NamedTuple):
    """What one study consists of: copies of one image."""

    image: EncodedInstance
    images: int


class Studies:
    """The studies of a mix, each with its share of all.

    Parameters
    ----------
    mix : sequence of StudyMix
        Empty: studies of one small image.

    Raises
    ------
    ImageError
        When an image cannot be generated.
    """

    def __init__(self, mix: Sequence[StudyMix]) -> None:
        self.small = generated_image("CT", _SMALL_BYTES, 1).instance
        self._series = [Series(_image_of(study), study.images) for study in mix] or [Series(self.small, 1)]
        self._up_to = list(itertools.accumulate(study.share for study in mix)) or [1.0]

    @property
    def images(self) -> list[EncodedInstance]:
        """All images that may be sent."""
        return [self.small, *(series.image for series in self._series)]

    def chosen(self, choice: float) -> Series:
        """Return the study that a number in [0, 1) chooses."""
        place = bisect.bisect_right(self._up_to, choice * self._up_to[-1])
        return self._series[min(place, len(self._series) - 1)]


class LineMessage(NamedTuple):
    """A message of a line, and the join key of its patient."""

    identity: Identity
    patient: int
    content: bytes


class Line:
    """The messages of one interface engine line: updates of its patients in turn, now and then an order.

    Of a patient nothing but one line speaks, one message at a time: that keeps the order within the patient.

    Parameters
    ----------
    identities : IdentitySource
        Of the generator.
    templates : mapping of str to Template
        With ADT^A08 and ORM^O01.
    """

    def __init__(self, identities: IdentitySource, templates: Mapping[str, Template]) -> None:
        self._identities = identities
        self._updates = templates[_UPDATE]
        self._orders = templates[_ORDER]
        self._patients = [SamplePatient(identities.next(Kind.PATIENT)) for _ in range(_PATIENTS_A_LINE)]
        self._prepared: dict[int, tuple[int, bytes, bytes]] = {}  # by patient: when, and what stands around the MSH-10
        self._said = 0

    def next(self) -> LineMessage:
        """Make the next message; an update costs two joins of bytes, an order is written out."""
        place = self._said % _PATIENTS_A_LINE
        patient = self._patients[place]
        identity = self._identities.next(Kind.MESSAGE)
        self._said += 1
        if (accession := ordered_by(identity)) is not None:
            content = self._orders.message(identity, patient, self._order(accession))
        else:
            content = self._update(place, patient, identity)
        return LineMessage(identity, patient.identity.key, content)

    def _update(self, place: int, patient: SamplePatient, identity: Identity) -> bytes:
        second = time.time_ns() // _NS_A_SECOND
        made, before, after = self._prepared.get(place, (0, b"", b""))
        code = identity.code.encode("ascii")
        if made != second:  # what is written in it is the time to the second
            before, found, after = self._updates.message(identity, patient).partition(code)
            if not found:
                raise ValueError(f"{_UPDATE}: expected {identity.code} as MSH-10, found it nowhere")
            self._prepared[place] = (second, before, after)
        return b"".join((before, code, after))

    def _order(self, accession: str) -> OrderDetails:
        now = datetime.datetime.now(tz=datetime.UTC)
        return OrderDetails(
            accession=accession, study_uid=self._identities.next(Kind.STUDY).uid,
            station_ae=ORDER_STATION, start_date=f"{now:%Y%m%d}", start_time=f"{now:%H%M}00",
        )  # fmt: skip


def ordered_by(message: Identity) -> str | None:
    """Return the accession number that a message of a load run orders: its own; None for the nine of ten that order nothing.

    What was ordered can so be told from the history alone.
    """
    return message.accession if message.sequence % _ORDER_EVERY == 0 else None


def _image_of(study: StudyMix) -> EncodedInstance:
    pixels = _GENERATED.get(study.modality[:2], "CR")
    size_bytes = min(max(study.image_bytes, SMALLEST_IMAGE_BYTES), LARGEST_IMAGE_BYTES) & ~1  # PS3.5 7.1.1: even
    return generated_image(pixels, size_bytes, study.image_bytes).instance
