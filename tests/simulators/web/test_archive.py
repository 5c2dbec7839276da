"""What the archive reads from the nodes' folders, without a server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from simulators.node_store import Instance, NodeStore, Note, Order, Result, Row
from simulators.web.archive import NOTES_SHOWN, Archive, StudyQuery

if TYPE_CHECKING:
    from tests.simulators.web.conftest import Images

ORDER = Order("A-9", "P-9", "ROE^Max", "", "M", "MR", "MR1", "20260301", "0900", "S", "R", "Knee", "2.25.90", "NW", 1)


def archive_of(directory: Path) -> Archive:
    site = (directory / "MACH7-A", directory / "MACH7-B")
    return Archive(site, site)


def put_messages(directory: Path, rows: Iterable[Row]) -> None:
    store = NodeStore(directory / "MACH7-B", "hl7")
    store.put(*rows)
    store.close()


def test_a_site_whose_nodes_have_stored_nothing_has_no_studies(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    assert archive.studies(StudyQuery()) == []
    assert not archive.record("2.25.10").is_known


def test_an_image_that_both_nodes_hold_is_counted_once(tmp_path: Path, images: Images, image: Instance) -> None:
    images.put("MACH7-A", image)
    images.put("MACH7-B", image)
    study = archive_of(tmp_path).study("2.25.10")
    assert study is not None
    assert [(found.sop_uid, found.receipts) for found in study.instances] == [("2.25.111", 2)]


def test_the_newest_study_leads_whichever_node_stored_to_it_last(tmp_path: Path, images: Images, image: Instance) -> None:
    images.put("MACH7-A", image._replace(updated_ns=1), image._replace(sop_uid="2.25.2", study_uid="2.25.20", updated_ns=2))
    images.put("MACH7-B", image._replace(sop_uid="2.25.3", updated_ns=3))
    (newest,) = archive_of(tmp_path).studies(StudyQuery(limit=1))
    assert (newest.study_uid, len(newest.instances)) == ("2.25.10", 2)


def test_wildcards_are_those_of_dicom_and_brackets_are_themselves(tmp_path: Path, images: Images, image: Instance) -> None:
    images.put("MACH7-A", image._replace(patient_id="P[1]"), image._replace(sop_uid="2.25.2", study_uid="2.25.20"))
    archive = archive_of(tmp_path)
    found = {text: [study.study_uid for study in archive.studies(StudyQuery(patient_id=text))] for text in ("P[1*", "P-?")}
    assert found == {"P[1*": ["2.25.10"], "P-?": ["2.25.20"]}


def test_a_study_without_a_date_is_in_no_range(tmp_path: Path, images: Images, image: Instance) -> None:
    images.put("MACH7-A", image._replace(study_date=""), image._replace(sop_uid="2.25.2", study_uid="2.25.20"))
    archive = archive_of(tmp_path)
    ranges = (StudyQuery(date_to="20991231"), StudyQuery(date_from="20000101"))
    assert [[study.study_uid for study in archive.studies(query)] for query in ranges] == [["2.25.20"], ["2.25.20"]]


def test_a_result_reaches_a_study_that_was_ordered_and_has_no_image_yet(tmp_path: Path) -> None:
    put_messages(tmp_path, [ORDER, Result("A-9", "", "P-9", "F", "Normal.", 5)])
    record = archive_of(tmp_path).record("2.25.90")
    assert (record.study, [result.text for result in record.results]) == (None, ["Normal."])


def test_a_study_without_an_accession_number_gathers_no_stray_results(
    tmp_path: Path, images: Images, image: Instance
) -> None:
    images.put("MACH7-A", image._replace(accession=""))
    put_messages(tmp_path, [Result("", "2.25.77", "P-7", "F", "Another patient's.", 5)])
    assert archive_of(tmp_path).record("2.25.10").results == []


def test_of_many_notes_the_newest_of_all_nodes_are_shown_in_their_order(tmp_path: Path) -> None:
    for node, first in (("MACH7-A", 0), ("MACH7-B", 1)):
        store = NodeStore(tmp_path / node, "https")
        store.put(*[Note(f"PF{n}", "2.25.10", "ann", f"note {n}", n) for n in range(first, 200, 2)])
        store.close()
    shown = archive_of(tmp_path).record("2.25.10").notes
    assert [note.updated_ns for note in shown] == list(range(200 - NOTES_SHOWN, 200))
