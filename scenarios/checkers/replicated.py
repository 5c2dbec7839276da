"""A persistence entry that is made on the active unit is on the passive one in time, and leads to the same node."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from scenarios.takeovers import Replicated

_NANOSECONDS = 1_000_000_000


def judge_replicated(
    entries: Sequence[Replicated], *, active: str, passive: str, bound_s: float, at_least: int
) -> Finding:  # fmt: skip
    """Judge the entries of new sources of one VIP.

    Parameters
    ----------
    entries : sequence of Replicated
        One for each source that was answered.
    active, passive : str
        The units' names.
    bound_s : float
        From the answer to the entry on the passive unit.
    at_least : int
        How many sources it takes.
    """
    there = [entry for entry in entries if entry.passive_ns is not None]
    times = [max(entry.passive_ns - entry.answered_ns, 0) / _NANOSECONDS for entry in there if entry.passive_ns is not None]
    without = [entry.source for entry in entries if entry.active_ns is None]
    missing = [entry.source for entry in entries if entry.passive_ns is None and entry.active_ns is not None]
    late = [f"{time_s:.2f} s" for time_s in times if time_s > bound_s]
    elsewhere = [
        f"{entry.source}: {entry.node} met, {entry.active_node} on {active}, {entry.passive_node} on {passive}"
        for entry in there
        if not entry.node == entry.active_node == entry.passive_node
    ]
    numbers: Numbers = {
        "measured": {
            "sources": len(entries), "on_active": len(entries) - len(without), "on_passive": len(there),
            "latest_s": round(max(times, default=0.0), 3), "leading_elsewhere": len(elsewhere),
        },
        "limit": {"latest_s": bound_s, "missing": 0, "leading_elsewhere": 0, "sources_at_least": at_least},
    }  # fmt: skip
    if without:
        return failed("balancer", f"{len(without)} of {len(entries)} sources have no entry on {active} itself", **numbers)
    if missing:
        return failed(
            "balancer", f"{len(missing)} of {len(entries)} entries of {active} never came to {passive}: {listed(missing, 3)}",
            **numbers,
        )  # fmt: skip
    if elsewhere:
        return failed("balancer", f"{len(elsewhere)} entries lead elsewhere: {listed(elsewhere, 2)}", **numbers)
    if late:
        return failed("balancer", f"{len(late)} entries came late (limit {bound_s:g} s): {listed(late, 3)}", **numbers)
    if len(entries) < at_least:
        return unknown(f"only {len(entries)} new sources were answered", **numbers)
    n = len(entries)
    return passed(
        f"{n} of {n} entries of {active} were on {passive} within {max(times):.2f} s, for the same nodes", **numbers
    )
