"""Packages of the distribution for a machine without a network: a flat package source, which apt installs from."""

from __future__ import annotations

import hashlib
import platform
import tempfile
from pathlib import Path

from .images.build import BuildError, run
from .images.recipes import CHECKOUT

PROGRAMS = ("make", "python3-venv", "haproxy", "dcmtk", "docker.io", "iptables")
COMPOSE = "docker-compose"  # older releases have one that is no plugin; then the later release's, which is one static program
_DOWNLOAD = (
    "--yes", "--quiet=2", "--no-install-recommends", "--option=APT::Sandbox::User=root", "--option=Debug::NoLocking=1",
    "--download-only",
)  # fmt: skip


def pack_programs(folder: Path) -> str:
    """Download the programs that the labs need, with all that they depend on, and index them.

    Parameters
    ----------
    folder : Path
        The folder to make: packages, and the index `Packages` by which apt knows them.

    Returns
    -------
    str
        The release of the distribution that they are of, such as bookworm.

    Raises
    ------
    BuildError
        When this is no Debian, or apt does not get them.
    """
    release = _release()
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="preflight-packages-") as scratch:
        place = Path(scratch)
        (place / "archives" / "partial").mkdir(parents=True)
        (place / "status").touch()  # as on a machine with nothing installed: so that what they depend on comes as well
        options = [f"--option=Dir::State::status={place / 'status'}", f"--option=Dir::Cache::archives={place / 'archives'}"]
        run("apt-get", *_DOWNLOAD, *options, "install", *PROGRAMS)
        run(str(CHECKOUT / "install-programs"), "--download", str(place / "archives"), COMPOSE)
        for package in sorted((place / "archives").glob("*.deb")):
            package.rename(folder / package.name.replace("%3a", "."))  # apt would decode it in the name of a file
    stanzas = [_stanza(package) for package in sorted(folder.glob("*.deb"))]
    (folder / "Packages").write_text("\n".join(stanzas))
    return release


def _stanza(package: Path) -> str:
    content = package.read_bytes()
    control = run("dpkg-deb", "--field", str(package)).rstrip("\n")
    sha256 = hashlib.sha256(content).hexdigest()
    return f"{control}\nFilename: ./{package.name}\nSize: {len(content)}\nSHA256: {sha256}\n"


def _release() -> str:
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    if not release:
        raise BuildError("/etc/os-release: expected VERSION_CODENAME (a Debian release), found none")
    return release
