"""Runs once in a container before all others start: `python -m compose.prepare RUN`.

It refuses images that were not made of what this checkout says, gives each part of the run folder to the user who is to write
it, and, unless the host did it (PREFLIGHT_LAB), writes the folder afresh for `docker compose up` alone.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

from lbconfig.site_file import SiteError, load_site

from .images.recipes import TAG_VARIABLE, image_tag
from .lab import Defects, LabError
from .layout import NODE_UID, UnitFiles
from .networks import moved, networks_of
from .run_folder import write_run_folder

_BRIEF = Path("lbconfig") / "sites" / "brief.toml"
_SUBNET = "PREFLIGHT_SUBNET"
_WRITTEN_BY_HOST = "PREFLIGHT_LAB"
_PARTS = ("balancers", "config", "control", "logs", "nodes", "site")


def prepare(run: Path) -> None:
    """Write the run folder, or only give away its parts. Raises LabError when the images are of another checkout."""
    made_with, wanted = os.environ.get(TAG_VARIABLE, "none"), image_tag()
    if made_with != wanted:
        raise LabError(f"images: expected those of this checkout ({wanted}), found {made_with}. Run compose/images/build")
    if not os.environ.get(_WRITTEN_BY_HOST):
        _clear(run)
        _write(run)
    for folder, owner in ((run / "nodes", NODE_UID), (run / "balancers", 0)):
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner, owner)


def _write(run: Path) -> None:
    text = _BRIEF.read_text()
    networks = networks_of(load_site(_BRIEF))
    if prefix := os.environ.get(_SUBNET):
        text = moved(text, networks.moves_to(ipaddress.IPv4Network(f"{prefix}.0/24")))
    written = Path("/tmp/site.toml")  # noqa: S108  a tmpfs of this container
    written.write_text(text)
    site = load_site(written)
    write_run_folder(site, text, run, Defects())
    for unit in site.balancer.unit:
        UnitFiles(run, unit.name).directory.chmod(0o755)


def _clear(run: Path) -> None:
    """Empty the folder of an earlier lab. What Docker mounts stays: other containers have these very folders."""
    strange = sorted(path.name for path in run.iterdir() if path.name not in _PARTS)
    if strange:
        raise LabError(f"run folder: expected nothing but what a lab leaves ({', '.join(_PARTS)}), found {strange[0]}")
    mounted = {run / name for name in _PARTS} | set(run.glob("balancers/*"))
    for path in sorted(run.rglob("*"), reverse=True):  # what is in a folder comes before it
        if path not in mounted:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def main(arguments: list[str]) -> None:
    """Prepare a run folder."""
    if len(arguments) != 2:
        sys.exit(f"usage: python -m compose.prepare RUN, found {len(arguments) - 1} arguments")
    try:
        prepare(Path(arguments[1]))
    except (LabError, SiteError, OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv)
