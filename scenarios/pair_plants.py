"""Defects of a pair of balancers and of the network around it, put there on purpose."""

from __future__ import annotations

import re
from typing import NamedTuple

from compose.lab import ConfigurationEdit, Defects, UnitEdit
from lbconfig.site import Site, Unit, Vip

_HAPROXY, _KEEPALIVED, _FILTER = "haproxy.cfg", "keepalived.conf", "filter.rules"
_VRRP = 112  # its protocol number
SLOW_ADVERT_S = 2
SHORT_S = 43  # the appliance's time-out where nobody ticked *Timeout*


class PairDefect(NamedTuple):
    """One defect: its id, what it breaks in words, who must catch it, what is changed in the lab."""

    id: str
    breaks: str
    check: str
    vip: str | None
    defects: Defects


def pair_defects(site: Site) -> tuple[PairDefect, ...]:
    """Return every defect of a site's pair; none where the site has no pair."""
    pair = site.balancer.pair
    if pair is None:
        return ()
    first, second = site.balancer.unit
    return (
        *_of_setup(site, first, second),
        *_of_certificates(site, second),
        *_of_tables(site, pair.replication_port),
        *_of_takeover(site, first, second),
    )


def _of_setup(site: Site, first: Unit, second: Unit) -> tuple[PairDefect, ...]:
    """Return what PAIR-1 must see: units that do not know each other, or are not alike."""
    hl7, https = site.vip_of("hl7"), site.vip_of("https")
    one, two = re.escape(first.address), re.escape(second.address)
    port = site.balancer.pair.replication_port if site.balancer.pair else 0
    return (
        _defect("peers-missing", "the secondary does not name the primary among its peers", None,
                UnitEdit(second.name, _HAPROXY, rf"^\s*peer {first.name} .*\n", "")),
        _defect("wrong-localpeer", "the secondary calls itself by the primary's name", None,
                UnitEdit(second.name, _HAPROXY, rf"^(\s*localpeer) {second.name}$", rf"\1 {first.name}")),
        _defect("server-ids-unequal", "the ids of two real servers are exchanged on the secondary", None,
                *_ids_exchanged(second, hl7)),
        _defect("other-timeouts-on-secondary", "the secondary ends silent web sessions after 43 seconds", None,
                UnitEdit(second.name, _HAPROXY, rf"(^listen {https.name}\n(?:    .*\n)*?    timeout client) .*$",
                         rf"\1 {SHORT_S}s")),
        _defect("one-way-partition", "the secondary does not hear the primary's heartbeat", None,
                UnitEdit(second.name, _FILTER, rf"-A INPUT -s {one}/32 -p {_VRRP} -j ACCEPT",
                         f"-A INPUT -s {first.address}/32 -p {_VRRP} -j DROP")),
        _defect("replication-open-to-clients", "whoever reaches the primary may write its persistence table", None,
                UnitEdit(first.name, _FILTER, rf"^-A INPUT -p tcp -m tcp --dport {port} -j REJECT.*\n", "")),
        _defect("replication-blocked", "a packet filter between the units drops the replication of tables", None,
                UnitEdit(first.name, _FILTER, rf"(-A INPUT -s {two}/32 -p tcp .*) -j ACCEPT", r"\1 -j DROP"),
                UnitEdit(second.name, _FILTER, rf"(-A INPUT -s {one}/32 -p tcp .*) -j ACCEPT", r"\1 -j DROP")),
        *_of_arms(site, second),
    )  # fmt: skip


def _of_certificates(site: Site, second: Unit) -> tuple[PairDefect, ...]:
    """Return what PAIR-1 must see where units have a certificate at all: a health check verifies the nodes' with it."""
    if not any(vip.health_check.kind == "https" and vip.health_check.certificate == "verified" for vip in site.vip):
        return ()
    return (
        PairDefect(
            "other-certificate-on-secondary", "the secondary verifies the nodes against the certificate of another authority",
            "PAIR-1", None, Defects(other_authority=(second.name,)),
        ),
    )  # fmt: skip


def _of_arms(site: Site, second: Unit) -> tuple[PairDefect, ...]:
    """Return what else PAIR-1 must see of units that have an arm in the nodes' network."""
    gateway = site.balancer.nodes_gateway
    if gateway is None:
        return ()
    edit = UnitEdit(second.name, _KEEPALIVED, rf"^\s*{re.escape(gateway)}/.*\n", "")
    return (_defect("gateway-missing-on-secondary", "the secondary does not take over the nodes' gateway", None, edit),)


def _of_tables(site: Site, port: int) -> tuple[PairDefect, ...]:
    """Return what PAIR-2 must see: entries that do not travel."""
    dicom = site.vip_of("dicom")
    untaught = ConfigurationEdit(dicom.name, r"^(\s*stick-table .*?) peers \S+", r"\1")
    return (
        PairDefect(
            "table-not-replicated", "the persistence table of one VIP is not taught to the other unit", "PAIR-2", dicom.name,
            Defects(configuration=(untaught,)),
        ),
    )  # fmt: skip


def _of_takeover(site: Site, first: Unit, second: Unit) -> tuple[PairDefect, ...]:
    """Return what only a failure shows."""
    dicom, hl7, dmwl, https = (site.vip_of(service) for service in ("dicom", "hl7", "dmwl", "https"))
    units = (first.name, second.name)
    untracked = r"^\s*track_script \{\n.*\n\s*\}\n"
    return (
        PairDefect(
            "preemption", "the primary takes the VIPs back as soon as it is there again", "PAIR-4", None,
            Defects(unit_configuration=(UnitEdit(first.name, _KEEPALIVED, r"^\s*nopreempt\n", ""),)),
        ),
        PairDefect(
            "vip-missing-on-secondary", "the secondary does not take over one virtual address", "PAIR-3", dmwl.name,
            Defects(unit_configuration=(UnitEdit(second.name, _KEEPALIVED, rf"^\s*{re.escape(dmwl.address)}/.*\n", ""),)),
        ),
        PairDefect(
            "hang-unnoticed", "keepalived does not look whether HAProxy answers", "PAIR-3", dicom.name,
            Defects(unit_configuration=tuple(UnitEdit(unit, _KEEPALIVED, untracked, "") for unit in units)),
        ),
        PairDefect(
            "heartbeat-too-slow", "the units send a heartbeat every two seconds", "PAIR-3", https.name,
            Defects(unit_configuration=tuple(
                UnitEdit(unit, _KEEPALIVED, r"^(\s*advert_int) .*$", rf"\1 {SLOW_ADVERT_S}") for unit in units
            )),
        ),
        PairDefect(
            "routed-clients-shut-out", "the secondary lets in nobody from beyond the router", "PAIR-3", hl7.name,
            Defects(unit_configuration=(UnitEdit(second.name, _FILTER, r"^COMMIT$", _shut_out(site, hl7) + "COMMIT"),)),
        ),
        PairDefect(
            "addresses-exchanged",
            "the secondary leads sources to the other node, because two servers have each other's address",
            "PAIR-3", dicom.name, Defects(unit_configuration=_addresses_exchanged(second, dicom, site)),
        ),
    )  # fmt: skip


def _defect(name: str, breaks: str, vip: str | None, *edits: UnitEdit) -> PairDefect:
    return PairDefect(name, breaks, "PAIR-1", vip, Defects(unit_configuration=edits))


def _ids_exchanged(unit: Unit, vip: Vip) -> tuple[UnitEdit, ...]:
    a, b = vip.real_server[0], vip.real_server[-1]
    spare = max(server.id for server in vip.real_server) + 1000
    steps = ((a.label, a.id, spare), (b.label, b.id, a.id), (a.label, spare, b.id))
    return tuple(
        UnitEdit(unit.name, _HAPROXY, rf"(server {label} \S+ id) {old}\b", rf"\1 {new}") for label, old, new in steps
    )


def _addresses_exchanged(unit: Unit, vip: Vip, site: Site) -> tuple[UnitEdit, ...]:
    addresses = {node.name: node.address for node in site.node}
    a, b = vip.real_server[0], vip.real_server[-1]
    return tuple(
        UnitEdit(unit.name, _HAPROXY, rf"(server {server.label}) \S+", rf"\1 {addresses[other.node]}:{other.port}")
        for server, other in ((a, b), (b, a))
    )


def _shut_out(site: Site, vip: Vip) -> str:
    return f"-A INPUT -s {site.clients.routed_network} -p tcp -m tcp --dport {vip.port} -j DROP\n"
