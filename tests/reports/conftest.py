"""A small report and its parts, for tests to change what they are about."""

from __future__ import annotations

from typing import Protocol

import msgspec
import pytest

from reports.verdict import (
    BalancerSeen,
    CheckResult,
    CheckVerdict,
    Pictures,
    Report,
    Run,
    SiteFile,
    Timeline,
    TimelineEvent,
    TrafficSeries,
    Untested,
    Waived,
)


class CheckFactory(Protocol):
    """Makes a check from its id; `changes` replace fields."""

    def __call__(self, check_id: str, verdict: CheckVerdict = "pass", **changes: object) -> CheckResult:
        """Return the check."""


class ReportFactory(Protocol):
    """Makes a report of these checks; `changes` replace fields."""

    def __call__(self, *checks: CheckResult, **changes: object) -> Report:
        """Return the report."""


def _check(check_id: str, verdict: CheckVerdict = "pass", **changes: object) -> CheckResult:
    name, _, vip = check_id.partition("/")
    check = CheckResult(
        id=check_id,
        check=name,
        vip=vip or None,
        requirement="brief 5.1",
        title="A source meets one node only",
        impact="write",
        required=True,
        verdict=verdict,
        subject="balancer" if verdict == "fail" else None,
        reason="20 sources, 200 connections, one node each",
        waiver=Waived(by="J. Okafor", why="until the upgrade", until="2027-03-31") if verdict == "waived" else None,
        measured={"sources": 20, "down_s": 1.612},
        limit={"down_s": 5},
        predicted={"down_s": 2.5},
        evidence=["logs/haproxy.log"],
    )
    return msgspec.structs.replace(check, **changes)


def _report(*checks: CheckResult, **changes: object) -> Report:
    report = Report(
        verdict="pass",
        kind="rehearsal",
        target="native",
        nodes="simulated",
        profile="quick",
        plant=None,
        only=[],
        run=Run(
            id="9f3a61c2",
            seed=42,
            started="2026-11-23T19:06:20+00:00",
            ended="2026-11-23T19:08:43+00:00",
            version="0.1.0",
        ),
        site=SiteFile(name="St. Elsewhere", file="sites/loopback.toml", sha256="b1" * 32),
        balancer=BalancerSeen(product="HAProxy", version="2.6.12", configuration_sha256="59" * 32),
        checks=list(checks),
        untested=[Untested(requirement="PAIR-1 (brief 7.5)", reason="this lab has one balancer")],
    )
    return msgspec.structs.replace(report, **changes)


@pytest.fixture(scope="session")
def make_check() -> CheckFactory:
    return _check


@pytest.fixture(scope="session")
def make_report() -> ReportFactory:
    return _report


@pytest.fixture
def pictures() -> Pictures:
    moments = [(0.0, "fault"), (0.2, "first error"), (1.6, "DOWN"), (2.0, "first success elsewhere"), (10.0, "fault ends")]
    events = [TimelineEvent(at_s=at_s, what=what) for at_s, what in moments]
    return Pictures(
        timelines=[Timeline(vip=vip, fault="node1 killed", events=events) for vip in ("DICOM", "HL7")],
        traffic=[
            TrafficSeries(vip=vip, node=node, start_s=2, rate_per_s=[5.0, 6.5, 0.0, 7.0])
            for vip in ("DICOM", "HL7")
            for node in ("node1", "node2")
        ],
        faults=[("node1 killed", 3.0, 5.0)],
    )
