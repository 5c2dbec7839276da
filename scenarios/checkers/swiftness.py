"""One operation, while nothing is broken, ends within the site's limit."""

from __future__ import annotations

import msgspec
import polars as pl

from scenarios.episodes import seconds
from scenarios.findings import Finding
from scenarios.frames import Frame

LARGE_BYTES = 1 << 20  # what is larger is bounded by the network, not by how swift a service is


def within_limit(finding: Finding, operations: Frame, limit_s: float) -> Finding:
    """Return a finding with the slowest of its operations beside it; a pass that was too slow becomes a failure.

    Parameters
    ----------
    finding : Finding
        What was judged of the same operations.
    operations : frame of operations
        Those of one workload without a fault.
    limit_s : float
        The site's limit for one operation of up to 1 MiB.
    """
    small = operations.lazy().filter(pl.col("size_bytes") <= LARGE_BYTES)
    slowest_ns = small.select((pl.col("ended_ns") - pl.col("begun_ns")).max()).collect().item()
    slowest_s = None if slowest_ns is None else seconds(slowest_ns)
    measured = {**finding.measured, "slowest_operation_s": slowest_s}
    limit = {**finding.limit, "slowest_operation_s": limit_s}
    seen = msgspec.structs.replace(finding, measured=measured, limit=limit)
    if finding.verdict == "pass" and slowest_s is not None and slowest_s > limit_s:
        reason = f"{finding.reason}; but one operation took {slowest_s:.1f} s, the limit is {limit_s:g} s"
        return msgspec.structs.replace(seen, verdict="fail", subject="node", reason=reason)
    if finding.verdict == "pass" and slowest_s is None:
        return msgspec.structs.replace(seen, verdict="unknown", subject="harness", reason="no operation was timed")
    return seen
