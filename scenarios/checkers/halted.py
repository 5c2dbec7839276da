"""A halted server keeps no session, the other nodes carry on, and nothing acknowledged is lost."""

from __future__ import annotations

from typing import Any

import polars as pl

from lbconfig.site import Vip
from scenarios.episodes import GAP_LIMIT_S, LAG_LIMIT_S, Episode, Role, seconds
from scenarios.findings import Finding, Numbers, failed, passed, unknown
from simulators.operations import Outcome


def judge_halted(vip: Vip, episode: Episode, operations: pl.DataFrame, loss: Finding) -> Finding:
    """Judge one VIP while the victim's server was halted.

    Parameters
    ----------
    vip : Vip
        `limits.halted_s` bounds the time until no session remains.
    episode : Episode
        The halt; its samples carry the balancer's own count of sessions.
    operations : frame of operations
        Those of the episode's workload on this VIP.
    loss : Finding
        What the loss checker says of the same operations.
    """
    label = episode.story(vip).label
    own = [sample for sample in episode.samples if sample.vip == vip.name and sample.label == label]
    before = max((sample.sessions for sample in own if sample.at_ns < episode.begun_ns), default=0)
    halted = [sample for sample in own if episode.begun_ns <= sample.at_ns < episode.ending_ns]
    empty_ns = next(
        (sample.at_ns for place, sample in enumerate(halted) if not any(later.sessions for later in halted[place:])), None
    )
    acknowledged = operations.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    during = acknowledged.filter((pl.col("begun_ns") > episode.begun_ns) & (pl.col("ended_ns") < episode.ending_ns))
    allowed_until_ns = episode.begun_ns + int(vip.limits.halted_s * 1e9)
    still_there = acknowledged.filter(
        (pl.col("node") == episode.node)
        & (pl.col("ended_ns") < episode.ending_ns)
        & ((pl.col("begun_ns") > episode.begun_ns) | (pl.col("ended_ns") > allowed_until_ns))
    )
    stuck = _without_answer(episode, vip.name, during)
    measured: dict[str, Any] = {
        "sessions_before": before,
        "sessions_at_the_end": halted[-1].sessions if halted else None,
        "empty_after_s": None if empty_ns is None else seconds(empty_ns - episode.begun_ns),
        "operations_elsewhere": during.filter(pl.col("node") != episode.node).height,
        "operations_on_the_halted_node": still_there.height,
        "sources_without_answer": len(stuck),
        "acknowledged": loss.measured.get("acknowledged"),
        "lost": loss.measured.get("lost"),
        "generator_lag_s": episode.generator_lag_s,
        "longest_gap_s": episode.longest_gap_s(vip.name, label),
    }
    limit = {"empty_after_s": vip.limits.halted_s, "operations_on_the_halted_node": 0, "sources_without_answer": 0, "lost": 0}
    numbers: Numbers = {"measured": measured, "limit": limit}
    if loss.verdict == "fail":
        return failed(loss.subject or "node", loss.reason, **numbers)
    if not halted or halted[-1].status != "MAINT":
        return unknown(f"{label} was not seen in maintenance", **numbers)
    if before == 0:
        return unknown(f"{label} had no session to lose when it was halted", **numbers)
    if episode.generator_lag_s > LAG_LIMIT_S:
        return unknown(f"the harness itself fell behind by {episode.generator_lag_s:.1f} s", **numbers)
    if measured["longest_gap_s"] > GAP_LIMIT_S:
        return unknown(f"for {measured['longest_gap_s']:.1f} s the balancer told nothing of {label}", **numbers)
    if empty_ns is None:
        return failed(
            "balancer", f"{halted[-1].sessions} sessions were still on {label} when the observation ended", **numbers
        )
    if measured["empty_after_s"] > vip.limits.halted_s:
        return failed("balancer", f"{label} was free of sessions only after {measured['empty_after_s']:.1f} s", **numbers)
    if still_there.height:
        return failed("balancer", f"{still_there.height} operations were answered by the halted node", **numbers)
    if stuck:
        return failed("balancer", f"{len(stuck)} sources got no answer while {label} was halted", **numbers)
    if loss.verdict != "pass":
        return unknown(f"whether anything was lost could not be told: {loss.reason}", **numbers)
    return passed(
        f"{label}: {before} sessions, none after {measured['empty_after_s']:.1f} s; "
        f"{during.height} operations elsewhere, none lost",
        **numbers,
    )


def _without_answer(episode: Episode, vip: str, during: pl.DataFrame) -> list[str]:
    answered = set(during["source"].to_list())
    living = episode.addresses(vip, Role.STICKY) + episode.addresses(vip, Role.ESTABLISHED)
    return [address for address in living if address not in answered]
