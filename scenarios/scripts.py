"""The stories of a run: whom a fault meets, how long it is held, what is waited for; from site to script."""

from __future__ import annotations

from typing import Literal

import msgspec

from lbconfig.site import ServiceKind, Site
from scenarios.faults import (
    BalancerReloaded,
    EveryServerKilled,
    NodeCrashed,
    NodeDrained,
    NodeHalted,
    NodeIsolated,
    NodePaused,
    ServiceKilled,
    ServicesKilled,
)
from scenarios.play import Meanwhile, Script
from simulators.client import Timeouts

IMPATIENT_S = 1.5  # how long clients of a paused node wait for an answer before they try again
PAUSED_S = 4.0
NODE_HUNG = "node hung"
MaintenanceState = Literal["drain", "halt"] | None
WORK_LASTS_S = 2.0  # from draining a node until what was under way there is done


def stop_services(site: Site) -> Script:
    """Stop all services of the last node, until every server of it is DOWN."""
    return Script(
        fault=ServicesKilled(site.node[-1].name),
        hold_at_least_s=0,
        hold_at_most_s=max(vip.limits.down_s for vip in site.vip) + 1,
        until_status="DOWN",
        recovered=False,
        up_within_s=_up_within_s(site),
        after_s=1,
    )


def crash_node(site: Site) -> Script:
    """Let the first node die, until everybody has recovered; then watch who goes back to it."""
    return Script(
        fault=NodeCrashed(site.node[0].name),
        hold_at_least_s=4,
        hold_at_most_s=longest_objective_s(site) + 1,
        until_status="DOWN",
        recovered=True,
        up_within_s=_up_within_s(site),
        after_s=4,
        new_sources=True,
    )


def isolate_node(site: Site) -> Script:
    """Let the first node vanish from the network, until everybody has recovered; new, sticky and established alike."""
    return Script(
        fault=NodeIsolated(site.node[0].name),
        hold_at_least_s=4,
        hold_at_most_s=longest_objective_s(site) + 1,
        linger_s=1,
        until_status="DOWN",
        recovered=True,
        up_within_s=_up_within_s(site),
        after_s=1,
        new_sources=True,
    )


def pause_node(site: Site) -> Script:
    """Let the last node hang for some seconds, longer than its clients wait for an answer."""
    return Script(
        fault=NodePaused(site.node[-1].name),
        hold_at_least_s=PAUSED_S,
        hold_at_most_s=PAUSED_S,
        until_status=None,
        recovered=False,
        up_within_s=_up_within_s(site),
        after_s=2,
    )


def halt_node(site: Site) -> Script:
    """Halt all real servers of the first node, until nobody is without an answer."""
    return Script(
        fault=NodeHalted(site.node[0].name),
        hold_at_least_s=3,
        hold_at_most_s=max(vip.limits.halted_s for vip in site.vip) + 2,
        until_status="MAINT",
        recovered=True,
        up_within_s=_up_within_s(site),
        after_s=1,
    )


def stop_service(site: Site, service: ServiceKind) -> Script:
    """Stop one service of the last node, until its server is DOWN and everybody is served."""
    return Script(
        fault=ServiceKilled(site.node[-1].name, service),
        hold_at_least_s=0,
        hold_at_most_s=longest_objective_s(site) + 1,
        until_status="DOWN",
        recovered=True,
        up_within_s=_up_within_s(site),
        after_s=0.5,
    )


def stop_every_server(site: Site, meanwhile: Meanwhile) -> Script:
    """Stop all services of all nodes, until every server is DOWN and some seconds longer; then watch who is served again."""
    return Script(
        fault=EveryServerKilled(),
        hold_at_least_s=0,
        hold_at_most_s=max(vip.limits.down_s for vip in site.vip) + 1,
        linger_s=3,
        until_status="DOWN",
        recovered=False,
        up_within_s=_up_within_s(site),
        served_within_s=max(vip.limits.new_s for vip in site.vip) + 1,
        after_s=1,
        meanwhile=meanwhile,
    )


def drain_node(site: Site) -> Script:
    """Drain the real servers of the first node; what is under way there ends by itself, sticky sources come again."""
    window_s = max(vip.limits.drained_s for vip in site.vip)
    return Script(
        fault=NodeDrained(site.node[0].name),
        hold_at_least_s=window_s + 1,
        hold_at_most_s=window_s + 1,
        until_status="DRAIN",
        recovered=True,
        up_within_s=_up_within_s(site),
        after_s=1,
        new_sources=True,
        work_finishes_after_s=WORK_LASTS_S,
    )


def reload_balancer(site: Site, state: MaintenanceState) -> Script:
    """Reload the balancer while everybody is busy, with the first node in service, drained or halted."""
    return Script(
        fault=BalancerReloaded(site.node[0].name if state else "", state),
        hold_at_least_s=2.5,
        hold_at_most_s=longest_objective_s(site),
        until_status=None,
        recovered=True,
        up_within_s=_up_within_s(site),
        after_s=0.5,
        new_sources=True,
        interrupts=False,
    )


def hang_node(site: Site, *, quiet: bool, meanwhile: Meanwhile) -> Script:
    """Let the last node accept and never answer, until its servers are DOWN, idle or under traffic."""
    return Script(
        fault=NodePaused(site.node[-1].name, f"{NODE_HUNG}, idle" if quiet else NODE_HUNG),
        hold_at_least_s=0,
        hold_at_most_s=max(vip.limits.down_s for vip in site.vip) + 1,
        until_status="DOWN",
        recovered=False,
        up_within_s=_up_within_s(site),
        after_s=0 if quiet else 1,
        new_sources=not quiet,
        quiet=quiet,
        meanwhile=meanwhile,
    )


def patient(site: Site, timeouts: Timeouts) -> Timeouts:
    """Return time-outs that outlast every objective: a client that gave up sooner would recover by itself."""
    longest_s = longest_objective_s(site) + 1
    return msgspec.structs.replace(timeouts, response_s=longest_s, negotiate_s=longest_s)


def impatient(timeouts: Timeouts) -> Timeouts:
    """Return time-outs that end before a paused node goes on, so that things are sent again."""
    return msgspec.structs.replace(timeouts, response_s=IMPATIENT_S)


def longest_objective_s(site: Site) -> float:
    """Return the longest time that any session of any VIP may take to recover."""
    return max(max(vip.limits.new_s, vip.limits.sticky_s, vip.limits.established_s, vip.limits.down_s) for vip in site.vip)


def _up_within_s(site: Site) -> float:
    return max(vip.health_check.up_within_s for vip in site.vip) + 2
