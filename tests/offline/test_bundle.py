"""A bundle installs both labs on a machine that has no network, and they run: `make offline`. Needs root and Docker."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.images.recipes import IMAGES, image_tag
from compose.keeper_client import CHECKOUT
from reports.verdict import Report
from reports.writer import read_report
from tests.offline.air_gap import AirGap, air_gap

PACK_WITHIN_S = 1200.0
RUN_WITHIN_S = 600.0
PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"  # not that of the venv


@pytest.fixture(scope="module")
def gap() -> Iterator[AirGap]:
    with air_gap() as place:
        yield place


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Pack this checkout, as a user does, and unpack it elsewhere."""
    folder = tmp_path_factory.mktemp("carried-over")
    archive = folder / "bundle.tar"
    command = [sys.executable, "-m", "preflight", "lab", "bundle", "--out", str(archive)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=PACK_WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr
    with archive.open("rb") as content:
        assert done.stdout == f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {archive}\n"
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    (root,) = folder.iterdir()
    yield root
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def installed(gap: AirGap, unpacked: Path) -> Path:
    """Install it where nothing is: no interface but loopback, no route, no image."""
    assert [link["ifname"] for link in json.loads(gap.run("ip", "-json", "link").stdout)] == ["lo"]
    assert gap.run("ip", "route").stdout == ""
    assert gap.run("docker", "images", "--all", "--quiet").stdout == ""
    done = gap.run("./install", cwd=unpacked, timeout_s=RUN_WITHIN_S, PYTHON=PYTHON)
    assert done.returncode == 0, done.stdout + done.stderr
    return unpacked


def passed(out: Path) -> Report:
    """Return the report of a run of REACH-1 alone, all of whose verdicts are to be passes: incomplete, since it is a part."""
    report = read_report(out / "report.json")
    assert report.verdict == "incomplete"
    asked = [(check.verdict, check.reason) for check in report.checks if check.check == "REACH-1"]
    assert {verdict for verdict, _ in asked} == {"pass"}, asked
    return report


def test_the_images_are_loaded_under_the_names_that_the_lab_asks_for(gap: AirGap, installed: Path) -> None:
    names = gap.run("docker", "images", "--format={{.Repository}}:{{.Tag}}").stdout.split()
    assert sorted(names) == sorted(f"{image.name}:{tag}" for image in IMAGES for tag in (image_tag(), "latest"))


def test_the_lab_of_processes_runs(gap: AirGap, installed: Path) -> None:
    done = gap.run("make", "accept", "OUT=out/native", "ARGS=--only REACH-1", cwd=installed, timeout_s=RUN_WITHIN_S)
    assert passed(installed / "out" / "native").target == "native", done.stdout + done.stderr


def test_the_lab_of_containers_runs(gap: AirGap, installed: Path) -> None:
    command = ("accept", "--lab", "compose", "--only", "REACH-1", "--out", "out/compose")
    done = gap.run(".venv/bin/preflight", *command, cwd=installed, timeout_s=RUN_WITHIN_S)
    assert done.returncode == 3, done.stdout + done.stderr
    assert passed(installed / "out" / "compose").target == "compose", done.stdout + done.stderr


def test_what_is_installed_again_stays_as_it_is(gap: AirGap, installed: Path) -> None:
    done = gap.run("./install", cwd=installed, timeout_s=RUN_WITHIN_S, PYTHON=PYTHON)
    assert done.returncode == 0, done.stdout + done.stderr
