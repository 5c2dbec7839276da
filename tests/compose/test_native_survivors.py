"""Nothing that a lab started outlives the harness, whenever and however that ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from compose.ports import check_free

if TYPE_CHECKING:
    from tests.compose.conftest import Marked

# Brings a lab up, pauses and crashes nodes, and sends through the VIPs for ever; says where it is, line by line.
HARNESS = """
import sys
from pathlib import Path
from compose.native import NativeLab
from compose.probes import answers
from lbconfig.site_file import load_site
lab = NativeLab(load_site(Path(sys.argv[1])), Path(sys.argv[2]))
lab.start()
print("up", flush=True)
lab.pause_node("mach7-1")
print("paused", flush=True)
lab.crash_node("mach7-2")
print("crashed", flush=True)
lab.revive_node("mach7-2")
lab.resume_node("mach7-1")
print("whole again", flush=True)
while True:
    for service in ("dicom", "hl7", "dmwl", "https"):
        answers(lab.vip_target(service), lab.site.balancer.address, lab.site.dicom.ae_title, "PREFLIGHT", 10.0)
    print("answered", flush=True)
"""


class Harness:
    """A harness in a process of its own, which can be killed."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def wait_for(self, line: str) -> None:
        """Read what it says until it says this."""
        output: IO[bytes] | None = self.process.stdout
        assert output is not None
        while not (said := output.readline().decode()).startswith(line):
            assert said, f"expected {line!r}, found the end"


@pytest.fixture
def harness(marked: Marked, site_file: Path, tmp_path: Path, short_directory: Path) -> Iterator[Harness]:
    environment = marked.environment | {"TMPDIR": str(short_directory)}
    arguments = [sys.executable, "-c", HARNESS, str(site_file), str(tmp_path / "lab")]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE) as process:
        yield Harness(process)
        process.kill()


@pytest.fixture
def nothing_is_left(marked: Marked, endpoints: list[tuple[str, int]], short_directory: Path) -> Callable[[], None]:
    """Return a check that no process, no listener and no socket is left."""

    def check() -> None:
        marked.wait_until_none()
        check_free(endpoints)
        assert list(short_directory.iterdir()) == []

    return check


@pytest.mark.parametrize("seed", range(3))
def test_nothing_survives_kill_9_while_a_lab_comes_up(
    harness: Harness, marked: Marked, nothing_is_left: Callable[[], None], seed: int
) -> None:
    processes = random.Random(seed).randint(2, 12)  # harness, keeper, fallback page, eight services, HAProxy
    marked.wait_until(lambda pids: len(pids) >= processes, f"{processes} processes")
    harness.process.kill()
    nothing_is_left()


@pytest.mark.parametrize("moment", ["paused", "crashed", "answered"])
def test_nothing_survives_kill_9_during_a_fault_or_under_load(
    harness: Harness, nothing_is_left: Callable[[], None], moment: str
) -> None:
    harness.wait_for(moment)
    harness.process.kill()
    nothing_is_left()


def test_nothing_survives_kill_9_of_the_keeper_of_a_lab_but_a_directory(
    harness: Harness, marked: Marked, endpoints: list[tuple[str, int]]
) -> None:
    harness.wait_for("paused")
    (keeper,) = [pid for pid in marked.pids() if b"compose.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(keeper, signal.SIGKILL)
    marked.wait_until(lambda pids: set(pids) <= {harness.process.pid, keeper}, "none but the harness")
    harness.process.kill()
    marked.wait_until_none()
    check_free(endpoints)


def test_ctrl_c_ends_a_lab_that_was_started_by_hand_in_good_order(
    marked: Marked, site_file: Path, tmp_path: Path, short_directory: Path, nothing_is_left: Callable[[], None]
) -> None:
    arguments = [sys.executable, "-m", "compose.native", str(site_file), str(tmp_path / "lab")]
    environment = marked.environment | {"TMPDIR": str(short_directory)}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGINT)
    assert [line.split()[0] for line in said] == ["DICOM", "HL7", "DMWL", "HTTPS", "web:"]
    assert (process.returncode, marked.pids()) == (0, [])
    nothing_is_left()
