"""Half of what a site can carry: from the knees that LOAD-4 found, the rate at which all services together use half of it.

LOAD-4 loads one VIP at a time, and a soak loads them all. They share the balancer, and here the machine. A load that takes
the share s of one VIP's knee, and t of another's, is therefore counted as s + t of what there is, and half the knee is where
the shares add up to a half. Where VIPs do not get in each other's way, that is less than half: it is never more.

Steps on DICOM are studies of ten images of 512 KiB. A hospital's images are smaller, and an image costs something whatever
its size: the share of DICOM is that of its bytes or that of its images, the greater one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lbconfig.site import ServiceKind, Site
from reports.errors import ReportError
from reports.verdict import Report
from reports.writer import read_report
from scenarios.load.model import Demand, demand_of
from scenarios.load_runs.plans import PEAK_FACTOR, STEP_STUDY, required_rate

HALF = 0.5
_CHECK = "LOAD-4"


class NoKneeError(Exception):
    """A report does not say where the knee of a site is; the message says what was expected and found."""


def factor_at_half(site: Site, out: Path) -> float:
    """Return how many times the peak hour's rate half the knee is.

    Parameters
    ----------
    site : Site
        Whose load it is, with the exams a year that are wanted.
    out : Path
        The folder of a report with LOAD-4 on every VIP of that site. A knee that lies behind the last step counts as that
        step: it is at least there.

    Raises
    ------
    NoKneeError
        When there is no such report.
    """
    try:
        report = read_report(out / "report.json")
    except ReportError as error:
        raise NoKneeError(str(error)) from error
    return HALF / sum(shares(demand_of(site.load), knees_in(report, site)).values())


def knees_in(report: Report, site: Site) -> dict[ServiceKind, float]:
    """Return the knee of each service, in arrivals a second of LOAD-4's steps. Raises NoKneeError unless all passed."""
    if report.site.name != site.name:
        raise NoKneeError(f"expected a report of the site {site.name!r}, found one of {report.site.name!r}")
    found: dict[ServiceKind, float] = {}
    for vip in site.vip:
        check = next((check for check in report.checks if check.id == f"{_CHECK}/{vip.name}"), None)
        if check is None:
            raise NoKneeError(
                f"expected {_CHECK}/{vip.name} in the report, found none: run `preflight accept --profile load`"
            )
        knee = check.measured.get("knee_per_s")
        if check.verdict != "pass" or not isinstance(knee, int | float) or knee <= 0:
            raise NoKneeError(f"expected {_CHECK}/{vip.name} to have passed, found {check.verdict}: {check.reason}")
        found[vip.service] = float(knee)
    return found


def shares(demand: Demand, knees: Mapping[ServiceKind, float]) -> dict[ServiceKind, float]:
    """Return the share of each service's knee that the peak hour takes."""
    found = {service: required_rate(demand, service) / PEAK_FACTOR / knee for service, knee in knees.items()}
    if "dicom" in found:
        images_per_s = sum(study.images.peak_per_s for study in demand.studies if study.sent)
        found["dicom"] = max(found["dicom"], images_per_s / (knees["dicom"] * STEP_STUDY.images))
    return found
