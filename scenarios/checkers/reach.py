"""The VIP and every real server answer at their own protocol, and the balancer calls every server UP at its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lbconfig.site import Vip
from scenarios.checkers.cases import THROUGH_VIP, Case
from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown


def judge_reach(
    vip: Vip, answers: Sequence[Case], servers: Mapping[str, tuple[str, int]], resolved: Sequence[str] | None
) -> Finding:
    """Judge whether one VIP can be reached.

    Parameters
    ----------
    vip : Vip
        The virtual service.
    answers : sequence of Case
        An application-level exchange with the VIP and with each real server.
    servers : mapping of label to (status, weight)
        What the balancer reports.
    resolved : sequence of str or None
        The addresses that the VIP's name resolves to; None when the site names none.
    """
    wrong = [
        f"{case.target}: expected {case.expected}, found {case.found or 'no answer'}" for case in answers if not case.held
    ]
    named = {server.label: server for server in vip.real_server}
    not_up = [f"{label} is {servers[label][0]}" for label in named if label in servers and servers[label][0] != "UP"]
    weights = [
        f"{label} has weight {servers[label][1]}, the site says {server.weight}"
        for label, server in named.items()
        if label in servers and servers[label][1] != server.weight
    ]
    asked = {case.target for case in answers}
    unseen = [target for target in [THROUGH_VIP, *named] if target not in asked] + [
        label for label in named if label not in servers
    ]
    measured: dict[str, Any] = {
        "answers": {case.target: case.found for case in answers},
        "servers": {label: {"status": status, "weight": weight} for label, (status, weight) in servers.items()},
        "hostname": vip.hostname or "none in the site file", "resolves_to": list(resolved or []),
    }  # fmt: skip
    numbers: Numbers = {
        "measured": measured,
        "limit": {"answers": len(named) + 1, "status": "UP", "weight": {s.label: s.weight for s in vip.real_server}},
    }
    if wrong:
        straight = any(not case.held and case.target != THROUGH_VIP for case in answers)
        words = listed(wrong + not_up, 3) + ("" if straight or unseen else _where_it_is(vip))
        return failed("node" if straight else "balancer", words, **numbers)
    if not_up or weights:
        return failed("balancer", f"every server answers, but {listed(not_up + weights, 3)}", **numbers)
    if vip.hostname and resolved is not None and list(resolved) != [vip.address]:
        return failed(
            "network", f"{vip.hostname} resolves to {', '.join(resolved) or 'nothing'}, not to {vip.address}", **numbers
        )
    if unseen:
        return unknown(f"not observed: {listed(unseen)}", **numbers)
    return passed(f"the VIP and {len(named)} real servers answer, all UP at their weights", **numbers)


def _where_it_is(vip: Vip) -> str:
    """Say where to look when every real server answers, but for the VIP."""
    look = {
        "balancer": "",
        "transparent": ": nodes see the client's address here, so their answers must be routed back through the balancer",
        "proxy-protocol": ": nodes get a PROXY protocol header before everything else here, and must expect it",
    }[vip.source]
    return f"; asked straight every real server answers{look}"
