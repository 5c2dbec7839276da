"""The verdict of a run in plain words, and text made fit for paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reports.text import legible, one_line, shortened
from reports.words import kind_sentence, stand_in_sentence, verdict_sentence

if TYPE_CHECKING:
    from .conftest import CheckFactory, ReportFactory


def test_an_incomplete_run_says_all_that_it_lacks(make_check: CheckFactory, make_report: ReportFactory) -> None:
    checks = [make_check("REACH-1/HL7", "unknown"), make_check("REACH-1/DICOM", "unknown"), make_check("OPS-1", "skipped")]
    report = make_report(*checks, verdict="incomplete", only=["REACH-1", "OPS-1"])
    assert verdict_sentence(report) == (
        "This run proves too little to pass: it was partial (--only), 2 required checks unknown, 1 required check skipped."
    )


@pytest.mark.parametrize(
    ("only", "gap"), [([], "no required check was run"), (["X-1"], "it was partial (--only), no required check was run")]
)
def test_a_run_of_nothing_says_so(only: list[str], gap: str, make_report: ReportFactory) -> None:
    assert verdict_sentence(make_report(verdict="incomplete", only=only)) == f"This run proves too little to pass: {gap}."


def test_an_incomplete_run_whose_checks_all_held_misses_one(make_check: CheckFactory, make_report: ReportFactory) -> None:
    report = make_report(make_check("REACH-1/HL7"), verdict="incomplete")
    assert verdict_sentence(report) == "This run proves too little to pass: a required check is missing."


def test_a_pass_with_waivers_counts_what_was_accepted(make_check: CheckFactory, make_report: ReportFactory) -> None:
    report = make_report(make_check("REACH-1/HL7"), make_check("REACH-1/DICOM", "waived"), verdict="pass_with_waivers")
    assert verdict_sentence(report) == "1 of 2 required checks held; a named person accepted the failure of 1."


def test_a_pass_says_how_many_checks_held(make_check: CheckFactory, make_report: ReportFactory) -> None:
    assert verdict_sentence(make_report(make_check("REACH-1/HL7"), make_check("OPS-1"))) == "All 2 required checks held."


def test_the_kind_of_run_names_place_and_nodes(make_report: ReportFactory) -> None:
    assert kind_sentence(make_report(target="compose")) == "A rehearsal in a lab of containers, with simulated imaging nodes."
    assert kind_sentence(make_report(kind="acceptance", target="real", nodes="real")) == (
        "An acceptance at the site itself, with the real imaging nodes."
    )


def test_what_no_reader_can_see_is_left_out() -> None:
    assert legible("a\x00\x1b[31m\u202eb\ud800\r\n\tc\x85") == "a[31mb\n\tc"


def test_a_line_is_one_line_of_at_most_its_limit() -> None:
    assert [one_line(" a\n\n b\t"), shortened("abcdef", 6), shortened("abc defg", 5)] == ["a b", "abcdef", "abc…"]


def test_a_run_in_containers_never_passes_its_times_off_as_the_appliances(make_report: ReportFactory) -> None:
    assert stand_in_sentence(make_report(target="compose")) == (
        "Two HAProxy units with VRRP (keepalived) stood in for the appliance's pair and its heartbeat: how long a take-over "
        "lasts is said of this lab, and not of the appliance."
    )
    assert stand_in_sentence(make_report(target="native")) == ""
