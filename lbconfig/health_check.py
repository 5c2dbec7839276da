"""A site's health checks in HAProxy's words: what is sent to a real server, and which answer makes it UP.

Each check is a conversation of `tcp-check` or `http-check` rules, one after the other; `timeout check` bounds all of it, from
the connection on. HAProxy 2.6 configuration manual, 4.2 (tcp-check, http-check) and 5.2 (check-ssl).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .errors import LoadBalancingError
from .site import HealthCheck, Site, Vip

_VERIFICATION = "1.2.840.10008.1.1"
_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLEMENTATION_CLASS = "2.25.106700000000000000000000000000000000002"
_IMPLEMENTATION_VERSION = "PREFLIGHT_CHECK"
_MAXIMUM_LENGTH = 16384  # of a P-DATA-TF that HAProxy takes: one of its buffers
_CONTEXT_ID = 1
_FIRST_BYTE_OF = {"accept": "02", "data": "04", "release": "06"}  # PDU types (PS3.8, 9.3.1)
_NO_ROOM = "^0300000000040002030[12]"  # A-ASSOCIATE-RJ: transient, presentation, congestion or local limit exceeded
_RELEASE_RQ = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
_DEFAULT_PATH = "/health"
_LINGER = "linger"  # else HAProxy ends each check with a reset, which nodes log as an error of their peer


class HealthCheckError(LoadBalancingError):
    """A health check cannot be rendered; the message says what is missing."""


def check_lines(site: Site, vip: Vip) -> Iterator[str]:
    """Yield the lines of a VIP's section that say what its health check sends and expects; none for `connect`."""
    check = vip.health_check
    match check.kind:
        case "connect":
            return
        case "dicom-echo":
            yield from _dicom_echo(str(check.calling_ae), check.called_ae or site.dicom.ae_title)
        case "mllp":
            yield from _mllp(check)
        case "https":
            yield from _https(check, vip.hostname or vip.address)


def check_words(vip: Vip, ca_file: str | None) -> str:
    """Return the words of a server's line that its health check needs beyond its times; empty, or with a blank before.

    Parameters
    ----------
    vip : Vip
        Whose real server it is.
    ca_file : str or None
        The PEM file of the authorities whose certificates a server may show.

    Raises
    ------
    HealthCheckError
        When certificates are to be verified and there is no such file.
    """
    check = vip.health_check
    if check.kind != "https":
        return ""
    if check.certificate == "unverified":
        return " check-ssl verify none"
    if ca_file is None:
        raise HealthCheckError(
            f'VIP {vip.name}: health_check.certificate: expected the file of a CA for "verified", found none. '
            'Name it in web.ca_file, or say "unverified"'
        )
    name = f" check-sni {vip.hostname} verifyhost {vip.hostname}" if vip.hostname else ""
    return f" check-ssl verify required ca-file {ca_file}{name}"


def _dicom_echo(calling_ae: str, called_ae: str) -> Iterator[str]:
    """Ask for an association, send a C-ECHO, release.

    A node that has as many associations as it takes rejects for now (source 3: PS3.8, 9.3.4). It is not dead, and to mark it
    DOWN would end all of its sessions: it gets no new sources until it has room (`L7OKC`, state NOLB).
    """
    yield "option tcp-check"
    yield f"tcp-check connect default {_LINGER}"
    yield f'tcp-check send-binary {_associate_rq(calling_ae, called_ae).hex()} comment "A-ASSOCIATE-RQ"'
    yield f'tcp-check expect min-recv 10 error-status L7OKC comment "room for an association" ! rbinary {_NO_ROOM}'
    yield f'tcp-check expect min-recv 1 comment "A-ASSOCIATE-AC" rbinary ^{_FIRST_BYTE_OF["accept"]}'
    yield f'tcp-check expect comment "context accepted" rbinary 2100.{{4}}{_CONTEXT_ID:02x}..00..40'
    yield f'tcp-check send-binary {_echo_rq().hex()} comment "C-ECHO-RQ"'
    yield f'tcp-check expect min-recv 1 comment "C-ECHO-RSP" rbinary ^{_FIRST_BYTE_OF["data"]}'
    yield f'tcp-check expect comment "status 0x0000" rbinary {_element(0x0900, struct.pack("<H", 0)).hex()}'
    yield f'tcp-check send-binary {_RELEASE_RQ.hex()} comment "A-RELEASE-RQ"'
    yield f'tcp-check expect comment "A-RELEASE-RP" rbinary ^{_FIRST_BYTE_OF["release"]}'


def _mllp(check: HealthCheck) -> Iterator[str]:
    """Send one frame; want the agreed code in MSA-1 (HL7 v2.5.1, 2.9; MLLP release 1)."""
    frame = b"\x0b" + b"".join(segment.encode("ascii") + b"\r" for segment in check.message) + b"\x1c\r"
    answer = f"\rMSA|{check.answer}|".encode().hex().upper()  # regular expressions meet what was received in capitals
    yield "option tcp-check"
    yield f"tcp-check connect default {_LINGER}"
    yield f'tcp-check send-binary {frame.hex()} comment "the agreed message"'
    yield f'tcp-check expect comment "MSA-1 {check.answer}" rbinary ^0B(..)*{answer}(..)*1C0D'


def _https(check: HealthCheck, host: str) -> Iterator[str]:
    yield "option httpchk"
    yield f"http-check send meth GET uri {check.path or _DEFAULT_PATH} ver HTTP/1.1 hdr Host {host}"
    yield "http-check expect status 200"


def _associate_rq(calling_ae: str, called_ae: str) -> bytes:
    """Encode an A-ASSOCIATE-RQ for Verification alone (PS3.8, 9.3.2; PS3.7, annex D)."""
    context = struct.pack(">BxHBxxx", 0x20, 4 + 4 + len(_VERIFICATION) + 4 + len(_IMPLICIT_VR_LITTLE_ENDIAN), _CONTEXT_ID)
    context += _item(0x30, _VERIFICATION.encode()) + _item(0x40, _IMPLICIT_VR_LITTLE_ENDIAN.encode())
    user = _item(0x51, struct.pack(">I", _MAXIMUM_LENGTH)) + _item(0x52, _IMPLEMENTATION_CLASS.encode())
    user += _item(0x55, _IMPLEMENTATION_VERSION.encode())
    titles = called_ae.ljust(16).encode("ascii") + calling_ae.ljust(16).encode("ascii")
    fields = struct.pack(">Hxx", 1) + titles + bytes(32)
    body = fields + _item(0x10, _APPLICATION_CONTEXT.encode()) + context + _item(0x50, user)
    return struct.pack(">BxI", 1, len(body)) + body


def _echo_rq() -> bytes:
    """Encode a C-ECHO-RQ in one P-DATA-TF (PS3.7, 9.3.5.1; PS3.8, 9.3.5)."""
    uid = _VERIFICATION.encode()
    uid += b"\x00" * (len(uid) % 2)
    elements = _element(0x0002, uid) + b"".join(
        _element(element, struct.pack("<H", value)) for element, value in ((0x0100, 0x0030), (0x0110, 1), (0x0800, 0x0101))
    )
    command = _element(0x0000, struct.pack("<I", len(elements))) + elements
    pdv = struct.pack(">IBB", len(command) + 2, _CONTEXT_ID, 0b11) + command  # a command, and its last fragment
    return struct.pack(">BxI", 4, len(pdv)) + pdv


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _element(element: int, value: bytes) -> bytes:
    """Encode an element of group 0000, Implicit VR Little Endian."""
    return struct.pack("<HHI", 0, element, len(value)) + value
