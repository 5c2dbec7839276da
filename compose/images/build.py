"""Makes the images: `compose/images/build`, on a machine with a Docker daemon and this machine's own package sources.

The base comes from debootstrap, the rest of each image from packages and wheels that are put into a container of the base,
which is then committed. Nothing is pulled. What is there already under the tag of this checkout is not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .recipes import (
    BASE,
    BASE_PACKAGES,
    CHECKOUT,
    DIGEST_LABEL,
    IMAGES,
    LATER_SUITE,
    PLATFORMS,
    PYTHON,
    SUITE,
    TAG_VARIABLE,
    Image,
    base_tag,
    dependencies,
    image_tag,
)

_HERE = Path(__file__).parent
_WORK = CHECKOUT / "out" / "images"
_COMMAND_S = 1800
_LOG_LINES = 30
_ENVIRONMENT = {
    "PYTHONPATH": "/preflight",
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",  # the code is mounted read-only
    "LANG": "C.UTF-8",
}


class BuildError(Exception):
    """The images cannot be made; the message says what was tried, what came of it and what to do."""


def missing_images() -> list[str]:
    """Return the images that are not there yet for this checkout. Raises BuildError when no daemon answers."""
    tag = image_tag()
    return [image.name for image in IMAGES if not is_there(f"{image.name}:{tag}")]


def build(wheelhouse: Path | None = None) -> str:
    """Make what is missing, and return the tag.

    Parameters
    ----------
    wheelhouse : Path, optional
        A folder of wheels to take instead of those that pip downloads.

    Raises
    ------
    BuildError
        When no daemon answers, a program is missing, or a step fails; with what it said.
    """
    tag = image_tag()
    with _one_at_a_time():
        missing = missing_images()
        if missing:
            _make(missing, tag, wheelhouse)
        for image in IMAGES:
            run("docker", "tag", f"{image.name}:{tag}", f"{image.name}:latest")
    return tag


def _make(missing: list[str], tag: str, wheelhouse: Path | None) -> None:
    base = f"{BASE}:{base_tag()}"
    with tempfile.TemporaryDirectory(prefix="preflight-images-") as scratch:
        place = Path(scratch)
        place.chmod(0o755)  # apt reads the sources as a user of its own
        sources = place / f"{SUITE}.sources"
        sources.write_text(run(str(_HERE / "suite-sources"), SUITE))
        if not is_there(base):
            _say(f"{base}: a {SUITE} of its own, which takes a minute or two")
            _make_base(base, sources, place)
        wheels = wheelhouse or download_wheels(_WORK / "wheelhouse", dependencies())
        for image in IMAGES:
            if image.name in missing:
                _say(f"{image.name}:{tag}")
                later = _later_sources(place) if image.later else None
                _furnish(image, base, tag, sources, later, _unpacked(image, wheels, place / image.name))


def _later_sources(place: Path) -> Path:
    """Write the sources of the later suite. It has no releases yet: a mirror of it may be older than it says it may be."""
    sources = place / f"{LATER_SUITE}.sources"
    text = run(str(_HERE / "suite-sources"), LATER_SUITE)
    sources.write_text(text.replace("Types: deb\n", "Types: deb\nCheck-Valid-Until: no\n"))
    return sources


def _make_base(base: str, sources: Path, place: Path) -> None:
    root = place / "root"
    mirror = next(line.split()[1] for line in sources.read_text().splitlines() if line.startswith("URIs:"))
    include = ",".join(BASE_PACKAGES)
    run("debootstrap", "--variant=minbase", f"--include={include}", SUITE, str(root), mirror, path="/usr/sbin:/sbin")
    for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / leftover, ignore_errors=True)
    (root / "etc/apt/sources.list").unlink(missing_ok=True)  # an image names no mirror
    with subprocess.Popen(["tar", "--numeric-owner", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packed:
        run("docker", "import", "-", base, stdin=packed.stdout)
    if packed.returncode != 0:
        raise BuildError(f"{base}: expected tar to pack {root}, found its exit code {packed.returncode}")


def download_wheels(wheelhouse: Path, wanted: Sequence[str], python: str = PYTHON) -> Path:
    """Fill a wheelhouse with packages and what they depend on, as constraints.txt pins them; return its path.

    Parameters
    ----------
    wheelhouse : Path
        The folder; it is made where it is missing. What is in it already is not downloaded again.
    wanted : sequence of str
        Python packages.
    python : str
        The version of the Python that will import them, such as 3.13; by default that of the images.

    Raises
    ------
    BuildError
        When pip cannot get one of them as a wheel for this machine's architecture.
    """
    wheelhouse.mkdir(parents=True, exist_ok=True)
    _pip(python, "download", "--dest", str(wheelhouse), "--find-links", str(wheelhouse), *wanted)
    return wheelhouse


def _unpacked(image: Image, wheelhouse: Path, place: Path) -> Path:
    """Unpack the wheels of an image in a folder, as they are to lie in its site-packages."""
    place.mkdir()
    wanted = dependencies() if image.wheels is None else list(image.wheels)
    if wanted:
        _pip(
            PYTHON, "install", "--target", str(place), "--no-compile", "--no-index", "--find-links", str(wheelhouse), *wanted
        )
        shutil.rmtree(place / "bin", ignore_errors=True)  # pynetdicom's would shadow DCMTK's; modules run by `python3 -m`
    return place


def _pip(python: str, command: str, *arguments: str) -> None:
    platforms = [f"--platform={name.format(platform.machine())}" for name in PLATFORMS]
    run(
        sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", "--only-binary=:all:",
        f"--python-version={python}", *platforms, "--constraint", str(CHECKOUT / "constraints.txt"), *arguments,
    )  # fmt: skip


def _furnish(image: Image, base: str, tag: str, sources: Path, later: Path | None, wheels: Path) -> None:
    name = f"preflight-furnish-{os.getpid()}"
    mounts = [
        f"--volume={sources}:/etc/apt/sources.list.d/{SUITE}.sources:ro", f"--volume={wheels}:/wheels:ro",
        f"--volume={_HERE}:/programs:ro", "--tmpfs=/var/cache/apt/archives", "--tmpfs=/tmp",
    ]  # fmt: skip
    packages = list(image.packages)
    if later is not None:
        mounts.append(f"--volume={later}:/later.sources:ro")
        packages += ["--later", LATER_SUITE, *image.later]
    changes = [f"ENV {variable}={value}" for variable, value in (_ENVIRONMENT | {TAG_VARIABLE: tag}).items()]
    changes += ["WORKDIR /preflight", "ENTRYPOINT []", 'CMD ["python3"]', f"LABEL {DIGEST_LABEL}={tag}"]
    try:
        run("docker", "run", "--network=host", "--name", name, *mounts, base, "/programs/furnish", *packages)
        run("docker", "commit", *[f"--change={change}" for change in changes], name, f"{image.name}:{tag}")
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def is_there(image: str) -> bool:
    """Say whether the daemon has an image, `name:tag`. Raises BuildError when none answers."""
    found = run("docker", "images", "--quiet", image)
    return bool(found.strip())


def run(*command: str, stdin: object = None, path: str = "") -> str:
    """Run a program; return what it prints. BuildError, with the end of what it said, when it fails or is missing."""
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:{path or '/usr/sbin:/sbin'}"}
    try:
        done = subprocess.run(
            command, stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_COMMAND_S,
            env=environment,
        )  # type: ignore[call-overload]  # fmt: skip
    except FileNotFoundError:
        raise BuildError(f"{command[0]}: expected the program, found none. Run `make docker-programs`") from None
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-_LOG_LINES:])
        raise BuildError(f"{' '.join(command[:4])} …: expected exit code 0, found {done.returncode}:\n{said}")
    return str(done.stdout)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    _WORK.mkdir(parents=True, exist_ok=True)
    with (_WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} making {what}", file=sys.stderr, flush=True)  # noqa: T201  this is a command


def main() -> None:
    """Make the images and print their tag; with --check only say what is missing."""
    parser = argparse.ArgumentParser(prog="compose/images/build", description="Makes the images of the compose lab.")
    parser.add_argument("--check", action="store_true", help="make nothing; exit 1 when an image is missing")
    parser.add_argument("--wheelhouse", type=Path, help="a folder of wheels, instead of what pip downloads")
    parser.add_argument("--download", type=Path, metavar="DIR", help="make no image, only such a folder of wheels")
    options = parser.parse_args()
    try:
        if options.check:
            missing = missing_images()
            sys.exit(f"missing for {image_tag()}: {', '.join(missing)}" if missing else None)
        if options.download:
            print(download_wheels(options.download, dependencies()))  # noqa: T201
            return
        print(build(options.wheelhouse))  # noqa: T201
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
