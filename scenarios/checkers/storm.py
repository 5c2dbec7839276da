"""STORM-1: every client comes back at once, and every one of them is served in time.

A generator that was at its limit makes service look later than it was, never earlier: all served in time is a pass also then,
provided that the clients had been there before and really came at once. What was not served in time is a fail only where the
generator kept up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from lbconfig.site import Vip
from lbconfig.traffic_log import Connection
from scenarios.checkers import generator
from scenarios.checkers.saturation import at_their_limit, counts_at_their_limit, is_full, told
from scenarios.findings import Finding, Subject, Values, failed, listed, passed, unknown
from scenarios.frames import Frame, columns
from scenarios.load_runs.parts_seen import MachineMoment, PartsSeen
from simulators.operations import Outcome

AT_ONCE_S = 1.0  # until the last client begins, or a tenth of the limit where that is longer
AT_ONCE_SHARE = 0.1
PORTS_SHARE = 0.9  # of the ports of one source address towards one destination
_COLUMNS = ("source", "outcome", "begun_ns", "ended_ns")
_Seconds = npt.NDArray[np.float64]


def judge_storm(
    vip: Vip, operations: Frame, parts: PartsSeen, *, clients: int, instant_ns: int, generators: Sequence[int],
    connections: Sequence[Connection] = (),
) -> Finding:  # fmt: skip
    """Judge a storm on one VIP.

    Parameters
    ----------
    vip : Vip
        Whose limit holds: `storm_s`, from the instant until the last client is served.
    operations : frame of operations
        Those of the storm on this VIP. What began before the instant tells only who was there: each client must have been
        served once before, or it did not come *back*.
    parts : PartsSeen
        What was seen meanwhile.
    clients : int
        How many came; each has a source address of its own.
    instant_ns : int
        When all of them came back.
    generators : sequence of int
        The numbers of those that played the clients.
    connections : sequence of Connection
        The balancer's log of this VIP from the instant on, if it can be read: how long its servers took to accept.
    """
    limit_s = vip.limits.storm_s
    at_once_s = max(AT_ONCE_S, AT_ONCE_SHARE * limit_s)
    seen = columns(operations, *_COLUMNS)
    back = seen.filter(pl.col("begun_ns") >= instant_ns)
    there = _acknowledged(seen.filter(pl.col("ended_ns") <= instant_ns))["source"].n_unique()
    begun, served = _seconds(back, "begun_ns", instant_ns), _seconds(_acknowledged(back), "ended_ns", instant_ns)
    span_s = max(float(served[-1]) if len(served) == clients else limit_s, 2.0)  # pulses come once a second
    window_ns = (instant_ns, instant_ns + round(span_s * 1e9))
    meanwhile = parts.during(*window_ns)
    measured = _measured(begun, served, back, meanwhile, connections) | {"clients_before": there}
    measured |= generator.figures(meanwhile, None, generators)
    limit: Values = {
        "clients": clients, "served_within_s": limit_s, "last_begun_within_s": at_once_s, "ports_share": PORTS_SHARE,
    }  # fmt: skip
    if len(begun) < clients or not clients:
        reason = f"{len(begun)} of {clients} clients were seen to come back: not the storm that was asked for"
        return unknown(reason, measured=measured, limit=limit)
    if not meanwhile.balancer:
        reason = "the balancer was not seen while they came back, so that nothing is known of its places"
        return unknown(reason, measured=measured, limit=limit)
    if exhausted := _exhausted(vip, meanwhile):
        reason = f"{clients} clients came back at once, and {listed(exhausted)}"
        return failed("balancer", reason, measured=measured, limit=limit)
    if int((served <= limit_s).sum()) == clients:
        if bound := _untold_ports(meanwhile):
            reason = f"all {clients} clients were served, but {bound}: ports may have run out"
            return unknown(reason, measured=measured, limit=limit)
        unseen = generator.unseen(meanwhile, generators)
        return _of_all_served(clients, there, unseen, begun, served, at_once_s, measured, limit)
    return _of_some_served(vip, clients, served, meanwhile, generator.suspicions(
        parts, generators, None, window_ns, AT_ONCE_S
    ), measured, limit)  # fmt: skip


def _of_all_served(
    clients: int, there: int, unseen: list[str], begun: _Seconds, served: _Seconds, at_once_s: float, measured: Values,
    limit: Values,
) -> Finding:  # fmt: skip
    if there < clients:
        reason = f"all {clients} clients were served, but only {there} of them had been served before: not all came back"
        return unknown(reason, measured=measured, limit=limit)
    if unseen:
        reason = f"all {clients} clients were served, but who played them was not seen: {listed(unseen)}"
        return unknown(reason, measured=measured, limit=limit)
    if begun[-1] > at_once_s:
        reason = (
            f"all {clients} clients were served, but the generator took {begun[-1]:.1f} s to begin with the last of them "
            f"(at most {at_once_s:g} s): they did not come at once"
        )
        return unknown(reason, measured=measured, limit=limit)
    reason = (
        f"{clients} of {clients} clients came back within {begun[-1]:.2f} s and were served, "
        f"half of them within {np.median(served):.2f} s, the last after {served[-1]:.2f} s; nothing was exhausted"
    )
    return passed(reason, measured=measured, limit=limit)


def _of_some_served(
    vip: Vip, clients: int, served: _Seconds, meanwhile: PartsSeen, doubts: list[str], measured: Values, limit: Values
) -> Finding:
    in_time = int((served <= vip.limits.storm_s).sum())
    reason = f"{in_time} of {clients} clients were served within {vip.limits.storm_s:g} s, {len(served)} in all"
    evidence = at_their_limit(meanwhile, vip)
    if is_full(meanwhile):
        doubts = [*doubts, f"{evidence[0].part}: {evidence[0].words}" if evidence else "the machine was busy"]
    if doubts:
        reason = f"{reason}; but the generator may have been the limit: {listed(doubts)}"
        return unknown(reason, measured=measured, limit=limit)
    subject: Subject = "balancer" if evidence and evidence[0].subject == "balancer" else "node"
    because = f"; at their limit: {told(evidence)}" if evidence else ""
    return failed(subject, reason + because, measured=measured, limit=limit)


def _exhausted(vip: Vip, parts: PartsSeen) -> list[str]:
    """Return what was used up, however shortly."""
    found = [sign.words for sign in counts_at_their_limit(parts, vip)]
    if scarce := [moment for moment in _short_of_ports(parts) if moment.ports_source]:
        most = max(scarce, key=lambda moment: moment.ports_at_most)
        found.append(f"{most.ports_source} had {most.ports_at_most} of {most.port_range} ports taken towards one place")
    return found


def _untold_ports(parts: PartsSeen) -> str:
    """Say that so many ports were taken that they may have run out, and that nobody could tell by whom; empty if not so."""
    most = max((moment.ports_at_most for moment in _short_of_ports(parts) if not moment.ports_source), default=0)
    return f"this kernel did not tell whose {most} sockets there were" if most else ""


def _short_of_ports(parts: PartsSeen) -> list[MachineMoment]:
    return [moment for moment in parts.machine if moment.ports_at_most >= PORTS_SHARE * moment.port_range]


def _acknowledged(back: pl.DataFrame) -> pl.DataFrame:
    return back.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))


def _seconds(operations: pl.DataFrame, column: str, instant_ns: int) -> _Seconds:
    """Return how long after the instant the first of each client's operations was there, in rising order."""
    first = operations.group_by("source").agg(pl.col(column).min())
    return np.sort((first[column].to_numpy() - instant_ns) / 1e9)


def _measured(
    begun: _Seconds, served: _Seconds, back: pl.DataFrame, parts: PartsSeen, connections: Sequence[Connection]
) -> Values:
    waits_ms = [connection.connect_ms for connection in connections if connection.connect_ms is not None]
    most = max((moment.connections for moment in parts.balancer), default=None)
    files = [moment.open_files for moment in parts.balancer if moment.open_files is not None]
    return {
        "clients_back": len(begun), "clients_served": len(served),
        "last_begun_s": _quantile(begun, 1), "served_p50_s": _quantile(served, 0.5), "served_p99_s": _quantile(served, 0.99),
        "slowest_s": _quantile(served, 1),
        "operations_failed": back.height - _acknowledged(back).height,
        "server_connect_p50_ms": _quantile(np.array(waits_ms), 0.5),
        "server_connect_p99_ms": _quantile(np.array(waits_ms), 0.99),
        "balancer_connections_most": most, "balancer_maxconn": parts.balancer[-1].maxconn if parts.balancer else None,
        "balancer_open_files_most": max(files, default=None),
        "balancer_file_limit": parts.balancer[-1].file_limit if parts.balancer else None,
        "ports_most": max((moment.ports_at_most for moment in parts.machine), default=None),
        "port_range": parts.machine[-1].port_range if parts.machine else None,
        "accept_queue_overflows": sum(moment.overflows for moment in parts.machine),
    }  # fmt: skip


def _quantile(values: _Seconds, share: float) -> float | None:
    return round(float(np.quantile(values, share, method="higher")), 6) if len(values) else None
