"""What a bundle's `install` refuses, each time before it changes anything. That it installs is shown in tests/offline."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compose.bundle import write_bundle
from compose.images import build
from compose.images.recipes import CHECKOUT

LIMIT_S = 60
FACTS = {
    "revision": "0000000",
    "architecture": platform.machine(),
    "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    "release": "another",
    "images": "0123456789ab",
    "image_names": "preflight-node",
}


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Give what a bundle has of files that are looked at before anything is installed."""
    shutil.copy2(CHECKOUT / "compose" / "offline" / "install", tmp_path / "install")
    shutil.copy2(CHECKOUT / "install-programs", tmp_path / "install-programs")
    (tmp_path / "offline" / "packages").mkdir(parents=True)
    (tmp_path / "offline" / "packages" / "Packages").touch()
    seal(tmp_path, FACTS)
    return tmp_path


def seal(root: Path, facts: dict[str, str]) -> None:
    (root / "offline" / "MACHINE").write_text("".join(f"{name}={value}\n" for name, value in facts.items()))
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "SHA256SUMS"]
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files)
    (root / "offline" / "SHA256SUMS").write_text("".join(sums))


def refusal(root: Path, *arguments: str, program: str = "./install", **environment: str) -> str:
    done = subprocess.run(
        [program, *arguments], cwd=root, capture_output=True, text=True, timeout=LIMIT_S, check=False,
        stdin=subprocess.DEVNULL, env=os.environ | {"PYTHON": sys.executable} | environment,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, ""), done.stdout + done.stderr
    assert not (root / ".venv").exists()
    return done.stderr


def test_a_file_that_changed_on_its_way(unpacked: Path) -> None:
    with (unpacked / "install-programs").open("a") as program:
        program.write("\n")
    said = refusal(unpacked)
    assert "expected every file as its digest in offline/SHA256SUMS says" in said
    assert "Unpack the archive again, or copy it again" in said


def test_a_place_that_configuration_files_cannot_name(unpacked: Path) -> None:
    place = unpacked / "carried over"
    place.mkdir()
    shutil.copytree(unpacked / "offline", place / "offline")
    shutil.copy2(unpacked / "install", place / "install")
    said = refusal(place)
    assert said.startswith(f"install: {place}: expected a path of letters, digits and ")


def test_another_architecture(unpacked: Path) -> None:
    seal(unpacked, FACTS | {"architecture": "riscv64"})
    expected = f"install: this machine: expected riscv64, for which this bundle was made, found {platform.machine()}. "
    assert refusal(unpacked).startswith(expected)


def test_another_python(unpacked: Path) -> None:
    seal(unpacked, FACTS | {"python": "3.99"})
    expected = f"expected Python 3.99, for which the wheels of this bundle are, found {FACTS['python']}. "
    assert expected in refusal(unpacked, "--native-only")


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")
def test_no_docker_daemon_that_answers(unpacked: Path) -> None:
    said = refusal(unpacked, DOCKER_HOST=f"unix://{unpacked}/nobody.sock")
    assert said.startswith("install: Docker: expected a daemon that answers, found none: ")
    assert "or run ./install --native-only" in said


def test_a_clone_is_no_bundle(unpacked: Path) -> None:
    (unpacked / "offline" / "MACHINE").unlink()
    assert "expected what a bundle brings, found no MACHINE in it" in refusal(unpacked)


def test_an_option_that_it_does_not_know(unpacked: Path) -> None:
    assert refusal(unpacked, "--native") == "install: expected --native-only or nothing, found --native\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets that far")
def test_packages_of_another_release_are_not_installed(unpacked: Path) -> None:
    said = refusal(unpacked, "no-such-program", program="./install-programs")
    assert "missing: no-such-program, and the packages here are for another, found " in said


def test_what_no_clone_is_cannot_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose.bundle.CHECKOUT", tmp_path)
    with pytest.raises(build.BuildError, match=r"expected a clone, whose tracked files a bundle takes, found no \.git in it"):
        write_bundle(tmp_path / "bundle.tar", print)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_goes_to_a_folder_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(build.BuildError, match="expected a file in a folder that is there, found no folder "):
        write_bundle(tmp_path / "missing" / "bundle.tar", print)
