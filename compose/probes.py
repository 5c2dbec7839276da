"""Readiness: one exchange at a service's own protocol, straight to it. None of them leaves a receipt.

A port that accepts proves nothing: the lab binds the ports itself, before the services are there to answer.
"""

from __future__ import annotations

import http.client
import socket
import ssl

from simulators.client import Connection, Failed, Target, Timeouts
from simulators.dicom.association import Association
from simulators.dicom.dimse import SUCCESS, VERIFICATION, c_echo_rq
from simulators.dicom.errors import ProtocolError
from simulators.dicom.negotiation import ProposedContext
from simulators.operations import Service

_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_WITHOUT_MSH = b"\x0bPFPROBE\x1c\r"  # a frame that is no message must be answered AR (HL7 v2.5.1, 2.9.2.2)
_MLLP_END = b"\x1c\r"


class NotReady(Exception):
    """A service did not answer as it should; the message says what was expected and what was found."""


def answers(target: Target, source: str, ae_title: str, calling_ae: str, timeout_s: float) -> None:
    """Check that a service answers at its own protocol: C-ECHO, an MLLP exchange, or GET /health over TLS.

    Parameters
    ----------
    target : Target
        The service itself, not a VIP: a probe must not make a persistence entry.
    source : str
        The address that it is asked from.
    ae_title, calling_ae : str
        For DICOM and worklist.
    timeout_s : float
        Of each phase of the exchange, in seconds.

    Raises
    ------
    NotReady
        When it does not.
    """
    timeouts = Timeouts(connect_s=timeout_s, negotiate_s=timeout_s, send_s=timeout_s, response_s=timeout_s)
    try:
        match target.service:
            case Service.DICOM | Service.DMWL:
                _echo(target, source, ae_title, calling_ae, timeouts)
            case Service.HL7:
                _mllp(target, source, timeouts)
            case Service.HTTPS:
                _health(target, source, timeouts)
    except (Failed, ProtocolError, OSError, http.client.HTTPException) as error:
        raise NotReady(f"{_name(target)}: expected an answer, found {error!r}") from error


def refuses(address: str, port: int, source: str, timeout_s: float) -> bool:
    """Say whether a port refuses a connection."""
    try:
        socket.create_connection((address, port), timeout_s, (source, 0)).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _echo(target: Target, source: str, ae_title: str, calling_ae: str, timeouts: Timeouts) -> None:
    contexts = (ProposedContext(VERIFICATION, (_IMPLICIT_VR_LITTLE_ENDIAN,)),)
    with Association(target, source, calling_ae=calling_ae, called_ae=ae_title, contexts=contexts, timeouts=timeouts) as peer:
        context = peer.context_for(VERIFICATION, _IMPLICIT_VR_LITTLE_ENDIAN)
        if context is None:
            raise NotReady(f"{_name(target)}: expected a context for C-ECHO, found none")
        answer, _ = peer.request(context, c_echo_rq(1))
    if answer.status != SUCCESS:
        raise NotReady(f"{_name(target)}: expected status 0x0000, found {answer.status:#06x}")


def _mllp(target: Target, source: str, timeouts: Timeouts) -> None:
    connection = Connection(target, source, timeouts)
    answer = b""
    try:
        connection.socket.settimeout(timeouts.response_s)
        connection.socket.sendall(_WITHOUT_MSH)
        while not answer.endswith(_MLLP_END):
            chunk = connection.socket.recv(4096)
            if not chunk:
                break
            answer += chunk
    finally:
        connection.close()
    if b"\rMSA|" not in answer:  # which one is for a check to judge; here it is enough that the service speaks
        raise NotReady(f"{_name(target)}: expected an acknowledgement of a frame without MSH, found {answer!r}")


def _health(target: Target, source: str, timeouts: Timeouts) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whether it is alive is asked here; a check of its own judges the certificate
    connection = Connection(target, source, timeouts)
    try:
        connection.socket.settimeout(timeouts.response_s)
        with context.wrap_socket(connection.socket) as secured:
            asked = http.client.HTTPConnection(target.address, target.port)
            asked.sock = secured
            asked.request("GET", "/health", headers={"Connection": "close"})
            status = asked.getresponse().status
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise NotReady(f"{_name(target)}: expected 200 from GET /health, found {status}")


def _name(target: Target) -> str:
    return f"{target.service.name} at {target.address}:{target.port}"
