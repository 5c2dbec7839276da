from __future__ import annotations

from simulators.web.page_reader import NoteSeen, StudyPage, StudyRow, study_page, study_rows

LIST = """<table><tr data-study-uid="2.25.1" data-patient-id="P&amp;1" data-patient-name="DOE^Jane" data-accession="A-1"
 data-study-date="20260301" data-modalities="CT SR" data-images="12"><td>DOE, Jane</td></tr></table>"""
STUDY = """<section data-study-uid="2.25.1" data-patient-id="P" data-patient-name="N" data-accession="A"
 data-images="1"></section>
<tr data-sop-uid="2.25.3"><td>2.25.3</td></tr>
<pre data-result="A">\nFirst line\nsecond &lt; third</pre><p data-note="PF1">a <b>bold</b> note</p>"""


def test_a_row_of_the_list_is_read_back() -> None:
    assert study_rows(LIST) == [StudyRow("2.25.1", "P&1", "DOE^Jane", "A-1", "20260301", ("CT", "SR"), 12)]


def test_a_study_page_is_read_back() -> None:
    assert study_page(STUDY) == StudyPage(
        "2.25.1", "P", "N", "A", 1, ("2.25.3",), ("First line\nsecond < third",), (NoteSeen("PF1", "a bold note"),)
    )


def test_another_page_holds_no_study() -> None:
    assert (study_rows("<h1>503</h1>"), study_page("<h1>503</h1>")) == ([], StudyPage())
