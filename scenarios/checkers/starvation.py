"""Whether the machine itself may have caused what was seen: a rehearsal shares it with the balancer and all nodes."""

from __future__ import annotations

from lbconfig.site import Vip

SHARE_OF_CHECK = 0.25  # of the time that a health check has


def starved(vip: Vip, lag_s: float) -> str:
    """Say why a cut session or a late answer proves nothing; empty when it does.

    A machine on which the harness woke so late may have kept a healthy service from answering its health check in time, or a
    client from asking.

    Parameters
    ----------
    vip : Vip
        `health_check.timeout_s` is the measure.
    lag_s : float
        The longest time by which the harness woke up too late.
    """
    if lag_s <= SHARE_OF_CHECK * vip.health_check.timeout_s:
        return ""
    return (
        f"the harness woke up {lag_s:.1f} s late, and a health check has {vip.health_check.timeout_s:g} s: "
        "the machine was too busy to tell"
    )
