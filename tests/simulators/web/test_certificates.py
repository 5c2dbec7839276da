from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from simulators.web.certificates import CertificateError, LabAuthority


def test_a_certificate_covers_the_addresses_and_names_it_was_asked_for(tmp_path: Path) -> None:
    files = LabAuthority(tmp_path).issue(tmp_path / "a", ["127.0.110.105", "imaging.hospital.example"])
    certificate = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
    covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert covered.get_values_for_type(x509.DNSName) == ["imaging.hospital.example"]
    assert [str(address) for address in covered.get_values_for_type(x509.IPAddress)] == ["127.0.110.105"]
    assert certificate.not_valid_before_utc < datetime.now(UTC) < certificate.not_valid_after_utc


def test_an_expired_certificate_was_valid_once_and_is_no_longer(tmp_path: Path) -> None:
    files = LabAuthority(tmp_path).issue(tmp_path / "a", ["a.example"], expired=True)
    certificate = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
    assert certificate.not_valid_before_utc < certificate.not_valid_after_utc < datetime.now(UTC)


def test_the_authority_writes_the_file_that_clients_trust(tmp_path: Path) -> None:
    authority = LabAuthority(tmp_path / "new")
    assert authority.ca_file == tmp_path / "new" / "ca.pem"
    assert len(ssl.create_default_context(cafile=str(authority.ca_file)).get_ca_certs()) == 1


def test_a_private_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    files = LabAuthority(tmp_path).issue(tmp_path / "a", ["a.example"])
    assert files.key_file.stat().st_mode & 0o777 == 0o600


def test_a_certificate_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="expected at least one address or host name to cover, found none"):
        LabAuthority(tmp_path).issue(tmp_path / "a", [])
