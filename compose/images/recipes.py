"""What each image is made of, and the tag that stands for all of it. Standard library alone: containers run it too."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
SUITE = "trixie"
LATER_SUITE = "forky"  # for the packages of an image that the suite has only in a version that will not do
PYTHON = "3.13"  # of that suite
PLATFORMS = ("manylinux2014_{}", "manylinux_2_17_{}", "manylinux_2_28_{}")  # wheels for its C library
BASE = "preflight-base"
BASE_PACKAGES = ("python3",)
TAG_VARIABLE = "PREFLIGHT_IMAGES"  # of compose.yaml; in each image, the tag that it was made with
DIGEST_LABEL = "preflight.digest"
_TAG_CHARACTERS = 12
_SIMULATORS = (
    "httptools", "jinja2", "msgspec", "numpy", "psutil", "pydicom", "pynetdicom", "starlette", "trustme", "uvicorn", "uvloop",
    "xxhash",
)  # fmt: skip


class Image(NamedTuple):
    """One image: its name, packages of the distribution, Python packages (None: all that the project depends on).

    `later` are packages that come from the distribution's later suite, each with no more of it than it needs.
    """

    name: str
    packages: tuple[str, ...]
    wheels: tuple[str, ...] | None = ()
    later: tuple[str, ...] = ()


IMAGES = (
    # HAProxy 3.0.11 of trixie leaves a client hanging whose connection is being made to a server when that is marked DOWN and
    # its sessions are to be shut down; 3.2.26 of forky ends it, as 2.6.12 did.
    Image("preflight-balancer", ("keepalived", "iproute2", "iptables", "socat"), later=("haproxy",)),
    Image("preflight-node", (), _SIMULATORS),
    Image("preflight-tester", ("dcmtk", "iproute2", "iptables"), None),
)


def image_tag() -> str:
    """Return the tag of the images that belong to this checkout: it changes with everything that they are made of."""
    digest = hashlib.sha256()
    for content in (*(path.read_bytes() for path in _input_files()), "\n".join(dependencies()).encode()):
        digest.update(len(content).to_bytes(8) + content)
    return digest.hexdigest()[:_TAG_CHARACTERS]


def base_tag() -> str:
    """Return the tag of the base image, which changes with the suite and its packages alone."""
    return hashlib.sha256(" ".join((SUITE, *BASE_PACKAGES)).encode()).hexdigest()[:_TAG_CHARACTERS]


def dependencies() -> list[str]:
    """Return the Python packages that the project depends on, as its pyproject.toml names them."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return sorted(project["dependencies"])


def _input_files() -> list[Path]:
    here = Path(__file__).parent
    return [here / "recipes.py", here / "furnish", here / "haproxy-answers", CHECKOUT / "constraints.txt"]
