"""What a transparent VIP needs beside `source 0.0.0.0 usesrc clientip`: the way back. As shell scripts for each host.

A real server answers the client's own address. That answer must come to the balancer, whose socket it is for: each node
routes the clients' networks through an address that moves with the VIPs (two-arm: its gateway), and each unit hands packets
of such sockets to itself instead of passing them on (Linux: Documentation/networking/tproxy).
"""

from __future__ import annotations

from .site import Site

_MARK = 1
_TABLE = 100


def is_transparent(site: Site) -> bool:
    """Say whether any VIP of a site connects from its clients' addresses."""
    return any(vip.source == "transparent" for vip in site.vip)


def unit_script(site: Site) -> str:
    """Return the script of a unit, to be run as root when it starts; empty where no VIP is transparent.

    What belongs to no such socket (a client that went straight to a node) is passed on, without telling the node of a shorter
    way: it would take that for the others too.
    """
    if not is_transparent(site):
        return ""
    lines = [
        f"iptables -t mangle -A PREROUTING -p tcp -m socket --transparent -j MARK --set-mark {_MARK}",
        "iptables -A OUTPUT -p icmp --icmp-type redirect -j DROP",
        f"ip rule add fwmark {_MARK} lookup {_TABLE}",
        f"ip route replace local default dev lo table {_TABLE}",
    ]
    return "\n".join(lines) + "\n"


def node_script(site: Site) -> str:
    """Return the script of a node, to be run as root of its network; empty where no VIP is transparent."""
    if not is_transparent(site):
        return ""
    vip = next(vip for vip in site.vip if vip.source == "transparent")  # the VIPs move together
    gateway = site.balancer.nodes_gateway or vip.address
    networks = [site.clients.network, *([site.clients.routed_network] if site.clients.routed_network else [])]
    return "".join(f"ip route replace {network} via {gateway}\n" for network in networks)
