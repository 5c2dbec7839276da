"""A reload under traffic loses no connection and nothing acknowledged, and leaves drained and halted servers as they were."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from lbconfig.site import Vip
from scenarios.checkers.residents import ACKNOWLEDGED, ANSWERED, cut_sessions
from scenarios.checkers.starvation import starved
from scenarios.episodes import LAG_LIMIT_S, Episode, Role
from scenarios.findings import Finding, Numbers, failed, passed, unknown

STATUS = {"drained": "DRAIN", "halted": "MAINT"}


class Reload(NamedTuple):
    """One reload under traffic, and its operations on one VIP."""

    episode: Episode
    operations: pl.DataFrame


def judge_reloaded(vip: Vip, plain: Reload, drained: Reload, halted: Reload, loss: Finding) -> Finding:
    """Judge one VIP through three reloads.

    Parameters
    ----------
    vip : Vip
        The virtual service.
    plain, drained, halted : Reload
        With all servers in service, with the victim's server drained before, with it halted before. Halting cuts sessions
        by itself: only the state is judged there.
    loss : Finding
        What the loss checker says of the operations of all three.
    """
    states = {"drained": _statuses(vip, drained.episode), "halted": _statuses(vip, halted.episode)}
    measured: dict[str, Any] = {
        "operations": plain.operations.height + drained.operations.height,
        "failed_operations": sum(reload.operations.filter(~ANSWERED).height for reload in (plain, drained)),
        "sources_that_changed_node": len(_strayed(vip, plain)),
        "established_sources": sum(len(_established(vip, reload.episode)) for reload in (plain, drained)),
        "sessions_cut": sum(len(_cut(vip, reload)) for reload in (plain, drained)),
        "status_after_the_reload": states,
        "acknowledged": loss.measured.get("acknowledged"),
        "lost": loss.measured.get("lost"),
        "runnable_per_core": max(reload.episode.runnable_per_core for reload in (plain, drained, halted)),
        "generator_lag_s": max(reload.episode.generator_lag_s for reload in (plain, drained, halted)),
    }
    numbers: Numbers = {
        "measured": measured,
        "limit": {"failed_operations": 0, "sessions_cut": 0, "lost": 0, "status_after_the_reload": STATUS},
    }
    if loss.verdict == "fail":
        return failed(loss.subject or "node", loss.reason, **numbers)
    if doubt := _doubt(measured, states):
        return unknown(doubt, **numbers)
    lost_states, lost_connections = _lost_states(drained.episode.label(vip), states), _lost_connections(measured)
    excuse = starved(vip, plain.episode, drained.episode, halted.episode)
    if lost_connections and excuse and not lost_states:
        return unknown(f"{'; '.join(lost_connections)}; but {excuse}", **numbers)
    if broken := [*lost_connections, *lost_states]:
        return failed("balancer", "; ".join(broken), **numbers)
    if loss.verdict != "pass":
        return unknown(f"whether anything was lost could not be told: {loss.reason}", **numbers)
    label, strayed = drained.episode.label(vip), measured["sources_that_changed_node"]
    moment = f"; {strayed} sources met another node while the new process had not learnt the table yet" if strayed else ""
    return passed(
        f"{measured['established_sources']} open sessions lived through reloads, none of {measured['operations']} operations "
        f"failed; {label} stayed drained, and halted{moment}",
        **numbers,
    )


def _established(vip: Vip, episode: Episode) -> list[str]:
    return episode.addresses(vip.name, Role.ESTABLISHED)


def _cut(vip: Vip, reload: Reload) -> list[str]:
    """Return the established sources that did not keep, to the end, the session on which they were first acknowledged."""
    episode, operations = reload
    met = operations.filter(ACKNOWLEDGED & pl.col("source").is_in(_established(vip, episode)))
    if met.is_empty():
        return []
    first_ns = int(met.group_by("source").agg(pl.col("ended_ns").min())["ended_ns"].max()) + 1  # type: ignore[arg-type]
    return cut_sessions(operations, _established(vip, episode), first_ns, episode.observed_ns)


def _strayed(vip: Vip, reload: Reload) -> list[str]:
    """Return the sticky sources that met several nodes although all servers were in service."""
    met = reload.operations.filter(ACKNOWLEDGED & pl.col("source").is_in(reload.episode.addresses(vip.name, Role.STICKY)))
    by_source = met.group_by("source").agg(pl.col("node").n_unique().alias("nodes"))
    return [str(source) for source in by_source.filter(pl.col("nodes") > 1)["source"].to_list()]


def _statuses(vip: Vip, episode: Episode) -> list[str]:
    """Return what the balancer called the victim's server, one after the other, between the reload and its end."""
    statuses: list[str] = []
    for sample in episode.held(vip.name, episode.label(vip)):
        if not statuses or statuses[-1] != sample.status:
            statuses.append(sample.status)
    return statuses


def _doubt(measured: dict[str, Any], states: dict[str, list[str]]) -> str:
    """Say why nothing can be told; empty when it can."""
    if not all(states.values()):
        return "the balancer told nothing of its servers after the reload"
    if not measured["established_sources"] or not measured["operations"]:
        return f"only {measured['operations']} operations of {measured['established_sources']} open sessions met the reload"
    if measured["generator_lag_s"] > LAG_LIMIT_S:
        return f"the harness itself fell behind by {measured['generator_lag_s']:.1f} s"
    return ""


def _lost_connections(measured: dict[str, Any]) -> list[str]:
    broken = []
    if measured["sessions_cut"]:
        broken.append(
            f"{measured['sessions_cut']} of {measured['established_sources']} open sessions did not live through it"
        )
    if measured["failed_operations"]:
        broken.append(f"{measured['failed_operations']} of {measured['operations']} operations failed")
    return broken


def _lost_states(label: str, states: dict[str, list[str]]) -> list[str]:
    lost = [
        f"{before} before and {' then '.join(states[before])} after"
        for before in STATUS
        if states[before] != [STATUS[before]]
    ]
    if not lost:
        return []
    return [
        f"{label} was {', '.join(lost)} the reload: a server that is being worked on gets patients again. Keep the servers' "
        "states over a reload (in the site file: keep_server_states = true; in HAProxy: server-state-file, written before "
        "each reload), or drain and halt again after each"
    ]
