"""The worklist client against DCMTK's wlmscpfs, and against peers that fail it."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pynetdicom.dsutils import encode

from simulators.client import Attempt, Target, Timeouts
from simulators.dicom.errors import ProtocolError
from simulators.dicom.worklist_client import FindAnswer, WorklistClient, WorklistItem, WorklistQuery
from simulators.dicom.worklist_item import decode_item
from simulators.operations import IdentitySource, Kind, Outcome, Phase, Service

IDENTITIES = IdentitySource(run=4, generator=5)
ITEM = WorklistItem(
    "ACC1", "PID1", "Müller^Anna", "CT", "CT_EAST", "20260705", "093000", "STEP1", "1.2.3.1", "19700102", "F", "PROC1",
    "Thorax", "Thorax low dose",
)  # fmt: skip


def attempt() -> Attempt:
    return Attempt(IDENTITIES.next(Kind.QUERY))


def client_at(port: int, *, called_ae: str = "MACH7", response_s: float = 20.0) -> WorklistClient:
    timeouts = Timeouts(connect_s=5, negotiate_s=20, send_s=20, response_s=response_s)
    target = Target("127.0.0.1", port, Service.DMWL)
    return WorklistClient(target, "127.1.0.9", calling_ae="MODALITY", called_ae=called_ae, timeouts=timeouts)


def identifier(item: WorklistItem) -> Dataset:
    """Build an answer as another implementation would."""
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepID = item.modality, item.station_ae, item.step_id
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = item.start_date, item.start_time
    step.ScheduledProcedureStepDescription = item.step_description
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 100"
    found.AccessionNumber, found.PatientID, found.PatientName = item.accession, item.patient_id, item.patient_name
    found.PatientBirthDate, found.PatientSex, found.StudyInstanceUID = item.birth_date, item.sex, item.study_uid
    found.RequestedProcedureID, found.RequestedProcedureDescription = item.procedure_id, item.description
    found.ScheduledProcedureStepSequence = [step]
    return found


@contextmanager
def wlmscpfs(directory: Path, items: list[WorklistItem]) -> Iterator[int]:
    """Run DCMTK's worklist server over some items; yields its port."""
    folder = directory / "MACH7"
    folder.mkdir()
    (folder / "lockfile").touch()
    for number, item in enumerate(items):
        pydicom.dcmwrite(
            folder / f"{number}.wl", identifier(item), implicit_vr=False, little_endian=True, enforce_file_format=False
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = ["/usr/bin/wlmscpfs", "--single-process", "-dfp", str(directory), str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"TCP_NODELAY": "1"})
    try:
        while subprocess.run(["/usr/bin/echoscu", "-aec", "MACH7", "127.0.0.1", str(port)], check=False).returncode:
            assert server.poll() is None
        yield port
    finally:
        server.kill()
        server.wait()


@contextmanager
def peer_that(behaves: str) -> Iterator[int]:
    """Run a peer that "closes" each connection at once, or accepts none ("stays silent"); yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_one() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=close_one)
        if behaves == "closes":
            thread.start()
        yield server.getsockname()[1]
        if behaves == "closes":
            thread.join()


def test_dcmtk_answers_what_our_client_asks(tmp_path: Path) -> None:
    others = [ITEM._replace(accession=f"ACC{number}", patient_id=f"PID{number}") for number in (2, 3)]
    with wlmscpfs(tmp_path, [ITEM, *others]) as port, client_at(port) as client:
        echo = client.echo(Attempt(IDENTITIES.next(Kind.ECHO)))
        operation, one = client.find(
            WorklistQuery(patient_id="PID1", modality="CT", start_date="20260701-20260731"), attempt()
        )
        _, several = client.find(WorklistQuery(patient_name="M*"), attempt())
        _, none = client.find(WorklistQuery(patient_id="PID9"), attempt())
    assert (echo.outcome, operation.outcome, operation.phase, operation.status) == (1, Outcome.ACKNOWLEDGED, Phase.DONE, 0)
    assert [item[:9] for item in one.items] == [ITEM[:9]]
    assert sorted(item.accession for item in several.items) == ["ACC1", "ACC2", "ACC3"]
    assert none == FindAnswer((), 0x0000, 0)


def test_a_refused_connection_is_a_refused_operation() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    client = client_at(port)
    operation, answer = client.find(WorklistQuery(), attempt())
    assert (operation.outcome, operation.phase, operation.session) == (Outcome.REFUSED, Phase.CONNECT, 0)
    assert answer == FindAnswer((), -1, 0)
    assert "expected a connection" in client.last_failure
    assert not client.is_open


@pytest.mark.parametrize("behaves", ["closes", "stays silent"])
def test_a_peer_that_never_accepts_the_association_has_refused_it(behaves: str) -> None:
    with peer_that(behaves) as port:
        timeouts = Timeouts(connect_s=5, negotiate_s=0.2, send_s=5, response_s=5)
        target = Target("127.0.0.1", port, Service.DMWL)
        client = WorklistClient(target, "127.1.0.9", calling_ae="MODALITY", called_ae="MACH7", timeouts=timeouts)
        operation, _ = client.find(WorklistQuery(), attempt())
    assert (operation.outcome, operation.phase) == (Outcome.REFUSED, Phase.NEGOTIATE)


def test_what_the_client_encodes_is_read_by_pydicom(tmp_path: Path) -> None:
    query = WorklistQuery(patient_id="PID1", patient_name="Müller*", accession="A", modality="CT", start_date="20260705-")
    found = read_dataset(BytesIO(query.encode()), is_implicit_VR=True, is_little_endian=True)
    step = found.ScheduledProcedureStepSequence[0]
    assert (found.PatientID, found.PatientName, found.AccessionNumber) == ("PID1", "Müller*", "A")
    assert (step.Modality, step.ScheduledProcedureStepStartDate, step.ScheduledStationAETitle) == ("CT", "20260705-", "")
    assert (found.SpecificCharacterSet, found.StudyInstanceUID) == ("ISO_IR 192", "")
    assert [element.tag for element in found] == sorted(element.tag for element in found)


@pytest.mark.parametrize("undefined", [False, True], ids=["explicit lengths", "undefined lengths"])
def test_what_pydicom_encodes_is_read_by_the_client(undefined: bool) -> None:
    answer = identifier(ITEM)
    sequence = answer["ScheduledProcedureStepSequence"]
    sequence.is_undefined_length = undefined
    sequence.value[0].is_undefined_length_sequence_item = undefined
    encoded = encode(answer, is_implicit_vr=True, is_little_endian=True)
    assert encoded is not None
    assert decode_item(encoded) == ITEM


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: WorklistQuery(patient_id="X").encode() + tail))
def test_no_bytes_do_more_to_the_client_than_a_protocol_error(content: bytes) -> None:
    try:
        item = decode_item(content)
    except ProtocolError:
        return
    assert isinstance(item, WorklistItem)
