"""What a hospital asks of its imaging site: every number of the clinical load model, with its default.

`clinical_sources.py` says for each of them where it comes from; a site overrides any of them under `[load]` in its file.
Rates and clients are derived from them in `scenarios/load/model.py`. Shares are fractions of 1, never percentages.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SMALLEST_IMAGE_BYTES = 4096
LARGEST_IMAGE_BYTES = 1 << 30  # what a simulated modality can still make, of one object
MessageKind = Literal["adt", "orders", "scheduling", "results"]

Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Share = Annotated[float, Meta(gt=0, le=1)]
PeakShare = Annotated[float, Meta(ge=0.0417, le=1)]  # the greatest of 24 shares is never below 1/24
HourlyFactor = Annotated[float, Meta(ge=0, le=1)]
PerEvent = Annotated[float, Meta(ge=0, le=1_000_000)]
Duration = Annotated[float, Meta(ge=0.000001, le=2_147_483)]
EntryName = Annotated[str, Meta(min_length=1, max_length=16, pattern=r"^[A-Za-z0-9._-]+\Z")]
ImageBytes = Annotated[int, Meta(ge=SMALLEST_IMAGE_BYTES, le=LARGEST_IMAGE_BYTES)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A part of the model: frozen, and strict about unknown keys."""


class ModalityLoad(_Part, frozen=True, kw_only=True):
    """One kind of study.

    Parameters
    ----------
    name : str
        The DICOM modality (PS3.3 C.7.3.1.1.1), and a word more where one modality sends several kinds: DX, CT, US-LOOPS.
    share : float
        Of all exams, how many send it. The shares of entries that are exams of their own sum to 1.
    part_of : str or None
        The entry whose exams send this too, in an association of its own: a dose report, the views beside a tomosynthesis.
    images : int
        Objects in one study.
    image_bytes : int
        Bytes of one object's data set, uncompressed: an even number (PS3.5 7.1.1), 4,096 to 2**30.
    """

    name: EntryName
    share: Share
    part_of: EntryName | None = None
    images: Annotated[int, Meta(ge=1, le=100_000)]
    image_bytes: ImageBytes


class LineLoad(_Part, frozen=True, kw_only=True):
    """One HL7 line of the interface engine: one message is under way on each of its connections (MLLP is send and wait).

    Parameters
    ----------
    name : str
        What the engine calls it.
    carries : tuple of str
        adt, orders, scheduling, results. Every kind of message has exactly one line.
    connections : int
        Connections side by side. More than one needs messages that are parted by patient, or order is lost.
    """

    name: EntryName
    carries: tuple[MessageKind, ...]
    connections: Annotated[int, Meta(ge=1, le=1000)] = 1


MODALITIES = (
    ModalityLoad(name="DX", share=0.512, images=2, image_bytes=7_532_800),
    ModalityLoad(name="CT", share=0.115, images=679, image_bytes=526_000),
    ModalityLoad(name="MR", share=0.060, images=570, image_bytes=133_000),
    ModalityLoad(name="US", share=0.180, images=30, image_bytes=922_000),
    ModalityLoad(name="US-LOOPS", share=0.042, images=40, image_bytes=27_700_000),
    ModalityLoad(name="MG", share=0.029, images=4, image_bytes=16_000_000),
    ModalityLoad(name="DBT", share=0.020, images=4, image_bytes=450_000_000),
    ModalityLoad(name="RF", share=0.020, images=20, image_bytes=2_100_000),
    ModalityLoad(name="XA", share=0.009, images=10, image_bytes=45_000_000),
    ModalityLoad(name="NM", share=0.009, images=5, image_bytes=1_050_000),
    ModalityLoad(name="PT", share=0.004, images=300, image_bytes=34_000),
    ModalityLoad(name="DBT-VIEWS", share=0.020, part_of="DBT", images=4, image_bytes=16_000_000),
    ModalityLoad(name="CT-DOSE-SR", share=0.115, part_of="CT", images=1, image_bytes=40_000),
)
LINES = (
    LineLoad(name="ADT", carries=("adt",)),
    LineLoad(name="ORDERS", carries=("orders", "scheduling")),
    LineLoad(name="RESULTS", carries=("results",)),
)
HOURLY_FACTORS = (
    0.08, 0.07, 0.06, 0.05, 0.05, 0.07, 0.15, 0.38, 0.75, 0.95, 1.00, 0.95,
    0.80, 0.80, 0.90, 0.80, 0.60, 0.40, 0.30, 0.22, 0.18, 0.14, 0.11, 0.09,
)  # fmt: skip


class Load(_Part, frozen=True, kw_only=True):
    """The clinical load model's numbers: `clinical_sources.py` gives each one's unit, and its source or why it is assumed."""

    exams_per_year: Count = 500_000
    working_days: Annotated[int, Meta(ge=1, le=366)] = 255
    peak_hour_share: PeakShare = 0.101
    hourly_factors: Annotated[tuple[HourlyFactor, ...], Meta(min_length=24, max_length=24)] = HOURLY_FACTORS

    modality: Annotated[tuple[ModalityLoad, ...], Meta(min_length=1)] = MODALITIES
    compression: Annotated[float, Meta(ge=1, le=1000)] = 1.0
    largest_sent_image_bytes: ImageBytes = LARGEST_IMAGE_BYTES

    encounters_per_exam: PerEvent = 3.1
    adt_per_encounter: PerEvent = 8.0
    orders_per_exam: PerEvent = 2.0
    scheduling_per_exam: PerEvent = 1.2
    results_per_exam: PerEvent = 1.5
    line: Annotated[tuple[LineLoad, ...], Meta(min_length=1)] = LINES
    ack_latency_s: Duration = 0.05

    exams_per_device: Count = 5_000
    worklist_interval_s: Duration = 60.0

    views_per_exam: PerEvent = 3.9
    priors_per_exam: PerEvent = 2.8
    exams_per_web_user: Count = 207
    sessions_per_web_user_day: PerEvent = 2.0
    pages_per_session: Annotated[int, Meta(ge=1, le=100_000)] = 10

    outage_min: Duration = 15.0
    flush_min: Duration = 5.0

    image_s: Duration = 0.02
    link_bytes_per_s: Annotated[float, Meta(ge=1000)] = 100_000_000.0
    query_s: Duration = 0.5
    page_s: Duration = 0.2

    def wire_bytes(self, modality: ModalityLoad) -> int:
        """Return the bytes of one object as they are sent: compressed, an even number, and never below the smallest image."""
        return max(SMALLEST_IMAGE_BYTES, round(modality.image_bytes / self.compression / 2) * 2)

    def is_sent(self, modality: ModalityLoad) -> bool:
        """Return whether load runs send it; what they do not send stays in the model, and its table says so."""
        return self.wire_bytes(modality) <= self.largest_sent_image_bytes
