"""A unit's packet filter: what only the other unit may reach, and who may reach nodes. In the form `iptables-restore` reads.

HAProxy's peers protocol knows no password: whoever reaches the port may read the persistence table, and write it. Anybody who
may send VRRP may take the VIPs away. A two-arm pair is the nodes' router: without a filter it would lead every client to
them, past the VIPs.
"""

from __future__ import annotations

from collections.abc import Iterator

from .keepalived import member_of
from .site import Site

_VRRP = 112  # its protocol number


def render(site: Site, unit: str) -> str:
    """Return the rules of one unit of the pair.

    Raises
    ------
    PairError
        When the site has no pair, or no unit of that name.

    Notes
    -----
    iptables-restore(8). Only `filter` is written: everything that is not named here is let in, and passed on.
    """
    own, pair = member_of(site, unit)
    passed_on = list(_passed_on(site))
    chains = [":INPUT ACCEPT [0:0]", *([":FORWARD ACCEPT [0:0]"] if passed_on else [])]
    lines = ["*filter", *chains, *_rules(site, own.name, pair.replication_port), *passed_on, "COMMIT"]
    return "\n".join(lines) + "\n"


def _rules(site: Site, unit: str, replication_port: int) -> Iterator[str]:
    yield "-A INPUT -i lo -j ACCEPT"  # a new process learns the table from the old one
    for other in site.balancer.other_units(unit):
        yield f"-A INPUT -s {other.address}/32 -p tcp -m tcp --dport {replication_port} -j ACCEPT"
        yield f"-A INPUT -s {other.address}/32 -p {_VRRP} -j ACCEPT"
    yield f"-A INPUT -p tcp -m tcp --dport {replication_port} -j REJECT --reject-with tcp-reset"
    yield f"-A INPUT -p {_VRRP} -j DROP"


def _passed_on(site: Site) -> Iterator[str]:
    """Yield who may open a connection to a node. Answers to what a node opened itself carry no lone SYN: they pass."""
    allowed = site.clients.straight_network
    if allowed is None:
        return
    for node in site.node:
        begins = "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN"
        yield f"-A FORWARD ! -s {allowed} -d {node.address}/32 {begins} -j REJECT --reject-with tcp-reset"
