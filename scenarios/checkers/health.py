"""A stopped service is marked DOWN in time and UP again when it is back, and nothing flaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lbconfig.site import Vip
from scenarios.checkers.starvation import starved
from scenarios.episodes import GAP_LIMIT_S, LAG_LIMIT_S, Episode, seconds
from scenarios.findings import Finding, Numbers, failed, passed, unknown


def judge_health(vip: Vip, episode: Episode) -> Finding:
    """Judge the balancer's word on the victim's server of one VIP.

    The limit of DOWN is the site's objective; the limit of UP is what the health check's own settings allow:
    downinter + (rise - 1) * fastinter + rise * check time-out. Other servers of the VIP must stay UP throughout.
    """
    label, changes, down_ns, up_ns = episode.story(vip)
    check = vip.health_check
    measured: dict[str, Any] = {
        "down_s": None if down_ns is None else seconds(down_ns - episode.begun_ns),
        "up_s": None if up_ns is None else seconds(up_ns - episode.ended_ns),
        "changes": [f"{seconds(at - episode.begun_ns):+.1f} s {status}" for at, status in changes],
        "generator_lag_s": episode.generator_lag_s,
        "longest_gap_s": episode.longest_gap_s(vip.name, label),
    }
    fast = check.fast_interval_s or check.interval_s
    numbers: Numbers = {
        "measured": measured,
        "limit": {"down_s": vip.limits.down_s, "up_s": check.up_within_s, "changes_at_most": 2},
        "predicted": {
            "down_s_at_most": check.interval_s + (check.fall - 1) * fast,
            "up_s_at_most": (check.down_interval_s or check.interval_s) + (check.rise - 1) * fast,
        },
    }
    if doubt := _doubt(label, changes, episode, measured["longest_gap_s"]):
        return unknown(doubt, **numbers)
    if broken := _broken(vip, episode, measured, len(changes)):
        excuse = starved(vip, episode) if measured["down_s"] is not None else ""
        return unknown(f"{broken}; but {excuse}", **numbers) if excuse else failed("balancer", broken, **numbers)
    beyond = _beyond_prediction(measured, numbers["predicted"])
    return passed(
        f"{label}: DOWN after {measured['down_s']:.1f} s, UP {measured['up_s']:.1f} s after its return{beyond}", **numbers
    )


def _doubt(label: str, changes: Sequence[tuple[int, str]], episode: Episode, longest_gap_s: float) -> str:
    """Say why nothing can be told; empty when it can."""
    if not changes or changes[0][1] != "UP":
        return f"{label} was not seen UP before the fault"
    if episode.generator_lag_s > LAG_LIMIT_S:
        return f"the harness itself fell behind by {episode.generator_lag_s:.1f} s"
    if longest_gap_s > GAP_LIMIT_S:
        return f"for {longest_gap_s:.1f} s the balancer told nothing of {label}"
    return ""


def _broken(vip: Vip, episode: Episode, measured: Mapping[str, Any], changes: int) -> str:
    """Say what did not hold; empty when all did."""
    label = episode.story(vip).label
    if measured["down_s"] is None:
        observed_s = seconds(episode.ended_ns - episode.begun_ns)
        return f"{label} was never marked DOWN in the {observed_s:.1f} s that its service was away"
    if measured["down_s"] > vip.limits.down_s:
        return f"{label} was DOWN only after {measured['down_s']:.1f} s"
    if measured["up_s"] is None:
        return f"{label} was not UP again when the observation ended"
    if measured["up_s"] > vip.health_check.up_within_s:
        return f"{label} was UP again only after {measured['up_s']:.1f} s"
    if changes > 3:
        return f"{label} flapped: {', '.join(measured['changes'])}"
    others = {server.label: episode.statuses(vip.name, server.label) for server in vip.real_server if server.label != label}
    unsettled = [name for name, word in others.items() if [status for _, status in word] != ["UP"]]
    return f"{', '.join(unsettled)} did not stay UP although its service was never touched" if unsettled else ""


def _beyond_prediction(measured: dict[str, float], predicted: dict[str, float]) -> str:
    late = [name for name in ("down_s", "up_s") if measured[name] > predicted[f"{name}_at_most"] + 1]
    return f"; later than the settings predict ({', '.join(late)})" if late else ""
