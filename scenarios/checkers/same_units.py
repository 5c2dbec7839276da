"""Both units of a pair see each other and are set up alike; what is different by design is listed for a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from scenarios.takeovers import PairSeen, ServerKey, UnitSeen

OWN_BY_DESIGN = re.compile(r"^(priority|router_id|unicast_src_ip|localpeer|vrrp_startup_delay)\b")
_SHOWN_CHARACTERS = 90
_DIGEST_CHARACTERS = 12


def judge_same_units(names: tuple[str, ...], seen: PairSeen, *, samples_at_least: int) -> Finding:
    """Judge a pair at rest.

    Parameters
    ----------
    names : tuple of str
        The site's units.
    seen : PairSeen
        What was found.
    samples_at_least : int
        How often somebody must have looked who has the VIPs.
    """
    units = {unit.name: unit for unit in seen.units}
    differences = list(_differences(seen.units))
    measured: dict[str, Any] = {
        "units": list(units),
        "versions": {unit.name: unit.version for unit in seen.units},
        "peers": {unit.name: {peer.name: peer.status for peer in unit.peers if not peer.is_local} for unit in seen.units},
        "differences": differences[:20],
        "different_by_design": list(_by_design(seen.units)),
        "certificates": {unit.name: dict(unit.certificates) for unit in seen.units},
        "holders": sorted({", ".join(sample.holders) or "nobody" for sample in seen.holders}),
        "holder_samples": len(seen.holders),
        "replication_port_from_clients": dict(seen.replication_from_clients),
        "heartbeat_port": {unit: _HEARTBEAT[answer] for unit, answer in seen.heartbeat.items()},
    }
    numbers: Numbers = {
        "measured": measured,
        "limit": {"differences": 0, "holders": 1, "holder_samples_at_least": samples_at_least},
    }
    missing = [name for name in names if name not in units]
    if missing:
        return unknown(f"{listed(missing)} did not answer", **numbers)
    if broken := [*_unseen(names, units), *_versions(seen.units), *_shared_out(seen), *_open_ports(seen)]:
        return failed("balancer", listed(broken, 3), **numbers)
    if differences:
        return failed("balancer", f"{' and '.join(names)} differ: {listed(differences, 3)}", **numbers)
    if len(seen.holders) < samples_at_least or len(names) < 2:
        return unknown(f"only {len(seen.holders)} looks at who has the VIPs, on {len(names)} units", **numbers)
    if unread := _unread(seen.units):
        return unknown(f"not compared, because it could not be read: {listed(unread, 3)}", **numbers)
    silent = [f"{unit}: {words}" for unit, words in measured["heartbeat_port"].items() if "unknown" in words]
    told = [f"heartbeat {listed(silent)}"] if silent else []
    told += [f"different by design: {listed(measured['different_by_design'], 3)}"] if measured["different_by_design"] else []
    alike = f"{' and '.join(names)} ({units[names[0]].version}) see each other and are set up alike, one has the VIPs"
    return passed("; ".join([alike, *told]), **numbers)


_HEARTBEAT = {"refused": "closed", "answered": "open", "silent": "unknown: no answer to UDP says neither open nor closed"}


def _unseen(names: tuple[str, ...], units: dict[str, UnitSeen]) -> Iterator[str]:
    """Yield who does not see whom: each must be connected to each other one, as both of them say."""
    for name in names:
        for other in names:
            if other == name:
                continue
            peers = {peer.name: peer for peer in units[name].peers if not peer.is_local}
            if other not in peers:
                known = ", ".join(peers) or "no other peer"
                yield f"{name} does not know {other} as a peer: it knows {known}"
            elif not peers[other].is_established:
                yield f"{name} is not connected to its peer {other} ({peers[other].status or 'never tried'})"


def _versions(units: tuple[UnitSeen, ...]) -> Iterator[str]:
    if len({unit.version for unit in units}) > 1:
        yield "versions differ: " + ", ".join(f"{unit.name} {unit.version}" for unit in units)


def _shared_out(seen: PairSeen) -> Iterator[str]:
    several = [sample for sample in seen.holders if len(sample.holders) > 1]
    nobody = [sample for sample in seen.holders if not sample.holders]
    if several:
        yield f"{' and '.join(several[0].holders)} both answer for the VIPs ({len(several)} of {len(seen.holders)} looks)"
    if nobody:
        yield f"nobody answers for the VIPs ({len(nobody)} of {len(seen.holders)} looks)"


def _open_ports(seen: PairSeen) -> Iterator[str]:
    for unit, found in seen.replication_from_clients.items():
        if found == "open":
            yield f"the replication port of {unit} is open to clients: who reaches it may write the persistence table"
    for unit, found in seen.heartbeat.items():
        if found == "refused":
            yield f"the heartbeat port of {unit} is closed"


def _differences(units: tuple[UnitSeen, ...]) -> Iterator[str]:
    """Yield what is not equal and should be, settings of each own place aside."""
    if len(units) != 2:
        return
    one, other = units
    yield from _servers(one, other)
    for file in sorted({*one.files, *other.files}):
        lines, others = normalised(one, other, file), normalised(other, one, file)
        for section, line in lines:
            if (section, line) not in others and not OWN_BY_DESIGN.match(line):
                yield f"{file}: only {one.name} has {_shown(section, line)}"
        for section, line in others:
            if (section, line) not in lines and not OWN_BY_DESIGN.match(line):
                yield f"{file}: only {other.name} has {_shown(section, line)}"
        local = [f"{unit.name} {name}" for unit, found in ((one, lines), (other, others)) for name in _strangers(found)]
        if local:
            yield f"{file}: {listed(local)} calls itself by another unit's name"
    for name in sorted(one.certificates.keys() & other.certificates.keys()):  # what one alone names is a line that differs
        mine, theirs = one.certificates[name], other.certificates[name]
        if mine and theirs and mine != theirs:
            digests = f"{mine[:_DIGEST_CHARACTERS]}… on {one.name}, {theirs[:_DIGEST_CHARACTERS]}… on {other.name}"
            yield f"the certificate file {name} is not the same on both (SHA-256 {digests})"


def _unread(units: tuple[UnitSeen, ...]) -> list[str]:
    return [f"{name} of {unit.name}" for unit in units for name, digest in unit.certificates.items() if not digest]


def _servers(one: UnitSeen, other: UnitSeen) -> Iterator[str]:
    own, others = ({(key.vip, key.label): key for key in unit.servers} for unit in (one, other))
    for place in sorted({*own, *others}):
        if own.get(place) != others.get(place):
            told = [f"{_server(keys.get(place))} on {unit.name}" for unit, keys in ((one, own), (other, others))]
            yield f"{'/'.join(place)}: {', '.join(told)}"


def _server(key: ServerKey | None) -> str:
    return "none" if key is None else f"id {key.id}, {key.address}:{key.port}, weight {key.weight}"


def _strangers(lines: list[tuple[str, str]]) -> Iterator[str]:
    """Yield lines by which a unit says that it is the other one."""
    for _, line in lines:
        if line.startswith(("localpeer", "router_id", "unicast_src_ip")) and "<own" not in line:
            yield f"({line})"


def _by_design(units: tuple[UnitSeen, ...]) -> Iterator[str]:
    if len(units) == 2:
        one, other = units
        for file in sorted({*one.files, *other.files}):
            lines, others = normalised(one, other, file), normalised(other, one, file)
            mine = [line for entry in lines if entry not in others and OWN_BY_DESIGN.match(line := entry[1])]
            theirs = [line for entry in others if entry not in lines and OWN_BY_DESIGN.match(line := entry[1])]
            for word in sorted({line.split()[0] for line in (*mine, *theirs)}):
                told = [_set(word, lines_of, unit) for lines_of, unit in ((mine, one), (theirs, other))]
                yield f"{file}: {', '.join(told)}"


def _set(word: str, lines: list[str], unit: UnitSeen) -> str:
    return f"{next((line for line in lines if line.split()[0] == word), f'no {word}')} on {unit.name}"


def normalised(unit: UnitSeen, other: UnitSeen, file: str) -> list[tuple[str, str]]:
    """Return a configuration as (section, line), without comments; names and addresses of units are <own> and <other>."""
    section, lines = "", []
    for raw in unit.files.get(file, "").splitlines():
        words = raw.split("#", 1)[0].split()
        if not words:
            continue
        line = " ".join(words)
        for whom, what in ((unit, "own"), (other, "other")):
            line = re.sub(rf"(?<![\w.-]){re.escape(whom.name)}(?![\w.-])", f"<{what}>", line)
            line = re.sub(rf"(?<![\d.]){re.escape(whom.address)}(?![\d.])", f"<{what} address>", line)
            if whom.inner_address:
                line = re.sub(rf"(?<![\d.]){re.escape(whom.inner_address)}(?![\d.])", f"<{what} inner address>", line)
        if not raw[0].isspace():
            section = line
            lines.append(("", line))  # a section that one unit alone has, or a rule: packet filters have no sections
        else:
            lines.append((section, line))
    return lines


def _shown(section: str, line: str) -> str:
    text = f"[{section}] {line}" if section else line
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
