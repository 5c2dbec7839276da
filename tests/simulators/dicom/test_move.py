"""C-MOVE of any storage SCP of ours: what it sends, where, and from which address, shown by DCMTK and by our own client."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pydicom
import pytest
import xxhash

from simulators.client import Attempt
from simulators.dicom.dimse import SubOperations, c_move_rq, decode_command
from simulators.dicom.modality import Modality
from simulators.dicom.move_client import MoveClient
from simulators.dicom.negotiation import ProposedContext
from simulators.dicom.receiver import ImageReceiver
from simulators.dicom.samples import SampleImage, generated_image
from simulators.operations import IdentitySource, Kind, Outcome
from simulators.outbound import Outbound
from simulators.received import Received, ReceivedLog

from .conftest import TIMEOUTS

if TYPE_CHECKING:
    from .conftest import RunningScp, StartScp

RECEIVER = "RECEIVER"
OWN_ADDRESS = "127.0.0.5"  # what the node sends from
IDENTITIES = IdentitySource(run=11, generator=1)
IMAGES = (generated_image("CT", 8192, 1), generated_image("MR", 2 << 20, 2))


class Destination(NamedTuple):
    """Where nodes send to, and what has come there."""

    outbound: Outbound
    log: ReceivedLog


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def outbound_to(port: int) -> Outbound:
    return Outbound(ae_title=RECEIVER, address="127.0.0.1", dicom_port=port, hl7_port=port, source=OWN_ADDRESS)


@pytest.fixture
def receive(listening: socket.socket) -> Iterator[Callable[..., Destination]]:
    opened: list[ImageReceiver] = []

    def made(*admitted: str) -> Destination:
        log = ReceivedLog()
        opened.append(ImageReceiver(listening, RECEIVER, admitted, log))
        return Destination(outbound_to(listening.getsockname()[1]), log)

    yield made
    for receiver in opened:
        receiver.close()


def stored_study(scp: RunningScp, images: tuple[SampleImage, ...] = IMAGES) -> tuple[str, list[str]]:
    """Store a study; return its UID and those of its instances."""
    study, series, patient = (IDENTITIES.next(kind) for kind in (Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    uids = []
    modality = Modality(scp.target, "127.0.0.1", calling_ae="MODALITY", called_ae="MACH7", images=images, timeouts=TIMEOUTS)
    with modality:
        for image in images:
            identity = IDENTITIES.next(Kind.INSTANCE)
            instance = image.instance.named(identity, study, series, patient, None)
            assert modality.store(instance, Attempt(identity)).outcome == Outcome.ACKNOWLEDGED
            uids.append(identity.uid)
    return study.uid, uids


def move(scp: RunningScp, study_uid: str, destination: str = RECEIVER) -> tuple[int, Outcome, SubOperations]:
    client = MoveClient(scp.target, "127.0.0.1", calling_ae="MODALITY", called_ae="MACH7", timeouts=TIMEOUTS)
    with client:
        operation, counts = client.move(study_uid, destination, Attempt(IDENTITIES.next(Kind.QUERY)))
    return operation.status, Outcome(operation.outcome), counts


def test_a_moved_study_comes_whole_from_the_nodes_own_address(
    start_scp: StartScp, receive: Callable[..., Destination]
) -> None:
    destination = receive(OWN_ADDRESS)
    scp = start_scp("dicom", outbound=destination.outbound)
    study, uids = stored_study(scp)
    assert move(scp, study) == (0x0000, Outcome.ACKNOWLEDGED, SubOperations(completed=2))
    assert sorted(destination.log.entries()) == sorted(Received(OWN_ADDRESS, uid, admitted=True) for uid in uids)


def test_what_another_node_of_the_site_took_is_moved_too(
    start_scp: StartScp, tmp_path: Path, receive: Callable[..., Destination]
) -> None:
    destination = receive(OWN_ADDRESS)
    folders = (str(tmp_path / "one"), str(tmp_path / "two"))
    one = start_scp("dicom", tmp_path / "one", site_directories=folders)
    two = start_scp("dicom", tmp_path / "two", site_directories=folders, outbound=destination.outbound)
    study, uids = stored_study(one)
    assert move(two, study)[2] == SubOperations(completed=2)
    assert {entry.identifier for entry in destination.log.entries()} == set(uids)


def test_a_receiver_that_does_not_know_the_node_makes_the_move_fail(
    start_scp: StartScp, receive: Callable[..., Destination]
) -> None:
    destination = receive("127.0.0.6")
    scp = start_scp("dicom", outbound=destination.outbound)
    study, _ = stored_study(scp, IMAGES[:1])
    assert move(scp, study) == (0xA702, Outcome.REFUSED, SubOperations(failed=1))
    assert destination.log.entries() == [Received(OWN_ADDRESS, "", admitted=False)]


def test_unknown_destinations_and_requests_that_name_nothing_are_refused(start_scp: StartScp) -> None:
    scp = start_scp("dicom", outbound=outbound_to(9))
    assert move(scp, "1.2.3", "SOMEBODY")[0] == 0xA801
    assert move(scp, "")[0] == 0xA900
    assert move(scp, "1.2.3") == (0x0000, Outcome.ACKNOWLEDGED, SubOperations())
    assert move(start_scp("dicom"), "1.2.3")[0] == 0xA801


def test_after_a_move_the_association_goes_on(start_scp: StartScp, receive: Callable[..., Destination]) -> None:
    scp = start_scp("dicom", outbound=receive(OWN_ADDRESS).outbound)
    study, _ = stored_study(scp, IMAGES[:1])
    client = MoveClient(scp.target, "127.0.0.1", calling_ae="MODALITY", called_ae="MACH7", timeouts=TIMEOUTS)
    with client:
        moved = [client.move(study, RECEIVER, Attempt(IDENTITIES.next(Kind.QUERY)))[0] for _ in range(2)]
        echoed = client.echo(Attempt(IDENTITIES.next(Kind.ECHO)))
    assert {operation.outcome for operation in (*moved, echoed)} == {Outcome.ACKNOWLEDGED}
    assert len({operation.session for operation in (*moved, echoed)}) == 1


def test_movescu_and_storescp_of_dcmtk_understand_it(start_scp: StartScp, listening: socket.socket, tmp_path: Path) -> None:
    port = listening.getsockname()[1]
    listening.close()
    scp = start_scp("dicom", outbound=outbound_to(port))
    study, uids = stored_study(scp)
    taken = tmp_path / "taken"
    taken.mkdir()
    storescp = subprocess.Popen(["/usr/bin/storescp", "-aet", RECEIVER, "+uf", "+B", "-od", str(taken), str(port)])
    try:
        _wait_for_listener(port)
        keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
        done = scp.dcmtk("movescu", "-v", "-S", "-aem", RECEIVER, *keys)
        assert done.returncode == 0, done.stdout
        assert "Success" in done.stdout
    finally:
        storescp.terminate()
        storescp.wait(10)
    files = sorted(taken.iterdir())
    assert {str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files} == set(uids)
    digests = {receipt.digest for receipt in scp.receipts()}
    assert {xxhash.xxh3_128_digest(_data_set(file)) for file in files} == digests


def test_a_node_that_digests_offers_no_move(start_scp: StartScp) -> None:
    scp = start_scp("dicom", storage="digest", outbound=outbound_to(9))
    with scp.associate(ProposedContext("1.2.840.10008.5.1.4.1.2.2.2", ("1.2.840.10008.1.2",)), _ECHO) as association:
        assert association.transfer_syntax_for("1.2.840.10008.5.1.4.1.2.2.2") is None


def test_the_commands_of_a_move_say_what_they_carry() -> None:
    request = decode_command(c_move_rq(7, "1.2.840.10008.5.1.4.1.2.2.2", "ABC"))
    assert (request.message_id, request.own, request.has_data_set) == (7, "ABC", True)


_ECHO = ProposedContext("1.2.840.10008.1.1", ("1.2.840.10008.1.2",))


def _data_set(file: Path) -> bytes:
    content = file.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def _wait_for_listener(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("storescp does not listen")
