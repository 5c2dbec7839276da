"""The report as data: exactly what report.json holds, for other programs to read (`preflight/report/1`)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .load_picture import LoadPicture
from .pair_picture import TakeoverSeen

CheckVerdict = Literal["pass", "fail", "unknown", "skipped", "waived"]
ReportVerdict = Literal["pass", "pass_with_waivers", "fail", "incomplete"]
Subject = Literal["balancer", "node", "network", "harness"]
Impact = Literal["read", "write", "disrupt"]
SCHEMA: Literal["preflight/report/1"] = "preflight/report/1"


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the report: frozen, and strict about unknown keys when it is read back."""


class Waived(_Part, frozen=True, kw_only=True):
    """Who accepted a failure, why, and the last day (ISO 8601) on which that holds."""

    by: str
    why: str
    until: str


class CheckResult(_Part, frozen=True, kw_only=True):
    """The verdict of one check on one VIP (or on the site), with what was measured, what was allowed, and the evidence.

    `id` is `PERSIST-1/DICOM`, or `JOURNEY-1` when the check is of the whole site. `subject` names what a failure points
    at. `evidence` are paths relative to the report's folder.
    """

    id: str
    check: str
    vip: str | None
    requirement: str
    title: str
    impact: Impact
    required: bool
    verdict: CheckVerdict
    subject: Subject | None
    reason: str
    waiver: Waived | None
    measured: dict[str, Any]
    limit: dict[str, Any]
    predicted: dict[str, Any]
    evidence: list[str]


class Run(_Part, frozen=True, kw_only=True):
    """The run: its number, the seed of every random choice, when it was (ISO 8601, UTC), and Preflight's version."""

    id: str
    seed: int
    started: str
    ended: str
    version: str


class SiteFile(_Part, frozen=True, kw_only=True):
    """The site that was tested: its name, its file, and the file's SHA-256."""

    name: str
    file: str
    sha256: str


class BalancerSeen(_Part, frozen=True, kw_only=True):
    """The balancer that was tested, and the SHA-256 of the configuration it ran."""

    product: str
    version: str
    configuration_sha256: str


class Untested(_Part, frozen=True, kw_only=True):
    """A requirement that this run did not test, and why not."""

    requirement: str
    reason: str


class Report(_Part, frozen=True, kw_only=True):
    """All of report.json."""

    schema: Literal["preflight/report/1"] = SCHEMA
    verdict: ReportVerdict
    kind: Literal["rehearsal", "acceptance"]
    target: Literal["native", "compose", "real"]
    nodes: Literal["simulated", "real"]
    profile: str
    plant: str | None
    only: list[str]
    run: Run
    site: SiteFile
    balancer: BalancerSeen
    checks: list[CheckResult]
    untested: list[Untested]


class TimelineEvent(_Part, frozen=True, kw_only=True):
    """One moment of a fault's story, in seconds from the fault's begin."""

    at_s: float
    what: str


class Timeline(_Part, frozen=True, kw_only=True):
    """The story of one fault on one VIP: fault, first error, DOWN, first success elsewhere, fault ends, UP."""

    vip: str
    fault: str
    events: list[TimelineEvent]


class TrafficSeries(_Part, frozen=True, kw_only=True):
    """Operations a second that one node answered on one VIP.

    `rate_per_s[i]` is that of the second from `start_s + i`, in seconds from the run's begin.
    """

    vip: str
    node: str
    start_s: int
    rate_per_s: list[float]


class Pictures(_Part, frozen=True, kw_only=True):
    """What the HTML report draws beside the verdicts."""

    timelines: list[Timeline] = []
    traffic: list[TrafficSeries] = []
    faults: list[tuple[str, float, float]] = []  # what, from, to, in seconds from the run's begin
    takeovers: list[TakeoverSeen] = []
    load: list[LoadPicture] = []


def verdict_of(checks: list[CheckResult], *, partial: bool, missing_required: bool = False) -> ReportVerdict:
    """Return what the checks amount to.

    Any required check that failed makes `fail`, which beats all; one that is unknown or skipped, one that is missing, no
    check at all, or a partial run (`--only`) make `incomplete`; a waived one makes `pass_with_waivers`.
    """
    required = [check for check in checks if check.required]
    if any(check.verdict == "fail" for check in required):
        return "fail"
    if partial or missing_required or not required or any(check.verdict in ("unknown", "skipped") for check in required):
        return "incomplete"
    return "pass_with_waivers" if any(check.verdict == "waived" for check in required) else "pass"
