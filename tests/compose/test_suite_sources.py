"""Package sources of another release, from this machine's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from compose.keeper_client import CHECKOUT

PROGRAM = CHECKOUT / "compose" / "images" / "suite-sources"
RELEASE = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)[
    "VERSION_CODENAME"
]


def sources(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "later"], capture_output=True, text=True, check=False, env=os.environ | {"SOURCES_FOLDER": str(folder)}
    )


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_stanzas_of_this_release_are_taken_and_others_left(tmp_path: Path) -> None:
    write(
        tmp_path, "sources.list.d/debian.sources",
        f"# a comment\nTypes: deb deb-src\nURIs: file:///mirror/debian\nSuites: {RELEASE} {RELEASE}-updates\n"
        f"Components: main contrib\nSigned-By: /keys/debian.gpg\n\n"
        f"Types: deb\nURIs: file:///mirror/security\nSuites: {RELEASE}-security\nComponents: main\n\n"
        f"Types: deb\nURIs: file:///mirror/other\nSuites: stable\nComponents: main\n\n"
        f"Enabled: no\nTypes: deb\nURIs: file:///mirror/off\nSuites: {RELEASE}\nComponents: main\n",
    )  # fmt: skip
    assert sources(tmp_path).stdout.rstrip("\n") == (
        "Types: deb\nURIs: file:///mirror/debian\nSuites: later later-updates\nComponents: main\n"
        "Signed-By: /keys/debian.gpg\n\n"
        "Types: deb\nURIs: file:///mirror/security\nSuites: later-security\nComponents: main"
    )


def test_lines_of_the_older_kind_are_read_too(tmp_path: Path) -> None:
    write(
        tmp_path, "sources.list",
        f"deb [arch=amd64 signed-by=/keys/debian.gpg] file:///mirror/debian {RELEASE} main contrib\n"
        f"deb-src file:///mirror/debian {RELEASE} main\ndeb file:///mirror/vendor stable main\n",
    )  # fmt: skip
    assert sources(tmp_path).stdout.rstrip("\n") == (
        "Types: deb\nURIs: file:///mirror/debian\nSuites: later\nComponents: main\nSigned-By: /keys/debian.gpg"
    )


def test_a_machine_without_sources_of_its_release_is_told_so(tmp_path: Path) -> None:
    done = sources(tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"suite-sources: expected package sources for {RELEASE} below {tmp_path}, found none\n"
