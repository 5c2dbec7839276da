"""pynetdicom on both sides, with TCP_NODELAY: the peer of our DICOM benchmarks. A program of its own, for each of its ends.

    python -m tests.benchmarks.pynetdicom_peer serve MATCHES             prints its port, serves until its input ends
    python -m tests.benchmarks.pynetdicom_peer store PORT COUNT FILE     prints "ready"; stores an image at each line
    python -m tests.benchmarks.pynetdicom_peer find PORT COUNT FILE      the same with the worklist query in a file

The last two do it COUNT times a line, and print how many operations were answered, and the seconds up to the last
answer: its requestor loses answers under load, and then waits in vain. What it waits is not counted against it. Both
ends poll each idle association a thousand times a second, so they are stopped (SIGSTOP) whenever it is another's turn.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType

from simulators.dicom.dimse import VERIFICATION
from simulators.dicom.worklist_client import MODALITY_WORKLIST

from .dicom_store import AE_TITLE
from .rows import BarError

_CT = "1.2.840.10008.5.1.4.1.1.2"
_ANSWER_LIMIT_S = 2.0
_OPERATIONS = ("store", "find")


def main(words: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.STORE_RECV_CHUNKED_DATASET = False
    if words[:1] == ["serve"] and len(words) == 2:
        _serve(int(words[1]))
    elif len(words) == 4 and words[0] in _OPERATIONS:
        return _drive(words[0], int(words[1]), int(words[2]), words[3])
    else:
        print(__doc__, file=sys.stderr)  # noqa: T201  how it is used
        return 2
    return 0


class Server(NamedTuple):
    """A server that runs."""

    port: int
    process: subprocess.Popen[str]


@contextmanager
def serving(matches: int = 0) -> Iterator[Server]:
    """Run the server, and yield it. A query is answered so many matches."""
    command = [sys.executable, "-m", __name__, "serve", str(matches)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        if server.stdin is None or server.stdout is None:
            raise BarError("pynetdicom: expected pipes, found none")
        try:
            yield Server(int(server.stdout.readline()), server)
        finally:
            server.send_signal(signal.SIGCONT)
            server.terminate()


@contextmanager
def requestors(
    operation: str, server: Server, port: int, file: Path, each: int, processes: int
) -> Iterator[Callable[[], float]]:
    """Run requestors, each with an association of its own; yield what makes all of them work and returns their rate.

    They and their server are stopped but while they work.

    Parameters
    ----------
    operation : str
        "store" or "find".
    server : Server
        Whom they ask.
    port : int
        Its own, or that of a balancer before it.
    file : Path
        The image, or the query.
    each : int
        Operations of each requestor, whenever they are to work.
    processes : int
        How many requestors.

    Raises
    ------
    BarError
        When one of them had no association, or none of its operations was answered.
    """
    command = [sys.executable, "-m", __name__, operation, str(port), str(each), str(file)]
    with ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(processes)
        ]
        pipes = [(one.stdin, one.stdout) for one in running if one.stdin is not None and one.stdout is not None]
        if [output.readline() for _, output in pipes] != ["ready\n"] * processes:
            raise BarError(f"pynetdicom: expected {processes} associations, found fewer")

        everybody = (server.process, *running)
        stack.callback(_signal, everybody, signal.SIGCONT)  # else nobody would hear that it is over

        def rate_per_s() -> float:
            _signal(everybody, signal.SIGCONT)
            for begin, _ in pipes:
                begin.write("\n")
                begin.flush()
            done = [output.readline().split() for _, output in pipes]
            _signal(everybody, signal.SIGSTOP)
            answered, took_s = sum(int(count) for count, _ in done), max(float(seconds) for _, seconds in done)
            if not answered:
                raise BarError(f"pynetdicom: expected answers to {operation}, found none")
            return answered / took_s

        _signal(everybody, signal.SIGSTOP)
        yield rate_per_s


def _signal(processes: Sequence[subprocess.Popen[str]], number: signal.Signals) -> None:
    for process in processes:
        process.send_signal(number)


def _entity() -> AE:
    entity = AE(AE_TITLE)
    entity.maximum_pdu_size = 1 << 20
    entity.maximum_associations = 1000
    entity.network_timeout = None
    entity.dimse_timeout = _ANSWER_LIMIT_S
    return entity


def _without_delay(event: Event) -> None:
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _serve(matches: int) -> None:
    found = [worklist_match(number) for number in range(matches)]

    def answer_find(_: Event) -> Iterator[tuple[int, Dataset]]:
        for match in found:
            yield 0xFF00, match

    entity = _entity()
    for sop_class in (VERIFICATION, _CT, MODALITY_WORKLIST):
        entity.add_supported_context(sop_class, ExplicitVRLittleEndian)
    entity.add_supported_context(VERIFICATION)
    handlers: list[EventHandlerType] = [
        (evt.EVT_CONN_OPEN, _without_delay), (evt.EVT_C_STORE, lambda _: 0x0000), (evt.EVT_C_FIND, answer_find),
    ]  # fmt: skip
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    if server is not None:
        print(server.server_address[1], flush=True)  # noqa: T201  what its starter waits for
        sys.stdin.read()


def worklist_match(number: int) -> Dataset:
    """Return the n-th item of the worklist that all servers show."""
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepStartDate = "CT", "CT_EAST", "20260705"
    step.ScheduledProcedureStepStartTime, step.ScheduledProcedureStepDescription = "093000", "Thorax"
    step.ScheduledProcedureStepID = f"STEP{number}"
    match = Dataset()
    match.AccessionNumber, match.PatientName, match.PatientID = f"ACC{number}", f"DOE^JANE^{number}", f"PID{number}"
    match.PatientBirthDate, match.PatientSex, match.StudyInstanceUID = "19700102", "F", f"1.2.3.{number}"
    match.RequestedProcedureDescription, match.RequestedProcedureID = "Thorax", "PROC"
    match.ScheduledProcedureStepSequence = [step]
    return match


def _drive(operation: str, port: int, count: int, file: str) -> int:
    dataset = pydicom.dcmread(file, force=True)
    perform: Callable[[Association, Dataset], bool] = _stored if operation == "store" else _found
    association = _association(operation, port)
    print("ready", flush=True)  # noqa: T201  what its starter waits for
    for _ in sys.stdin:
        if not association.is_established:
            association = _association(operation, port)
        begun_ns = answered_ns = time.monotonic_ns()
        answered = 0
        while answered < count and perform(association, dataset):
            answered += 1
            answered_ns = time.monotonic_ns()
        print(answered, (answered_ns - begun_ns) / 1e9, flush=True)  # noqa: T201  the result
    association.abort()
    return 0


def _association(operation: str, port: int) -> Association:
    entity = _entity()
    entity.add_requested_context(_CT if operation == "store" else MODALITY_WORKLIST, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title=AE_TITLE, evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay)])
    if not association.is_established:
        raise BarError(f"pynetdicom: expected an association at port {port}, found it rejected or aborted")
    return association


def _stored(association: Association, dataset: Dataset) -> bool:
    return bool(association.send_c_store(dataset).get("Status", -1) == 0)


def _found(association: Association, dataset: Dataset) -> bool:
    statuses = [status.get("Status", -1) for status, _ in association.send_c_find(dataset, MODALITY_WORKLIST)]
    return bool(statuses and statuses[-1] == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
