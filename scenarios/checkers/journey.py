"""A patient's journey: each step is visible to the next system within the site's limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from scenarios.findings import Finding, Numbers, failed, passed, unknown


class Step(msgspec.Struct, frozen=True):
    """One step: what had to become visible where, how long it took (None: it did not), and how long it may take."""

    what: str
    took_s: float | None
    limit_s: float


def judge_journey(steps: Sequence[Step], *, expected_steps: int) -> Finding:
    """Judge one journey, step by step.

    Parameters
    ----------
    steps : sequence of Step
        In their order; the journey ends at the first that failed.
    expected_steps : int
        How many steps a whole journey has.
    """
    measured: dict[str, Any] = {step.what: step.took_s for step in steps}
    numbers: Numbers = {"measured": {"steps_s": measured}, "limit": {"steps_s": {step.what: step.limit_s for step in steps}}}
    for step in steps:
        if step.took_s is None:
            return failed("node", f"{step.what}: not seen within {step.limit_s:g} s", **numbers)
        if step.took_s > step.limit_s:
            return failed(
                "node", f"{step.what}: seen only after {step.took_s:.1f} s, the limit is {step.limit_s:g} s", **numbers
            )
    if len(steps) < max(expected_steps, 1):
        return unknown(f"only {len(steps)} of {expected_steps} steps were observed", **numbers)
    slowest = max(steps, key=lambda step: step.took_s or 0)
    return passed(f"{len(steps)} steps, the slowest {slowest.what} in {slowest.took_s:.2f} s", **numbers)
