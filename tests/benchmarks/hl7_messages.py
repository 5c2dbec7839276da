"""Interface engine → our listener with receipts, against a C ping-pong of the same bytes: straight and through HAProxy.

Both pairs send requests and replies of the same sizes over as many connections, one message in flight on each. The peer is a
plain ping-pong: on both sides a thread for each connection that sends and receives in turn, blocking, with TCP_NODELAY, and
reads nothing but lengths. On our side one connection is driven by an `InterfaceEngine` that waits awake (`eager`), and 32 by
one thread that polls 32 of the engine's sans-IO exchanges: in Python, threads would wait for one another.

The client's side has one processor and the server's side, with the balancer, the others, for both pairs alike: in reality
they are machines of their own. Left to itself the scheduler may put both ends of a ping-pong on one processor, where a
message wakes no other one: the C pair over one connection then made 213,000 messages/s instead of 16,000, a figure that no
two machines reach, and which of the two it is changes from round to round.

Messages are made before the clock starts, for 1000 patients in turn, and every turn sends the same; digests, operations and
receipts are within it. The listener digests, as it does under load: it reads, checks and receipts every message, and puts
nothing into its store.

Measure on a machine that does nothing else: of a processor that others want too, 32 threads of the peer get a larger share
than one process of ours.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import xxhash

from simulators.client import Attempt, Begun, Connection, Target, Timeouts
from simulators.hl7.engine import Exchange, InterfaceEngine
from simulators.hl7.mllp import frame
from simulators.hl7.samples import SamplePatient, Template
from simulators.journal import journal_path, read_receipts
from simulators.operations import IdentitySource, Kind, Operation, Outcome, Phase, Service
from simulators.service import ServiceSettings

from .nodes import compiled_pingpong, haproxy
from .rows import BarError, Row, row_of_rounds

_ADDRESS = "127.0.0.1"
_SOURCE = "127.1.0.1"
_TIMEOUTS = Timeouts()
_RATIO_MIN = 0.6
_RATIO_MIN_STRAIGHT = 0.5  # where the balancer takes no part of the time, ours has a larger share
_MESSAGES = {1: 500, 32: 3000}  # in a turn, by the number of connections: some 0.05 s
_TURNS = 8  # of each side, a round: so whatever else the machine does meets both alike
_UNIT = "messages/s"


class Way(NamedTuple):
    """Where both pairs send: the ports of our side and of the peer's; and the least ratio that is demanded there."""

    name: str
    ours: int
    peer: int
    ratio_min: float


class Work(NamedTuple):
    """The messages of one round, and the sizes that the peer sends and gets."""

    messages: list[tuple[bytes, Attempt]]
    request_bytes: int
    reply_bytes: int


def run(rounds: int, quick: bool) -> list[Row]:
    """Measure every way and number of connections.

    Parameters
    ----------
    rounds : int
        Interleaved rounds, at least 9.
    quick : bool
        Short rounds: to see that it works, not to quote.

    Raises
    ------
    BarError
        When a message was not acknowledged and receipted, or a program could not be started.
    """
    turns = 1 if quick else _TURNS
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="preflight-bench-")))
        stack.enter_context(on_processor(0))
        pingpong = compiled_pingpong(directory)
        listener = stack.enter_context(_listener(directory))
        work = _work(max(_MESSAGES.values()), listener)
        peer = stack.enter_context(_pingpong_server(pingpong, work))
        with on_other_processors():
            ports = stack.enter_context(haproxy(directory, {"ours": listener, "peer": peer}))
        ways = (
            Way("straight", listener, peer, _RATIO_MIN_STRAIGHT),
            Way("through HAProxy", ports["ours"], ports["peer"], _RATIO_MIN),
        )
        rows = [
            _row(way, connections, work._replace(messages=work.messages[:messages]), pingpong, rounds, turns)
            for way in ways for connections, messages in _MESSAGES.items()
        ]  # fmt: skip
        each_turn = [connections + messages for connections, messages in _MESSAGES.items()]
        _check_receipts(directory, 1 + len(ways) * (rounds + 1) * turns * sum(each_turn))  # 1: whose sizes were taken
    return rows


def _row(way: Way, connections: int, work: Work, pingpong: Path, rounds: int, turns: int) -> Row:
    ours, theirs = [], []
    for _ in range(rounds + 1):
        seconds = [(_our_seconds(way.ours, connections, work), _peer_seconds(pingpong, way.peer, connections, work))
                   for _ in range(turns)]  # fmt: skip
        ours.append(turns * len(work.messages) / sum(one for one, _ in seconds))
        theirs.append(turns * len(work.messages) / sum(other for _, other in seconds))
    name = f"HL7 messages/s {way.name}, {connections} connection{'s'[: connections > 1]}"
    bars = {"limit": way.ratio_min}  # the first round warms up
    return row_of_rounds(name, _UNIT, ours[1:], {}, limit=theirs[1:], ratio_min=bars)


def _our_seconds(port: int, connections: int, work: Work) -> float:
    target = Target(_ADDRESS, port, Service.HL7)
    drive: Callable[[Target, int, Work], tuple[float, list[Operation]]] = _drive_one if connections == 1 else _drive_many
    seconds, operations = drive(target, connections, work)
    missed = [operation for operation in operations if operation.outcome != Outcome.ACKNOWLEDGED]
    if missed or len(operations) != len(work.messages):
        raise BarError(f"HL7: expected {len(work.messages)} acknowledged messages, found {len(operations) - len(missed)}")
    return seconds


def _drive_one(target: Target, _: int, work: Work) -> tuple[float, list[Operation]]:
    engine = InterfaceEngine(target, _SOURCE, timeouts=_TIMEOUTS, eager=True)
    engine.send(*work.messages[0])  # the way is open before the clock starts, as it is in pingpong.c
    begin = time.perf_counter()
    operations = [engine.send(message, attempt) for message, attempt in work.messages]
    seconds = time.perf_counter() - begin
    engine.close()
    return seconds, operations


class Lane:
    """One of many polled connections, with the message that it has in flight."""

    def __init__(self, target: Target) -> None:
        self.connection = Connection(target, _SOURCE, _TIMEOUTS)

    def open(self, message: bytes, attempt: Attempt) -> None:
        """Exchange a message, so that the way is open."""
        self.begin(message, attempt)
        while self.receive() is None:
            pass
        self.connection.socket.setblocking(False)

    def begin(self, message: bytes, attempt: Attempt) -> None:
        """Send a message; it is small enough to leave at once."""
        self.exchange = Exchange(message)
        self.begun = Begun(attempt, self.connection.target, _SOURCE)
        self.size_bytes, self.digest = len(message), xxhash.xxh3_128_digest(message)
        framed = frame(message)
        if self.connection.socket.send(framed) != len(framed):
            raise BarError(f"HL7: expected {len(framed)} bytes to leave at once, found a full socket")

    def receive(self) -> Operation | None:
        """Read what there is; return the operation once its fate is certain."""
        fate = self.exchange.received(self.connection.socket.recv(65536))
        if fate is None:
            return None
        answer = fate.acknowledgement
        if answer is not None:
            self.connection.node = answer.node
        return self.begun.ended(
            fate.outcome, Phase.DONE, self.connection, status=0 if answer is None else answer.status,
            size_bytes=self.size_bytes, digest=self.digest,
        )  # fmt: skip


def _drive_many(target: Target, connections: int, work: Work) -> tuple[float, list[Operation]]:
    messages = iter(work.messages)
    operations: list[Operation] = []
    with select.epoll() as poll:
        lanes = [Lane(target) for _ in range(connections)]
        by_descriptor = {lane.connection.socket.fileno(): lane for lane in lanes}
        for descriptor, lane in by_descriptor.items():
            lane.open(*work.messages[0])
            poll.register(descriptor, select.EPOLLIN)
        begin = time.perf_counter()
        for lane, (message, attempt) in zip(lanes, messages, strict=False):
            lane.begin(message, attempt)
        while len(operations) < len(work.messages):
            for descriptor, _ in poll.poll(_TIMEOUTS.response_s):
                lane = by_descriptor[descriptor]
                operation = lane.receive()
                if operation is not None:
                    operations.append(operation)
                    following = next(messages, None)
                    if following is not None:
                        lane.begin(*following)
        seconds = time.perf_counter() - begin
        for lane in lanes:
            lane.connection.close()
    return seconds, operations


def _peer_seconds(pingpong: Path, port: int, connections: int, work: Work) -> float:
    numbers = (port, connections, len(work.messages), work.request_bytes, work.reply_bytes)
    command = [str(pingpong), "drive", _ADDRESS, *map(str, numbers)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return float(answer.stdout)


def _work(count: int, listener: int) -> Work:
    """Make the messages of a round, which every round sends anew, and ask the listener for one reply to see its size."""
    identities = IdentitySource(run=1, generator=1)
    template, patients = Template("ADT^A08"), [SamplePatient(identities.next(Kind.PATIENT)) for _ in range(1000)]
    messages = []
    for number in range(count):
        identity = identities.next(Kind.MESSAGE)
        messages.append((template.message(identity, patients[number % 1000]), Attempt(identity)))
    probe = InterfaceEngine(Target(_ADDRESS, listener, Service.HL7), _SOURCE, timeouts=_TIMEOUTS)
    request = frame(messages[0][0])
    reply = probe.send_raw(request, wait_s=10)
    probe.close()
    if not reply:
        raise BarError("HL7: expected an acknowledgement from the listener within 10 s, found none")
    return Work(messages, len(request), len(frame(reply)))


def _check_receipts(directory: Path, sent: int) -> None:
    found = sum(1 for _ in read_receipts(journal_path(directory, Service.HL7)))
    if found != sent:
        raise BarError(f"HL7: expected a receipt for each of {sent} messages, found {found}")


@contextmanager
def on_processor(number: int) -> Iterator[None]:
    """Keep this process, and what it starts, to one processor; to all there are where there is but one."""
    before = os.sched_getaffinity(0)
    with _on({sorted(before)[number % len(before)]}):
        yield


@contextmanager
def on_other_processors() -> Iterator[None]:
    """Start programs on the processors that this process keeps away from; on its own where there are no others."""
    with _on(set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0) or os.sched_getaffinity(0)):
        yield


@contextmanager
def _on(processors: set[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _started(
    command: list[str], *, pass_fds: tuple[int, ...] = (), stdout: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program on the other processors until the end of the block."""
    with on_other_processors():
        process = subprocess.Popen(command, text=True, pass_fds=pass_fds, stdout=stdout)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _listener(directory: Path) -> Iterator[int]:
    with socket.create_server((_ADDRESS, 0), backlog=128) as server:
        settings = ServiceSettings(
            node="mach7-1", service="hl7", listen_fd=server.fileno(), directory=str(directory),
            site_directories=(str(directory),), storage="digest",
        )  # fmt: skip
        file = directory / "hl7.json"
        file.write_bytes(msgspec.json.encode(settings))
        port: int = server.getsockname()[1]
        with _started([sys.executable, "-m", "simulators.hl7.listener", str(file)], pass_fds=(server.fileno(),)):
            yield port


@contextmanager
def _pingpong_server(pingpong: Path, work: Work) -> Iterator[int]:
    command = [str(pingpong), "serve", _ADDRESS, str(work.request_bytes), str(work.reply_bytes)]
    with _started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # it is a pipe
        yield int(process.stdout.readline())
