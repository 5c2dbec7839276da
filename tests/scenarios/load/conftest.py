from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from compose.keeper_client import CHECKOUT, python_environment, wait_for_exit
from compose.lab import LabError
from compose.native import NativeLab
from compose.ports import check_free
from lbconfig.site_file import load_site
from scenarios.load.plan import PLAN_VARIABLE, LoadPlan, Shape, StudyMix, UserPlan, Web, write_plan
from scenarios.load.records import ARRIVAL_FIELDS, ARRIVAL_MAGIC, Arrival
from simulators.operations import HEADER_BYTES, Operation, read_operations, read_records

_MARK = "PREFLIGHT_TEST_MARK"
_LIMIT_S = 60.0


class Played:
    """One Locust, as a process of its own, with all that it forks; and what it wrote down."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.records = Path(plan.records)
        self._directory = self.records.parent
        self._mark = secrets.token_hex(8)
        self._plan_file = self._directory / "plan.json"
        self._started: list[subprocess.Popen[bytes]] = []
        write_plan(plan, self._plan_file)

    def start(self, *arguments: str, locustfile: str = "mixed") -> subprocess.Popen[bytes]:
        """Start a process of Locust."""
        file = CHECKOUT / "scenarios" / "load" / f"{locustfile}.py"
        environment = python_environment() | {PLAN_VARIABLE: str(self._plan_file), _MARK: self._mark}
        with (self._directory / f"log-{len(self._started)}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "locust", "-f", str(file), *arguments], stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env=environment, cwd=self._directory,
            )  # fmt: skip
        self._started.append(process)
        return process

    def log(self, process: subprocess.Popen[bytes]) -> str:
        """Return what a process said."""
        return (self._directory / f"log-{self._started.index(process)}").read_text()

    def expect_exit(self, process: subprocess.Popen[bytes], code: int) -> None:
        """Wait for a process to end, with this exit code."""
        assert process.wait(_LIMIT_S) == code, self.log(process)

    def pids(self) -> list[int]:
        """Return the processes that live and carry this one's mark, whoever their parent is."""
        wanted, found = f"{_MARK}={self._mark}".encode(), []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\x00"):
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
        return found

    def wait_until_none_lives(self) -> None:
        """Wait until every process has ended."""
        deadline = time.monotonic() + _LIMIT_S
        while pids := self.pids():
            assert time.monotonic() < deadline, f"expected no process left, found {pids}"
            wait_for_exit(pids[0], 0.05)

    def wait_for_operations(self, count: int) -> None:
        """Wait until so many operations were written down."""
        deadline = time.monotonic() + _LIMIT_S
        while len(self.operations()) < count:
            assert self._started[0].poll() is None, self.log(self._started[0])
            assert time.monotonic() < deadline, f"expected {count} operations, found {len(self.operations())}"
            wait_for_exit(self._started[0].pid, 0.05)

    def wait_for_answer(self, url: str) -> None:
        """Wait until Locust's page answers."""
        deadline = time.monotonic() + _LIMIT_S
        while (found := _silence_of(url)) is not None:
            assert self._started[0].poll() is None, self.log(self._started[0])
            assert time.monotonic() < deadline, f"{url}: expected an answer, found {found}"
            wait_for_exit(self._started[0].pid, 0.05)

    def operations(self) -> list[Operation]:
        """Return the operations of all generators so far."""
        begun = [path for path in sorted(self.records.glob("*.operations")) if path.stat().st_size >= HEADER_BYTES]
        return [operation for path in begun for operation in read_operations(path)]

    def operations_by_generator(self) -> dict[str, list[Operation]]:
        """Return the operations of each generator, by the name of its file."""
        return {path.stem: list(read_operations(path)) for path in sorted(self.records.glob("*.operations"))}

    def arrivals(self) -> list[Arrival]:
        """Return the arrivals of all generators."""
        paths = sorted(self.records.glob("*.arrivals"))
        return [Arrival(*values) for path in paths for values in read_records(path, ARRIVAL_MAGIC, ARRIVAL_FIELDS)]

    def stop(self) -> None:
        """Kill what is left."""
        for process in self._started:
            process.kill()
            process.wait()
        for pid in self.pids():
            os.kill(pid, 9)


@pytest.fixture(scope="session")
def site_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the loopback site for crowds, moved to a block of 127.0.0.0/8 where nobody listens."""
    text = (CHECKOUT / "lbconfig" / "sites" / "loopback.toml").read_text()
    chance = random.Random(os.getpid())
    while True:
        path = tmp_path_factory.mktemp("site") / "site.toml"
        path.write_text(text.replace("127.0.110.", f"127.{chance.randint(64, 190)}.{chance.randint(1, 254)}."))
        try:
            check_free([(vip.address, vip.port) for vip in load_site(path).vip])
        except LabError:
            continue
        return path


@pytest.fixture(scope="session")
def lab(site_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeLab]:
    """Have a lab for crowds up: storage and worklist by the wire engine, no image kept."""
    site = load_site(site_file)
    crowds = msgspec.structs.replace(
        site, engines=msgspec.structs.replace(site.engines, storage="wire", worklist="wire"),
        dicom=msgspec.structs.replace(site.dicom, storage="digest"),
    )  # fmt: skip
    with NativeLab(crowds, tmp_path_factory.mktemp("lab")) as running:
        yield running


def _silence_of(url: str) -> OSError | None:
    try:
        urllib.request.urlopen(url, timeout=_LIMIT_S).close()  # noqa: S310  it is Locust's own page
    except OSError as error:
        return error
    return None


MakePlan = Callable[..., LoadPlan]
Play = Callable[[LoadPlan], Played]


@pytest.fixture(scope="session")
def make_plan(lab: NativeLab, site_file: Path, tmp_path_factory: pytest.TempPathFactory) -> MakePlan:
    """Make plans of all four kinds, each with sources and records of its own."""

    def plan(*, shape: Shape | None = None, lasts_s: float = 2.5) -> LoadPlan:
        sources = lab.source_addresses(160)
        shape = shape or Shape()
        mix = (
            StudyMix(modality="CT", share=0.75, images=5, image_bytes=8192),
            StudyMix(modality="DX", share=0.25, images=2, image_bytes=1 << 20),
        )
        users = (
            UserPlan(kind="modality", clients=6, rate=6.0, lasts_s=lasts_s, shape=shape, studies=mix),
            UserPlan(kind="worklist", clients=5, rate=10.0, lasts_s=lasts_s, shape=shape),
            UserPlan(kind="engine", clients=4, rate=20.0, lasts_s=lasts_s, shape=shape),
            UserPlan(kind="viewer", clients=3, rate=2.0, lasts_s=lasts_s, shape=shape, requests_a_session=3),
        )
        web = Web(
            user=lab.web_user, password=lab.web_password, ca_file=str(lab.ca_file), study_uids=(),
            server_name=lab.site.vip_of("https").address,
        )  # fmt: skip
        return LoadPlan(
            site=str(site_file), run=secrets.randbits(32), seed=5, workload=3, first_generator=1, generators_at_most=3,
            records=str(tmp_path_factory.mktemp("load") / "records"), sources=(sources[0], sources[-1]), duration_s=lasts_s,
            users=users, web=web,
        )  # fmt: skip

    return plan


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Play plans by Locust; nothing of it is left at the end."""
    started: list[Played] = []

    def begin(plan: LoadPlan) -> Played:
        started.append(Played(plan))
        return started[-1]

    yield begin
    for one in started:
        one.stop()
