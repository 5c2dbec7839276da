"""junit.xml: what a CI server makes of the verdicts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.junit import junit_report

if TYPE_CHECKING:
    from .conftest import CheckFactory, ReportFactory


@pytest.fixture(scope="module")
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).parent / "junit.xsd")


def _parsed(document: bytes) -> ET.Element:
    return ET.fromstring(document)  # noqa: S314  our own output


def test_every_verdict_validates_and_is_told_apart(
    schema: xmlschema.XMLSchema, make_check: CheckFactory, make_report: ReportFactory
) -> None:
    checks = [
        make_check("PERSIST-1/DICOM", "fail"),
        make_check("PERSIST-2/DICOM", "unknown"),
        make_check("PERSIST-3/DICOM", "skipped"),
        make_check("PERSIST-4/DICOM", "waived"),
        make_check("PERSIST-5/DICOM"),
    ]
    document = junit_report(make_report(*checks))
    schema.validate(document.decode())
    cases = {case.get("name"): case for case in _parsed(document).iter("testcase")}
    children = {name: [child.tag for child in case] for name, case in cases.items()}
    assert children == {
        "PERSIST-1/DICOM": ["failure", "system-out"],
        "PERSIST-2/DICOM": ["error", "system-out"],
        "PERSIST-3/DICOM": ["skipped", "system-out"],
        "PERSIST-4/DICOM": ["system-out"],
        "PERSIST-5/DICOM": ["system-out"],
    }
    assert "waived by J. Okafor until 2027-03-31: until the upgrade" in (
        cases["PERSIST-4/DICOM"].findtext("system-out") or ""
    )


def test_a_suite_is_a_family_of_checks_on_one_vip_with_its_counts(
    make_check: CheckFactory, make_report: ReportFactory
) -> None:
    checks = [
        make_check("PERSIST-1/DICOM"),
        make_check("PERSIST-1/HL7", "fail"),
        make_check("PERSIST-2/DICOM"),
        make_check("OPS-1"),
    ]
    suites = _parsed(junit_report(make_report(*checks))).findall("testsuite")
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites] == [
        ("OPS/site", "1", "0"),
        ("PERSIST/DICOM", "2", "0"),
        ("PERSIST/HL7", "1", "1"),
    ]


def test_a_suite_says_which_run_it_was_and_whether_a_defect_was_planted(
    make_check: CheckFactory, make_report: ReportFactory
) -> None:
    document = _parsed(junit_report(make_report(make_check("PERSIST-1/DICOM", "fail"), plant="stick-removed")))
    properties = {item.get("name"): item.get("value") for item in document.iter("property")}
    assert (properties["run"], properties["seed"], properties["site"]) == ("9f3a61c2", "42", "St. Elsewhere")
    assert properties["plant"] == "stick-removed"


def test_a_run_without_checks_is_valid(schema: xmlschema.XMLSchema, make_report: ReportFactory) -> None:
    schema.validate(junit_report(make_report()).decode())


@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet=st.characters(), min_size=1))
def test_any_text_makes_valid_xml(
    schema: xmlschema.XMLSchema, make_check: CheckFactory, make_report: ReportFactory, text: str
) -> None:
    check = make_check("PERSIST-1/DICOM", "fail", reason=text, title=text, evidence=[text])
    schema.validate(junit_report(make_report(check, plant=text)).decode())
