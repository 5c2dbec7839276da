"""When one service of a node fails only its own VIP moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from lbconfig.site import ServiceKind, Vip
from scenarios.checkers.residents import ACKNOWLEDGED, cut_sessions, node_before, residents_on
from scenarios.checkers.starvation import starved
from scenarios.episodes import GAP_LIMIT_S, LAG_LIMIT_S, Episode, Role
from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown

RESIDENTS = (Role.STICKY, Role.ESTABLISHED)


def judge_isolated(
    vip: Vip, episodes: Mapping[ServiceKind, Episode], operations: Mapping[ServiceKind, pl.DataFrame]
) -> Finding:  # fmt: skip
    """Judge one VIP while each service in turn failed on one node.

    While its own service was away its sources leave that node; while another was, they keep their node and their sessions,
    and its servers stay UP.

    Parameters
    ----------
    vip : Vip
        The virtual service.
    episodes : mapping of service to Episode
        The failure of each service.
    operations : mapping of service to frame of operations
        For each of these episodes, those of its workload on this VIP.
    """
    moved = _moved(vip, episodes[vip.service], operations[vip.service]) if vip.service in episodes else (0, 0)
    others = {service: episode for service, episode in episodes.items() if service != vip.service}
    disturbed = [words for service in others for words in _disturbed(vip, service, others[service], operations[service])]
    stayed = {
        service: sum(len(residents_on(episode.node, episode, operations[service], vip.name, role)) for role in RESIDENTS)
        for service, episode in others.items()
    }
    measured: dict[str, Any] = {
        "sources_on_the_failed_service": moved[0],
        "sources_moved": moved[1],
        "sources_on_the_node_while_another_failed": stayed,
        "disturbances": disturbed,
        "runnable_per_core": max((episode.runnable_per_core for episode in episodes.values()), default=None),
        "generator_lag_s": max((episode.generator_lag_s for episode in episodes.values()), default=None),
    }
    numbers: Numbers = {
        "measured": measured,
        "limit": {"disturbances": 0, "sources_that_stay_at_least": 1, "sources_moved_at_least": 1},
    }
    if disturbed and (excuse := starved(vip, *episodes.values())):
        return unknown(f"{listed(disturbed, 3)}; but {excuse}", **numbers)
    if disturbed:
        return failed("balancer", listed(disturbed, 3), **numbers)
    if doubt := _doubt(vip, episodes, stayed, moved[0]):
        return unknown(doubt, **numbers)
    if moved[1] < moved[0]:
        label = episodes[vip.service].label(vip)
        missing = f"{moved[0] - moved[1]} of {moved[0]} sources of {label} were never served elsewhere"
        excuse = starved(vip, episodes[vip.service])
        return unknown(f"{missing}; but {excuse}", **numbers) if excuse else failed("balancer", missing, **numbers)
    return passed(
        f"{moved[1]} sources moved when {vip.service} failed; {sum(stayed.values())} stayed on node and session "
        f"while {', '.join(others)} failed there",
        **numbers,
    )


def _moved(vip: Vip, episode: Episode, operations: pl.DataFrame) -> tuple[int, int]:
    """Return how many sources were on the failed service, and how many of them another node served meanwhile."""
    there = [
        address for role in RESIDENTS for address in residents_on(episode.node, episode, operations, vip.name, role)
    ]  # fmt: skip
    elsewhere = operations.filter(
        ACKNOWLEDGED
        & (pl.col("begun_ns") >= episode.begun_ns)
        & (pl.col("begun_ns") < episode.ended_ns)
        & ~pl.col("node").is_in([episode.node, ""])
    )
    served = set(elsewhere["source"].cast(pl.String).to_list())
    return len(there), sum(address in served for address in there)


def _disturbed(vip: Vip, failed_service: ServiceKind, episode: Episode, operations: pl.DataFrame) -> list[str]:
    """Say what happened to a VIP whose service did not fail."""
    found = []
    for server in vip.real_server:
        changes = [status for _, status in episode.statuses(vip.name, server.label)]
        if changes and changes != ["UP"]:
            found.append(f"{server.label} was {' then '.join(changes)} when only {failed_service} failed on {episode.node}")
    answered = operations.filter(ACKNOWLEDGED & (pl.col("begun_ns") >= episode.begun_ns))
    addresses = [address for role in RESIDENTS for address in episode.addresses(vip.name, role)]
    wandered = [
        address for address in addresses
        if set(answered.filter(pl.col("source") == address)["node"].cast(pl.String).to_list())
        - {node_before(episode, operations, address)}
    ]  # fmt: skip
    if wandered:
        found.append(f"{len(wandered)} sources of {vip.name} changed their node when only {failed_service} failed")
    established = episode.addresses(vip.name, Role.ESTABLISHED)
    if cut := cut_sessions(operations, established, episode.begun_ns, episode.observed_ns):
        found.append(f"{len(cut)} open sessions of {vip.name} were cut when only {failed_service} failed")
    failures = operations.filter(~ACKNOWLEDGED & (pl.col("ended_ns") >= episode.begun_ns)).height
    if failures:
        found.append(f"{failures} operations of {vip.name} failed when only {failed_service} did")
    return found


def _doubt(vip: Vip, episodes: Mapping[ServiceKind, Episode], stayed: Mapping[ServiceKind, int], on_victim: int) -> str:
    """Say why nothing can be told; empty when it can."""
    if vip.service not in episodes or not stayed:
        return "no failure of one service alone was played"
    own = episodes[vip.service]
    if own.story(vip).down_ns is None:
        return f"{own.label(vip)} was not seen DOWN although its service was away"
    quiet = [service for service, count in stayed.items() if not count]
    if quiet or not on_victim:
        when = ", ".join([*quiet, *([] if on_victim else [vip.service])])
        return f"no source of {vip.name} was on {own.node} when {when} failed"
    for service, episode in episodes.items():
        if episode.generator_lag_s > LAG_LIMIT_S:
            return f"the harness itself fell behind by {episode.generator_lag_s:.1f} s"
        gap_s = episode.longest_gap_s(vip.name, episode.label(vip))
        if gap_s > GAP_LIMIT_S:
            return f"for {gap_s:.1f} s the balancer told nothing of {episode.label(vip)} while {service} failed"
    return ""
