from __future__ import annotations

import msgspec

from lbconfig.site import Site
from lbconfig.transparency import node_script, unit_script


def transparent(site: Site) -> Site:
    return msgspec.structs.replace(site, vip=tuple(msgspec.structs.replace(vip, source="transparent") for vip in site.vip))


def test_a_site_of_which_nodes_see_the_balancer_needs_nothing(brief: Site) -> None:
    assert unit_script(brief) == node_script(brief) == ""


def test_nodes_send_their_answers_to_every_client_through_a_vip(brief: Site) -> None:
    assert node_script(transparent(brief)) == (
        "ip route replace 192.168.110.192/26 via 192.168.110.100\nip route replace 198.18.0.0/15 via 192.168.110.100\n"
    )


def test_a_unit_takes_what_is_for_its_transparent_sockets(brief: Site) -> None:
    assert unit_script(transparent(brief)).splitlines() == [
        "iptables -t mangle -A PREROUTING -p tcp -m socket --transparent -j MARK --set-mark 1",
        "iptables -A OUTPUT -p icmp --icmp-type redirect -j DROP",
        "ip rule add fwmark 1 lookup 100",
        "ip route replace local default dev lo table 100",
    ]
