"""When a node dies, new, sticky and established sessions recover, each within its own objective."""

from __future__ import annotations

from typing import Any

import polars as pl

from lbconfig.site import Balancer, Vip
from scenarios.checkers.residents import node_before
from scenarios.checkers.starvation import starved
from scenarios.episodes import LAG_LIMIT_S, Episode, Role, seconds
from scenarios.findings import Finding, Numbers, Subject, failed, passed, unknown
from simulators.operations import Outcome

SETTLED_S = 1.0  # a session that the balancer ends at DOWN is gone by then
PREDICTION_MARGIN_S = 1.0  # an attempt's own pace, and what a busy machine adds


def judge_recovery(
    vip: Vip, balancer: Balancer, episode: Episode, operations: pl.DataFrame, *, silent: bool = False
) -> Finding:  # fmt: skip
    """Judge how long the sources of one VIP went without an answer.

    A sticky or established source counts when the victim gave its last answer before the fault; its recovery is the time
    from the fault to the end of its first operation that began after the fault and was acknowledged. A new source counts
    from its own first attempt.

    Parameters
    ----------
    vip, balancer : Vip, Balancer
        The limits, and the settings that predict the times.
    episode : Episode
        The fault.
    operations : frame of operations
        Those of the episode's workload on this VIP.
    silent : bool
        Whether the node vanished: nothing refuses, and what waits for it hears nothing. The balancer must then hold no
        session at it any more once it is DOWN.
    """
    limits = {Role.NEW: vip.limits.new_s, Role.STICKY: vip.limits.sticky_s, Role.ESTABLISHED: vip.limits.established_s}
    measured: dict[str, Any] = {"generator_lag_s": episode.generator_lag_s}
    unseen: list[str] = []
    late: list[str] = []
    never = False
    for role, limit_s in limits.items():
        times = _recoveries(episode, operations, vip.name, role)
        recovered = [time_s for time_s in times if time_s is not None]
        measured[f"{role}_sources"] = len(times)
        measured[f"{role}_s"] = max(recovered, default=None)
        if not times:
            unseen.append(role)
        never = never or None in times
        if None in times:
            late.append(f"{times.count(None)} of {len(times)} {role} sources never recovered (limit {limit_s:g} s)")
        elif recovered and max(recovered) > limit_s:
            late.append(f"{role} sources took {max(recovered):.1f} s, the limit is {limit_s:g} s")
    measured |= _attempts_after(episode, operations)
    measured |= _effect(vip, episode, operations)
    measured |= _left_hanging(vip, episode) if silent else {}
    if left := measured.get("sessions_left_hanging"):
        late.append(f"{left} sessions hung at {episode.node} for {measured['hung_for_s']:.0f} s after it was marked DOWN")
    numbers: Numbers = {
        "measured": measured,
        "limit": {f"{role}_s": limit_s for role, limit_s in limits.items()} | {"failures_after_recovery": 0},
        "predicted": _predicted(vip, balancer, silent=silent),
    }
    if episode.generator_lag_s > LAG_LIMIT_S:
        return unknown(f"the harness itself fell behind by {episode.generator_lag_s:.1f} s", **numbers)
    if late and not never and (excuse := starved(vip, episode)):
        return unknown(f"{'; '.join(late)}; but {excuse}", **numbers)
    if late:
        subject: Subject = "balancer"
        return failed(subject, "; ".join(late), **numbers)
    if unseen:
        return unknown(f"no {' or '.join(unseen)} source was on {episode.node} when it died", **numbers)
    if measured["answers_of_the_victim"] or measured["down_s"] is None:
        seen = f"{measured['answers_of_the_victim']} operations were answered by {episode.node} itself"
        return unknown(
            f"the fault had no full effect: {seen}, DOWN was {'' if measured['down_s'] else 'not '}seen", **numbers
        )
    if measured["failures_after_recovery"]:
        relapsed = f"{measured['failures_after_recovery']} operations failed after their source had recovered"
        return failed("balancer", relapsed, **numbers)
    predicted = numbers["predicted"]
    slower = [role for role in limits if measured[f"{role}_s"] > predicted[f"{role}_s_at_most"] + PREDICTION_MARGIN_S]
    beyond = f"; slower than the settings predict: {', '.join(slower)}" if slower else ""
    words = ", ".join(f"{role} {measured[f'{role}_s']:.1f} s ({measured[f'{role}_sources']} sources)" for role in limits)
    return passed(f"{episode.node} died; recovered: {words}{beyond}", **numbers)


def _recoveries(episode: Episode, operations: pl.DataFrame, vip: str, role: Role) -> list[float | None]:
    """Return the time of each source that counts, in seconds; None for one that never recovered."""
    times: list[float | None] = []
    elsewhere = ~pl.col("node").is_in([episode.node, ""])  # an answer that names no other node proves no recovery
    acknowledged = operations.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    for address in episode.addresses(vip, role):
        own = acknowledged.filter(pl.col("source") == address).sort("begun_ns")
        after = own.filter((pl.col("begun_ns") >= episode.begun_ns) & elsewhere)
        if role is Role.NEW:
            tried = operations.filter((pl.col("source") == address) & (pl.col("begun_ns") >= episode.begun_ns))
            if not tried.height or int(tried["begun_ns"].min()) > episode.ended_ns:  # type: ignore[arg-type]
                continue
            from_ns = int(tried["begun_ns"].min())  # type: ignore[arg-type]
        else:
            if node_before(episode, operations, address) != episode.node:
                continue
            from_ns = episode.begun_ns
        times.append(seconds(int(after["ended_ns"][0]) - from_ns) if after.height else None)
    return times


def _attempts_after(episode: Episode, operations: pl.DataFrame) -> dict[str, int]:
    during = operations.filter((pl.col("ended_ns") >= episode.begun_ns) & (pl.col("begun_ns") <= episode.ended_ns))
    count = {outcome: during.filter(pl.col("outcome") == int(outcome)).height for outcome in Outcome}
    return {f"operations_{outcome.name.lower()}": number for outcome, number in count.items()}


def _effect(vip: Vip, episode: Episode, operations: pl.DataFrame) -> dict[str, Any]:
    """Say whether the fault did what it should, and whether anybody who had recovered failed again while it lasted."""
    during = operations.filter((pl.col("begun_ns") >= episode.begun_ns) & (pl.col("ended_ns") <= episode.ending_ns))
    acknowledged = pl.col("outcome") == int(Outcome.ACKNOWLEDGED)
    recovered = during.filter(acknowledged).group_by("source").agg(pl.col("ended_ns").min().alias("recovered_ns"))
    relapsed = during.join(recovered, on="source").filter(~acknowledged & (pl.col("begun_ns") > pl.col("recovered_ns")))
    down_ns = episode.story(vip).down_ns
    return {
        "answers_of_the_victim": during.filter(acknowledged & (pl.col("node") == episode.node)).height,
        "failures_after_recovery": relapsed.height,
        "down_s": None if down_ns is None else seconds(down_ns - episode.begun_ns),
    }


def _left_hanging(vip: Vip, episode: Episode) -> dict[str, Any]:
    """Say how many sessions the balancer still had at the victim's server once it was DOWN, and for how long it had some."""
    down = [sample for sample in episode.held(vip.name, episode.label(vip)) if sample.status == "DOWN"]
    hanging = [sample for sample in down if sample.at_ns - down[0].at_ns > SETTLED_S * 1e9 and sample.sessions]
    return {
        "sessions_left_hanging": max((sample.sessions for sample in hanging), default=0),
        "hung_for_s": seconds(hanging[-1].at_ns - down[0].at_ns) if hanging else 0.0,
    }


def _predicted(vip: Vip, balancer: Balancer, *, silent: bool) -> dict[str, float]:
    """Say what the settings predict for a port that refuses, or for one that is silent.

    Refused: a source without an entry is sent elsewhere at once. For one with an entry HAProxy waits a second before each
    further try at the same server, and makes the last one elsewhere. Silent: each try takes the connect time-out.
    """
    check = vip.health_check
    if silent:
        new_s = balancer.connect_timeout_s if balancer.redispatch else check.down_within_s
        sticky_s = balancer.retries * balancer.connect_timeout_s if balancer.redispatch else check.down_within_s
        ended_s = check.down_within_s if balancer.shutdown_sessions_on_down else vip.server_timeout_s
        return {"new_s_at_most": new_s, "sticky_s_at_most": sticky_s, "established_s_at_most": ended_s + new_s}
    turn_around_s = min(1.0, balancer.connect_timeout_s)
    down_s = check.interval_s + (check.fall - 1) * (check.fast_interval_s or check.interval_s)
    redispatched_s = max(balancer.retries - 1, 0) * turn_around_s if balancer.redispatch else down_s
    established_s = down_s if balancer.shutdown_sessions_on_down else vip.server_timeout_s
    new_s = 0.0 if balancer.redispatch else down_s
    return {"new_s_at_most": new_s, "sticky_s_at_most": redispatched_s, "established_s_at_most": established_s}
