"""Half the knee: from the report of LOAD-4 to the factor of a soak."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lbconfig.site_file import load_site
from reports.verdict import CheckResult, CheckVerdict, Report
from scenarios.load.model import demand_of
from scenarios.load_runs.half_the_knee import NoKneeError, factor_at_half, knees_in, shares
from scenarios.load_runs.plans import PEAK_FACTOR, required_rate
from scenarios.options import DEFAULT_SITE
from tests.reports.conftest import _check, _report

SITE = load_site(DEFAULT_SITE)
DEMAND = demand_of(SITE.load)
KNEES = {"DICOM": 200.0, "HL7": 5000.0, "DMWL": 1280.0, "HTTPS": 208.0}


def found(vip: str, verdict: CheckVerdict = "pass", reason: str = "") -> CheckResult:
    return _check(f"LOAD-4/{vip}", verdict, reason=reason, measured={"knee_per_s": KNEES[vip]})


def report_of(*checks: CheckResult, name: str = SITE.name) -> Report:
    plain = _report(*checks)
    return msgspec.structs.replace(plain, site=msgspec.structs.replace(plain.site, name=name))


def test_the_knee_of_each_service_is_read_from_its_check() -> None:
    knees = knees_in(report_of(*map(found, KNEES)), SITE)
    assert knees == {"dicom": 200.0, "hl7": 5000.0, "dmwl": 1280.0, "https": 208.0}


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (report_of(*map(found, list(KNEES)[:3])), "expected LOAD-4/HTTPS in the report, found none: run"),
        (report_of(found("DICOM", verdict="unknown", reason="busy")), "to have passed, found unknown: busy"),
        (report_of(_check("LOAD-4/DICOM", measured={"knee_per_s": 0.0})), "to have passed, found pass"),
        (
            report_of(*map(found, KNEES), name="elsewhere"),
            f"expected a report of the site '{SITE.name}', found one of 'elsewhere'",
        ),
    ],
    ids=["one is missing", "one is unknown", "no knee", "another site"],
)
def test_a_report_that_does_not_tell_all_knees_is_refused(report: Report, message: str) -> None:
    with pytest.raises(NoKneeError, match=message):
        knees_in(report, SITE)


def test_a_service_takes_the_share_of_its_knee_that_the_peak_hour_asks_for() -> None:
    knee = required_rate(DEMAND, "hl7") / PEAK_FACTOR * 4
    assert shares(DEMAND, {"hl7": knee}) == {"hl7": pytest.approx(0.25)}


def test_images_count_as_such_where_they_are_many_and_small() -> None:
    images_per_s = sum(study.images.peak_per_s for study in DEMAND.studies if study.sent)
    by_bytes = required_rate(DEMAND, "dicom") / PEAK_FACTOR / 200
    assert shares(DEMAND, {"dicom": 200.0}) == {"dicom": pytest.approx(images_per_s / 2000)}
    assert by_bytes < images_per_s / 2000


def test_at_half_the_knee_the_shares_of_all_services_add_up_to_a_half(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(msgspec.json.encode(report_of(*map(found, KNEES))))
    factor = factor_at_half(SITE, tmp_path)
    knees = knees_in(report_of(*map(found, KNEES)), SITE)
    assert factor * sum(shares(DEMAND, knees).values()) == pytest.approx(0.5)
    assert 4 < factor < 8


def test_a_folder_without_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoKneeError, match="expected a report"):
        factor_at_half(SITE, tmp_path)
