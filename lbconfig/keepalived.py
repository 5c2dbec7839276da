"""A site's pair into keepalived's configuration: one VRRP instance that holds all VIPs, unicast between the two units.

Where the units have an arm in the nodes' network too, it also holds the nodes' gateway there: all floating addresses move
together, and a unit that has lost either arm gives them up.

It stands in for the appliance's own heartbeat. Both units start as BACKUP and neither preempts, so a unit that comes back
leaves the VIPs where they are. A unit whose HAProxy is dead or hung gives them up.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .errors import LoadBalancingError
from .site import Pair, Site, Unit

INSTANCE = "preflight"
_CHECK = "haproxy_answers"
_PRIMARY_FIRST_S = 4  # nobody preempts: who comes first has the VIPs, and that is to be the primary where both are there
_UP_AFTER = 2  # answers in a row until a HAProxy counts as up again: one that starts and dies gets no VIPs


class PairError(LoadBalancingError):
    """The site has no such unit, or no pair at all; the message says what it has."""


class KeepalivedRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """What keepalived's configuration needs to know of the machine that it runs on; none of it is the site's.

    Parameters
    ----------
    check_program : str
        A program that ends with 0 when HAProxy answers on a stats socket (first argument) within some seconds (second one).
        Nobody but root may be able to change it: keepalived refuses it otherwise.
    runtime_socket : str
        Path of HAProxy's stats socket.
    interface : str
        The interface that carries the VIPs.
    inner_interface : str
        The one in the nodes' network, of a two-arm pair.
    prefix_length : int
        Of the VIPs' network, and of the nodes'.
    """

    check_program: str
    runtime_socket: str
    interface: str = "eth0"
    inner_interface: str = "eth1"
    prefix_length: int = 24


def render(site: Site, unit: str, runtime: KeepalivedRuntime) -> str:
    """Return the text of keepalived.conf for one unit of the pair.

    Raises
    ------
    PairError
        When the site has no pair, or no unit of that name.

    Notes
    -----
    keepalived.conf(5): GLOBAL DEFINITIONS, VRRP SCRIPTS, VRRP INSTANCES. RFC 5798 is the protocol.
    """
    own, pair = member_of(site, unit)
    sections = [
        ("global_defs", _global(site, own)),
        (f"vrrp_script {_CHECK}", _script(pair, runtime)),
        (f"vrrp_instance {INSTANCE}", _instance(site, own, pair, runtime)),
    ]
    return "\n".join(f"{head} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n" for head, lines in sections)


def member_of(site: Site, unit: str) -> tuple[Unit, Pair]:
    """Return a unit and the pair that it belongs to.

    Raises
    ------
    PairError
        When the site has no pair, or no unit of that name.
    """
    names = ", ".join(member.name for member in site.balancer.unit)
    if site.balancer.pair is None:
        raise PairError(f"{site.name}: expected a pair of balancers, found one balancer. Add balancer.unit and balancer.pair")
    try:
        return site.balancer.unit_named(unit), site.balancer.pair
    except KeyError:
        raise PairError(f"{unit}: expected one of the units {names}") from None


def _global(site: Site, own: Unit) -> Iterator[str]:
    yield f"router_id {own.name}"
    yield "vrrp_version 3"  # version 2 counts in seconds
    if any(other.priority > own.priority for other in site.balancer.other_units(own.name)):
        yield f"vrrp_startup_delay {_PRIMARY_FIRST_S}"
    yield "script_user root"
    yield "enable_script_security"
    yield "vrrp_priority -20"  # one that is kept waiting by others' work looks dead to the other unit
    yield "vrrp_garp_master_refresh 5"  # a switch or client that missed the first announcement learns of it soon


def _script(pair: Pair, runtime: KeepalivedRuntime) -> Iterator[str]:
    # The program gets the limit as well: what it started must not outlive it when keepalived gives up on it.
    yield f'script "{runtime.check_program} {runtime.runtime_socket} {pair.check_timeout_s:g}"'
    yield f"interval {pair.check_interval_s:g}"
    yield f"timeout {pair.check_timeout_s:g}"
    yield f"fall {pair.check_fall}"
    yield f"rise {_UP_AFTER}"


def _instance(site: Site, own: Unit, pair: Pair, runtime: KeepalivedRuntime) -> Iterator[str]:
    yield "state BACKUP"  # both, or nopreempt would be ignored
    yield "nopreempt"
    yield f"interface {runtime.interface}"
    yield f"virtual_router_id {pair.virtual_router_id}"
    yield f"priority {own.priority}"
    yield f"advert_int {pair.advert_interval_s:g}"
    yield "garp_master_delay 1"
    yield f"unicast_src_ip {own.address}"
    yield "unicast_peer {"
    for other in site.balancer.other_units(own.name):
        yield f"    {other.address}"
    yield "}"
    yield "virtual_ipaddress {"
    for address in dict.fromkeys(vip.address for vip in site.vip):
        yield f"    {address}/{runtime.prefix_length} dev {runtime.interface}"
    if site.balancer.nodes_gateway is not None:
        yield f"    {site.balancer.nodes_gateway}/{runtime.prefix_length} dev {runtime.inner_interface}"
    yield "}"
    if site.balancer.is_two_arm:
        yield "track_interface {"
        yield f"    {runtime.inner_interface}"
        yield "}"
    yield "track_script {"
    yield f"    {_CHECK}"
    yield "}"
