"""Reads the node's pages back: what a person would see of the studies, as values."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import NamedTuple


class StudyRow(NamedTuple):
    """One row of the list of studies. `patient_name` is the DICOM PN, `study_date` YYYYMMDD, `images` their number."""

    study_uid: str
    patient_id: str
    patient_name: str
    accession: str
    study_date: str
    modalities: tuple[str, ...]
    images: int


class NoteSeen(NamedTuple):
    """A note on a study's page: the code of its identity, and its text."""

    identity: str
    text: str


class StudyPage(NamedTuple):
    """The page of one study; empty when the page was something else.

    `images` is the number that the page says, `sop_uids` those that it lists (a long series is cut), `results` the texts of
    its results in order, `notes` those of its users.
    """

    study_uid: str = ""
    patient_id: str = ""
    patient_name: str = ""
    accession: str = ""
    images: int = 0
    sop_uids: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    notes: tuple[NoteSeen, ...] = ()


def study_rows(page: str) -> list[StudyRow]:
    """Return the rows of a list of studies, in the order of the page."""
    marks = _marks(page)
    return [
        StudyRow(
            row["data-study-uid"], row["data-patient-id"], row["data-patient-name"], row["data-accession"],
            row["data-study-date"], tuple(row["data-modalities"].split()), int(row["data-images"]),
        )
        for row in marks.rows if "data-study-date" in row
    ]  # fmt: skip


def study_page(page: str) -> StudyPage:
    """Return what a study's page shows."""
    marks = _marks(page)
    head = next((row for row in marks.rows if "data-study-uid" in row), None)
    if head is None:
        return StudyPage()
    return StudyPage(
        head["data-study-uid"], head["data-patient-id"], head["data-patient-name"], head["data-accession"],
        int(head["data-images"]),
        sop_uids=tuple(row["data-sop-uid"] for row in marks.rows if "data-sop-uid" in row),
        results=tuple(text for name, _, text in marks.texts if name == "data-result"),
        notes=tuple(NoteSeen(value, text) for name, value, text in marks.texts if name == "data-note"),
    )  # fmt: skip


class _Marks(HTMLParser):
    """Gathers the elements with data attributes, and the text of those that are a result or a note."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[dict[str, str]] = []
        self.texts: list[tuple[str, str, str]] = []
        self._open: tuple[str, str, str] | None = None  # tag, attribute, its value
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        row = {name: value or "" for name, value in attrs if name.startswith("data-")}
        if row:
            self.rows.append(row)
        for name in ("data-result", "data-note"):
            if name in row:
                self._open, self._text = (tag, name, row[name]), []

    def handle_data(self, data: str) -> None:
        if self._open:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag == self._open[0]:
            _, name, value = self._open
            text = "".join(self._text)
            # HTML drops the newline that follows <pre> (13.2.6.4.7); this parser does not
            self.texts.append((name, value, text.removeprefix("\n") if tag == "pre" else text))
            self._open = None


def _marks(page: str) -> _Marks:
    marks = _Marks()
    marks.feed(page)
    marks.close()
    return marks
