"""Who has an address, asked of the network itself (RFC 826): every machine that answers, not the one that won.

The question is an ARP probe (RFC 5227: sender address 0.0.0.0, so that nobody's cache changes), sent from a hardware address
that is nobody's, so that the answers reach this socket and leave this machine's own cache as it is.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections.abc import Iterable

import psutil

from .lab import LabError

ASKER = bytes.fromhex("02504600beef")  # locally administered
_BROADCAST = b"\xff" * 6
_ETHERTYPE_ARP = 0x0806
_FRAME = struct.Struct("!6s6sHHHBBH6s4s6s4s")  # Ethernet header, then ARP for Ethernet and IPv4
_REQUEST, _REPLY = 1, 2
_ASKED_AGAIN_S = 0.05  # a bridge that has just learned a port may miss the first
_OTHERHOST_BYTES = 2048


def who_has(addresses: Iterable[str], within_s: float = 0.15) -> dict[str, list[str]]:
    """Return the hardware addresses of all machines that answer for each IPv4 address, in the order of their answers.

    Parameters
    ----------
    addresses : iterable of str
        All of them in one network that this machine has an interface in.
    within_s : float
        How long answers are waited for, in seconds.

    Raises
    ------
    LabError
        When no interface is in that network, or this process may not ask (it takes CAP_NET_RAW).
    """
    found: dict[str, list[str]] = {address: [] for address in addresses}
    if not found:
        return found
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE_ARP)) as wire:
            wire.bind((interface_of(next(iter(found))), _ETHERTYPE_ARP))
            began = time.monotonic()
            for until_s in (min(_ASKED_AGAIN_S, within_s), within_s):
                for address in found:
                    wire.send(_request(address))
                _collect(wire, found, began + until_s)
    except PermissionError as error:
        raise LabError(f"ARP: expected CAP_NET_RAW, found that this process may not: {error}") from error
    return found


def interface_of(address: str) -> str:
    """Return the interface whose network an address lies in. Raises LabError when there is none."""
    wanted = ipaddress.IPv4Address(address)
    for name, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.family == socket.AF_INET and entry.netmask and name != "lo":
                network = ipaddress.IPv4Network(f"{entry.address}/{entry.netmask}", strict=False)
                if network.prefixlen < 32 and wanted in network:
                    return str(name)
    raise LabError(f"{address}: expected an interface in its network, found none")


def _collect(wire: socket.socket, found: dict[str, list[str]], deadline: float) -> None:
    while (left := deadline - time.monotonic()) > 0:
        wire.settimeout(left)
        try:
            frame = wire.recv(_OTHERHOST_BYTES)
        except TimeoutError:
            return
        if len(frame) < _FRAME.size:
            continue
        to, _, ethertype, _, _, _, _, operation, hardware, sender, _, _ = _FRAME.unpack_from(frame)
        address = socket.inet_ntoa(sender)
        if (to, ethertype, operation) == (ASKER, _ETHERTYPE_ARP, _REPLY) and address in found:
            who = hardware.hex(":")
            if who not in found[address]:
                found[address].append(who)


def _request(address: str) -> bytes:
    nobody = socket.inet_aton("0.0.0.0")  # noqa: S104  a probe's sender, nothing that is bound
    return _FRAME.pack(
        _BROADCAST, ASKER, _ETHERTYPE_ARP, 1, 0x0800, 6, 4, _REQUEST, ASKER, nobody, b"\0" * 6, socket.inet_aton(address)
    )
