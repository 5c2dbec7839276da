"""What must hold between the values of a site, beyond the type of each.

Every rule is a pure function from the site to the places that break it. Keys are written as the file's reader would look
for them: `vip[2].real_server[0].node`, counted from 0.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import NamedTuple, get_args

from .clinical import MessageKind
from .site import CheckKind, HealthCheck, ServiceKind, Site, Vip

FALLBACK_LABEL = "backup"  # the appliance's own name for the fallback server
SHARES_SUM_WITHIN = 0.001  # what rounding shares to three digits may leave
_CHECK_SPEAKS: dict[CheckKind, tuple[ServiceKind, ...]] = {
    "connect": get_args(ServiceKind), "dicom-echo": ("dicom", "dmwl"), "mllp": ("hl7",), "https": ("https",),
}  # fmt: skip
_CHECK_KEYS: dict[CheckKind, tuple[str, ...]] = {
    "connect": (), "dicom-echo": ("calling_ae", "called_ae"), "mllp": ("message", "answer"), "https": ("path", "certificate"),
}  # fmt: skip
_CHECK_NEEDS: dict[CheckKind, tuple[str, ...]] = {
    "connect": (), "dicom-echo": ("calling_ae",), "mllp": ("message", "answer"), "https": ("certificate",),
}  # fmt: skip
_SEGMENT = re.compile(r"[ -~]+")
_URL_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
_CHECK = re.compile(r"(?P<check>[A-Z]+-[0-9]+)(?:/(?P<vip>[A-Za-z0-9._-]+))?")


class Problem(NamedTuple):
    """One value that cannot stand: where, what was expected there, what was found."""

    key: str
    expected: str
    found: str


def problems(site: Site, today: date) -> Iterator[Problem]:
    """Yield every broken rule, the most basic first.

    Parameters
    ----------
    site : Site
        A site whose values each have the right type.
    today : date
        The day on which waivers must still hold.
    """
    for rule in _RULES:
        yield from rule(site)
    yield from _waivers(site, today)


def _addresses(site: Site) -> Iterator[Problem]:
    places = [("balancer.address", site.balancer.address)]
    for i, unit in enumerate(site.balancer.unit):
        places.append((f"balancer.unit[{i}].address", unit.address))
        if unit.inner_address is not None:
            places.append((f"balancer.unit[{i}].inner_address", unit.inner_address))
    if site.balancer.nodes_gateway is not None:
        places.append(("balancer.nodes_gateway", site.balancer.nodes_gateway))
    places += [(f"node[{i}].address", node.address) for i, node in enumerate(site.node)]
    for i, vip in enumerate(site.vip):
        places.append((f"vip[{i}].address", vip.address))
        if vip.fallback:
            places.append((f"vip[{i}].fallback.address", vip.fallback.address))
    for key, text in places:
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            yield Problem(key, "an IPv4 address", f'"{text}"')
            continue
        if address.is_unspecified or address.is_multicast:
            yield Problem(key, "the IPv4 address of one host", f'"{text}"')


def _client_networks(site: Site) -> Iterator[Problem]:
    clients = site.clients
    networks = {
        "clients.network": clients.network, "clients.routed_network": clients.routed_network,
        "clients.straight_network": clients.straight_network,
    }  # fmt: skip
    for key, network in networks.items():
        if network is not None:
            try:
                ipaddress.IPv4Network(network)
            except ValueError as error:
                yield Problem(key, "an IPv4 network such as 10.0.8.0/24", f'"{network}" ({error})')


def _pair(site: Site) -> Iterator[Problem]:
    units, pair = site.balancer.unit, site.balancer.pair
    if len(units) not in (0, 2):
        yield Problem("balancer.unit", "two units, or none where there is one balancer", f"{len(units)}")
    if units and pair is None:
        yield Problem("balancer.pair", "a table, because there are units", "nothing: the key is missing")
    if pair is not None and not units:
        yield Problem("balancer.pair", "two entries of balancer.unit with it", "none")
    yield from _unique("balancer.unit[{}].name", "a name that no other unit has", [unit.name for unit in units])
    yield from _unique("balancer.unit[{}].address", "an address that no other unit has", [unit.address for unit in units])
    yield from _unique("balancer.unit[{}].priority", "a priority that no other unit has", [str(u.priority) for u in units])
    yield from _places_of_units(site)


def _places_of_units(site: Site) -> Iterator[Problem]:
    taken = {vip.address: f"VIP {vip.name}" for vip in site.vip} | {node.address: f"node {node.name}" for node in site.node}
    nodes = {node.name for node in site.node}
    for i, unit in enumerate(site.balancer.unit):
        if unit.address in taken:
            found = f"{unit.address}, as {taken[unit.address]}"
            yield Problem(f"balancer.unit[{i}].address", "an address of its own, which stays with the unit", found)
        if unit.name in nodes:
            yield Problem(f"balancer.unit[{i}].name", "a name that no node has", f'"{unit.name}"')
    if site.balancer.unit:
        starts = max(site.balancer.unit, key=lambda unit: unit.priority)
        if starts.address_towards_nodes != site.balancer.address:
            expected = f"{starts.address_towards_nodes}, that of the unit with the higher priority ({starts.name})"
            yield Problem("balancer.address", expected, site.balancer.address)


def _two_arms(site: Site) -> Iterator[Problem]:
    balancer = site.balancer
    if not balancer.is_two_arm:
        for key, value in (
            ("balancer.nodes_gateway", balancer.nodes_gateway), ("clients.straight_network", site.clients.straight_network),
        ):  # fmt: skip
            if value is not None:
                yield Problem(key, "an inner_address of each unit with it (two-arm)", f'"{value}"')
        return
    taken = {vip.address: f"VIP {vip.name}" for vip in site.vip} | {node.address: f"node {node.name}" for node in site.node}
    taken |= {unit.address: f"unit {unit.name}" for unit in balancer.unit}
    for i, unit in enumerate(balancer.unit):
        key = f"balancer.unit[{i}].inner_address"
        if unit.inner_address is None:
            yield Problem(key, "an address in the nodes' network, as the other unit has one", "nothing: the key is missing")
        elif unit.inner_address in taken:
            yield Problem(key, "an address that nothing else has", f"{unit.inner_address}, as {taken[unit.inner_address]}")
        else:
            taken[unit.inner_address] = f"unit {unit.name}"
    gateway = balancer.nodes_gateway
    if gateway is None:
        expected = "a floating address in the nodes' network, which is their default route"
        yield Problem("balancer.nodes_gateway", expected, "nothing: the key is missing")
    elif gateway in taken:
        yield Problem("balancer.nodes_gateway", "an address that nothing else has", f"{gateway}, as {taken[gateway]}")


def _one_vip_of_each_service(site: Site) -> Iterator[Problem]:
    for service in get_args(ServiceKind):
        names = [vip.name for vip in site.vip if vip.service == service]
        if len(names) != 1:
            found = f"{len(names)}: {', '.join(names)}" if names else "a missing VIP: none speaks it"
            yield Problem("vip", f'exactly one VIP with service = "{service}"', found)


def _unique_names(site: Site) -> Iterator[Problem]:
    yield from _unique("node[{}].name", "a name that no other node has", [node.name for node in site.node])
    yield from _unique("node[{}].address", "an address that no other node has", [node.address for node in site.node])
    yield from _unique("vip[{}].name", "a name that no other VIP has", [vip.name for vip in site.vip])


def _unique_vip_endpoints(site: Site) -> Iterator[Problem]:
    endpoints = [f"{vip.address}:{vip.port}" for vip in site.vip]
    yield from _unique("vip[{}]", "an address and port that no other VIP listens on", endpoints)
    for i, vip in enumerate(site.vip):
        if vip.fallback and f"{vip.fallback.address}:{vip.fallback.port}" in endpoints:
            found = f"{vip.fallback.address}:{vip.fallback.port}"
            yield Problem(f"vip[{i}].fallback", "an address and port that no VIP listens on", found)


def _real_servers(site: Site) -> Iterator[Problem]:
    addresses = {node.name: node.address for node in site.node}
    endpoints = {(vip.address, vip.port): vip.name for vip in site.vip}
    for i, vip in enumerate(site.vip):
        key = f"vip[{i}].real_server"
        if not vip.real_server:
            yield Problem(key, "at least one real server", "none")
        labels, ids = [server.label for server in vip.real_server], [str(server.id) for server in vip.real_server]
        yield from _unique(key + "[{}].label", f"a label that {vip.name} has once", labels)
        yield from _unique(key + "[{}].id", f"an id that {vip.name} has once", ids)
        targets = [f"{addresses.get(server.node, server.node)}:{server.port}" for server in vip.real_server]
        yield from _unique(key + "[{}]", f"an address and port that {vip.name} has once", targets)
        for j, server in enumerate(vip.real_server):
            if server.node not in addresses:
                yield Problem(f"{key}[{j}].node", f"one of the nodes {', '.join(addresses)}", f'"{server.node}"')
            elif (owner := endpoints.get((addresses[server.node], server.port))) is not None:
                found = f"{targets[j]}, where the VIP {owner} itself listens"
                yield Problem(f"{key}[{j}]", "a server behind the VIPs", found)
            if server.label == FALLBACK_LABEL:
                yield Problem(f"{key}[{j}].label", "a label other than the fallback's", f'"{server.label}"')


def _health_checks(site: Site) -> Iterator[Problem]:
    for i, vip in enumerate(site.vip):
        key, check = f"vip[{i}].health_check", vip.health_check
        if vip.service not in _CHECK_SPEAKS[check.kind]:
            kinds = " or ".join(f'"{kind}"' for kind, services in _CHECK_SPEAKS.items() if vip.service in services)
            yield Problem(f"{key}.kind", f"{kinds} on a VIP that speaks {vip.service}", f'"{check.kind}"')
        for owner, names in _CHECK_KEYS.items():
            for name in names if owner != check.kind else ():
                if getattr(check, name):
                    yield Problem(f"{key}.{name}", f'no such key in a check of kind "{check.kind}"', f"one of {owner}")
        for name in _CHECK_NEEDS[check.kind]:
            if not getattr(check, name):
                expected = f'what a check of kind "{check.kind}" says or wants, as agreed with the owner of the nodes'
                yield Problem(f"{key}.{name}", expected, "nothing: the key is missing")
        yield from _check_texts(key, check)


def _check_texts(key: str, check: HealthCheck) -> Iterator[Problem]:
    for j, segment in enumerate(check.message):
        if not _SEGMENT.fullmatch(segment):
            yield Problem(f"{key}.message[{j}]", "a segment in printable ASCII, without its carriage return", repr(segment))
    if check.path is not None and not _URL_PATH.fullmatch(check.path):
        yield Problem(f"{key}.path", "a path such as /health, without a query", f'"{check.path}"')


def _processes_that_share_images(site: Site) -> Iterator[Problem]:
    engines = site.engines
    if engines.processes > 1 and engines.storage == "wire" and site.dicom.storage == "keep":
        expected = '1 where the wire engine keeps images (engines.storage = "wire" and dicom.storage = "keep")'
        yield Problem("engines.processes", expected, str(engines.processes))


def _load_modalities(site: Site) -> Iterator[Problem]:
    entries = site.load.modality
    yield from _unique("load.modality[{}].name", "a name that no other entry has", [entry.name for entry in entries])
    own = {entry.name for entry in entries if entry.part_of is None}
    for i, entry in enumerate(entries):
        if entry.part_of is not None and entry.part_of not in own:
            expected = f"one of the exams {', '.join(sorted(own)) or '(there are none)'}"
            yield Problem(f"load.modality[{i}].part_of", expected, f'"{entry.part_of}"')
        if entry.image_bytes % 2:
            yield Problem(f"load.modality[{i}].image_bytes", "an even number (PS3.5 7.1.1)", str(entry.image_bytes))
    total = sum(entry.share for entry in entries if entry.part_of is None)
    if abs(total - 1) > SHARES_SUM_WITHIN:
        yield Problem("load.modality", "shares that sum to 1, but for entries with part_of", f"{total:.4g}")


def _load_lines(site: Site) -> Iterator[Problem]:
    lines = site.load.line
    yield from _unique("load.line[{}].name", "a name that no other line has", [line.name for line in lines])
    carried = [kind for line in lines for kind in line.carries]
    for kind in get_args(MessageKind):
        if carried.count(kind) != 1:
            yield Problem("load.line", f'exactly one line that carries "{kind}"', f"{carried.count(kind)}")


def _load_hours(site: Site) -> Iterator[Problem]:
    greatest = max(site.load.hourly_factors)
    if greatest != 1:
        yield Problem("load.hourly_factors", "1.0 in the peak hour, and nothing above it", f"{greatest:g} at most")


def _required_checks(site: Site) -> Iterator[Problem]:
    yield from _unique("required[{}]", "each check once", list(site.required))
    for i, check in enumerate(site.required):
        yield from _check_id(f"required[{i}]", check, site.vip)


def _waivers(site: Site, today: date) -> Iterator[Problem]:
    yield from _unique("waiver[{}].check", "one waiver for each check", [waiver.check for waiver in site.waiver])
    for i, waiver in enumerate(site.waiver):
        yield from _check_id(f"waiver[{i}].check", waiver.check, site.vip)
        if waiver.until < today:
            found = f"{waiver.until}: the waiver of {waiver.check} by {waiver.by} has expired; renew or remove it"
            yield Problem(f"waiver[{i}].until", f"{today} or later", found)


def _check_id(key: str, check: str, vips: tuple[Vip, ...]) -> Iterator[Problem]:
    match = _CHECK.fullmatch(check)
    if match is None:
        yield Problem(key, "the id of a check, such as PERSIST-1 or PERSIST-1/DICOM", f'"{check}"')
    elif (name := match["vip"]) is not None and all(vip.name != name for vip in vips):
        yield Problem(key, f"a check of one of the VIPs {', '.join(vip.name for vip in vips)}", f'"{check}"')


def _unique(key: str, expected: str, values: Iterable[str]) -> Iterator[Problem]:
    """Yield each value that an earlier entry has already; `key` has a place for the entry's number."""
    seen: Counter[str] = Counter()
    first: dict[str, int] = {}
    for i, value in enumerate(values):
        if seen[value]:
            yield Problem(key.format(i), expected, f"{value}, as in {key.format(first[value])}")
        seen[value] += 1
        first.setdefault(value, i)


_RULES: tuple[Callable[[Site], Iterator[Problem]], ...] = (
    _addresses, _client_networks, _pair, _two_arms, _unique_names, _one_vip_of_each_service, _unique_vip_endpoints,
    _real_servers, _health_checks, _processes_that_share_images, _load_modalities, _load_lines, _load_hours, _required_checks,
)  # fmt: skip
