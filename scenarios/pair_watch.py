"""What is watched of a pair: who has the VIPs, whether the units see each other, what their tables hold."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from compose.lab import HasBalancerPair, HasRoutedSources, Lab, LabError
from lbconfig.runtime_api import BalancerError, ServerState, TableEntry
from lbconfig.site import Node, Pair, Vip
from scenarios.acceptance import sha256
from scenarios.faults import MissingAbilityError
from scenarios.repeated import Repeated
from scenarios.takeovers import HolderSample, PairSeen, ServerKey, UnitSeen

LOOK_EVERY_S = 0.1
KNOCK_S = 1.0
KNOCKS = 3
UNIT_FILES = ("haproxy.cfg", "keepalived.conf", "filter.rules", "way-back.sh")
_CERTIFICATE = re.compile(r"\b(?:crt|ca-file|crt-list)\s+(\S+)")


def pair_of(lab: Lab) -> HasBalancerPair:
    """Return a lab as one with a pair. Raises MissingAbilityError when it has none."""
    if not isinstance(lab, HasBalancerPair):
        raise MissingAbilityError("show both units of a pair of balancers")
    return lab


def settings_of(lab: Lab) -> Pair:
    """Return the site's settings of the pair. Raises MissingAbilityError when it has none."""
    if lab.site.balancer.pair is None:
        raise MissingAbilityError("fail over: the site has one balancer alone")
    return lab.site.balancer.pair


class HolderWatch(Repeated):
    """Asks about ten times a second who has the VIPs, until it is left."""

    def __init__(self, pair: HasBalancerPair) -> None:
        super().__init__("holder watch", LOOK_EVERY_S)
        self._pair = pair
        self._samples: list[HolderSample] = []

    @property
    def samples(self) -> tuple[HolderSample, ...]:
        """All looks so far."""
        return tuple(self._samples)

    def latest(self) -> tuple[str, ...]:
        """Return who had the VIPs at the last look; nobody before the first one."""
        return self._samples[-1].holders if self._samples else ()

    def _step(self) -> None:
        try:
            holders = self._pair.holders()
        except LabError:
            return  # nobody looked: the sample is missing, which is not the same as nobody there
        self._samples.append(HolderSample(time.monotonic_ns(), holders))


def unlike_whole(lab: Lab, pair: HasBalancerPair) -> str:
    """Say what a pair lacks to be whole, empty when nothing: one holder, units that are connected and know their servers."""
    holders = pair.holders()
    if len(holders) != 1:
        return f"{' and '.join(holders) or 'nobody'} has the VIPs"
    for name in pair.units:
        try:
            unit = pair.unit(name)
            apart = [peer.name for peer in unit.balancer.peers() if not peer.is_local and not peer.is_established]
            labels = {(vip.name, server.label) for vip in lab.site.vip for server in vip.real_server}
            down = [f"{s.vip}/{s.label}" for s in unit.balancer.servers() if (s.vip, s.label) in labels and not s.is_up]
        except (BalancerError, LabError) as error:
            return f"{name}: {error}"
        if apart or down:
            return f"{name}: {'not connected to ' + ', '.join(apart) if apart else 'not UP: ' + ', '.join(down)}"
    return ""


def look_at_pair(lab: Lab, pair: HasBalancerPair, looks_s: float) -> PairSeen:
    """Return what can be seen of a pair at rest; a unit that does not answer is left out."""
    units = []
    for name in pair.units:
        try:
            units.append(_look_at_unit(lab, pair, name))
        except (BalancerError, LabError, OSError):
            continue
    with HolderWatch(pair) as watch:
        time.sleep(looks_s)
    replication = settings_of(lab).replication_port
    source = lab.local_source_addresses(1)[0] if isinstance(lab, HasRoutedSources) else lab.source_addresses(1)[0]
    knocked = {unit.name: _knock(source, unit.address, replication) for unit in units}
    port = settings_of(lab).heartbeat_udp_port
    heard = {unit.name: ask_udp(source, unit.address, port) for unit in units} if port is not None else {}
    return PairSeen(units=tuple(units), holders=watch.samples, replication_from_clients=knocked, heartbeat=heard)


def nodes_led_to(servers: Iterable[ServerState], vip: str, nodes: Iterable[Node]) -> dict[str | int, str]:
    """Return the node behind each of a unit's servers of one VIP, by the labels and by the ids that this unit knows them by.

    Which machine that is the unit alone says: on the other one the same name or id may stand for another.
    """
    by_address = {node.address: node.name for node in nodes}
    own = [server for server in servers if server.vip == vip]
    by_id: dict[str | int, str] = {server.id: by_address.get(server.address, "") for server in own}
    return by_id | {server.label: by_id[server.id] for server in own}


def led_to(entry: TableEntry, behind: Mapping[str | int, str]) -> str:
    """Return the node that an entry leads its source to, empty for none, by what is behind a unit's servers.

    An entry names its server twice, and HAProxy goes by the label wherever it has a server of that label.
    """
    node = None if entry.server is None else behind.get(entry.server)
    return behind.get(entry.server_id, "") if node is None else node


def table_of(pair: HasBalancerPair, unit: str, vip: Vip, behind: Mapping[str | int, str]) -> dict[str, str]:
    """Return the persistence table of one VIP on one unit: the node that each source is led to."""
    return {entry.source: led_to(entry, behind) for entry in pair.unit(unit).balancer.table(vip.name)}


def ask_udp(source: str, address: str, port: int) -> str:
    """Say what becomes of a datagram to a UDP port: answered, refused (ICMP said so), or silent, which proves nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind((source, 0))
        asking.settimeout(KNOCK_S)
        try:
            asking.connect((address, port))
            asking.send(b"\0")
            asking.recv(1)
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "silent"
    return "answered"


def _look_at_unit(lab: Lab, pair: HasBalancerPair, name: str) -> UnitSeen:
    unit = pair.unit(name)
    vips = {vip.name for vip in lab.site.vip}
    folder = unit.configuration_file.parent
    return UnitSeen(
        name=name, address=unit.address, inner_address=lab.site.balancer.unit_named(name).inner_address or "",
        version=unit.balancer.info().version,
        files={file: (folder / file).read_text() for file in UNIT_FILES}, peers=tuple(unit.balancer.peers()),
        servers=tuple(sorted(
            ServerKey(server.vip, server.label, server.id, server.address, server.port, server.weight)
            for server in unit.balancer.servers() if server.vip in vips
        )),
        certificates=_certificates(unit.configuration_file),
    )  # fmt: skip


def _certificates(configuration: Path) -> dict[str, str]:
    """Return the digests of the files that a configuration names as certificates, by path; those beside it by name alone."""
    found: dict[str, str] = {}
    for name in _named(configuration.read_text().splitlines()):
        path = Path(name)
        found[path.name if path.parent == configuration.parent else name] = sha256(path) if path.is_file() else ""
    return found


def _named(lines: Iterable[str]) -> list[str]:
    return [name for line in lines if not line.lstrip().startswith("#") for name in _CERTIFICATE.findall(line)]


def _knock(source: str, address: str, port: int) -> str:
    """Say what a client meets at a TCP port, asked a few times: open, refused, silent, or why nothing could be asked."""
    met = "silent"
    for _ in range(KNOCKS):
        try:
            socket.create_connection((address, port), KNOCK_S, (source, 0)).close()
        except TimeoutError:
            continue
        except (ConnectionRefusedError, ConnectionResetError):
            met = "refused"
        except OSError as error:
            met = f"not asked: {error}"
        else:
            return "open"
    return met
