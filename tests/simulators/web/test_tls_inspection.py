from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simulators.client import Target, Timeouts
from simulators.operations import Service
from simulators.web.certificates import CertificateFiles, LabAuthority
from simulators.web.tls_inspection import covers, inspect_tls

if TYPE_CHECKING:
    from tests.simulators.web.conftest import RunningNode, StartNode

NAME = "imaging.hospital.example"
TIMEOUTS = Timeouts(connect_s=5, negotiate_s=5)


def test_a_good_certificate_is_verified_and_described(
    empty_node: RunningNode, authority: LabAuthority, certificate: CertificateFiles
) -> None:
    node = empty_node
    seen = inspect_tls(node.target, "127.0.0.1", NAME, authority.ca_file, TIMEOUTS)
    der = ssl.PEM_cert_to_DER_cert(certificate.certificate_file.read_text())
    assert (seen.failure, seen.version, seen.is_chain_verified, seen.chain_error) == ("", "TLSv1.3", True, "")
    assert (seen.names, seen.covers_server_name) == ((NAME, "127.0.0.1", "127.0.0.2"), True)
    assert seen.not_before is not None
    assert seen.not_after is not None
    assert seen.not_before < datetime.now(UTC) < seen.not_after
    assert seen.fingerprint == hashlib.sha256(der).hexdigest()


def test_the_node_refuses_tls_older_than_1_2(empty_node: RunningNode, authority: LabAuthority) -> None:
    seen = inspect_tls(empty_node.target, "127.0.0.1", NAME, authority.ca_file, TIMEOUTS)
    assert (seen.tls_1_0, seen.tls_1_1) == ("refused", "refused")


def test_an_expired_certificate_is_reported(start_node: StartNode, authority: LabAuthority, tmp_path: Path) -> None:
    node = start_node(files=authority.issue(tmp_path / "expired", [NAME], expired=True))
    seen = inspect_tls(node.target, "127.0.0.1", NAME, authority.ca_file, TIMEOUTS)
    assert (seen.is_chain_verified, seen.chain_error, seen.covers_server_name) == (False, "certificate has expired", True)
    assert seen.not_after is not None
    assert seen.not_after < datetime.now(UTC)


def test_a_certificate_for_another_name_is_reported(start_node: StartNode, authority: LabAuthority, tmp_path: Path) -> None:
    node = start_node(files=authority.issue(tmp_path / "wrong", ["other.example"]))
    seen = inspect_tls(node.target, "127.0.0.1", NAME, authority.ca_file, TIMEOUTS)
    assert (seen.is_chain_verified, seen.names, seen.covers_server_name) == (True, ("other.example",), False)


def test_a_certificate_of_another_authority_is_reported(empty_node: RunningNode, tmp_path: Path) -> None:
    stranger = LabAuthority(tmp_path / "stranger")
    seen = inspect_tls(empty_node.target, "127.0.0.1", NAME, stranger.ca_file, TIMEOUTS)
    assert (seen.failure, seen.is_chain_verified, seen.names[0]) == ("", False, NAME)
    assert "certificate" in seen.chain_error


def test_a_server_that_cannot_be_reached_is_a_failure_and_no_exception(authority: LabAuthority) -> None:
    with socket.create_server(("127.0.0.3", 0)) as closed:
        target = Target("127.0.0.3", closed.getsockname()[1], Service.HTTPS)
    seen = inspect_tls(target, "127.0.0.1", NAME, authority.ca_file, TIMEOUTS)
    assert "expected a connection, found" in seen.failure
    assert (seen.fingerprint, seen.tls_1_0) == ("", "not tried")


@pytest.fixture
def old_server(certificate: CertificateFiles) -> Iterator[Target]:
    """Run OpenSSL's own server with TLS 1.0 to 1.2, as a machine of long ago."""
    with socket.create_server(("127.0.0.4", 0)) as probe:
        target = Target("127.0.0.4", probe.getsockname()[1], Service.HTTPS)
    command = [
        "openssl", "s_server", "-accept", f"{target.address}:{target.port}", "-cert", str(certificate.certificate_file),
        "-key", str(certificate.key_file), "-no_tls1_3", "-cipher", "ALL:@SECLEVEL=0",
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert any(line.startswith(b"ACCEPT") for line in process.stdout)  # it listens from here on
            yield target
        finally:
            process.kill()


def test_a_server_that_still_speaks_old_versions_is_found_out(old_server: Target, authority: LabAuthority) -> None:
    seen = inspect_tls(old_server, "127.0.0.1", NAME, authority.ca_file, TIMEOUTS)
    assert (seen.version, seen.tls_1_0, seen.tls_1_1) == ("TLSv1.2", "accepted", "accepted")


@pytest.mark.parametrize(
    ("names", "server_name", "expected"),
    [
        (("a.example",), "A.example.", True), (("*.example",), "a.example", True), (("*.example",), "b.a.example", False),
        (("*.example",), "example", False), (("127.0.0.1",), "127.0.0.1", True), (("127.0.0.1",), "127.0.0.2", False),
        (("::1",), "0:0:0:0:0:0:0:1", True), ((), "a.example", False),
    ],
)  # fmt: skip
def test_a_name_is_covered_by_itself_or_by_a_wildcard_of_one_label(
    names: tuple[str, ...], server_name: str, expected: bool
) -> None:
    assert covers(names, server_name) is expected
