"""Operations a second of a Locust user, by protocol, against the same client in plain Python.

Method. One node's four services run as in a lab, without a balancer: storage and worklist by the wire engine, storage in
digest mode. For each protocol one Locust process (headless, one worker) plays a plan of shape `closed`: its client goes on
as soon as it is answered, for an eighth of a second in every quarter. In the other eighths a second process does the same
with the very same client in plain Python: a loop, no greenlets, no Locust's event for each operation, nothing written down.
A round is four of these turns of each side. So whatever else the machine does meets both alike, both are warm, and start-up
is left out. Each side has one client with one operation under way: that is where the event loop costs most, since it has
nothing else to do meanwhile. Figures are operations over the time from the first one's begin to the last one's end of each
turn; for the modality images (studies of 100, an association each), for the worklist queries without a match, for the
viewer pages of one session.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from compose.probes import NotReady, answers
from lbconfig.site_file import load_site
from scenarios.load.clients import ClientFactory
from scenarios.load.numbering import Part, sources_of
from scenarios.load.plan import PLAN_VARIABLE, LoadPlan, Shape, StudyMix, UserKind, UserPlan, Web, read_plan, write_plan
from simulators.client import Target
from simulators.node import SERVICES, SimulatedNode
from simulators.operations import IdentitySource, Operation, Outcome, Service, read_operations
from simulators.service import ServiceName
from simulators.web.certificates import LabAuthority

from .rows import BarError, Row, row_of_rounds

RATIO_MIN = 0.5
LEAST_ROUNDS = 9
KINDS: tuple[UserKind, ...] = ("modality", "engine", "worklist", "viewer")
_UNITS: dict[UserKind, str] = {"modality": "images/s", "engine": "messages/s", "worklist": "queries/s", "viewer": "pages/s"}
_CHECKOUT = Path(__file__).resolve().parents[2]
_ADDRESS = "127.0.0.1"
_PASSWORD = "benchmark"
_TURN_S = 0.125
_TURNS = 4  # of each side, a round
_STARTS_S = 0.2
_LIMIT_S = 30.0


class Turn(NamedTuple):
    """What one side did in one turn: so many operations, in so many nanoseconds."""

    operations: int
    took_ns: int


def run(rounds: int, quick: bool) -> list[Row]:
    """Measure, and return a row for each protocol.

    Parameters
    ----------
    rounds : int
        Interleaved rounds; at least 9 unless quick.
    quick : bool
        To see that it works, not to quote.

    Raises
    ------
    BarError
        When there are too few rounds, or an operation or a program fails.
    """
    if rounds < LEAST_ROUNDS and not quick:
        raise BarError(f"rounds: expected at least {LEAST_ROUNDS}, found {rounds}")
    with tempfile.TemporaryDirectory(prefix="preflight-bench-") as folder, _node(Path(folder)) as ports:
        directory = Path(folder)
        site_file = _site_file(directory, ports)
        return [_row(kind, rounds, directory, site_file) for kind in KINDS]


def _row(kind: UserKind, rounds: int, directory: Path, site_file: Path) -> Row:
    plan = _plan(kind, rounds, directory, site_file)
    plan_file = directory / kind / "plan.json"
    write_plan(plan, plan_file)
    plain: list[float] = []
    with _started([sys.executable, "-m", __spec__.name, str(plan_file)]) as peer:
        _answer_of(peer)
        with _locust(plan_file) as locust:
            zero_ns = _first_operation(Path(plan.records) / "generator-1.operations", locust)
            for number in range(rounds):
                turns = []
                for turn in range(number * _TURNS, (number + 1) * _TURNS):
                    print(zero_ns + round((2 * turn + 1) * _TURN_S * 1e9), file=peer.stdin, flush=True)
                    turns.append(msgspec.json.decode(_answer_of(peer), type=Turn))
                plain.append(_rate(turns))
            if locust.wait(_LIMIT_S) != 0:
                raise BarError(
                    f"Locust: expected exit code 0, found {locust.returncode}: {(directory / kind / 'log').read_text()}"
                )
    operations = list(read_operations(Path(plan.records) / "generator-1.operations"))
    turns = [_turn(_of_turn(operations, zero_ns, turn)) for turn in range(rounds * _TURNS)]
    ours = [_rate(turns[number * _TURNS : (number + 1) * _TURNS]) for number in range(rounds)]
    return row_of_rounds(f"locust-{kind}", _UNITS[kind], ours, {"plain Python": plain}, ratio_min={"plain Python": RATIO_MIN})


def _plan(kind: UserKind, rounds: int, directory: Path, site_file: Path) -> LoadPlan:
    users = tuple(
        UserPlan(
            kind=kind, clients=1, starts_s=_STARTS_S + 2 * turn * _TURN_S, lasts_s=_TURN_S, shape=Shape(kind="closed"),
            studies=(StudyMix(modality="CT", share=1.0, images=100, image_bytes=8192),),
        )
        for turn in range(rounds * _TURNS)
    )  # fmt: skip
    web = Web(user="bench", password=_PASSWORD, ca_file=str(directory / "ca.pem"), server_name=_ADDRESS, study_uids=())
    return LoadPlan(
        site=str(site_file), run=1, seed=1, workload=1, records=str(directory / kind), generators_at_most=2,
        sources=("127.1.0.1", "127.1.0.20"), duration_s=users[-1].starts_s + _TURN_S, users=users, web=web,
    )  # fmt: skip


def _of_turn(operations: list[Operation], zero_ns: int, turn: int) -> list[Operation]:
    begins_ns = zero_ns + round((2 * turn - 0.2) * _TURN_S * 1e9)
    ends_ns = begins_ns + round(2 * _TURN_S * 1e9)
    return [operation for operation in operations if begins_ns <= operation.begun_ns < ends_ns]


def _turn(operations: list[Operation]) -> Turn:
    missed = [operation for operation in operations if operation.outcome != Outcome.ACKNOWLEDGED]
    if missed or not operations:
        raise BarError(f"expected operations, all acknowledged, found {len(operations)}, and {len(missed)} that are not")
    return Turn(len(operations), operations[-1].ended_ns - operations[0].begun_ns)


def _rate(turns: list[Turn]) -> float:
    """Return the operations a second of some turns."""
    return sum(turn.operations for turn in turns) * 1e9 / sum(turn.took_ns for turn in turns)


def _first_operation(path: Path, locust: subprocess.Popen[str]) -> int:
    """Wait for Locust's first operation and return when it began, in nanoseconds of the monotonic clock."""
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline and locust.poll() is None:
        if path.exists() and path.stat().st_size:  # its header is not there yet just after it was made
            for operation in read_operations(path):
                return operation.begun_ns
        os.sched_yield()
    raise BarError(f"{path}: expected an operation within {_LIMIT_S:g} s, found none")


def play_plain(plan_file: Path) -> None:
    """Be the peer: for each moment on standard input do operations for a turn from then on, and print the Turn."""
    plan = read_plan(plan_file)
    kind = plan.users[0].kind
    factory = ClientFactory(plan, load_site(Path(plan.site)), IdentitySource(plan.run, 2))
    client = factory.client(kind, sources_of(plan, Part(2, 0, 1))[kind][0])
    user = plan.users[0]
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        left_s = (int(line) - time.monotonic_ns()) / 1e9
        time.sleep(max(0.0, left_s))
        over_ns = time.monotonic_ns() + round(_TURN_S * 1e9)
        operations: list[Operation] = []
        while (now_ns := time.monotonic_ns()) < over_ns:
            operations += client.arrive(user, now_ns, 0.5)
        print(msgspec.json.encode(_turn(operations)).decode(), flush=True)  # noqa: T201
    client.hang_up()


@contextmanager
def _locust(plan_file: Path) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(_CHECKOUT / "scenarios/load/mixed.py"),
        "--headless",
        "--only-summary",
    ]
    with (plan_file.parent / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True,
            env={**os.environ, PLAN_VARIABLE: str(plan_file), "PYTHONPATH": str(_CHECKOUT)},
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _answer_of(peer: subprocess.Popen[str]) -> str:
    if peer.stdout is None or not (line := peer.stdout.readline()):
        raise BarError("the client in plain Python: expected an answer, found its end")
    return line


@contextmanager
def _node(directory: Path) -> Iterator[dict[ServiceName, int]]:
    """Run the four services of a node; yield their ports once all answer."""
    certificate = LabAuthority(directory).issue(directory / "certificate", [_ADDRESS])
    node = SimulatedNode(
        name="mach7-1", directory=directory / "node", site_directories=(directory / "node",),
        certificate_file=certificate.certificate_file, key_file=certificate.key_file, users={"bench": _PASSWORD},
        ae_title="MACH7", storage="digest", engines={"dicom": "wire", "dmwl": "wire"},
    )  # fmt: skip
    node.directory.mkdir()
    ports: dict[ServiceName, int] = {}
    with ExitStack() as stack:
        for service in SERVICES:
            with socket.create_server((_ADDRESS, 0), backlog=128) as server:
                ports[service] = server.getsockname()[1]
                process = subprocess.Popen(
                    node.command(service, server.fileno()), pass_fds=(server.fileno(),), cwd=_CHECKOUT
                )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
            _wait_until_it_answers(Target(_ADDRESS, ports[service], Service[service.upper()]), process)
        yield ports


def _wait_until_it_answers(target: Target, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while True:
        try:
            return answers(target, "127.1.0.200", "MACH7", "PREFLIGHT", 1.0)
        except NotReady as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise BarError(
                    f"{target.service.name}: expected it to answer within {_LIMIT_S:g} s, found {error}"
                ) from error


def _site_file(directory: Path, ports: dict[ServiceName, int]) -> Path:
    """Write the loopback site with the node's own services in the place of its VIPs."""
    text = (_CHECKOUT / "lbconfig/sites/loopback.toml").read_text()
    site = load_site(_CHECKOUT / "lbconfig/sites/loopback.toml")
    for vip in site.vip:
        listens = f'address = "{vip.address}"\nport = {vip.port}\n'
        if listens not in text:
            raise BarError(f"loopback.toml: expected {listens!r}, found it nowhere")
        text = text.replace(listens, f'address = "{_ADDRESS}"\nport = {ports[vip.service]}\n', 1)
    path = directory / "site.toml"
    path.write_text(text)
    return path


if __name__ == "__main__":
    play_plain(Path(sys.argv[1]))
