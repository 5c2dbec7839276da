"""What the checks of a run amount to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reports.verdict import CheckVerdict, ReportVerdict, verdict_of

if TYPE_CHECKING:
    from .conftest import CheckFactory


@pytest.mark.parametrize(
    ("verdicts", "partial", "missing", "expected"),
    [
        (["pass"], False, False, "pass"),
        (["pass", "waived"], False, False, "pass_with_waivers"),
        (["waived"], False, False, "pass_with_waivers"),
        (["pass", "unknown"], False, False, "incomplete"),
        (["pass", "skipped"], False, False, "incomplete"),
        (["waived", "unknown"], False, False, "incomplete"),
        (["pass", "fail"], False, False, "fail"),
        (["unknown", "fail"], False, False, "fail"),
        (["waived", "fail"], False, False, "fail"),
        ([], False, False, "incomplete"),
        (["pass"], True, False, "incomplete"),
        (["waived"], True, False, "incomplete"),
        (["fail"], True, False, "fail"),
        (["pass"], False, True, "incomplete"),
        (["fail"], False, True, "fail"),
    ],
)
def test_fail_beats_incomplete_which_beats_waivers_which_beat_pass(
    verdicts: list[CheckVerdict], partial: bool, missing: bool, expected: ReportVerdict, make_check: CheckFactory
) -> None:
    checks = [make_check(f"PERSIST-{number}/DICOM", verdict) for number, verdict in enumerate(verdicts)]
    assert verdict_of(checks, partial=partial, missing_required=missing) == expected


def test_a_check_that_is_not_required_decides_nothing(make_check: CheckFactory) -> None:
    checks = [make_check("PERSIST-1/DICOM"), make_check("SPREAD-1/DICOM", "fail", required=False)]
    assert verdict_of(checks, partial=False) == "pass"


def test_checks_of_which_none_is_required_never_pass(make_check: CheckFactory) -> None:
    assert verdict_of([make_check("PERSIST-1/DICOM", required=False)], partial=False) == "incomplete"
