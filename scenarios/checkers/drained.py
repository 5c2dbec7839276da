"""A drained server ends the work that it has, and sticky sources leave it within the window."""

from __future__ import annotations

from typing import Any

import polars as pl

from lbconfig.site import Vip
from scenarios.checkers.residents import ACKNOWLEDGED, ANSWERED, cut_sessions, new_sessions_on, residents_on
from scenarios.checkers.starvation import starved
from scenarios.episodes import GAP_LIMIT_S, LAG_LIMIT_S, Episode, Role, seconds
from scenarios.findings import Finding, Numbers, failed, passed, unknown


def judge_drained(vip: Vip, episode: Episode, operations: pl.DataFrame, loss: Finding) -> Finding:
    """Judge one VIP while the victim's server was drained.

    Parameters
    ----------
    vip : Vip
        `limits.drained_s` bounds the time in which sources may still come to the server with new connections.
    episode : Episode
        The drain; its `work_finished_ns` is when established sources began to end their sessions.
    operations : frame of operations
        Those of the episode's workload on this VIP.
    loss : Finding
        What the loss checker says of the same operations.
    """
    measured = _measured(vip, episode, operations, loss)
    limit = {
        "sessions_cut": 0, "failed_operations": 0, "last_new_connection_s": vip.limits.drained_s, "new_sources": 0,
        "sessions_at_the_end": 0, "lost": 0,
    }  # fmt: skip
    numbers: Numbers = {"measured": measured, "limit": limit}
    label = episode.label(vip)
    if loss.verdict == "fail":
        return failed(loss.subject or "node", loss.reason, **numbers)
    if doubt := _doubt(vip, episode, measured):
        return unknown(doubt, **numbers)
    if broken := _broken(label, vip, measured):
        return failed("balancer", broken, **numbers)
    if hurt := _hurt(label, measured):
        excuse = starved(vip, episode)
        return unknown(f"{hurt}; but {excuse}", **numbers) if excuse else failed("balancer", hurt, **numbers)
    if loss.verdict != "pass":
        return unknown(f"whether anything was lost could not be told: {loss.reason}", **numbers)
    last = measured["last_new_connection_s"]
    left = "none of them came again" if last is None else f"the last of them came after {last:.1f} s"
    refused = measured["refused_by_a_node"]
    again = f"; {refused} of their requests were refused by a node that did not know their session" if refused else ""
    return passed(
        f"{label}: {measured['work_operations']} operations finished on {measured['established_sources']} open sessions; "
        f"{measured['sticky_sources']} sticky sources, {left}{again}",
        **numbers,
    )


def _measured(vip: Vip, episode: Episode, operations: pl.DataFrame, loss: Finding) -> dict[str, Any]:
    label, node = episode.label(vip), episode.node
    held = episode.held(vip.name, label)
    established = residents_on(node, episode, operations, vip.name, Role.ESTABLISHED)
    work_until_ns = episode.work_finished_ns or episode.ending_ns
    during = operations.filter((pl.col("ended_ns") >= episode.begun_ns) & (pl.col("begun_ns") < episode.ending_ns))
    work = during.filter(
        pl.col("source").is_in(established)
        & ACKNOWLEDGED
        & (pl.col("node") == node)
        & pl.col("begun_ns").is_between(episode.begun_ns, work_until_ns)
    )
    came = new_sessions_on(node, operations, episode.begun_ns, episode.ending_ns)
    new = came.filter(pl.col("source").is_in(episode.addresses(vip.name, Role.NEW)))
    last_ns = None if came.is_empty() else int(came["begun_ns"].max())  # type: ignore[arg-type]
    return {
        "sticky_sources": len(residents_on(node, episode, operations, vip.name, Role.STICKY)),
        "established_sources": len(established),
        "work_operations": work.height,
        "sessions_cut": len(cut_sessions(operations, established, episode.begun_ns, work_until_ns)),
        "failed_operations": during.filter(~ANSWERED).height,
        "refused_by_a_node": during.filter(ANSWERED & ~ACKNOWLEDGED).height,
        "sources_that_came_again": came["source"].n_unique(),
        "new_connections": came.height,
        "last_new_connection_s": None if last_ns is None else seconds(last_ns - episode.begun_ns),
        "new_sources": new["source"].n_unique(),
        "drained_s": seconds(episode.ending_ns - episode.begun_ns),
        "status_at_the_end": held[-1].status if held else None,
        "sessions_at_the_end": held[-1].sessions if held else None,
        "acknowledged": loss.measured.get("acknowledged"),
        "lost": loss.measured.get("lost"),
        "runnable_per_core": episode.runnable_per_core,
        "generator_lag_s": episode.generator_lag_s,
        "longest_gap_s": episode.longest_gap_s(vip.name, label),
    }


def _doubt(vip: Vip, episode: Episode, measured: dict[str, Any]) -> str:
    """Say why nothing can be told; empty when it can."""
    label = episode.label(vip)
    if measured["status_at_the_end"] != "DRAIN":
        return f"{label} was not seen drained"
    if not measured["sticky_sources"] or not measured["work_operations"]:
        return f"too little was on {label} when it was drained: {measured['sticky_sources']} sticky sources, " + (
            f"{measured['established_sources']} open sessions with {measured['work_operations']} operations"
        )
    if measured["drained_s"] <= vip.limits.drained_s:
        return f"{label} was drained for {measured['drained_s']:.1f} s, no longer than the window"
    if episode.generator_lag_s > LAG_LIMIT_S:
        return f"the harness itself fell behind by {episode.generator_lag_s:.1f} s"
    if measured["longest_gap_s"] > GAP_LIMIT_S:
        return f"for {measured['longest_gap_s']:.1f} s the balancer told nothing of {label}"
    return ""


def _broken(label: str, vip: Vip, measured: dict[str, Any]) -> str:
    """Say who came that should not have come; empty when nobody did."""
    last_s = measured["last_new_connection_s"]
    if last_s is not None and last_s > vip.limits.drained_s:
        return (
            f"{measured['sources_that_came_again']} sources still came to {label} with new connections, the last of them "
            f"{last_s:.1f} s after it was drained. {_what_to_set(vip)}"
        )
    if measured["new_sources"]:
        return f"{measured['new_sources']} sources that nobody had seen before were sent to {label} although it was drained"
    return ""


def _hurt(label: str, measured: dict[str, Any]) -> str:
    """Say what was cut or left behind; empty when nothing was."""
    if measured["sessions_cut"]:
        return f"{measured['sessions_cut']} of {measured['established_sources']} open sessions on {label} did not finish"
    if measured["failed_operations"]:
        return f"{measured['failed_operations']} operations failed while {label} was drained"
    if measured["sessions_at_the_end"]:
        return f"{measured['sessions_at_the_end']} sessions were still on {label} although all work there was done"
    return ""


def _what_to_set(vip: Vip) -> str:
    if vip.clear_entries_on_drain:
        return (
            "The site clears the entries of a drained server, so something else leads them there: a rule of the balancer, "
            "or entries that another unit taught it again"
        )
    return (
        "Draining alone does not move a source that has a persistence entry. Clear the entries of a server when it is "
        "drained: in the site file clear_entries_on_drain = true, on the balancer `clear table` after the drain"
    )
