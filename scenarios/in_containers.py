"""The suite in containers: the lab is brought up on this host, pytest runs in its tester, the lab is taken down."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from compose.containers.host import HostedLab, moved_site_file
from compose.engine import ensure_engine, stop_engine
from compose.images.build import BuildError, build, missing_images
from compose.lab import LabError
from lbconfig.site_file import SiteError
from scenarios.options import Options, UsageError
from scenarios.preparation import Prepared, prepare

CODE = Path("/preflight")  # the checkout, in the tester
SITE = Path("/lab/site/site.toml")
OUT = Path("/out")
_ENVIRONMENT = {"MPLCONFIGDIR": "/tmp/matplotlib"}  # noqa: S108  the tester's root is read-only but for its own /tmp
_ENDS = (0, 1, 2, 3)  # with a report, or with a message on why there is none
_KILLED = 128  # and more: exit codes of what a signal ended
_ASKED_S = 20.0
Say = Callable[[str], None]


@contextlib.contextmanager
def docker_ready(say: Say) -> Iterator[None]:
    """See that a daemon and the images are there; end in the end what was started for it.

    Raises
    ------
    LabError
        When they are not and cannot be made; says what to do.
    """
    engine = ensure_engine()
    try:
        missing = missing_images()
        if missing:
            say(f"making the images {', '.join(missing)}: a few minutes, once")
            build()
        yield
    except BuildError as error:
        raise LabError(f"images: {error}") from error
    finally:
        if engine.started:
            stop_engine()


def prepare_for_containers(options: Options, subnet: str | None) -> tuple[Prepared, str]:
    """Read and check all that a run in containers is told; return it with the text of the site file as it will run.

    Raises
    ------
    UsageError
        For the first thing that cannot be used: an option, the site file, a program that is missing.
    """
    try:
        _check_programs()
        with moved_site_file(options.site, subnet) as path:
            prepared = prepare(msgspec.structs.replace(options, site=path))
            return prepared, path.read_text()
    except (LabError, SiteError) as error:
        raise UsageError(str(error)) from error


def play_in_containers(prepared: Prepared, text: str, suite: Sequence[str], say: Say, *, workers: int = 0) -> int:
    """Bring the lab up, run pytest in its tester, keep the containers' logs, take it down; return the suite's exit code.

    Parameters
    ----------
    prepared : Prepared
        Of `prepare_for_containers`.
    text : str
        The site file.
    suite : sequence of str
        The arguments of pytest that do not depend on where it runs.
    say : function
        Shows a line to whoever looks on.
    workers : int
        Containers that play load.

    Raises
    ------
    LabError
        When the lab does not come up.
    """
    options = prepared.options
    lab = HostedLab(prepared.site, text, options.out, defects=prepared.defects, workers=workers)
    say("starting the containers")
    with lab:
        arguments = [*suite, "--site", str(SITE), "--out", str(OUT), *_own_samples(options, lab.run)]
        code = lab.run_in_tester(["python3", "-m", "pytest", "-c", str(CODE / "pyproject.toml"), *arguments], _ENVIRONMENT)
        with contextlib.suppress(LabError):  # the report stands without them
            lab.keep_logs()
        lab.give_out_to_this_user()
        say("taking the containers down")
    if code in _ENDS:
        return code
    how = f"was ended by signal {code - _KILLED}" if code > _KILLED else f"ended with code {code}"
    say(f"the suite in the tester {how}: there is no verdict")
    return 3


def _own_samples(options: Options, run: Path) -> list[str]:
    """Copy the user's own samples to where the tester finds them; return the options that name them there."""
    arguments = []
    for name, folder in (("images", options.images), ("messages", options.messages)):
        if folder is not None:
            shutil.copytree(folder, run / "own" / name)
            arguments += [f"--{name}", f"/lab/own/{name}"]
    return arguments


def _check_programs() -> None:
    if shutil.which("docker") is None:
        raise LabError("docker: expected Docker Engine and Compose v2, found none. Install them: make docker-programs")
    done = subprocess.run(
        ["docker", "compose", "version"], capture_output=True, text=True, check=False, timeout=_ASKED_S
    )  # fmt: skip
    if done.returncode != 0:
        raise LabError("docker compose: expected Compose v2, found none. Install it: make docker-programs")
