"""A unit that comes back takes nothing; one path lost leaves one holder; all lost: two are detected, and it heals to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scenarios.episodes import seconds
from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from scenarios.takeovers import STANDS_IN, CutEpisode, HolderSample, UnitEpisode

LEFT_OR_DIED = ("killed", "stopped", "haproxy-dead", "haproxy-hung")  # whoever comes back from these comes back as a backup
SAMPLES_AT_LEAST = 5


def judge_holders(
    primary: str,
    failures: Sequence[UnitEpisode],
    cuts: Sequence[CutEpisode],
    *,
    heals_within_s: float,
    watched_at_least_s: float,
) -> Finding:
    """Judge who has the VIPs after units came back, and while the units did not hear each other.

    Parameters
    ----------
    primary : str
        The unit with the higher priority: the only one that could take the VIPs back.
    failures : sequence of UnitEpisode
        Failures of the active unit that ended. Those in which the primary left or died count.
    cuts : sequence of CutEpisode
        Of replication alone, and of all paths.
    heals_within_s : float
        From the end of a cut until one unit alone has the VIPs.
    watched_at_least_s : float
        How long a unit that came back must have been watched.
    """
    returns = [episode for episode in failures if episode.victim == primary and episode.how in LEFT_OR_DIED]
    broken: list[str] = []
    unseen: list[str] = []
    measured: dict[str, Any] = {"returns": {}, "cuts": {}, "note": STANDS_IN}
    for episode in returns:
        found, wrong, lacking = _returned(episode, watched_at_least_s)
        measured["returns"][episode.how] = found
        broken += wrong
        unseen += lacking
    for cut in cuts:
        found, wrong, lacking = _cut(cut, heals_within_s)
        measured["cuts"][cut.which] = found
        broken += wrong
        unseen += lacking
    numbers: Numbers = {
        "measured": measured,
        "limit": {"failbacks": 0, "heals_s": heals_within_s, "watched_s_at_least": watched_at_least_s},
    }
    if not returns:
        unseen.append(f"{primary} did not leave and come back")
    unseen += [f"{which} was not cut" for which in ("replication", "all") if which not in measured["cuts"]]
    if broken:
        return failed("balancer", listed(broken, 3), **numbers)
    if unseen:
        return unknown(f"not observed: {listed(unseen, 3)}", **numbers)
    ways = ", ".join(episode.how for episode in returns)
    healed_s = measured["cuts"]["all"]["healed_s"]
    return passed(
        f"{primary} came back ({ways}) and took nothing; replication cut: one holder; all paths cut: two holders, detected, "
        f"one {healed_s:.1f} s after the paths were mended. {STANDS_IN}",
        **numbers,
    )


def _returned(episode: UnitEpisode, watched_at_least_s: float) -> tuple[dict[str, Any], list[str], list[str]]:
    after = [sample for sample in episode.holders if episode.ending_ns <= sample.at_ns <= episode.observed_ns]
    watched_s = seconds(episode.observed_ns - episode.ended_ns)
    taken = [sample for sample in after if episode.victim in sample.holders]
    found = {"watched_s": watched_s, "looks": len(after), "looks_at_a_failback": len(taken)}
    away = [sample for sample in episode.holders if episode.called_ns <= sample.at_ns < episode.ending_ns]
    if away and all(episode.victim in sample.holders for sample in away):
        return found, [], [f"a return of {episode.victim}: nobody took the VIPs from it while it failed ({episode.how})"]
    if taken:
        at_s = seconds(taken[0].at_ns - episode.ending_ns)
        return found, [f"{episode.victim} ({episode.how}) took the VIPs back {at_s:.1f} s after it was mended"], []
    if watched_s < watched_at_least_s or len(after) < SAMPLES_AT_LEAST:
        return found, [], [f"{episode.victim} after it came back ({watched_s:.1f} s, {len(after)} looks)"]
    return found, [], []


def _cut(cut: CutEpisode, heals_within_s: float) -> tuple[dict[str, Any], list[str], list[str]]:
    during = [sample for sample in cut.holders if cut.begun_ns <= sample.at_ns < cut.ending_ns]
    after = [sample for sample in cut.holders if cut.ended_ns <= sample.at_ns <= cut.observed_ns]
    several = [sample for sample in during if len(sample.holders) > 1]
    healed_ns = _healed_ns(after)
    healed_s = None if healed_ns is None else seconds(healed_ns - cut.ended_ns)
    found: dict[str, Any] = {
        "looks": len(during), "looks_at_two_holders": len(several), "healed_s": healed_s,
        "cut_s": seconds(cut.ending_ns - cut.begun_ns), "peers_established_after": cut.peers_established_after,
    }  # fmt: skip
    if len(during) < SAMPLES_AT_LEAST or not after:
        return found, [], [f"who had the VIPs while {cut.which} was cut ({len(during)} looks, {len(after)} after)"]
    wrong: list[str] = []
    if cut.which == "replication" and any(len(sample.holders) != 1 for sample in during):
        wrong.append("replication cut: not one holder, though the heartbeat lived")
    if cut.which != "replication" and not several:
        return found, [], [f"two holders while {cut.which} was cut"]
    if healed_s is None or healed_s > heals_within_s:
        seen = "never" if healed_s is None else f"after {healed_s:.1f} s"
        wrong.append(f"{cut.which} cut and mended: one holder alone {seen} (limit {heals_within_s:g} s)")
    if not cut.peers_established_after:
        wrong.append(f"{cut.which} cut and mended: the units' tables were not connected again")
    return found, wrong, []


def _healed_ns(after: Sequence[HolderSample]) -> int | None:
    """Return from when on one unit alone had the VIPs until the end; None when it was not so at the end."""
    healed = None
    for sample in reversed(after):
        if len(sample.holders) != 1:
            break
        healed = sample.at_ns
    return healed
