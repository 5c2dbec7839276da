"""report.json: the contract that other programs read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.errors import ReportError, UnreadableReportError
from reports.json_report import json_report, read_report

if TYPE_CHECKING:
    from .conftest import CheckFactory, ReportFactory


def test_the_keys_are_those_of_the_contract_in_its_order(make_check: CheckFactory, make_report: ReportFactory) -> None:
    document = json.loads(json_report(make_report(make_check("PERSIST-1/DICOM", "waived"))))
    assert " ".join(document) == "schema verdict kind target nodes profile plant only run site balancer checks untested"
    assert document["schema"] == "preflight/report/1"
    assert list(document["run"]) == ["id", "seed", "started", "ended", "version"]
    assert list(document["site"]) == ["name", "file", "sha256"]
    assert list(document["balancer"]) == ["product", "version", "configuration_sha256"]
    assert " ".join(document["checks"][0]) == (
        "id check vip requirement title impact required verdict subject reason waiver measured limit predicted evidence"
    )
    assert list(document["checks"][0]["waiver"]) == ["by", "why", "until"]
    assert list(document["untested"][0]) == ["requirement", "reason"]


def test_what_is_absent_is_null_and_not_left_out(make_check: CheckFactory, make_report: ReportFactory) -> None:
    document = json.loads(json_report(make_report(make_check("JOURNEY-1"))))
    assert document["plant"] is None
    assert [document["checks"][0][key] for key in ("vip", "subject", "waiver")] == [None, None, None]


def test_a_report_read_back_is_the_report_that_was_written(
    tmp_path: Path, make_check: CheckFactory, make_report: ReportFactory
) -> None:
    report = make_report(make_check("PERSIST-1/DICOM", "waived"), make_check("JOURNEY-1", "fail"), plant="weights")
    (tmp_path / "report.json").write_bytes(json_report(report))
    assert read_report(tmp_path / "report.json") == report


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"verdict": "good"}, "$.verdict"),
        ({"colour": "green"}, "colour"),
        ({"schema": "preflight/report/2"}, "$.schema"),
        ({"only": "PERSIST-1"}, "$.only"),
        ({"run": {}}, "$.run"),
    ],
)
def test_what_breaks_the_contract_is_refused_by_its_path(
    change: dict[str, Any], named: str, tmp_path: Path, make_report: ReportFactory
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(json_report(make_report())) | change))
    with pytest.raises(UnreadableReportError) as caught:
        read_report(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)


def test_a_missing_report_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UnreadableReportError, match="preflight accept"):
        read_report(tmp_path / "report.json")


def test_half_a_report_is_refused(tmp_path: Path, make_report: ReportFactory) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(json_report(make_report())[:-40])
    with pytest.raises(UnreadableReportError):
        read_report(path)


def test_a_measured_value_that_is_no_json_is_refused(make_check: CheckFactory, make_report: ReportFactory) -> None:
    with pytest.raises(ReportError, match="convert the value in its checker"):
        json_report(make_report(make_check("LOSS-1/HL7", measured={"lost": object()})))


@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet=st.characters()))
def test_any_reason_can_be_written_and_read(make_check: CheckFactory, make_report: ReportFactory, text: str) -> None:
    report = make_report(make_check("PERSIST-1/DICOM", reason=text, measured={text: text}))
    document = json.loads(json_report(report))
    assert document["checks"][0]["reason"] == text.encode("utf-8", "replace").decode()
