"""A halted server keeps no session, the other nodes carry on, and nothing acknowledged is lost."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from lbconfig.site import Vip
from scenarios.episodes import GAP_LIMIT_S, LAG_LIMIT_S, Episode, Role, ServerSample, seconds
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
    watched = _watch(vip, episode)
    answers = _answer(vip, episode, operations)
    measured: dict[str, Any] = {
        "sessions_before": watched.sessions_before,
        "sessions_at_the_end": watched.halted[-1].sessions if watched.halted else None,
        "empty_after_s": watched.empty_after_s,
        "operations_elsewhere": answers.elsewhere,
        "operations_on_the_halted_node": answers.on_the_halted_node,
        "sources_without_answer": len(answers.sources_without),
        "acknowledged": loss.measured.get("acknowledged"),
        "lost": loss.measured.get("lost"),
        "generator_lag_s": episode.generator_lag_s,
        "longest_gap_s": episode.longest_gap_s(vip.name, watched.label),
    }
    limit = {"empty_after_s": vip.limits.halted_s, "operations_on_the_halted_node": 0, "sources_without_answer": 0, "lost": 0}
    numbers: Numbers = {"measured": measured, "limit": limit}
    if loss.verdict == "fail":
        return failed(loss.subject or "node", loss.reason, **numbers)
    if doubt := _doubt(watched, episode, measured["longest_gap_s"]):
        return unknown(doubt, **numbers)
    if broken := _broken(watched, answers, vip.limits.halted_s):
        return failed("balancer", broken, **numbers)
    if loss.verdict != "pass":
        return unknown(f"whether anything was lost could not be told: {loss.reason}", **numbers)
    return passed(
        f"{watched.label}: {watched.sessions_before} sessions, none after {watched.empty_after_s:.1f} s; "
        f"{answers.during} operations elsewhere, none lost",
        **numbers,
    )


class _Watched(NamedTuple):
    """What the balancer said of the halted server: its sessions before, its samples while halted, when it was empty."""

    label: str
    sessions_before: int
    halted: list[ServerSample]
    empty_after_s: float | None


def _watch(vip: Vip, episode: Episode) -> _Watched:
    label = episode.story(vip).label
    own = [sample for sample in episode.samples if sample.vip == vip.name and sample.label == label]
    before = max((sample.sessions for sample in own if sample.at_ns < episode.begun_ns), default=0)
    halted = [sample for sample in own if episode.begun_ns <= sample.at_ns < episode.ending_ns]
    empty_ns = next(
        (sample.at_ns for place, sample in enumerate(halted) if not any(later.sessions for later in halted[place:])), None
    )
    return _Watched(label, before, halted, None if empty_ns is None else seconds(empty_ns - episode.begun_ns))


class _Answers(NamedTuple):
    """Acknowledged operations while the server was halted: all, those by other nodes, those by it; who got none."""

    during: int
    elsewhere: int
    on_the_halted_node: int
    sources_without: list[str]


def _answer(vip: Vip, episode: Episode, operations: pl.DataFrame) -> _Answers:
    acknowledged = operations.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    during = acknowledged.filter((pl.col("begun_ns") > episode.begun_ns) & (pl.col("ended_ns") < episode.ending_ns))
    allowed_until_ns = episode.begun_ns + int(vip.limits.halted_s * 1e9)
    still_there = acknowledged.filter(
        (pl.col("node") == episode.node)
        & (pl.col("ended_ns") < episode.ending_ns)
        & ((pl.col("begun_ns") > episode.begun_ns) | (pl.col("ended_ns") > allowed_until_ns))
    )
    elsewhere = during.filter(pl.col("node") != episode.node).height
    return _Answers(during.height, elsewhere, still_there.height, _without_answer(episode, vip.name, during))


def _doubt(watched: _Watched, episode: Episode, longest_gap_s: float) -> str:
    """Say why nothing can be told; empty when it can."""
    if not watched.halted or watched.halted[-1].status != "MAINT":
        return f"{watched.label} was not seen in maintenance"
    if watched.sessions_before == 0:
        return f"{watched.label} had no session to lose when it was halted"
    if episode.generator_lag_s > LAG_LIMIT_S:
        return f"the harness itself fell behind by {episode.generator_lag_s:.1f} s"
    if longest_gap_s > GAP_LIMIT_S:
        return f"for {longest_gap_s:.1f} s the balancer told nothing of {watched.label}"
    return ""


def _broken(watched: _Watched, answers: _Answers, halted_s: float) -> str:
    """Say what did not hold; empty when all did."""
    if watched.empty_after_s is None:
        return f"{watched.halted[-1].sessions} sessions were still on {watched.label} when the observation ended"
    if watched.empty_after_s > halted_s:
        return f"{watched.label} was free of sessions only after {watched.empty_after_s:.1f} s"
    if answers.on_the_halted_node:
        return f"{answers.on_the_halted_node} operations were answered by the halted node"
    if answers.sources_without:
        return f"{len(answers.sources_without)} sources got no answer while {watched.label} was halted"
    return ""


def _without_answer(episode: Episode, vip: str, during: pl.DataFrame) -> list[str]:
    answered = set(during["source"].to_list())
    living = episode.addresses(vip, Role.STICKY) + episode.addresses(vip, Role.ESTABLISHED)
    return [address for address in living if address not in answered]
