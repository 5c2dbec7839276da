"""Whether the machine itself may have caused what was seen: a rehearsal shares it with the balancer and all nodes."""

from __future__ import annotations

from lbconfig.site import Vip
from scenarios.episodes import Episode

SHARE_OF_CHECK = 0.25  # of the time that a health check has
RUNNABLE_PER_CORE = 20.0  # healthy services kept their time at fourteen, and not at forty


def starved(vip: Vip, *episodes: Episode) -> str:
    """Say why a cut session or a late answer proves nothing; empty when it does.

    A machine that is far too busy may keep a healthy service from answering its health check in time, or a client from
    asking.

    Parameters
    ----------
    vip : Vip
        `health_check.timeout_s` is the measure of how late the harness may have woken.
    *episodes : Episode
        In which it was seen.
    """
    lag_s = max((episode.generator_lag_s for episode in episodes), default=0.0)
    runnable = max((episode.runnable_per_core for episode in episodes), default=0.0)
    if runnable > RUNNABLE_PER_CORE:
        return f"{runnable:.0f} processes wanted each core of this machine at a time: it was too busy to tell"
    if lag_s > SHARE_OF_CHECK * vip.health_check.timeout_s:
        has_s = vip.health_check.timeout_s
        return f"the harness woke up {lag_s:.1f} s late, and a health check has {has_s:g} s: the machine was too busy"
    return ""
