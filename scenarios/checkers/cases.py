"""Answers as expected: each case was tried, on every target, and ended as it must."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from scenarios.findings import Finding, Numbers, Subject, failed, listed, passed, unknown


class Case(msgspec.Struct, frozen=True):
    """One thing that was tried at one target. `found` is empty when nothing was observed."""

    what: str
    target: str  # "through the VIP", or a real server's label
    expected: str
    found: str

    @property
    def held(self) -> bool:
        """Whether the answer was the expected one."""
        return self.found == self.expected


def judge_cases(cases: Sequence[Case], required: Sequence[tuple[str, str]], *, subject: Subject = "node") -> Finding:
    """Judge a set of cases.

    Parameters
    ----------
    cases : sequence of Case
        What was observed.
    required : sequence of (what, target)
        What had to be tried; one that is missing makes the finding unknown.
    subject : str
        Who is to blame when a case at a real server itself fails; a failure through the VIP alone is the balancer's.
    """
    wrong = [case for case in cases if case.found and not case.held]
    silent = [case for case in cases if not case.found]
    missing = [
        f"{what} at {target}" for what, target in required if (what, target) not in {(c.what, c.target) for c in cases}
    ]
    targets = sorted({case.target for case in cases})
    measured: dict[str, Any] = {
        "cases": len(cases),
        "held": sum(case.held for case in cases),
        "targets": targets,
        "wrong": len(wrong),
    }
    numbers: Numbers = {"measured": measured, "limit": {"wrong": 0, "cases_at_least": max(len(required), 1)}}
    if wrong:
        examples = [f"{case.what} ({case.target}): expected {case.expected}, found {case.found}" for case in wrong]
        straight = [case for case in wrong if case.target != THROUGH_VIP]
        return failed(subject if straight else "balancer", listed(examples, 3), **numbers)
    if silent or missing or not cases:
        examples = [f"{case.what} ({case.target})" for case in silent] + missing
        return unknown(f"not observed: {listed(examples or ['anything'], 4)}", **numbers)
    what = len({case.what for case in cases})
    return passed(f"{what} cases at {len(targets)} targets, all as expected", **numbers)


THROUGH_VIP = "through the VIP"
