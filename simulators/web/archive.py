"""What an imaging archive shows: the images of all nodes of a site, grouped by study.

Reads only, through SQLite connections of the calling thread, so that slow reads can be kept off the event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from simulators.node_store import Instance, Note, Order, Result, SiteReader


class StudyQuery(NamedTuple):
    """Which studies are asked for. An empty value matches all; `*` and `?` in text are wildcards (PS3.4 C.2.2.2.4).

    `date_from` and `date_to` are YYYYMMDD, both included. At most `limit` studies are returned, the first `offset` left
    out; the one that was stored to last comes first.
    """

    patient_id: str = ""
    accession: str = ""
    patient_name: str = ""
    modality: str = ""
    date_from: str = ""
    date_to: str = ""
    study_uids: tuple[str, ...] = ()
    limit: int = 50
    offset: int = 0


NOTES_SHOWN = 50  # of one study: under load a page must not grow with every note that was ever written


class Study(NamedTuple):
    """One study as its stored images describe it; `instances` holds at least one, series by series."""

    study_uid: str
    instances: tuple[Instance, ...]

    @property
    def newest(self) -> Instance:
        """The image that was stored last: it speaks for the study."""
        return max(self.instances, key=lambda instance: instance.updated_ns)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of its series, sorted."""
        return tuple(sorted({instance.modality for instance in self.instances if instance.modality}))

    @property
    def series(self) -> dict[str, list[Instance]]:
        """Its images by Series Instance UID."""
        found: dict[str, list[Instance]] = {}
        for instance in self.instances:
            found.setdefault(instance.series_uid, []).append(instance)
        return found


class StudyRecord(NamedTuple):
    """Everything that is known of one study UID; `study` is None while no image has arrived."""

    study_uid: str
    study: Study | None
    orders: list[Order]
    results: list[Result]
    notes: list[Note]

    @property
    def is_known(self) -> bool:
        """Whether anything at all is known of it."""
        return bool(self.study or self.orders or self.results or self.notes)


class Archive:
    """The archive of a site, read from its nodes' folders.

    Parameters
    ----------
    directories : sequence of Path
        The folders of all nodes: orders, results and notes are read from them.
    image_directories : sequence of Path
        The folders whose images are shown; all of them, unless the node hides what the others stored.
    """

    def __init__(self, directories: Sequence[Path], image_directories: Sequence[Path]) -> None:
        self._directories = tuple(directories)
        self._image_directories = tuple(image_directories)
        self._of_thread = threading.local()

    def studies(self, query: StudyQuery) -> list[Study]:
        """Return the studies that match, the one stored to last first."""
        images = self._reader("images", self._image_directories)
        conditions, values = _conditions(query)
        # Each node names its own newest studies: a study among the newest of the site is among the newest of the node
        # that stored to it last. What the others hold of the same studies is fetched after.
        last_stored = f"SELECT study_uid, MAX(updated_ns) FROM instances WHERE {conditions} GROUP BY study_uid"  # noqa: S608  values are bound
        newest = f"(study_uid, updated_ns) IN ({last_stored} ORDER BY 2 DESC LIMIT ?)"
        candidates: dict[str, int] = {}
        for instance in images.instances(newest, (*values, query.offset + query.limit)):
            candidates[instance.study_uid] = max(candidates.get(instance.study_uid, 0), instance.updated_ns)
        ordered = sorted(candidates, key=lambda uid: (-candidates[uid], uid))
        page = ordered[query.offset : query.offset + query.limit]
        marks = ",".join("?" * len(page))
        found = _grouped(images.instances(f"study_uid IN ({marks})", tuple(page)))
        return [found[uid] for uid in page if uid in found]

    def study(self, study_uid: str) -> Study | None:
        """Return the images of one study; None when there are none."""
        images = self._reader("images", self._image_directories)
        return _grouped(images.instances("study_uid = ?", (study_uid,))).get(study_uid)

    def record(self, study_uid: str) -> StudyRecord:
        """Return everything that is known of a study; results and the newest notes in the order of their arrival."""
        study = self.study(study_uid)
        site = self._reader("site", self._directories)
        accession = study.newest.accession if study else _accession_of(site.orders("study_uid = ?", (study_uid,)))
        # an image without an accession number must not gather every result that has none either
        of_study = "(study_uid = ? OR (accession = ? AND accession <> ''))"
        values = (study_uid, accession)
        newest = site.notes("study_uid = ? ORDER BY updated_ns DESC LIMIT ?", (study_uid, NOTES_SHOWN))
        notes = sorted(newest, key=lambda note: note.updated_ns)[-NOTES_SHOWN:]
        return StudyRecord(study_uid, study, site.orders(of_study, values), site.results(of_study, values), notes)

    def kept_file(self, instance: Instance) -> Path | None:
        """Return the Part-10 file of an image; None when only its receipt was kept."""
        if not instance.file:
            return None
        paths = (directory / instance.file for directory in self._image_directories)
        return next((path for path in paths if path.is_file()), None)

    def _reader(self, name: str, directories: Sequence[Path]) -> SiteReader:
        reader: SiteReader | None = getattr(self._of_thread, name, None)
        if reader is None:
            reader = SiteReader(directories)
            setattr(self._of_thread, name, reader)
        return reader


def _accession_of(orders: Sequence[Order]) -> str:
    """Return the accession number of a study that was ordered and has no image yet; results name nothing else."""
    return orders[-1].accession if orders else ""


def _grouped(instances: Iterable[Instance]) -> dict[str, Study]:
    by_study: dict[str, list[Instance]] = {}
    for instance in instances:
        by_study.setdefault(instance.study_uid, []).append(instance)
    for images in by_study.values():
        images.sort(key=lambda instance: (instance.series_uid, instance.updated_ns, instance.sop_uid))
    return {uid: Study(uid, tuple(images)) for uid, images in by_study.items()}


def _conditions(query: StudyQuery) -> tuple[str, tuple[object, ...]]:
    conditions, values = ["1"], list[object]()
    for column, text in (
        ("patient_id", query.patient_id), ("accession", query.accession), ("patient_name", query.patient_name),
        ("modality", query.modality),
    ):  # fmt: skip
        if text:
            wild = "*" in text or "?" in text
            conditions.append(f"{column} GLOB ?" if wild else f"{column} = ?")
            values.append(text.replace("[", "[[]") if wild else text)  # DICOM has no character sets in its wildcards
    if query.study_uids:
        conditions.append(f"study_uid IN ({','.join('?' * len(query.study_uids))})")
        values.extend(query.study_uids)
    if query.date_from:
        conditions.append("study_date >= ?")
        values.append(query.date_from)
    if query.date_to:
        conditions.append("study_date BETWEEN '0' AND ?")  # an image without a date is in no range
        values.append(query.date_to)
    return " AND ".join(conditions), tuple(values)
