"""Images a second: our modality against DCMTK's storescu, both to the same DCMTK storescp, over loopback.

Method. One `storescp --ignore` serves all rounds. In each round both sides store the same image on one association, in turn
(who is first alternates): storescu as `--repeat N`, ours one `Modality.store_all` of N freshly named copies, with their
names, digests and operations; either side has one request outstanding. Ours waits for an answer awake, as `store_all`
does: on two idle processors a bare loop of send and receive that sleeps is itself but 1.5 times as fast as storescu.
TCP_NODELAY is on at every end (`TCP_NODELAY=1` for DCMTK: without it small stores stand in Nagle's 40 ms). Start-up is
left out: ours is timed between the first and the last store of an open association; of storescu's time, that of a second
run with a tenth of the objects is taken off, and its objects too.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from simulators.client import Attempt, Failed, Target, Timeouts
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.modality import Modality
from simulators.dicom.negotiation import IMPLEMENTATION_CLASS
from simulators.dicom.samples import generated_image
from simulators.operations import IdentitySource, Kind, Outcome, Service

from .rows import BarError, Row, row_of_rounds

STORESCU = "/usr/bin/storescu"
STORESCP = "/usr/bin/storescp"
RATIO_MIN = 1.5
LEAST_ROUNDS = 9
_ADDRESS = "127.0.0.1"
_SOURCE = "127.1.0.1"
AE_TITLE = "BENCH"
_START_LIMIT_S = 10.0
_TIMEOUTS = Timeouts(connect_s=5, negotiate_s=5, send_s=10, response_s=10)


class _Series(NamedTuple):
    name: str
    size_bytes: int
    objects: int
    quick_objects: int


_SERIES = (_Series("dicom-store-8KB", 8 << 10, 8000, 300), _Series("dicom-store-512KB", 512 << 10, 2500, 100))


def run(rounds: int, quick: bool) -> list[Row]:
    """Measure, and return a row for 8 KB and one for 512 KB objects.

    Parameters
    ----------
    rounds : int
        Interleaved rounds; at least 9 unless quick.
    quick : bool
        Fewer objects a round: to see that it works, not to quote.

    Raises
    ------
    BarError
        When there are too few rounds, or a program fails.
    """
    if rounds < LEAST_ROUNDS and not quick:
        raise BarError(f"rounds: expected at least {LEAST_ROUNDS}, found {rounds}")
    with tempfile.TemporaryDirectory(prefix="preflight-bench-") as directory, storescp(Path(directory)) as port:
        return [_row(series, rounds, quick, Path(directory), port) for series in _SERIES]


def _row(series: _Series, rounds: int, quick: bool, directory: Path, port: int) -> Row:
    identities = IdentitySource(0, 0)
    image = generated_image("CT", series.size_bytes, seed=series.size_bytes)
    identity, study, of_series, patient = map(identities.next, (Kind.INSTANCE, Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    file = directory / f"{series.name}.dcm"
    write_file(image.instance.named(identity, study, of_series, patient, None), file)
    objects = series.quick_objects if quick else series.objects
    ours: list[float] = []
    dcmtk: list[float] = []
    for number in range(rounds):
        if number % 2:
            dcmtk.append(_dcmtk_per_s(file, port, objects))
        ours.append(_ours_per_s(image.instance, identities, port, objects))
        if not number % 2:
            dcmtk.append(_dcmtk_per_s(file, port, objects))
    return row_of_rounds(series.name, "objects/s", ours, {"dcmtk": dcmtk}, ratio_min={"dcmtk": RATIO_MIN})


def _ours_per_s(image: EncodedInstance, identities: IdentitySource, port: int, objects: int) -> float:
    study, series, patient = (identities.next(kind) for kind in (Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    ones = (identities.next(Kind.INSTANCE) for _ in range(objects))
    target = Target(_ADDRESS, port, Service.DICOM)
    with Modality(
        target, _SOURCE, calling_ae=AE_TITLE, called_ae=AE_TITLE, images=(image,), timeouts=_TIMEOUTS, eager=True
    ) as modality:
        modality.open()
        named = ((image.named(one, study, series, patient, None), Attempt(one)) for one in ones)
        begun_ns = time.monotonic_ns()
        for operation in modality.store_all(named):
            if operation.outcome is not Outcome.ACKNOWLEDGED:
                raise BarError(f"{STORESCP}: expected every object acknowledged, found {modality.last_failure}")
        return objects * 1e9 / (time.monotonic_ns() - begun_ns)


def _dcmtk_per_s(file: Path, port: int, objects: int) -> float:
    few = objects // 10
    few_s = _storescu_s(file, port, few)
    all_s = _storescu_s(file, port, objects)
    if all_s <= few_s:
        found = f"{all_s:.3f} s and {few_s:.3f} s"
        raise BarError(f"{STORESCU}: expected {objects} objects to take longer than {few}, found {found}")
    return (objects - few) / (all_s - few_s)


def _storescu_s(file: Path, port: int, objects: int) -> float:
    command = [STORESCU, "--propose-little", "--call", AE_TITLE, "--repeat", str(objects), _ADDRESS, str(port), str(file)]
    begun_ns = time.monotonic_ns()
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    took_s = (time.monotonic_ns() - begun_ns) / 1e9
    if ended.returncode:
        raise BarError(f"{STORESCU}: expected exit code 0, found {ended.returncode}: {ended.stderr[-500:]}")
    return took_s


@contextmanager
def storescp(directory: Path, *options: str) -> Iterator[int]:
    """Run a storescp that throws away what it takes, called BENCH; yield its port once it answers."""
    with socket.socket() as free:
        free.bind(("0.0.0.0", 0))  # as storescp will: a port in TIME_WAIT at any address is not free for it
        port: int = free.getsockname()[1]
    command = [STORESCP, "--ignore", "--accept-all", "--aetitle", AE_TITLE, *options, str(port)]
    with subprocess.Popen(command, env=environment(), cwd=directory) as process:
        try:
            wait_until_it_answers(process, port)
            yield port
        finally:
            process.terminate()


def wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when an SCP called BENCH accepts an association; BarError when it ends, or does not answer within 10 s."""
    deadline_ns = time.monotonic_ns() + int(_START_LIMIT_S * 1e9)
    while True:
        modality = Modality(
            Target(_ADDRESS, port, Service.DICOM), _SOURCE, calling_ae=AE_TITLE, called_ae=AE_TITLE, timeouts=_TIMEOUTS
        )
        try:
            with modality:
                modality.open()
            return
        except Failed as failed:
            if process.poll() is not None or time.monotonic_ns() > deadline_ns:
                said = f"{process.args!r}: expected it to answer within {_START_LIMIT_S:g} s: {failed.reason}"
                raise BarError(f"{said}, exit code {process.poll()}") from failed


def write_file(instance: EncodedInstance, path: Path) -> None:
    """Write an instance as a Part 10 file, for programs that send files."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(instance.sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance.sop_instance.decode("ascii"))
    meta.TransferSyntaxUID = UID(instance.transfer_syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS)
    encoded = DicomBytesIO()
    write_file_meta_info(encoded, meta)
    path.write_bytes(bytes(128) + b"DICM" + encoded.getvalue() + b"".join(instance.buffers))


def environment() -> dict[str, str]:
    """Return what DCMTK's programs are started with: without TCP_NODELAY small stores stand in Nagle's 40 ms."""
    return {**os.environ, "TCP_NODELAY": "1"}
