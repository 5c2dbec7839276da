"""What was judged was also exercised: acknowledged operations in every fault, and things sent again where they had to be."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl

from scenarios.episodes import Episode
from scenarios.findings import Finding, listed
from simulators.operations import Outcome

IN_EACH_FAULT = 20
RESENT = 1


def through_every_fault(finding: Finding, operations: pl.DataFrame, faults: Sequence[Episode]) -> Finding:
    """Return a finding with what was acknowledged in each fault; a pass that rests on quiet times alone becomes unknown.

    Parameters
    ----------
    finding : Finding
        What was judged of all operations of a run.
    operations : frame of operations
        The same.
    faults : sequence of Episode
        The faults that the finding claims to have gone through.
    """
    acknowledged = operations.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    counts = {fault.fault: acknowledged.filter(pl.col("workload") == fault.workload).height for fault in faults}
    return _demanded(finding, "acknowledged_in_each_fault", counts, IN_EACH_FAULT)


def resent_in(finding: Finding, operations: pl.DataFrame, faults: Sequence[Episode]) -> Finding:
    """Return a finding with how much was sent again in each fault; a pass without any becomes unknown."""
    again = operations.filter(pl.col("attempt") > 1)
    counts = {fault.fault: again.filter(pl.col("workload") == fault.workload).height for fault in faults}
    return _demanded(finding, "sent_again_in_each_fault", counts, RESENT)


def _demanded(finding: Finding, name: str, counts: dict[str, int], at_least: int) -> Finding:
    measured = {**finding.measured, name: counts}
    seen = msgspec.structs.replace(finding, measured=measured, limit={**finding.limit, f"{name}_at_least": at_least})
    short = [f"{fault}: {count}" for fault, count in counts.items() if count < at_least]
    if finding.verdict == "pass" and (short or not counts):
        reason = f"too little happened while things were broken ({name.replace('_', ' ')}: {listed(short) or 'no fault'})"
        return msgspec.structs.replace(seen, verdict="unknown", subject="harness", reason=reason)
    return seen
