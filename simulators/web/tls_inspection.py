"""What a TLS server shows of itself. A bad certificate is a finding here, never an exception."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import ssl
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509

from simulators.client import Connection, Failed, Target, Timeouts

OldVersion = Literal["refused", "accepted", "not tried"]
_OLD_CIPHERS = "ALL:@SECLEVEL=0"  # what TLS 1.0 and 1.1 need in an OpenSSL that would not use them by itself
# reasons of OpenSSL (ssl/ssl_err.c) that say that our own side would not even begin
_LOCAL_REASONS = frozenset({"NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE"})


class TlsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a TLS server.

    Parameters
    ----------
    failure : str
        Why no certificate could be had; empty when there was one. The fields up to `fingerprint` are empty then.
    version, cipher : str
        Negotiated, in OpenSSL's words: `TLSv1.3`, `TLS_AES_256_GCM_SHA384`.
    is_chain_verified : bool
        Whether the chain leads to the given authority and is valid today.
    chain_error : str
        Why not, in OpenSSL's words; empty when it does.
    not_before, not_after : datetime or None
        The certificate's validity, UTC.
    names : tuple of str
        What it covers (subjectAltName): DNS names and addresses.
    covers_server_name : bool
        Whether the name that was asked for is one of them (RFC 6125, 6.4).
    fingerprint : str
        SHA-256 of the certificate (DER), hexadecimal: equal on two nodes that show the same one.
    tls_1_0, tls_1_1 : "refused", "accepted" or "not tried"
        Whether the server still speaks these; "not tried" where the local OpenSSL cannot, or nothing answered.
    """

    failure: str = ""
    version: str = ""
    cipher: str = ""
    is_chain_verified: bool = False
    chain_error: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    names: tuple[str, ...] = ()
    covers_server_name: bool = False
    fingerprint: str = ""
    tls_1_0: OldVersion = "not tried"
    tls_1_1: OldVersion = "not tried"


def inspect_tls(target: Target, source: str, server_name: str, ca_file: Path, timeouts: Timeouts) -> TlsSeen:
    """Look at a TLS server: four connections, one after the other, without a request.

    Parameters
    ----------
    target : Target
        The VIP, or a real server itself.
    source : str
        The source address.
    server_name : str
        The host name or address that the certificate should cover; sent as SNI when it is a name.
    ca_file : Path
        PEM of the authority to trust.
    timeouts : Timeouts
        `connect_s` and `negotiate_s` bound each connection.

    Raises
    ------
    OSError
        When `ca_file` cannot be read; nothing that the server does raises.
    """
    verifying = ssl.create_default_context(cafile=str(ca_file))
    verifying.check_hostname = False  # names are compared below: an untrusted chain must not hide a wrong name
    try:
        with _handshake(_unverifying(), target, source, server_name, timeouts) as tls:
            version, cipher = tls.version() or "", (tls.cipher() or ("",))[0]
            der = tls.getpeercert(binary_form=True) or b""
        certificate = x509.load_der_x509_certificate(der)
        names = _names(certificate)
    except (OSError, Failed, ValueError) as error:
        return TlsSeen(failure=str(error) or type(error).__name__)
    chain_error = _chain_error(verifying, target, source, server_name, timeouts)
    return TlsSeen(
        version=version, cipher=cipher, is_chain_verified=not chain_error, chain_error=chain_error,
        not_before=certificate.not_valid_before_utc, not_after=certificate.not_valid_after_utc,
        names=names, covers_server_name=covers(names, server_name), fingerprint=hashlib.sha256(der).hexdigest(),
        tls_1_0=_old_version(ssl.TLSVersion.TLSv1, target, source, server_name, timeouts),
        tls_1_1=_old_version(ssl.TLSVersion.TLSv1_1, target, source, server_name, timeouts),
    )  # fmt: skip


def covers(names: tuple[str, ...], server_name: str) -> bool:
    """Say whether names of a certificate cover a host name or an address; `*` stands for one whole leftmost label."""
    wanted = server_name.rstrip(".").lower()
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(wanted)) in names
    parent = wanted.partition(".")[2]
    return any(name.lower() == wanted or (parent and name.lower() == f"*.{parent}") for name in names)


@contextlib.contextmanager
def _handshake(
    context: ssl.SSLContext, target: Target, source: str, server_name: str, timeouts: Timeouts
) -> Iterator[ssl.SSLSocket]:
    connection = Connection(target, source, timeouts)
    try:
        connection.socket.settimeout(timeouts.negotiate_s)
        with context.wrap_socket(connection.socket, server_hostname=server_name) as tls:
            yield tls
    finally:
        connection.close()


def _unverifying() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # to see a certificate that nobody should trust
    return context


def _chain_error(context: ssl.SSLContext, target: Target, source: str, server_name: str, timeouts: Timeouts) -> str:
    try:
        with _handshake(context, target, source, server_name, timeouts):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message or str(error)
    except (OSError, Failed) as error:
        return str(error) or type(error).__name__


def _old_version(version: ssl.TLSVersion, target: Target, source: str, server_name: str, timeouts: Timeouts) -> OldVersion:
    context = _unverifying()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # these versions are deprecated: that is the point
            context.minimum_version = context.maximum_version = version
        context.set_ciphers(_OLD_CIPHERS)
    except (ValueError, ssl.SSLError):
        return "not tried"
    try:
        with _handshake(context, target, source, server_name, timeouts):
            return "accepted"
    except ssl.SSLError as error:
        return "not tried" if error.reason in _LOCAL_REASONS else "refused"
    except (ConnectionError, Failed) as error:
        # a server may reset instead of sending an alert; one that cannot be connected to any more refused nothing
        return "not tried" if isinstance(error, Failed) else "refused"
    except OSError:
        return "not tried"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in covered.get_values_for_type(x509.IPAddress))
    return (*covered.get_values_for_type(x509.DNSName), *addresses)
