"""The lab's own certificate authority: one for each run, trusted by nobody but the clients that are given its file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme

_VALID_FOR = timedelta(days=90)
_CLOCK_SLACK = timedelta(days=1)  # a client whose clock is behind must not find the certificate "not yet valid"


class CertificateError(Exception):
    """A certificate could not be made; the message says which and why."""


class CertificateFiles(NamedTuple):
    """A certificate (with its chain) and its private key, both PEM."""

    certificate_file: Path
    key_file: Path


class LabAuthority:
    """A certificate authority of the lab.

    Parameters
    ----------
    directory : Path
        Where `ca.pem`, the certificate to trust, is written; created when missing. The CA's key stays in memory.
    """

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA(organization_name="Preflight lab", organization_unit_name="Lab authority")
        directory.mkdir(parents=True, exist_ok=True)
        self.ca_file = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca_file)

    def issue(self, directory: Path, names: Sequence[str], *, expired: bool = False) -> CertificateFiles:
        """Issue a server certificate and write `certificate.pem` and `key.pem` (readable by the owner alone).

        Parameters
        ----------
        directory : Path
            Where the files go; created when missing.
        names : sequence of str
            The IP addresses and host names that it covers, at least one; the first is the common name as well.
        expired : bool
            Whether its last day has passed.

        Raises
        ------
        CertificateError
            When there is no name.
        """
        if not names:
            raise CertificateError(f"{directory}: expected at least one address or host name to cover, found none")
        now = datetime.now(UTC)
        last = now - _CLOCK_SLACK if expired else now + _VALID_FOR
        leaf = self._authority.issue_cert(
            *names, common_name=names[0], organization_name="Preflight lab", not_before=last - _VALID_FOR - _CLOCK_SLACK,
            not_after=last,
        )  # fmt: skip
        directory.mkdir(parents=True, exist_ok=True)
        files = CertificateFiles(directory / "certificate.pem", directory / "key.pem")
        files.certificate_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        files.key_file.touch(mode=0o600)
        files.key_file.write_bytes(leaf.private_key_pem.bytes())
        return files
