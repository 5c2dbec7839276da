"""What was judged was also exercised: acknowledged operations in every fault, and things sent again where they had to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import polars as pl

from scenarios.findings import Finding, listed
from scenarios.frames import Frame
from simulators.operations import Outcome

IN_EACH_TRIAL = 20
RESENT = 1


class Trial(NamedTuple):
    """Something that a run put the site through: a fault or a load, and the number of the workload that went on meanwhile."""

    name: str
    workload: int


def through_every_trial(finding: Finding, operations: Frame, trials: Sequence[Trial]) -> Finding:
    """Return a finding with what was acknowledged in each trial; a pass that rests on quiet times alone becomes unknown.

    Parameters
    ----------
    finding : Finding
        What was judged of all operations of a run.
    operations : frame of operations
        The same.
    trials : sequence of Trial
        The faults and loads that the finding claims to have gone through.
    """
    counts = _in_each(operations, pl.col("outcome") == int(Outcome.ACKNOWLEDGED), trials)
    return _demanded(finding, "acknowledged_in_each_trial", counts, IN_EACH_TRIAL)


def resent_in(finding: Finding, operations: Frame, trials: Sequence[Trial]) -> Finding:
    """Return a finding with how much was sent again in each trial; a pass without any becomes unknown."""
    counts = _in_each(operations, pl.col("attempt") > 1, trials)
    return _demanded(finding, "sent_again_in_each_trial", counts, RESENT)


def _in_each(operations: Frame, condition: pl.Expr, trials: Sequence[Trial]) -> dict[str, int]:
    counts = dict(operations.lazy().filter(condition).group_by("workload").len().collect().iter_rows())
    return {trial.name: counts.get(trial.workload, 0) for trial in trials}


def _demanded(finding: Finding, name: str, counts: dict[str, int], at_least: int) -> Finding:
    measured = {**finding.measured, name: counts}
    seen = msgspec.structs.replace(finding, measured=measured, limit={**finding.limit, f"{name}_at_least": at_least})
    short = [f"{trial}: {count}" for trial, count in counts.items() if count < at_least]
    if finding.verdict == "pass" and (short or not counts):
        reason = (
            f"too little happened while things were put to the test ({name.replace('_', ' ')}: {listed(short) or 'none'})"
        )
        return msgspec.structs.replace(seen, verdict="unknown", subject="harness", reason=reason)
    return seen
