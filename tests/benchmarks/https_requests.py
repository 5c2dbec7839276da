"""Viewer → our HTTPS server, against the client of Locust's FastHttpUser on the same server; wrk says what the server can do.

All three ask for the same page: the list of studies that a person sees after the login, 50 studies, over TLS. The viewer and
Locust's client each have a process of their own, with gevent, eight greenlets and eight sessions, one request at a time on
each; what they get is read to its end, its length compared, and (that is what the clients are for) made an operation by ours
and a request event by Locust. Both check the node's certificate; Locust by default does not. `keep-alive` goes on with one
connection; `new session` makes a new one for each request, with a whole TLS handshake. wrk, in C, keeps eight connections
with one thread, and asks for `Connection: close` where the others reconnect; it checks no certificate. It is a limit without
a bar: it is the server that it finds at its end.

The client has one processor and the server the others, for all three alike.
"""

from __future__ import annotations

import re
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from simulators.client import Attempt, Target, Timeouts
from simulators.node_store import Instance, NodeStore
from simulators.operations import IdentitySource, Kind, Service
from simulators.service import ServiceSettings
from simulators.web.certificates import LabAuthority
from simulators.web.protocol import COOKIE
from simulators.web.viewer import Viewer

from .hl7_messages import on_other_processors, on_processor
from .rows import BarError, Row, row_of_rounds

_ADDRESS = "127.0.0.1"
_PEER = "Locust's FastHttpUser"
_RATIO_MIN = 0.95
_WAYS = {"keep-alive": "keep-alive", "new-session": "a new session each"}
_PATH = "/studies"
_USER, _PASSWORD = "reader", "benchmark"
_WRK_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_TURNS = 6  # of each client, a round: so whatever else the machine does meets both alike
_LIMIT_S = 30
GREENLETS = 8  # and sessions, on each side
Measure = Callable[[str], float]


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the page is, who may see it, and how long it is."""

    port: int
    ca_file: str
    user: str
    password: str
    path: str
    page_bytes: int


def run(rounds: int, quick: bool) -> list[Row]:
    """Measure both ways to connect.

    Parameters
    ----------
    rounds : int
        Interleaved rounds, at least 9.
    quick : bool
        Short rounds: to see that it works, not to quote.

    Raises
    ------
    BarError
        When a page was not what was expected, or a program failed.
    """
    turn_s = 0.03 if quick else 0.1
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="preflight-bench-")))
        stack.enter_context(on_processor(0))
        port, ca_file = stack.enter_context(_node(directory))
        cookie, page_bytes = _page(port, ca_file)
        settings = ClientSettings(
            port=port, ca_file=str(ca_file), user=_USER, password=_PASSWORD, path=_PATH, page_bytes=page_bytes
        )
        (directory / "client.json").write_bytes(msgspec.json.encode(settings))
        ours = stack.enter_context(_client("ours", directory / "client.json", turn_s))
        theirs = stack.enter_context(_client("locust", directory / "client.json", turn_s))
        return [_row(way, rounds, ours, theirs, lambda way: _wrk_rate(way, port, cookie)) for way in _WAYS]


def _row(way: str, rounds: int, ours: Measure, theirs: Measure, limit: Measure) -> Row:
    found: dict[str, list[float]] = {"ours": [], "theirs": [], "limit": []}
    for number in range(rounds + 1):
        order = (ours, theirs) if number % 2 else (theirs, ours)  # whoever is first has no advantage
        rates: dict[Measure, list[float]] = {ours: [], theirs: []}
        for measure in order * _TURNS:
            rates[measure].append(measure(way))
        found["ours"].append(statistics.mean(rates[ours]))
        found["theirs"].append(statistics.mean(rates[theirs]))
        found["limit"].append(limit(way))
    warm = {side: figures[1:] for side, figures in found.items()}  # the first round warms up
    name = f"HTTPS requests/s, {_WAYS[way]}"
    peers: dict[str, Sequence[float]] = {_PEER: warm["theirs"]}
    return row_of_rounds(name, "requests/s", warm["ours"], peers, limit=warm["limit"], ratio_min={_PEER: _RATIO_MIN})


@contextmanager
def _client(side: str, settings: Path, turn_s: float) -> Iterator[Measure]:
    """Run one side; yield what takes a turn of it and returns the requests per second."""
    command = [sys.executable, "-m", "tests.benchmarks.https_client", side, str(settings)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        told, answers = process.stdin, process.stdout

        def rate(way: str) -> float:
            told.write(f"{way} {turn_s}\n")
            told.flush()
            answer = answers.readline().split()
            if len(answer) != 2:
                raise BarError(f"HTTPS: expected the client {side} to answer, found that it ended; see above")
            return int(answer[0]) / float(answer[1])

        try:
            yield rate
        finally:
            told.close()
            process.wait(_LIMIT_S)


def _wrk_rate(way: str, port: int, cookie: str) -> float:
    command = [
        "wrk", "--threads", "1", "--connections", str(GREENLETS), "--duration", "1s",
        "--header", f"Cookie: {COOKIE}={cookie}",
    ]  # fmt: skip
    if way == "new-session":
        command += ["--header", "Connection: close"]
    answer = subprocess.run(
        [*command, f"https://{_ADDRESS}:{port}{_PATH}"], capture_output=True, text=True, check=True, timeout=_LIMIT_S
    )
    rate = _WRK_RATE.search(answer.stdout)
    if rate is None or "Non-2xx" in answer.stdout:
        raise BarError(f"wrk: expected requests per second and pages alone, found {answer.stdout}")
    return float(rate[1])


def _page(port: int, ca_file: Path) -> tuple[str, int]:
    """Log in and look at the page; return the session's cookie and the length of the page."""
    identities = IdentitySource(run=1, generator=2)
    target = Target(_ADDRESS, port, Service.HTTPS)
    viewer = Viewer(target, _ADDRESS, server_name=_ADDRESS, ca_file=ca_file, timeouts=Timeouts())
    _, login = viewer.post_login(_USER, _PASSWORD, Attempt(identities.next(Kind.ECHO)))
    _, page = viewer.get(_PATH, Attempt(identities.next(Kind.ECHO)))
    viewer.close()
    if login is None or page is None or page.status != 200:
        raise BarError(f"{_PATH}: expected the list of studies after a login, found {viewer.last_failure}")
    cookie = login.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    return cookie, len(page.body)


@contextmanager
def _node(directory: Path) -> Iterator[tuple[int, Path]]:
    """Run the HTTPS service of a node with 60 studies; yield its port and the authority to trust."""
    authority = LabAuthority(directory / "authority")
    files = authority.issue(directory / "certificate", [_ADDRESS])
    _store_studies(directory)
    with socket.create_server((_ADDRESS, 0), backlog=1024) as server:
        settings = ServiceSettings(
            node="mach7-1", service="https", listen_fd=server.fileno(), directory=str(directory),
            site_directories=(str(directory),), certificate_file=str(files.certificate_file), key_file=str(files.key_file),
            users={_USER: _PASSWORD},
        )  # fmt: skip
        file = directory / "https.json"
        file.write_bytes(msgspec.json.encode(settings))
        command = [sys.executable, "-m", "simulators.web.server", str(file)]
        with on_other_processors():
            process = subprocess.Popen(command, pass_fds=(server.fileno(),))
        try:
            yield server.getsockname()[1], authority.ca_file
        finally:
            process.terminate()
            process.wait(_LIMIT_S)


def _store_studies(directory: Path) -> None:
    store = NodeStore(directory, "dicom")
    store.put(*[
        Instance(
            sop_uid=f"2.25.1{number:03}{image}", sop_class="1.2.840.10008.5.1.4.1.1.2", study_uid=f"2.25.2{number:03}",
            series_uid=f"2.25.3{number:03}", patient_id=f"P-{number}", patient_name="DOE^Jane", accession=f"A-{number}",
            study_date="20260301", study_description="Thorax", modality="CT", transfer_syntax="1.2.840.10008.1.2.1", file="",
            size_bytes=512_000, digest="0" * 32, receipts=1, updated_ns=number,
        )
        for number in range(60) for image in range(8)
    ])  # fmt: skip
    store.close()
