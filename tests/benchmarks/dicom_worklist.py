"""Worklist queries a second, 20 matches each: our client → our wire engine, against DCMTK's pair and pynetdicom's.

Method. All three servers run throughout; wlmscpfs reads its items from files, ours from the node's database (in memory, and
looked at for every query), pynetdicom's has its answers ready. In each round the pairs ask the same question, in turn (who is
first alternates), one query after the other on one association, straight. TCP_NODELAY is on at every end. Start-up is left
out: ours and pynetdicom's are timed on an open association; of findscu's time, that of a second run with a tenth of the
queries is taken off, and its queries too. Our client decodes the items it is told.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from simulators.client import Attempt, Target, Timeouts
from simulators.dicom.worklist_client import WorklistClient, WorklistQuery
from simulators.node_store import NodeStore, Order
from simulators.operations import IdentitySource, Kind, Outcome, Service

from .dicom_store import AE_TITLE, environment, wait_until_it_answers
from .nodes import running_scp
from .pynetdicom_peer import requestors, serving, worklist_match
from .rows import BarError, Row, row_of_rounds

FINDSCU, WLMSCPFS = "/usr/bin/findscu", "/usr/bin/wlmscpfs"
MATCHES = 20
_RATIO_MIN = 3.0
_QUERIES = {"ours": 2000, "dcmtk": 400, "pynetdicom": 10}
_ADDRESS, _SOURCE = "127.0.0.1", "127.1.0.1"
_TIMEOUTS = Timeouts(connect_s=5, negotiate_s=10, send_s=10, response_s=10)
_QUERY = WorklistQuery(modality="CT", start_date="20260705")
_ORDER = Order(
    "ACC", "PID", "DOE^JANE", "19700102", "F", "CT", "CT_EAST", "20260705", "093000", "STEP", "PROC", "Thorax", "1.2.3", "NW",
    1,
)  # fmt: skip


def run(rounds: int, quick: bool) -> list[Row]:
    """Measure, and return the row.

    Parameters
    ----------
    rounds : int
        Interleaved rounds.
    quick : bool
        A tenth of the queries: to see that it works, not to quote.

    Raises
    ------
    BarError
        When a query was not answered its matches, or a program fails.
    """
    queries = {name: max(2, count // 10) if quick else count for name, count in _QUERIES.items()}
    orders = list(map(_order, range(MATCHES)))
    with tempfile.TemporaryDirectory(prefix="preflight-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        store = NodeStore(directory / "node", "hl7")
        store.put(*orders, *(order._replace(accession=f"MR{n}", modality="MR") for n, order in enumerate(orders)))
        stack.callback(store.close)
        _, ours = stack.enter_context(running_scp("simulators.dicom.wire_scp", directory / "node", 16, "dmwl"))
        dcmtk = stack.enter_context(_wlmscpfs(directory / "items"))
        peer = stack.enter_context(serving(MATCHES))
        client = stack.enter_context(
            WorklistClient(
                Target(_ADDRESS, ours, Service.DMWL), _SOURCE, calling_ae=AE_TITLE, called_ae=AE_TITLE, timeouts=_TIMEOUTS
            )
        )
        query = directory / "query.dcm"
        pydicom.dcmwrite(query, _query(), implicit_vr=False, little_endian=True, enforce_file_format=False)
        identities = IdentitySource(1, 0)
        pynetdicom = stack.enter_context(requestors("find", peer, peer.port, query, queries["pynetdicom"], 1))
        pairs: dict[str, Callable[[], float]] = {
            "ours": lambda: _ours_per_s(client, identities, queries["ours"]),
            "dcmtk": lambda: _dcmtk_per_s(query, dcmtk, queries["dcmtk"]),
            "pynetdicom": pynetdicom,
        }
        figures: dict[str, list[float]] = {pair: [] for pair in pairs}
        for number in range(rounds + 1):  # the first one warms up
            for pair in list(pairs)[:: -1 if number % 2 else 1]:
                figures[pair].append(pairs[pair]())
    peers: dict[str, Sequence[float]] = {peer: figures[peer][1:] for peer in ("dcmtk", "pynetdicom")}
    name = f"worklist C-FIND, {MATCHES} matches"
    return [row_of_rounds(name, "queries/s", figures["ours"][1:], peers, ratio_min=dict.fromkeys(peers, _RATIO_MIN))]


def _order(number: int) -> Order:
    """Return the order that `worklist_match` shows."""
    return _ORDER._replace(
        accession=f"ACC{number}", patient_id=f"PID{number}", patient_name=f"DOE^JANE^{number}", step_id=f"STEP{number}",
        study_uid=f"1.2.3.{number}",
    )  # fmt: skip


def _ours_per_s(client: WorklistClient, identities: IdentitySource, count: int) -> float:
    attempts = [Attempt(identities.next(Kind.QUERY)) for _ in range(count)]
    begun_ns = time.monotonic_ns()
    for attempt in attempts:
        operation, answer = client.find(_QUERY, attempt)
        if operation.outcome is not Outcome.ACKNOWLEDGED or len(answer.items) != MATCHES:
            raise BarError(f"wire engine: expected {MATCHES} matches, found {len(answer.items)}: {client.last_failure}")
    return count * 1e9 / (time.monotonic_ns() - begun_ns)


def _dcmtk_per_s(query: Path, port: int, count: int) -> float:
    few = max(1, count // 10)
    few_s, all_s = (_findscu_s(query, port, queries) for queries in (few, count))
    if all_s <= few_s:
        found = f"{all_s:.3f} s and {few_s:.3f} s"
        raise BarError(f"{FINDSCU}: expected {count} queries to take longer than {few}, found {found}")
    return (count - few) / (all_s - few_s)


def _findscu_s(query: Path, port: int, count: int) -> float:
    command = [
        FINDSCU, "--worklist", "--quiet", "--hide-responses", "--call", AE_TITLE, "--repeat", str(count), _ADDRESS, str(port),
        str(query),
    ]  # fmt: skip
    begun_ns = time.monotonic_ns()
    subprocess.run(command, env=environment(), check=True)
    return (time.monotonic_ns() - begun_ns) / 1e9


@contextmanager
def _wlmscpfs(directory: Path) -> Iterator[int]:
    """Run DCMTK's worklist server, called BENCH, over the items; yield its port once it answers."""
    items = directory / AE_TITLE
    items.mkdir(parents=True)
    (items / "lockfile").touch()
    for number in range(MATCHES):
        pydicom.dcmwrite(
            items / f"{number}.wl", worklist_match(number), implicit_vr=False, little_endian=True, enforce_file_format=False
        )
    with socket.socket() as free:
        free.bind(("0.0.0.0", 0))  # as wlmscpfs will
        port: int = free.getsockname()[1]
    command = [WLMSCPFS, "--quiet", "--data-files-path", str(directory), str(port)]
    with subprocess.Popen(command, env=environment()) as process:
        try:
            wait_until_it_answers(process, port)
            yield port
        finally:
            process.terminate()


def _query() -> Dataset:
    """Return the query that our client sends, for programs that read files."""
    encoded = _QUERY.encode()
    return read_dataset(BytesIO(encoded), True, True, len(encoded))
