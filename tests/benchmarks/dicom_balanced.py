"""Images through HAProxy: our modality → our wire engine, against the pairs of DCMTK and pynetdicom, and bare C.

Method. One HAProxy with a listener for each pair stands before all rounds. In each round the pairs send the same image, in
turn (who is first alternates), over as many associations, one request in flight on each. Ours digests, and writes a receipt
for every image before its answer; storescp ignores what it takes (`--ignore`, a process for each association), and so does
pynetdicom. Our modalities are one process, which waits awake where there is one of them and polls where there are more, over
associations that are open before the clock starts. storescu is a process for each association, from whose time that of a
second run with a tenth of the objects is taken off, and its objects too; pynetdicom's requestors are a process each as well,
with associations that stay open; they and their server are stopped while others are measured. TCP_NODELAY is on at every end.
The limit is a C ping-pong of the same bytes over as many connections. Nobody is bound to a processor. MB/s are of data sets,
a million bytes each.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from simulators.client import Attempt, Target, Timeouts
from simulators.dicom.dimse import c_store_rq, c_store_rsp
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.many_modalities import ManyModalities
from simulators.dicom.modality import Modality
from simulators.dicom.samples import generated_image
from simulators.journal import journal_path, read_receipts
from simulators.operations import IdentitySource, Kind, Outcome, Service

from .dicom_store import AE_TITLE, STORESCU, environment, storescp, write_file
from .nodes import compiled_pingpong, haproxy, running_scp
from .pynetdicom_peer import Server, requestors, serving
from .rows import BarError, Row, row_of_rounds

_ADDRESS = "127.0.0.1"
_SOURCE = "127.1.0.1"
_PDU_BYTES = 12  # of a PDU and its PDV, around each command and each data set
_TIMEOUTS = Timeouts(connect_s=5, negotiate_s=10, send_s=10, response_s=10)
_RUN = 1
_LARGE_BYTES = 1 << 18


class _Series(NamedTuple):
    name: str
    size_bytes: int
    associations: int
    objects: int
    ratio_min: dict[str, float]
    of_pynetdicom: int = 0  # objects of all its associations, where it takes part

    @property
    def unit(self) -> str:
        """What is counted: objects, or the bytes of large ones."""
        return "MB/s" if self.size_bytes >= _LARGE_BYTES else "objects/s"

    def in_unit(self, objects_per_s: float) -> float:
        """Return a rate in this unit."""
        return objects_per_s * self.size_bytes / 1e6 if self.unit == "MB/s" else objects_per_s


_SERIES = (
    _Series("8 KB", 8 << 10, 1, 4000, {"dcmtk": 2.0, "pynetdicom": 20.0}, 60),
    _Series("8 KB", 8 << 10, 16, 16000, {"dcmtk": 2.0, "pynetdicom": 20.0}, 160),
    _Series("512 KB", 512 << 10, 1, 1600, {"dcmtk": 1.5, "limit": 0.6}),
    _Series("512 KB", 512 << 10, 4, 3200, {"dcmtk": 1.5, "limit": 0.6}),
)


class _Ports(NamedTuple):
    ours: int
    dcmtk: int
    pynetdicom: int
    limit: int


def run(rounds: int, quick: bool) -> list[Row]:
    """Measure every size and number of associations.

    Parameters
    ----------
    rounds : int
        Interleaved rounds.
    quick : bool
        A tenth of the objects: to see that it works, not to quote.

    Raises
    ------
    BarError
        When an image was not acknowledged and receipted, or a program fails.
    """
    identities = IdentitySource(_RUN, 0)
    rows, sent = [], 0
    with tempfile.TemporaryDirectory(prefix="preflight-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        node = stack.enter_context(running_scp("simulators.dicom.wire_scp", directory / "node", 64))[1]
        dcmtk = stack.enter_context(storescp(directory, "--fork"))
        pynetdicom = stack.enter_context(serving())
        pingpong = compiled_pingpong(directory)
        for series in _SERIES:
            objects = series.objects // 10 if quick else series.objects
            rows.append(
                _row(series._replace(objects=objects), rounds, directory, identities, (node, dcmtk), pynetdicom, pingpong)
            )
            sent += objects * (rounds + 1)
        found = sum(1 for receipt in read_receipts(journal_path(directory / "node", Service.DICOM)) if receipt.run == _RUN)
        if found != sent:
            raise BarError(f"wire engine: expected a receipt for each of {sent} images, found {found}")
    return rows


def _row(
    series: _Series,
    rounds: int,
    directory: Path,
    identities: IdentitySource,
    behind: tuple[int, int],
    peer: Server,
    pingpong: Path,
) -> Row:
    image = generated_image("CT", series.size_bytes, seed=series.size_bytes).instance
    file = directory / f"{series.size_bytes}.dcm"
    one, study, of_series, patient = map(identities.next, (Kind.INSTANCE, Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    copy = image.named(one, study, of_series, patient, None)
    write_file(copy, file)
    uid = copy.sop_instance.decode("ascii")
    request = len(c_store_rq(1, image.sop_class, uid)) + image.size_bytes + 2 * _PDU_BYTES
    reply = len(c_store_rsp(1, image.sop_class, uid)) + _PDU_BYTES
    serve = [str(pingpong), "serve", _ADDRESS, str(request), str(reply)]
    with ExitStack() as stack:
        limit = stack.enter_context(subprocess.Popen(serve, stdout=subprocess.PIPE, text=True))
        stack.callback(limit.terminate)
        if limit.stdout is None:
            raise BarError("pingpong: expected its port on a pipe, found no pipe")
        through = stack.enter_context(
            haproxy(directory, dict(zip(_Ports._fields, (*behind, peer.port, int(limit.stdout.readline())), strict=True)))
        )
        ports = _Ports(**through)
        pairs: dict[str, Callable[[], float]] = {
            "ours": lambda: _ours_per_s(series, image, identities, ports.ours),
            "dcmtk": lambda: _dcmtk_per_s(series, file, ports.dcmtk),
            "limit": lambda: _limit_per_s(series, pingpong, ports.limit, request, reply),
        }
        if series.of_pynetdicom:
            each = series.of_pynetdicom // series.associations
            pairs["pynetdicom"] = stack.enter_context(
                requestors("store", peer, ports.pynetdicom, file, each, series.associations)
            )
        figures: dict[str, list[float]] = {name: [] for name in pairs}
        for number in range(rounds + 1):  # the first one warms up
            for name in list(pairs)[:: -1 if number % 2 else 1]:
                figures[name].append(series.in_unit(pairs[name]()))
    plural = "s" if series.associations > 1 else ""
    measured: dict[str, Sequence[float]] = {name: rates[1:] for name, rates in figures.items()}
    return row_of_rounds(
        f"{series.name} C-STORE through HAProxy, {series.associations} association{plural}", series.unit,
        measured.pop("ours"), {peer: rates for peer, rates in measured.items() if peer != "limit"}, limit=measured["limit"],
        ratio_min=series.ratio_min,
    )  # fmt: skip


def _ours_per_s(series: _Series, image: EncodedInstance, identities: IdentitySource, port: int) -> float:
    each, target = series.objects // series.associations, Target(_ADDRESS, port, Service.DICOM)
    with ExitStack() as stack:
        modalities = [
            stack.enter_context(
                Modality(
                    target, _SOURCE, calling_ae=AE_TITLE, called_ae=AE_TITLE, images=(image,), timeouts=_TIMEOUTS, eager=True
                )
            )
            for _ in range(series.associations)
        ]
        for modality in modalities:
            modality.open()
        jobs = [_copies(image, identities, each) for _ in modalities]
        begun_ns = time.monotonic_ns()
        stored = modalities[0].store_all(jobs[0]) if len(jobs) == 1 else ManyModalities(modalities).store_all(jobs)
        outcomes = Counter(operation.outcome for operation in stored)
        took_ns = time.monotonic_ns() - begun_ns
        if outcomes != {Outcome.ACKNOWLEDGED: each * series.associations}:
            reasons = {modality.last_failure for modality in modalities}
            raise BarError(f"wire engine: expected every image acknowledged, found {outcomes}: {reasons}")
    return each * series.associations * 1e9 / took_ns


def _copies(image: EncodedInstance, identities: IdentitySource, count: int) -> Iterator[tuple[EncodedInstance, Attempt]]:
    study, of_series, patient = (identities.next(kind) for kind in (Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    for _ in range(count):
        one = identities.next(Kind.INSTANCE)
        yield image.named(one, study, of_series, patient, None), Attempt(one)


def _dcmtk_per_s(series: _Series, file: Path, port: int) -> float:
    each = series.objects // series.associations
    few = each // 10
    few_s, all_s = (_storescus_s(series.associations, file, port, objects) for objects in (few, each))
    if all_s <= few_s:
        found = f"{all_s:.3f} s and {few_s:.3f} s"
        raise BarError(f"{STORESCU}: expected {each} objects to take longer than {few}, found {found}")
    return (each - few) * series.associations / (all_s - few_s)


def _storescus_s(processes: int, file: Path, port: int, objects: int) -> float:
    command = [STORESCU, "--propose-little", "--call", AE_TITLE, "--repeat", str(objects), _ADDRESS, str(port), str(file)]
    begun_ns = time.monotonic_ns()
    running = [subprocess.Popen(command, env=environment()) for _ in range(processes)]
    codes = [process.wait() for process in running]
    if any(codes):
        raise BarError(f"{STORESCU}: expected exit code 0, found {codes}")
    return (time.monotonic_ns() - begun_ns) / 1e9


def _limit_per_s(series: _Series, pingpong: Path, port: int, request: int, reply: int) -> float:
    numbers = (port, series.associations, series.objects, request, reply)
    command = [str(pingpong), "drive", _ADDRESS, *map(str, numbers)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return series.objects / float(answer.stdout)
