"""What any worklist SCP of ours must do, shown to it by DCMTK, by pynetdicom and by our own client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import pytest
import xxhash
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from simulators.client import Attempt, Timeouts
from simulators.dicom.dimse import c_find_rq
from simulators.dicom.negotiation import ProposedContext
from simulators.dicom.worklist_client import MODALITY_WORKLIST, FindAnswer, WorklistClient, WorklistQuery
from simulators.journal import Flag
from simulators.misbehaviour import Misbehaviour
from simulators.node_store import NodeStore, Order
from simulators.operations import IdentitySource, Kind, Outcome

if TYPE_CHECKING:
    from .conftest import RunningScp, StartScp

EVERYTHING = WorklistQuery()
IDENTITIES = IdentitySource(run=9, generator=2)
TIMEOUTS = Timeouts(connect_s=10, negotiate_s=20, send_s=20, response_s=20)
STEP = "ScheduledProcedureStepSequence[0]."
CT_MORNING = Order(
    "ACC1", "PID1", "Müller^Anna", "19700102", "F", "CT", "CT_EAST", "20260705", "093000", "STEP1", "PROC1", "Thorax",
    "1.2.3.1", "NW", 1,
)  # fmt: skip
CT_EVENING = CT_MORNING._replace(
    accession="ACC2",
    patient_id="PID2",
    patient_name="DOE^JOHN",
    sex="M",
    station_ae="CT_WEST",
    start_time="190000",
    study_uid="1.2.3.2",
)
MR_LATER = CT_MORNING._replace(
    accession="ACC3", patient_id="PID3", patient_name="DOE^JANE", modality="MR", station_ae="MR1", start_date="20260707",
    start_time="100000", study_uid="1.2.3.3",
)  # fmt: skip
ORDERS = (CT_MORNING, CT_EVENING, MR_LATER)


def put(directory: Path, *orders: Order) -> None:
    """Do what the HL7 service of a node does."""
    store = NodeStore(directory, "hl7")
    store.put(*orders)
    store.close()


def client_of(scp: RunningScp) -> WorklistClient:
    return WorklistClient(scp.target, "127.0.0.1", calling_ae="MODALITY", called_ae="MACH7", timeouts=TIMEOUTS)


def ask(scp: RunningScp, query: WorklistQuery = EVERYTHING, *, cancel_after: int | None = None) -> FindAnswer:
    with client_of(scp) as client:
        _, answer = client.find(query, Attempt(IDENTITIES.next(Kind.QUERY)), cancel_after=cancel_after)
    return answer


def find(scp: RunningScp, query: Dataset) -> list[tuple[int, Dataset | None]]:
    """Ask by pynetdicom and return the responses, each with its identifier."""
    requestor = AE("MODALITY")
    requestor.add_requested_context(ModalityWorklistInformationFind)
    association = requestor.associate("127.0.0.1", scp.port, ae_title="MACH7")
    found = [(status.Status, found) for status, found in association.send_c_find(query, ModalityWorklistInformationFind)]
    association.release()
    return found


def accessions(answer: FindAnswer) -> list[str]:
    return [item.accession for item in answer.items]


@pytest.fixture(scope="module")
def worklist_scp(start_standing_scp: StartScp) -> RunningScp:
    """Start a worklist SCP that knows ORDERS, for all those tests that leave it as it was."""
    scp = start_standing_scp("dmwl")
    put(scp.directory, *ORDERS)
    return scp


def test_findscu_is_answered_the_keys_it_asked_for(worklist_scp: RunningScp, tmp_path: Path) -> None:
    keys = [
        "PatientID=PID1",
        "PatientName",
        "AccessionNumber",
        "PatientWeight",
        STEP + "Modality",
        STEP + "ScheduledStationAETitle",
    ]
    ended = worklist_scp.dcmtk("findscu", "-W", "-X", "-od", tmp_path, *[word for key in keys for word in ("-k", key)])
    assert ended.returncode == 0, ended.stdout
    [file] = tmp_path.glob("rsp*.dcm")
    found = pydicom.dcmread(file, force=True)
    step = found.ScheduledProcedureStepSequence[0]
    assert (found.PatientName, found.AccessionNumber, found.SpecificCharacterSet) == ("Müller^Anna", "ACC1", "ISO_IR 192")
    assert (step.Modality, step.ScheduledStationAETitle) == ("CT", "CT_EAST")
    assert found.PatientWeight is None
    assert "StudyInstanceUID" not in found


def test_pynetdicom_is_answered_pending_for_each_match_and_then_success(worklist_scp: RunningScp) -> None:
    query = Dataset()
    query.PatientName, query.AccessionNumber = "DOE*", ""
    found = [(status, identifier.AccessionNumber if identifier else None) for status, identifier in find(worklist_scp, query)]
    assert found == [(0xFF00, "ACC2"), (0xFF00, "ACC3"), (0x0000, None)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["ACC1", "ACC2", "ACC3"]),
        ({"accession": "ACC2"}, ["ACC2"]),
        ({"patient_id": "PID?"}, ["ACC1", "ACC2", "ACC3"]),
        ({"patient_id": "PID4"}, []),
        ({"patient_name": "müller*"}, ["ACC1"]),
        ({"patient_name": "doe^john"}, ["ACC2"]),
        ({"modality": "CT"}, ["ACC1", "ACC2"]),
        ({"modality": "ct"}, []),
        ({"station_ae": "CT_*", "start_date": "20260705"}, ["ACC1", "ACC2"]),
        ({"start_date": "20260706-"}, ["ACC3"]),
        ({"start_date": "-20260706"}, ["ACC1", "ACC2"]),
        ({"start_date": "20260705-20260707", "start_time": "1000-1800"}, ["ACC2", "ACC3"]),
        ({"start_time": "0900-1000"}, ["ACC1", "ACC3"]),
        ({"start_date": "20260705", "start_time": "093000"}, ["ACC1"]),
        ({"modality": "MR", "patient_name": "DOE^JOHN"}, []),
    ],
    ids=str,
)
def test_a_query_is_answered_exactly_its_matches_in_order_of_their_start(
    worklist_scp: RunningScp, keys: dict[str, str], expected: list[str]
) -> None:
    answer = ask(worklist_scp, WorklistQuery(**keys))
    assert (accessions(answer), answer.final_status) == (expected, 0x0000)


def test_an_empty_step_sequence_is_answered_all_that_is_known_of_the_step(worklist_scp: RunningScp) -> None:
    query = Dataset()
    query.AccessionNumber = "ACC1"
    query.ScheduledProcedureStepSequence = []
    [(_, found), _] = find(worklist_scp, query)
    assert found is not None
    step = found.ScheduledProcedureStepSequence[0]
    assert (step.Modality, step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepID) == ("CT", "20260705", "STEP1")


def test_a_key_that_cannot_be_matched_is_announced_and_ignored(worklist_scp: RunningScp) -> None:
    query = Dataset()
    query.AccessionNumber, query.PatientWeight = "ACC1", "70"
    assert [status for status, _ in find(worklist_scp, query)] == [0xFF01, 0x0000]


@pytest.mark.parametrize(
    ("keys", "comment"),
    [
        ({"start_date": "tomorrow"}, "date: expected a date or a range, found 'tomorrow'"),
        ({"start_time": "25"}, "time: expected a time or a range, found '25'"),
        ({"modality": "CT\\MR"}, "expected one value, found 2"),
    ],
    ids=["date", "time", "list"],
)
def test_a_query_that_is_none_is_refused_with_the_reason(
    worklist_scp: RunningScp, keys: dict[str, str], comment: str
) -> None:
    with client_of(worklist_scp) as client:
        operation, answer = client.find(WorklistQuery(**keys), Attempt(IDENTITIES.next(Kind.QUERY)))
    assert (operation.outcome, answer) == (Outcome.REFUSED, FindAnswer((), 0xA900, 0))
    assert client.last_failure == f"status A900H {comment}"


def test_both_descriptions_are_matched_where_both_are_asked_for(worklist_scp: RunningScp) -> None:
    query, step = Dataset(), Dataset()
    query.RequestedProcedureDescription, step.ScheduledProcedureStepDescription = "Abdomen", "Thorax"
    query.ScheduledProcedureStepSequence = [step]
    assert find(worklist_scp, query) == [(0x0000, None)]


def test_two_items_in_the_step_sequence_are_refused(worklist_scp: RunningScp) -> None:
    query = Dataset()
    query.ScheduledProcedureStepSequence = [Dataset(), Dataset()]
    assert [status for status, _ in find(worklist_scp, query)] == [0xA900]


def test_an_identifier_that_cannot_be_read_fails(worklist_scp: RunningScp) -> None:
    context = ProposedContext(MODALITY_WORKLIST, (DeflatedExplicitVRLittleEndian,))
    with worklist_scp.associate(context) as association:
        response, _ = association.request(1, c_find_rq(1, MODALITY_WORKLIST), (b"not deflated",))
    assert (response.status, response.error_comment) == (0xC000, "the identifier cannot be read")


def test_a_query_of_ours_is_noted_before_it_is_answered_and_others_are_not(start_scp: StartScp) -> None:
    scp = start_scp("dmwl")
    identity = IDENTITIES.next(Kind.QUERY)
    query = WorklistQuery(patient_id=identity.code)
    with client_of(scp) as client:
        client.echo(Attempt(IDENTITIES.next(Kind.ECHO)))
        client.find(WorklistQuery(patient_id="PID1"), Attempt(IDENTITIES.next(Kind.QUERY)))
        operation, _ = client.find(query, Attempt(identity))
    [receipt] = scp.receipts()
    assert (receipt.run, receipt.kind, receipt.key) == (9, Kind.QUERY, identity.key)
    assert (receipt.flags, receipt.caller.rstrip(b"\0")) == (Flag.OBSERVATION, b"MODALITY")
    assert receipt.digest == operation.digest == xxhash.xxh3_128_digest(query.encode())


def test_orders_of_every_node_are_shown_in_their_newest_state(start_scp: StartScp, tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    put(own, *ORDERS)
    put(other, CT_EVENING._replace(start_date="20260801", updated_ns=2), MR_LATER._replace(status="CA", updated_ns=2))
    scp = start_scp("dmwl", own, site_directories=(str(own), str(other), str(tmp_path / "not yet there")))
    assert accessions(ask(scp)) == ["ACC1", "ACC2"]
    assert accessions(ask(scp, WorklistQuery(start_date="20260705"))) == ["ACC1"]
    assert accessions(ask(scp, WorklistQuery(start_date="20260801"))) == ["ACC2"]
    assert accessions(ask(scp, WorklistQuery(modality="MR"))) == []
    put(other, CT_MORNING._replace(accession="ACC4", start_date="20260802"))
    assert accessions(ask(scp, WorklistQuery(start_date="20260802"))) == ["ACC4"]


def test_a_node_that_hides_shows_its_own_orders_alone(start_scp: StartScp, tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    put(own, CT_MORNING)
    put(other, CT_EVENING)
    scp = start_scp("dmwl", own, site_directories=(str(own), str(other)), misbehaviour=(Misbehaviour.HIDES_ORDERS_OF_OTHERS,))
    assert accessions(ask(scp)) == ["ACC1"]


def test_a_node_that_truncates_leaves_out_the_last_of_several(start_scp: StartScp, tmp_path: Path) -> None:
    put(tmp_path, *ORDERS)
    scp = start_scp("dmwl", tmp_path, misbehaviour=(Misbehaviour.TRUNCATES_WORKLIST,))
    assert accessions(ask(scp)) == ["ACC1", "ACC2"]
    assert accessions(ask(scp, WorklistQuery(accession="ACC3"))) == ["ACC3"]


@pytest.mark.parametrize(("misbehaviour", "ends"), [((), 0xFE00), ((Misbehaviour.IGNORES_CANCEL,), 0x0000)], ids=str)
def test_a_cancel_ends_the_answer_long_before_all_have_come_unless_it_is_ignored(
    start_scp: StartScp, tmp_path: Path, misbehaviour: tuple[Misbehaviour, ...], ends: int
) -> None:
    put(tmp_path, *(CT_MORNING._replace(accession=f"ACC{number}") for number in range(1000)))
    scp = start_scp("dmwl", tmp_path, misbehaviour=misbehaviour)
    answer = ask(scp, cancel_after=3)
    assert answer.final_status == ends
    assert (answer.pending == 1000) is (ends == 0x0000)
    if not misbehaviour:
        ended = scp.dcmtk("findscu", "-d", "-W", "--cancel", "3", "-k", "AccessionNumber")
        assert "0xfe00" in ended.stdout
        assert ended.stdout.count("0xff00") < 1000


def test_a_wrong_called_ae_title_is_rejected_unless_the_node_misbehaves(
    start_scp: StartScp, worklist_scp: RunningScp
) -> None:
    assert "Called AE Title Not Recognized" in worklist_scp.dcmtk("echoscu", called_ae="WRONG").stdout
    scp = start_scp("dmwl", misbehaviour=(Misbehaviour.ACCEPTS_ANY_CALLED_AE,))
    assert scp.dcmtk("echoscu", called_ae="WRONG").returncode == 0
