"""Without any real server a client is told so at once, in no other protocol; and is served again when one is back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from lbconfig.site import Vip
from lbconfig.site_rules import FALLBACK_LABEL
from scenarios.checkers.residents import ACKNOWLEDGED
from scenarios.checkers.starvation import starved
from scenarios.episodes import GAP_LIMIT_S, LAG_LIMIT_S, Episode, Role, seconds
from scenarios.findings import Finding, Numbers, failed, passed, unknown
from scenarios.knocks import Knock

KNOCKS_AT_LEAST = 3


def judge_blackout(vip: Vip, episode: Episode, knocks: Sequence[Knock], operations: pl.DataFrame) -> Finding:
    """Judge one VIP while all of its real servers were away, and after they came back.

    Parameters
    ----------
    vip : Vip
        `limits.refused_s` bounds each knock once every server is DOWN, `limits.new_s` the time from the first server's UP
        until every source is served again.
    episode : Episode
        The blackout.
    knocks : sequence of Knock
        Those of all VIPs while it lasted.
    operations : frame of operations
        Those of the episode's workload on this VIP.
    """
    times = _times(vip, episode)
    own = [knock for knock in knocks if knock.vip == vip.name]
    measured = _measured(vip, episode, own, operations, times)
    numbers: Numbers = {
        "measured": measured,
        "limit": {
            "longest_knock_s": vip.limits.refused_s, "served_after_up_s": vip.limits.new_s, "left_on_the_fallback": 0,
            "knocks_at_least": KNOCKS_AT_LEAST, "sources_never_served": 0,
        } | ({} if vip.service == "https" else {"answers_in_http": 0}),
    }  # fmt: skip
    if doubt := _doubt(episode, times, measured):
        return unknown(doubt, **numbers)
    wrong, late = _wrong_answers(vip, measured), _late(vip, measured)
    excuse = starved(vip, episode)
    if late and excuse and not wrong:
        return unknown(f"{'; '.join(late)}; but {excuse}", **numbers)
    if broken := [*wrong, *late]:
        return failed("balancer", "; ".join(broken), **numbers)
    answers = ", ".join(f"{count} {answer}" for answer, count in measured["answers"].items())
    spoken = " (the fallback page, in HTTP as its clients speak)" if measured["answers_in_http"] else ""
    return passed(
        f"{measured['knocks']} knocks at {vip.name} without a real server: {answers}{spoken}, "
        f"within {measured['longest_knock_s']:.2f} s; "
        f"{measured['sources']} sources served again {measured['served_after_up_s']:.1f} s after the first UP",
        **numbers,
    )


class _Times(NamedTuple):
    """When every real server was DOWN, and when the first was UP again (ns); None when that was not seen."""

    dark_ns: int | None
    light_ns: int | None


def _times(vip: Vip, episode: Episode) -> _Times:
    downs, ups = [], []
    for server in vip.real_server:
        changes = [(at, status) for at, status in episode.statuses(vip.name, server.label) if at >= episode.begun_ns]
        downs.append(next((at for at, status in changes if status == "DOWN" and at < episode.ended_ns), None))
        ups += [at for at, status in changes if status == "UP" and at >= episode.ending_ns][:1]
    seen = [at for at in downs if at is not None]
    return _Times(max(seen) if len(seen) == len(downs) else None, min(ups, default=None))


def _measured(
    vip: Vip, episode: Episode, own: Sequence[Knock], operations: pl.DataFrame, times: _Times
) -> dict[str, Any]:  # fmt: skip
    dark = [knock for knock in own if times.dark_ns is not None and knock.begun_ns >= times.dark_ns]
    fallback = [sample for sample in episode.samples if sample.vip == vip.name and sample.label == FALLBACK_LABEL]
    served = _served_s(vip, episode, operations, times.light_ns)
    recovered = [time_s for time_s in served if time_s is not None]
    answered = operations.filter(
        ACKNOWLEDGED & (pl.col("begun_ns") > episode.begun_ns) & (pl.col("ended_ns") < episode.ending_ns)
    )
    return {
        "down_s": None if times.dark_ns is None else seconds(times.dark_ns - episode.begun_ns),
        "up_s": None if times.light_ns is None else seconds(times.light_ns - episode.ending_ns),
        "knocks": len(dark),
        "answers": dict(Counter(knock.answer for knock in own)),
        "answers_in_http": sum(knock.answer == "http" for knock in own),
        "answers_of_another_kind": sum(knock.answer == "other" for knock in own),
        "longest_knock_s": max((seconds(knock.ended_ns - knock.begun_ns) for knock in dark), default=None),
        "acknowledged_meanwhile": answered.height,
        "sources": len(served),
        "sources_never_served": served.count(None),
        "served_after_up_s": max(recovered, default=None),
        "most_on_the_fallback": max((sample.sessions for sample in fallback), default=0),
        "left_on_the_fallback": fallback[-1].sessions if fallback else 0,
        "runnable_per_core": episode.runnable_per_core,
        "generator_lag_s": episode.generator_lag_s,
        "longest_gap_s": max(episode.longest_gap_s(vip.name, server.label) for server in vip.real_server),
    }


def _served_s(vip: Vip, episode: Episode, operations: pl.DataFrame, light_ns: int | None) -> list[float | None]:
    """Return how long after the first UP each resident source was served, in seconds; None for one that never was."""
    times: list[float | None] = []
    for address in episode.addresses(vip.name, Role.STICKY) + episode.addresses(vip.name, Role.ESTABLISHED):
        own = operations.filter((pl.col("source") == address) & ACKNOWLEDGED & (pl.col("ended_ns") >= episode.ending_ns))
        first_ns = int(own["ended_ns"].min()) if own.height else None  # type: ignore[arg-type]
        times.append(None if first_ns is None else max(0.0, seconds(first_ns - (light_ns or episode.ended_ns))))
    return times


def _doubt(episode: Episode, times: _Times, measured: dict[str, Any]) -> str:
    """Say why nothing can be told; empty when it can."""
    if times.dark_ns is None:
        return "not every real server was seen DOWN"
    if measured["acknowledged_meanwhile"]:
        return f"the fault had no full effect: {measured['acknowledged_meanwhile']} operations were acknowledged meanwhile"
    if measured["knocks"] < KNOCKS_AT_LEAST or not measured["sources"]:
        return f"only {measured['knocks']} clients knocked while every real server was DOWN"
    if episode.generator_lag_s > LAG_LIMIT_S:
        return f"the harness itself fell behind by {episode.generator_lag_s:.1f} s"
    if measured["longest_gap_s"] > GAP_LIMIT_S:
        return f"for {measured['longest_gap_s']:.1f} s the balancer told nothing of a real server"
    return ""


def _wrong_answers(vip: Vip, measured: dict[str, Any]) -> list[str]:
    broken = []
    knocks = sum(measured["answers"].values())
    if vip.service != "https" and measured["answers_in_http"]:
        where = f"{vip.fallback.address}:{vip.fallback.port}" if vip.fallback else "of the balancer"
        broken.append(
            f"{measured['answers_in_http']} of {knocks} clients that knocked at {vip.name} without a real server got an "
            f"answer in HTTP: the fallback {where} is a web page, which a device cannot read. Take the fallback of this "
            "VIP away (in the site file: no `fallback`), so that clients are refused and try again"
        )
    if vip.service != "https" and measured["answers_of_another_kind"]:
        broken.append(f"{measured['answers_of_another_kind']} of {knocks} clients were answered by something unknown")
    return broken


def _late(vip: Vip, measured: dict[str, Any]) -> list[str]:
    broken = []
    if measured["longest_knock_s"] > vip.limits.refused_s:
        broken.append(f"a client was told only after {measured['longest_knock_s']:.1f} s that no real server is there")
    if measured["up_s"] is None:
        broken.append("no real server was UP again when the observation ended")
    if measured["sources_never_served"]:
        broken.append(f"{measured['sources_never_served']} of {measured['sources']} sources were not served again")
    elif measured["served_after_up_s"] > vip.limits.new_s:
        broken.append(f"a source was served again only {measured['served_after_up_s']:.1f} s after the first UP")
    if measured["left_on_the_fallback"]:
        broken.append(f"{measured['left_on_the_fallback']} sessions stayed on the fallback")
    return broken
