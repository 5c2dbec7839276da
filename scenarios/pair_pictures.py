"""What the report tells of a pair: each failure of the active unit, as the clients of each VIP saw it."""

from __future__ import annotations

from collections.abc import Sequence

from lbconfig.site import Pair, Vip
from reports.pair_picture import TakeoverSeen
from scenarios.checkers.takeover import Takeover, takeover_of
from scenarios.run import STORED_KINDS, Run
from scenarios.takeovers import WAYS, UnitEpisode


def limits_of(pair: Pair) -> dict[str, float]:
    """Return how long clients may go without an answer, by the way in which the active unit fails."""
    return {way: pair.hung_takeover_s if way == "haproxy-hung" else pair.takeover_s for way in WAYS}


def taken_over(run: Run, vip: Vip, episode: UnitEpisode) -> Takeover:
    """Return one failure as the clients of one VIP saw it."""
    operations = run.operations(vip.service, [episode.workload])
    stored = run.operations(vip.service, [episode.workload], kinds=STORED_KINDS)
    receipts = run.receipts(vip.service)
    own = receipts.filter(receipts["key"].is_in(stored["key"].unique().to_list()))
    return takeover_of(vip.name, episode, operations, stored, own)


def takeovers_seen(run: Run, episodes: Sequence[UnitEpisode]) -> list[TakeoverSeen]:
    """Return every failure on every VIP for the report; none where the site has no pair."""
    pair = run.site.balancer.pair
    if pair is None:
        return []
    limits_s = limits_of(pair)
    return [
        _seen(vip.name, taken_over(run, vip, episode), limits_s[episode.how]) for episode in episodes for vip in run.site.vip
    ]


def _seen(vip: str, one: Takeover, limit_s: float) -> TakeoverSeen:
    return TakeoverSeen(
        how=one.how, unit=one.victim, vip=vip, local_s=one.outage_s["local"], routed_s=one.outage_s["routed"],
        limit_s=limit_s,
        entries=one.entries, entries_kept=one.entries_kept, sources=one.sources, sources_kept=one.sources_kept, lost=one.lost,
        duplicated=one.duplicate_defects, indeterminate=one.indeterminate, waiting=one.waiting,
        delivered_late=one.delivered_late,
    )  # fmt: skip
