"""A process that accepts and never answers is taken out of service, idle and under load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lbconfig.site import Vip
from scenarios.checkers.starvation import starved
from scenarios.episodes import GAP_LIMIT_S, LAG_LIMIT_S, Episode, seconds
from scenarios.findings import Finding, Numbers, failed, passed, unknown


def judge_hung(vip: Vip, idle: Episode, busy: Episode, queues: Mapping[str, tuple[int, int]] | None) -> Finding:
    """Judge whether the balancer noticed that the victim's process of one VIP hung.

    Parameters
    ----------
    vip : Vip
        `limits.down_s` bounds the time to DOWN.
    idle, busy : Episode
        The hang while nobody but the health check was there, and the hang under traffic.
    queues : mapping of node to (waiting, backlog), or None
        What waited to be accepted at the end of the hang, and how much the kernel accepts for a process that does not.
    """
    episodes = {"idle": idle, "under traffic": busy}
    down_s = {when: _down_s(vip, episode) for when, episode in episodes.items()}
    measured: dict[str, Any] = {
        "down_idle_s": down_s["idle"],
        "down_under_traffic_s": down_s["under traffic"],
        "hung_idle_s": seconds(idle.ending_ns - idle.begun_ns),
        "hung_under_traffic_s": seconds(busy.ending_ns - busy.begun_ns),
        "health_check": vip.health_check.kind,
        "accept_backlog_by_node": None if queues is None else {node: backlog for node, (_, backlog) in queues.items()},
        "waiting_to_be_accepted_by_node": None
        if queues is None
        else {node: waiting for node, (waiting, _) in queues.items()},
        "runnable_per_core": max(idle.runnable_per_core, busy.runnable_per_core),
        "generator_lag_s": max(idle.generator_lag_s, busy.generator_lag_s),
    }
    limit_s = vip.limits.down_s
    numbers: Numbers = {
        "measured": measured,
        "limit": {"down_idle_s": limit_s, "down_under_traffic_s": limit_s},
        "predicted": {} if vip.health_check.kind == "connect" else {"down_s_at_most": vip.health_check.down_within_s},
    }
    if doubt := _doubt(vip, episodes, limit_s):
        return unknown(doubt, **numbers)
    label = idle.label(vip)
    missed = [_missed(when, at, episodes[when]) for when, at in down_s.items() if at is None or at > limit_s]
    if missed and None not in down_s.values() and (excuse := starved(vip, idle, busy)):
        return unknown(f"{label} hung and {' and '.join(missed)}; but {excuse}", **numbers)
    if missed:
        return failed("balancer", f"{label} hung and {' and '.join(missed)}. {_why(vip, queues)}", **numbers)
    words = ", ".join(f"{when} after {at:.1f} s" for when, at in down_s.items())
    luck = f". But this is not guaranteed: {_why(vip, queues)}" if vip.health_check.kind == "connect" else ""
    return passed(f"{label} hung and was DOWN: {words}{luck}", **numbers)


def _missed(when: str, down_s: float | None, episode: Episode) -> str:
    if down_s is None:
        return f"{when} it was called UP for {_hung_s(episode):.1f} s"
    return f"{when} it was DOWN only after {down_s:.1f} s"


def _down_s(vip: Vip, episode: Episode) -> float | None:
    down_ns = episode.story(vip).down_ns
    return None if down_ns is None else seconds(down_ns - episode.begun_ns)


def _hung_s(episode: Episode) -> float:
    return seconds(episode.ending_ns - episode.begun_ns)


def _why(vip: Vip, queues: Mapping[str, tuple[int, int]] | None) -> str:
    if vip.health_check.kind != "connect":
        return (
            f"Its health check asks the service itself ({vip.health_check.kind}); see the balancer's log for what it was told"
        )
    told = (
        "the backlog of each node is not known here"
        if not queues
        else "; ".join(f"{node} has room for {backlog}, {waiting} waited" for node, (waiting, backlog) in queues.items())
    )
    return (
        "A connect-to-port check asks the node's kernel, which accepts for a process that hangs until its accept backlog is "
        f"full ({told}). Set a check that asks the service itself: C-ECHO, an MLLP message, or an HTTPS request"
    )


def _doubt(vip: Vip, episodes: Mapping[str, Episode], limit_s: float) -> str:
    """Say why nothing can be told; empty when it can."""
    for when, episode in episodes.items():
        story = episode.story(vip)
        if not story.changes or story.changes[0][1] != "UP":
            return f"{story.label} was not seen UP before it hung {when}"
        if story.down_ns is None and _hung_s(episode) <= limit_s:
            return f"{story.label} hung {when} for {_hung_s(episode):.1f} s only"
        if episode.generator_lag_s > LAG_LIMIT_S:
            return f"the harness itself fell behind by {episode.generator_lag_s:.1f} s"
        gap_s = episode.longest_gap_s(vip.name, story.label)
        if gap_s > GAP_LIMIT_S:
            return f"for {gap_s:.1f} s the balancer told nothing of {story.label}"
    return ""
