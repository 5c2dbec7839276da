"""One archive that installs Preflight where there is no network: `preflight lab bundle`.

It is a checkout with a folder `offline` in it: the wheels of this machine's Python, packages of its release, and images of
the compose lab. What it is made for stands in `offline/MACHINE`; `compose/offline/install` holds the machine that it meets
against that.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from .engine import ensure_engine, stop_engine
from .images.build import BuildError, build, download_wheels, run
from .images.recipes import CHECKOUT, IMAGES, dependencies
from .packages import pack_programs

BUILD_REQUIREMENTS = ("setuptools",)  # what pip makes an editable install with
_HERE = Path(__file__).parent / "offline"
_CHUNK_BYTES = 1 << 20
_IMAGES_LEVEL = 4  # of gzip: a sixth larger than level 9, in a fifth of the time

Say = Callable[[str], None]


class Bundle(NamedTuple):
    """A bundle that was written: its file, its size and its digest, to compare after it was carried over."""

    file: Path
    size_bytes: int
    sha256: str


def write_bundle(out: Path, say: Say) -> Bundle:
    """Write the archive; make the images first where they are missing.

    Parameters
    ----------
    out : Path
        The archive's file, a tar; what is there is replaced once the new one is whole.
    say : callable
        Told in a few words what is being done.

    Raises
    ------
    BuildError
        When the checkout, Docker, pip or apt does not give what is needed; the message says which.
    LabError
        When no Docker daemon answers and none can be started.
    """
    if not out.resolve().parent.is_dir():
        raise BuildError(f"{out}: expected a file in a folder that is there, found no folder {out.resolve().parent}")
    tracked = _tracked_files()
    with tempfile.TemporaryDirectory(prefix=".preflight-bundle-", dir=out.resolve().parent) as scratch:
        root = Path(scratch) / f"preflight-{_revision()}"
        for name in tracked:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, root / name, follow_symlinks=False)
        _fill(root, say)
        say(f"packing {out}")
        partial = Path(scratch) / "bundle.tar"
        _pack(root, partial)
        digest = _digest(partial)
        partial.replace(out)
    return Bundle(out, out.stat().st_size, digest)


def _fill(root: Path, say: Say) -> None:
    """Put what a machine without a network lacks beside the checkout, and say in MACHINE and SHA256SUMS what it is."""
    offline = root / "offline"
    offline.mkdir()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    say(f"wheels for Python {python}")
    download_wheels(offline / "wheelhouse", [*dependencies(), *BUILD_REQUIREMENTS], python)
    say("packages of the distribution")
    release = pack_programs(offline / "packages")
    with _daemon():
        tag = build()
        say(f"images {tag}")
        _save_images(tag, offline / "images.tar.gz")
    facts = {
        "revision": _revision(),
        "architecture": platform.machine(),
        "python": python,
        "release": release,
        "images": tag,
        "image_names": " ".join(image.name for image in IMAGES),
    }
    (offline / "MACHINE").write_text("".join(f"{name}={value}\n" for name, value in facts.items()))
    for name in ("install", "README"):
        shutil.copy2(_HERE / name, root / ("INSTALL" if name == "README" else name))
    sums = offline / "SHA256SUMS"
    files = sorted(path for path in root.rglob("*") if path.is_file() and path != sums)
    sums.write_text("".join(f"{_digest(path)}  {path.relative_to(root)}\n" for path in files))


def _tracked_files() -> list[str]:
    """Return the files under version control, as they lie in the checkout now."""
    if not (CHECKOUT / ".git").exists():
        raise BuildError(f"{CHECKOUT}: expected a clone, whose tracked files a bundle takes, found no .git in it")
    names = [name for name in run("git", "-C", str(CHECKOUT), "ls-files", "-z").split("\0") if name]
    missing = [name for name in names if not os.path.lexists(CHECKOUT / name)]
    if missing:
        raise BuildError(f"{CHECKOUT}: expected every tracked file, found {missing[0]} missing. Run `git status`")
    return names


def _revision() -> str:
    """Return the commit in short, with a mark where files differ from it."""
    return run("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty=-changed").strip()


def _save_images(tag: str, file: Path) -> None:
    """Save the images as one compressed archive, their common layers once: what `docker load` reads."""
    names = [f"{image.name}:{tag}" for image in IMAGES]
    with subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as saving:
        assert saving.stdout is not None and saving.stderr is not None  # noqa: S101, PT018  they are pipes
        with gzip.open(file, "wb", compresslevel=_IMAGES_LEVEL) as packed:
            shutil.copyfileobj(saving.stdout, packed, _CHUNK_BYTES)
        said = saving.stderr.read().decode(errors="replace").strip()
    if saving.returncode != 0:
        raise BuildError(f"docker save: expected exit code 0, found {saving.returncode}: {said}")


def _pack(root: Path, file: Path) -> None:
    """Write the tar, its members in order and nobody's in particular; what is in it is compressed already."""

    def nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(root, arcname=root.name, filter=nobodys)  # in the order of names


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return _digest_of(content)


def _digest_of(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _daemon() -> Iterator[None]:
    """Have a Docker daemon for as long as it takes; one that was started here is ended again."""
    engine = ensure_engine()
    try:
        yield
    finally:
        if engine.started:
            stop_engine()
