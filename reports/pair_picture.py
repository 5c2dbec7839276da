"""What the HTML report tells of a pair of balancers: each failure of the active unit, as the clients of each VIP saw it."""

from __future__ import annotations

import msgspec


class TakeoverSeen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One failure of the active unit on one VIP.

    `how` it failed, `unit` that did. `local_s`, `routed_s`: how long clients in the VIP's own subnet and beyond a router
    went without an answer; None: no answer came any more. `limit_s` is what the site allows. `entries_kept` of `entries`:
    persistence entries that the other unit had. `sources_kept` of `sources`: clients that met the same node afterwards.
    `waiting`: senders that waited for an answer at that moment. `delivered_late`: messages that the failed unit still held
    and delivered when it was there again, after newer ones.
    """

    how: str
    unit: str
    vip: str
    local_s: float | None
    routed_s: float | None
    limit_s: float
    entries: int
    entries_kept: int
    sources: int
    sources_kept: int
    lost: int
    duplicated: int
    indeterminate: int
    waiting: int
    delivered_late: int = 0
