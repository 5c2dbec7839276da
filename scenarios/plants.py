"""Defects put there on purpose. Each names the check and the VIP that must catch it; a check without one is not finished."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from compose.lab import ConfigurationEdit, Defects, MisbehavingService, Relayed, SentFrom, UnitEdit
from lbconfig.site import ServiceKind, Site, Vip
from scenarios.pair_plants import pair_defects
from simulators.misbehaviour import LATE_BY_S, Misbehaviour

HOGS_PER_CORE = 12  # each takes as much as the generator: a thirteenth of a core starves it, and the lab still answers


class PlantError(Exception):
    """There is no such plant."""


class Plant(msgspec.Struct, frozen=True):
    """One planted defect: what it breaks in words, who must catch it, and what is changed in the lab.

    `profile` is the one that runs the check. `verdict` is what the check must say: `unknown` where the harness itself is
    what was broken; `lab` is the one that can be seen to be broken so.
    """

    id: str
    breaks: str
    check: str
    vip: str | None
    defects: Defects
    profile: str = "standard"
    verdict: Literal["fail", "unknown"] = "fail"
    lab: Literal["native", "compose"] = "native"


def plants(site: Site) -> tuple[Plant, ...]:
    """Return every plant for a site.

    One that its check could not be seen to catch is none: where the site waives that check anyway, or has not the setting that
    the plant breaks.
    """
    known = (
        *_balancer_plants(site),
        *_node_plants(site),
        *_network_plants(site),
        *_source_plants(site),
        *_health_check_plants(site),
        *_maintenance_plants(site),
        *_load_plants(site),
        *_pair_plants(site),
    )
    waived = {waiver.check for waiver in site.waiver}
    return tuple(plant for plant in known if not waived & {plant.check, f"{plant.check}/{plant.vip}"})


def plant_named(site: Site, plant_id: str) -> Plant:
    """Return one plant. Raises PlantError when there is none of this id."""
    for plant in plants(site):
        if plant.id == plant_id:
            return plant
    known = ", ".join(plant.id for plant in plants(site))
    raise PlantError(f"--plant: expected one of {known}, found {plant_id}")


def _balancer_plants(site: Site) -> tuple[Plant, ...]:
    dicom, hl7, dmwl, https = (site.vip_of(service).name for service in ("dicom", "hl7", "dmwl", "https"))
    no_shutdown = (r" on-marked-down shutdown-sessions", "")
    last = {vip.name: vip.real_server[-1] for vip in site.vip}
    return (
        _edited("no-persistence", "`stick on src` is missing", "PERSIST-1", hl7, (r"^\s*stick on src.*\n", "")),
        _edited("wrong-port", "a real server has another port", "REACH-1", dmwl,
                (rf"(server {last[dmwl].label} \S+):{last[dmwl].port}\b", rf"\g<1>:{_other_port(last[dmwl].port)}")),
        _edited("no-failover", "`option redispatch` and the health check are off", "FAILOVER-1", dicom,
                (r"^\s*option redispatch.*\n", ""), (r"^(\s*server .*?) check\b.*$", r"\1")),
        _edited("sessions-survive-halt", "`on-marked-down shutdown-sessions` is missing", "HALT-1", dicom, no_shutdown),
        _edited("sessions-survive-death", "`on-marked-down shutdown-sessions` is missing", "FAILOVER-1", hl7, no_shutdown),
        _edited("one-sided-weights", "the weights are 100 and 0", "SPREAD-1", https,
                (rf"(server {last[https].label} .*?weight) \d+", r"\1 0")),
        _edited("hl7-to-dicom-port", "the HL7 service points at the nodes' DICOM port", "REACH-1", hl7,
                (rf"^(\s*server (?!backup)\S+ \S+):{site.vip_of('hl7').real_server[0].port}\b",
                 rf"\1:{site.vip_of('dicom').real_server[0].port}")),
        _edited("slow-health-check", "the health check believes only the fiftieth failure", "HEALTH-1", https,
                (r"\bfall \d+", "fall 50")),
        _edited("hash-instead-of-table", "sources are spread by a hash and not by a table, so they go back", "FAILOVER-4", hl7,
                (r"^\s*stick on src.*\n", ""), (r"^\s*balance .*$", "    balance source")),
    )  # fmt: skip


def _node_plants(site: Site) -> tuple[Plant, ...]:
    dicom, hl7, dmwl, https = (site.vip_of(service).name for service in ("dicom", "hl7", "dmwl", "https"))
    lie = Misbehaviour
    return (
        _lying(site, "image-lost", "every 200th image is acknowledged and not stored", "LOSS-1", dicom, lie.LOSES_EVERY_200TH),
        _lying(site, "message-lost", "every 200th message is acknowledged and not stored", "LOSS-1", hl7, lie.LOSES_EVERY_200TH),
        _lying(site, "image-stored-twice", "every 200th image is stored twice", "LOSS-1", dicom, lie.STORES_ONE_TWICE),
        _lying(site, "message-stored-twice", "every 200th message is stored twice", "LOSS-1", hl7, lie.STORES_ONE_TWICE),
        _lying(site, "note-lost", "every 200th note is acknowledged and not stored", "LOSS-1", https, lie.LOSES_EVERY_200TH),
        _lying(site, "wrong-acknowledgement", "MSA-2 names another message", "HL7-1", hl7, lie.ACKNOWLEDGES_ANOTHER),
        _lying(site, "messages-swapped", "two messages of a patient are applied in the wrong order", "ORDER-1", hl7, lie.SWAPS_MESSAGES),
        _lying(site, "bad-content-accepted", "bad messages are answered AA", "HL7-2", hl7, lie.ACCEPTS_BAD_MESSAGES),
        _lying(site, "worklist-truncated", "the last worklist item is left out", "DMWL-1", dmwl, lie.TRUNCATES_WORKLIST),
        _lying(site, "patients-mixed-up", "worklist items show another patient's name", "DMWL-1", dmwl, lie.MIXES_UP_PATIENTS),
        _lying(site, "cancel-ignored", "C-CANCEL is ignored", "DMWL-1", dmwl, lie.IGNORES_CANCEL),
        _lying(site, "any-called-ae", "associations for other AE titles are accepted", "DICOM-1", dicom, lie.ACCEPTS_ANY_CALLED_AE),
        _lying(site, "orders-not-shared", "a node lists only its own orders", "JOURNEY-1", None, lie.HIDES_ORDERS_OF_OTHERS, "dmwl"),
        _lying(site, "worklist-not-shared", "a node lists only its own orders", "LOSS-1", dmwl, lie.HIDES_ORDERS_OF_OTHERS),
        _lying(site, "studies-not-shared", "a node lists only the studies stored on it", "JOURNEY-1", None, lie.HIDES_STUDIES_OF_OTHERS, "https"),
        _lying(site, "sessions-lost", "web sessions are forgotten after the login", "WEB-2", https, lie.LOSES_SESSIONS),
        _lying(site, "never-committed", "a node agrees to storage commitment and never reports on it", "OUTBOUND-1", dicom, lie.NEVER_COMMITS),
        Plant("expired-certificate", "a node's certificate has expired", "WEB-1", https,
              Defects(expired_certificates=(site.node[-1].name,))),
    )  # fmt: skip


def _network_plants(site: Site) -> tuple[Plant, ...]:
    relays = tuple(Relayed(node.name, "dicom") for node in site.node)
    dicom, hl7 = site.vip_of("dicom").name, site.vip_of("hl7").name
    return (
        Plant(
            "sent-from-the-balancer",
            "what a node sends leaves the site with the balancer's address",
            "OUTBOUND-1",
            dicom,
            Defects(sent_from=(SentFrom(site.node[-1].name, "dicom", site.balancer.address),)),
        ),
        Plant(
            "receiver-admits-one-node",
            "the receiver of results knows the first node alone",
            "OUTBOUND-1",
            hl7,
            Defects(not_admitted=tuple(node.name for node in site.node[1:])),
        ),
        Plant("bit-flipped", "a relay flips one bit of pixel data of an image", "DICOM-2", dicom, Defects(relays=relays)),
    )


def _source_plants(site: Site) -> tuple[Plant, ...]:
    """Return what makes nodes see another address than the site says, in each of the ways in which it may say it."""
    dmwl, https = site.vip_of("dmwl"), site.vip_of("https")
    own = rf"source ({'|'.join(map(re.escape, site.balancer.addresses))})\b"
    planted = []
    if dmwl.source == "balancer":
        planted.append(
            _edited(
                "another-source-address",
                "the balancer connects from another address than the site says",
                "SOURCE-1",
                dmwl.name,
                (own, f"source {_stranger(site, dmwl.name)}"),
            )
        )
        planted += _outer_source(site, dmwl)
    if dmwl.source == "transparent":
        planted += _past_the_balancer(site, dmwl)
        planted.append(
            _edited(
                "not-transparent",
                "the balancer connects from its own address where the site says the client's",
                "SOURCE-1",
                dmwl.name,
                (r"source 0\.0\.0\.0 usesrc clientip", "source 0.0.0.0"),
            )
        )
        edits = tuple(UnitEdit(unit.name, "way-back.sh", r"^iptables -t mangle .*\n", "") for unit in site.balancer.unit)
        planted.append(
            Plant(
                "no-way-back",
                "the balancer does not take the answers that nodes send to its clients",
                "REACH-1",
                dmwl.name,
                Defects(unit_configuration=edits),
            )
        )
        planted = [msgspec.structs.replace(plant, lab="compose") for plant in planted]
    if https.source == "proxy-protocol":
        planted.append(
            _edited(
                "clients-masked",
                "the balancer names the client's network in place of the client",
                "SOURCE-1",
                https.name,
                (r"^(\s*)(bind .*)$", r"\1\2\n\1tcp-request connection set-src src,ipmask(24)"),
            )
        )
    return tuple(planted)


def _outer_source(site: Site, vip: Vip) -> Iterator[Plant]:
    """Yield what makes units with two arms connect to nodes from the wrong one."""
    edits = [
        UnitEdit(
            unit.name, "haproxy.cfg", rf"(^listen {vip.name}\n(?:    .*\n)*?    source) {re.escape(unit.inner_address)}$",
            rf"\1 {unit.address}",
        )
        for unit in site.balancer.unit if unit.inner_address is not None
    ]  # fmt: skip
    if edits:
        breaks = "the balancer connects to nodes from its address in the clients' network"
        defects = Defects(unit_configuration=tuple(edits))
        yield Plant("outer-source-address", breaks, "SOURCE-1", vip.name, defects, lab="compose")


def _past_the_balancer(site: Site, vip: Vip) -> Iterator[Plant]:
    """Yield routes that are asymmetric: requests come through a transparent balancer, answers leave past it."""
    if site.balancer.nodes_gateway is not None:
        return  # nodes with a gateway of the balancer's have no other way
    nodes = tuple(node.name for node in site.node)
    yield Plant(
        "answers-past-the-balancer", "no node's route to the clients goes through the balancer", "REACH-1", vip.name,
        Defects(past_the_balancer=nodes),
    )  # fmt: skip
    yield Plant(
        "one-node-answers-past-the-balancer", "the route of one node to the clients does not go through the balancer", "SPREAD-1",
        vip.name, Defects(past_the_balancer=nodes[-1:]),
    )  # fmt: skip


def _health_check_plants(site: Site) -> tuple[Plant, ...]:
    """Return what can be wrong with what a health check says or wants; none where it only connects."""
    planted = []
    for vip in site.vip:
        check = vip.health_check
        if vip.service == "dicom" and check.kind == "dicom-echo":
            title = (check.called_ae or site.dicom.ae_title).ljust(16).encode().hex()
            planted += [
                _edited(
                    "check-for-another-ae",
                    "the health check calls an AE title that the nodes do not have",
                    "REACH-1",
                    vip.name,
                    (title, b"NOBODY".ljust(16).hex()),
                ),
                _in_maintenance(
                    _edited(
                        "any-answer-will-do",
                        "the health check says something and wants no answer",
                        "HEALTH-2",
                        vip.name,
                        (r"^\s*tcp-check expect .*\n", ""),
                    )
                ),
            ]
        if check.kind == "mllp":
            planted.append(
                _edited(
                    "check-wants-another-answer",
                    "the health check wants AA where the nodes answer otherwise",
                    "REACH-1",
                    vip.name,
                    (f"|{check.answer}|".encode().hex().upper(), b"|AA|".hex().upper()),
                )
            )
        if check.kind == "https":
            planted.append(
                _edited(
                    "check-of-no-page",
                    "the health check asks for a page that there is not",
                    "REACH-1",
                    vip.name,
                    (r"^(\s*http-check send meth GET uri) \S+", r"\1 /nothing"),
                )
            )
        if vip.service == "dmwl" and check.kind != "connect":
            planted.append(
                _in_maintenance(
                    _edited(
                        "patient-health-check",
                        "the health check waits a minute for an answer",
                        "HEALTH-2",
                        vip.name,
                        (r"^(\s*timeout check) .*$", r"\1 60s"),
                    )
                )
            )
    return tuple(planted)


def _maintenance_plants(site: Site) -> tuple[Plant, ...]:
    """Return the plants of the profile `maintenance`; most of them undo what a hardened site mends."""
    dicom, hl7, dmwl, https = (site.vip_of(service).name for service in ("dicom", "hl7", "dmwl", "https"))
    first = {vip.name: vip.real_server[0] for vip in site.vip}
    page = (site.balancer.address, 9081)
    planted = (
        _edited("table-not-taught", "the persistence table is not taught to the next process", "PERSIST-3", dmwl,
                (r"^(\s*stick-table .*?) peers \S+", r"\1")),
        _edited("health-of-another-service", "the worklist's health is that of the DICOM service", "FAILOVER-3", dmwl,
                *((rf"^(\s*server {server.label} .*?) check inter .*? rise \d+", rf"\1 track {dicom}/{other.label}")
                  for server, other in zip(site.vip_of("dmwl").real_server, site.vip_of("dicom").real_server, strict=False))),
        _edited("health-by-connecting", "the health check connects and asks nothing", "HEALTH-2", hl7,
                (r"^\s*(?:option tcp-check|tcp-check .*)\n", "")),
        Plant("web-page-for-devices", "the fallback is a web page", "FAILOVER-5", dicom, Defects(
            configuration=(ConfigurationEdit(
                dicom, rf"^(\s*)(server {first[dicom].label} .*)$",
                rf"\1server backup {page[0]}:{page[1]} backup non-stick\n\1\2"),),
            pages=(page,))),
        _edited("pinned-sources", "a rule leads every source to one server, drained or not", "DRAIN-1", https,
                (rf"^(\s*)(server {first[https].label} .*)$",
                 rf"\1use-server {first[https].label} if {{ src {site.clients.network} }}\n\1\2")),
        Plant("states-not-taken-up", "a new process does not take up the states of servers", "RELOAD-1", hl7,
              Defects(configuration=(ConfigurationEdit(None, r"^\s*load-server-state-from-file .*\n", ""),))),
    )  # fmt: skip
    return tuple(_in_maintenance(plant) for plant in planted)


def _pair_plants(site: Site) -> tuple[Plant, ...]:
    """Return the plants that need machines of their own: a pair of balancers, nodes that vanish."""
    hl7 = site.vip_of("hl7").name
    planted = tuple(Plant(*defect, profile="pair", lab="compose") for defect in pair_defects(site))
    if not planted:
        return ()
    vanish = _edited("sessions-survive-vanishing", "`on-marked-down shutdown-sessions` is missing", "FAILOVER-2", hl7,
                     (r" on-marked-down shutdown-sessions", ""))  # fmt: skip
    return (*planted, msgspec.structs.replace(vanish, lab="compose"))


def _load_plants(site: Site) -> tuple[Plant, ...]:
    dicom, hl7, https = (site.vip_of(service).name for service in ("dicom", "hl7", "https"))
    slow, last = Misbehaviour.SLOW_BY_20_MS, site.node[-1].name
    slowed = tuple(
        Plant(f"node-slowed-{vip.service}", "one node answers 20 ms later", "LOAD-1", vip.name,
              Defects(misbehaviour=(MisbehavingService(last, vip.service, slow),)), "load")
        for vip in site.vip
        if vip.limits.p99_s < LATE_BY_S  # elsewhere the site allows for it
    )  # fmt: skip
    return (
        *slowed,
        msgspec.structs.replace(
            _lying(site, "one-in-5000-lost", "one image in 5,000 is acknowledged and not stored", "LOSS-1", dicom,
                   Misbehaviour.LOSES_EVERY_5000TH),
            profile="load"),
        Plant("maxconn-too-small", "the balancer takes one DICOM connection at a time, and each lasts", "LOAD-4", dicom,
              Defects(configuration=(ConfigurationEdit(dicom, r"^(\s*maxconn) \d+", r"\1 1"),),
                      relays=tuple(Relayed(node.name, "dicom", delay_s=0.02) for node in site.node)), "load"),
        Plant("slow-path", "the balancer reaches a service through something that takes 10 ms", "LOAD-2", hl7,
              Defects(relays=tuple(Relayed(node.name, "hl7", delay_s=0.01) for node in site.node)), "load"),
        msgspec.structs.replace(
            _edited("capacity-for-two", "a node takes two HL7 connections at a time, enough only while there are two nodes",
                    "LOAD-3", hl7, (r"^(\s*server (?!backup).*)$", r"\1 maxconn 2")),
            profile="load"),
        msgspec.structs.replace(
            _edited("maxconn-below-the-storm", "the balancer takes a hundred web connections at a time", "STORM-1", https,
                    (r"^(\s*maxconn) \d+", r"\1 100")),
            profile="load"),
        msgspec.structs.replace(
            _lying(site, "memory-leak", "a node never frees some memory of every web request", "SOAK-1", https,
                   Misbehaviour.LEAKS_MEMORY),
            profile="soak"),
        Plant("idle-lines-cut", "something on the way ends HL7 lines on which nothing was said for a second", "SOAK-1", hl7,
              Defects(relays=tuple(Relayed(node.name, "hl7", cut_idle_s=1.0) for node in site.node)), "soak"),
        Plant("generator-starved", "other processes take the CPU from the generator", "LOAD-1", dicom,
              Defects(cpu_hogs_per_core=HOGS_PER_CORE), "load", "unknown"),
    )  # fmt: skip


def _in_maintenance(plant: Plant) -> Plant:
    return msgspec.structs.replace(plant, profile="maintenance")


def _edited(plant_id: str, breaks: str, check: str, vip: str, *edits: tuple[str, str]) -> Plant:
    changes = tuple(ConfigurationEdit(vip, pattern, replacement) for pattern, replacement in edits)
    return Plant(plant_id, breaks, check, vip, Defects(configuration=changes))


def _lying(
    site: Site, plant_id: str, breaks: str, check: str, vip: str | None, lie: Misbehaviour, service: ServiceKind | None = None
) -> Plant:
    of = service or site.vip_named(vip or "").service
    return Plant(
        plant_id,
        breaks,
        check,
        vip,
        Defects(misbehaviour=tuple(MisbehavingService(node.name, of, lie) for node in site.node)),
    )


def _other_port(port: int) -> int:
    return port + 7 if port < 65000 else port - 7


def _stranger(site: Site, vip: str) -> str:
    """Return an address that the balancer can connect from and should not: the VIP's own, or, on loopback, any other."""
    if site.balancer.unit:
        return site.vip_named(vip).address
    return _neighbour(site.balancer.address)


def _neighbour(address: str) -> str:
    head, _, last = address.rpartition(".")
    return f"{head}.{int(last) + 1}"
