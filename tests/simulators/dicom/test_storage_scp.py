"""What any storage SCP of ours must do, shown to it by DCMTK, by pynetdicom and by raw bytes."""

from __future__ import annotations

import os
import random
import resource
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pydicom
import pytest
import xxhash
from pydicom.data import get_testdata_file
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from simulators.client import Failed
from simulators.dicom.association import Association
from simulators.dicom.dimse import VERIFICATION, CommandSet, c_echo_rq, c_store_rq
from simulators.dicom.negotiation import ProposedContext
from simulators.dicom.storage_scp import storage_contexts
from simulators.journal import Flag
from simulators.misbehaviour import Misbehaviour
from simulators.operations import IdentitySource, Kind, Outcome, text_address

from .conftest import ENGINES

if TYPE_CHECKING:
    from .conftest import RunningScp, StartScp

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CT_CONTEXT = ProposedContext(CT, (EXPLICIT,))
ECHO_CONTEXT = ProposedContext(VERIFICATION, ("1.2.840.10008.1.2",))
SCANNER_FILES = {  # by the option that makes storescu propose the transfer syntax it is in
    "-xe": "CT_small.dcm",
    "-xi": "MR_small_implicit.dcm",
    "-xb": "MR_small_bigendian.dcm",
    "-xd": "image_dfl.dcm",
    "-xr": "MR_small_RLE.dcm",
    "-xy": "SC_rgb_dcmtk_+eb+cy+n1.dcm",
    "-xx": "JPGExtended.dcm",
    "-xs": "SC_rgb_jpeg_gdcm.dcm",
    "-xt": "MR_small_jpeg_ls_lossless.dcm",
    "-xu": "JPEGLSNearLossless_16.dcm",
    "-xv": "MR_small_jp2klossless.dcm",
    "-xw": "JPEG2000.dcm",
}


class Sample(NamedTuple):
    """A CT image of our own, encoded in Explicit VR Little Endian."""

    uid: str
    data_set: bytes


def scanner_file(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def data_set_of(path: Path) -> bytes:
    """Return the bytes that follow the file meta information, whose length stands in its first element."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def ct_samples(directory: Path, count: int) -> list[Sample]:
    """Return CT images that differ by identity alone."""
    identities = IdentitySource(run=7, generator=3)
    image = pydicom.dcmread(scanner_file("CT_small.dcm"))
    image.SOPInstanceUID = placeholder = identities.next(Kind.INSTANCE).uid
    image.save_as(directory / "sample.dcm")
    encoded = data_set_of(directory / "sample.dcm")
    uids = [identities.next(Kind.INSTANCE).uid for _ in range(count)]
    return [Sample(uid, encoded.replace(placeholder.encode(), uid.encode())) for uid in uids]


def store(association: Association, sample: Sample, *, sop_class: str = CT, uid: str = "") -> CommandSet:
    """Store an image under the UID of the sample, or another one, and return the response."""
    context = association.transfer_syntax_for(CT)
    assert context is not None
    response, _ = association.request(context[0], c_store_rq(1, sop_class, uid or sample.uid), (sample.data_set,))
    return response


def answers(scp: RunningScp) -> bool:
    return scp.dcmtk("echoscu").returncode == 0


def test_answers_an_echo_and_tells_the_name_of_its_node(standing_scp: RunningScp) -> None:
    association = AE("MODALITY")
    association.add_requested_context(Verification)
    opened = association.associate("127.0.0.1", standing_scp.port, ae_title="MACH7")
    status = opened.send_c_echo()
    opened.release()
    assert (status.Status, opened.acceptor.implementation_version_name) == (0x0000, "mach7-1")


def test_a_wrong_called_ae_title_is_rejected_for_good_and_says_why(standing_scp: RunningScp) -> None:
    with pytest.raises(Failed) as failed:
        standing_scp.associate(ECHO_CONTEXT, called_ae="WRONG")
    assert (failed.value.outcome, failed.value.status) == (Outcome.REFUSED, 0x1107)


@pytest.mark.parametrize(
    "settings", [{"accept_unknown_called_ae": True}, {"misbehaviour": (Misbehaviour.ACCEPTS_ANY_CALLED_AE,)}], ids=str
)
def test_a_wrong_called_ae_title_is_accepted_where_the_settings_say_so(
    start_scp: StartScp, settings: dict[str, object]
) -> None:
    assert start_scp("dicom", **settings).dcmtk("echoscu", called_ae="WRONG").returncode == 0


@pytest.mark.parametrize(("option", "name"), SCANNER_FILES.items())
def test_an_image_in_any_transfer_syntax_is_kept_as_it_came(standing_scp: RunningScp, option: str, name: str) -> None:
    sent = pydicom.dcmread(scanner_file(name))
    ended = standing_scp.dcmtk("storescu", "-R", option, scanner_file(name))
    assert ended.returncode == 0, ended.stdout
    kept = standing_scp.directory / "images" / f"{sent.SOPInstanceUID}.dcm"
    found = pydicom.dcmread(kept)
    assert found.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert found.PixelData == sent.PixelData
    assert subprocess.run(["/usr/bin/dcmftest", kept], check=False, stdout=subprocess.DEVNULL).returncode == 0
    receipt = standing_scp.receipts()[-1]
    assert (receipt.digest, receipt.size_bytes) == (xxhash.xxh3_128_digest(data_set_of(kept)), len(data_set_of(kept)))


def test_pynetdicom_stores_an_image_that_is_then_indexed_by_its_attributes(storage_scp: RunningScp) -> None:
    image = pydicom.dcmread(scanner_file("CT_small.dcm"))
    requestor = AE("MODALITY")
    requestor.add_requested_context(CTImageStorage, EXPLICIT)
    association = requestor.associate("127.0.0.1", storage_scp.port, ae_title="MACH7")
    status = association.send_c_store(image)
    association.release()
    [row] = storage_scp.rows()
    assert status.Status == 0x0000
    assert (row.patient_id, row.patient_name, row.modality) == ("1CT1", "CompressedSamples^CT1", "CT")
    assert (row.study_uid, row.series_uid) == (image.StudyInstanceUID, image.SeriesInstanceUID)
    assert (row.file, row.receipts) == (f"images/{image.SOPInstanceUID}.dcm", 1)


def test_a_receipt_tells_identity_caller_and_peer(storage_scp: RunningScp, tmp_path: Path) -> None:
    [sample] = ct_samples(tmp_path, 1)
    with storage_scp.associate(CT_CONTEXT) as association:
        assert store(association, sample).status == 0x0000
        port = association.connection.source_port
    [receipt] = storage_scp.receipts()
    assert (receipt.run, receipt.kind, receipt.key) == (7, Kind.INSTANCE, 3 << 44 | 2)
    assert (receipt.caller.rstrip(b"\0"), receipt.node.rstrip(b"\0")) == (b"MODALITY", b"mach7-1")
    assert (text_address(receipt.peer), receipt.peer_port, receipt.flags) == ("127.0.0.1", port, Flag.NONE)
    assert receipt.digest == xxhash.xxh3_128_digest(sample.data_set)


def test_a_foreign_image_is_flagged(storage_scp: RunningScp) -> None:
    storage_scp.dcmtk("storescu", scanner_file("CT_small.dcm"))
    [receipt] = storage_scp.receipts()
    assert receipt.flags == Flag.FOREIGN


def test_an_image_that_comes_twice_has_two_receipts_and_one_row(storage_scp: RunningScp, tmp_path: Path) -> None:
    [sample] = ct_samples(tmp_path, 1)
    with storage_scp.associate(CT_CONTEXT) as association:
        assert [store(association, sample).status for _ in range(2)] == [0x0000, 0x0000]
    assert len(storage_scp.receipts()) == 2
    assert [row.receipts for row in storage_scp.rows()] == [2]


def test_a_node_that_digests_writes_the_receipt_alone(start_scp: StartScp, tmp_path: Path) -> None:
    scp = start_scp("dicom", storage="digest")
    [sample] = ct_samples(tmp_path, 1)
    with scp.associate(CT_CONTEXT) as association:
        assert store(association, sample).status == 0x0000
    assert [receipt.digest for receipt in scp.receipts()] == [xxhash.xxh3_128_digest(sample.data_set)]
    assert scp.rows() == []
    assert list(scp.directory.rglob("*.dcm")) == []


@pytest.mark.parametrize(
    "command", [{"uid": "2.25.42"}, {"sop_class": "1.2.840.10008.5.1.4.1.1.4"}], ids=["instance", "class"]
)
def test_an_image_that_is_not_what_its_command_says_is_refused(
    storage_scp: RunningScp, tmp_path: Path, command: dict[str, str]
) -> None:
    with storage_scp.associate(CT_CONTEXT) as association:
        assert store(association, ct_samples(tmp_path, 1)[0], **command).status == 0xA900
    assert storage_scp.receipts() == []


@pytest.mark.parametrize("uid", ["../../escape", "2.25.1/2"])
def test_a_uid_that_could_leave_the_folder_is_refused(storage_scp: RunningScp, tmp_path: Path, uid: str) -> None:
    [sample] = ct_samples(tmp_path, 1)
    with storage_scp.associate(CT_CONTEXT) as association:
        assert store(association, sample, uid=uid).status == 0xC000
    assert [path.name for path in tmp_path.rglob("*.dcm")] == ["sample.dcm"]


def test_bytes_that_are_no_data_set_are_refused_without_a_receipt(storage_scp: RunningScp) -> None:
    with storage_scp.associate(CT_CONTEXT) as association:
        response = store(association, Sample("2.25.42", b"\x08\x00\x05\x00CS\xff\xff garbage"))
    assert response.status in (0xA900, 0xC000)
    assert storage_scp.receipts() == []


def test_an_image_for_which_there_is_no_room_is_refused_without_a_receipt(storage_scp: RunningScp, tmp_path: Path) -> None:
    [sample] = ct_samples(tmp_path, 1)
    with storage_scp.associate(CT_CONTEXT) as association:
        resource.prlimit(storage_scp.process.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        response = store(association, sample)
        assert response.status == 0xA700
        assert storage_scp.receipts() == []
        resource.prlimit(storage_scp.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert store(association, sample).status == 0x0000
    assert [path.name for path in (storage_scp.directory / "images").iterdir()] == [f"{sample.uid}.dcm"]


def test_associations_above_the_limit_are_rejected_for_now_and_silent_connections_take_no_place(
    start_scp: StartScp,
) -> None:
    scp = start_scp("dicom", maximum_associations=2)
    silent = [socket.create_connection(("127.0.0.1", scp.port)) for _ in range(3)]
    first, second = scp.associate(ECHO_CONTEXT), scp.associate(ECHO_CONTEXT)
    with pytest.raises(Failed) as failed:
        scp.associate(ECHO_CONTEXT)
    assert failed.value.status == 0x2302
    first.release()
    scp.associate(ECHO_CONTEXT).release()
    second.release()
    for connection in silent:
        connection.close()


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\x00\x00\x00\xff" + bytes(20), b"\x01\x00\xff\xff\xff\xff" + bytes(4096)],
    ids=["another protocol", "half a PDU", "a length beyond reason"],
)
def test_other_clients_do_not_notice_garbage(standing_scp: RunningScp, garbage: bytes) -> None:
    with standing_scp.associate(ECHO_CONTEXT) as association:
        with socket.create_connection(("127.0.0.1", standing_scp.port)) as bad:
            bad.sendall(garbage)
            assert answers(standing_scp)
            bad.settimeout(20)
            with suppress(OSError):  # it may have been reset already
                bad.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):  # a reset is an end as well
                while bad.recv(4096):
                    pass
        assert association.request(1, c_echo_rq(1))[0].status == 0x0000


def test_another_protocol_is_answered_with_an_abort(standing_scp: RunningScp) -> None:
    with socket.create_connection(("127.0.0.1", standing_scp.port)) as bad:
        bad.settimeout(20)
        bad.sendall(b"MSH|^~\\&|A")
        assert bad.recv(4096)[:1] == b"\x07"


def test_many_storescu_at_once_lose_nothing(storage_scp: RunningScp, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(6)]
    image = pydicom.dcmread(scanner_file("MR_small_implicit.dcm"))
    identities = IdentitySource(run=1, generator=1)
    for folder in folders:
        folder.mkdir()
        for number in range(10):
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(identities.next(Kind.INSTANCE).uid)
            image.save_as(folder / f"{number}.dcm")
    with ThreadPoolExecutor(len(folders)) as pool:
        ended = list(pool.map(lambda folder: storage_scp.dcmtk("storescu", "+sd", folder), folders))
    assert [end.returncode for end in ended] == [0] * len(folders)
    assert Counter(receipt.key for receipt in storage_scp.receipts()) == {1 << 44 | number: 1 for number in range(1, 61)}
    assert [row.receipts for row in storage_scp.rows()] == [1] * 60


def test_whatever_was_acknowledged_survives_kills_at_random_moments(storage_scp: RunningScp, tmp_path: Path) -> None:
    choice = random.Random(20)
    samples = iter(ct_samples(tmp_path, 200))
    acknowledged: list[str] = []
    for _ in range(6):
        association = storage_scp.associate(CT_CONTEXT)
        for sample, _ in zip(samples, range(choice.randrange(12)), strict=False):
            assert store(association, sample).status == 0x0000
            acknowledged.append(sample.uid)
        sample = next(samples)
        association.send(1, c_store_rq(1, CT, sample.uid), (sample.data_set,))
        storage_scp.kill()
        association.close()
        storage_scp.start()
    assert answers(storage_scp)
    receipts = {receipt.key for receipt in storage_scp.receipts()}
    rows = {row.sop_uid: row for row in storage_scp.rows()}
    for uid in acknowledged:
        assert (int(uid[5:]) & (1 << 58) - 1) in receipts
        assert pydicom.dcmread(storage_scp.directory / rows[uid].file).SOPInstanceUID == uid
    assert len(rows) == len(receipts)
    assert list(storage_scp.directory.rglob("*.partial")) == []


def test_a_restart_indexes_what_was_receipted_and_not_what_was_not(storage_scp: RunningScp, tmp_path: Path) -> None:
    ours, unacknowledged = ct_samples(tmp_path, 2)
    with storage_scp.associate(CT_CONTEXT) as association:
        assert [store(association, ours).status for _ in range(2)] == [0x0000, 0x0000]
    assert storage_scp.dcmtk("storescu", scanner_file("CT_small.dcm")).returncode == 0
    storage_scp.kill()
    before = {row.sop_uid: row._replace(updated_ns=0) for row in storage_scp.rows()}
    for file in storage_scp.directory.glob("dicom.sqlite*"):
        file.unlink()
    (storage_scp.directory / "images" / f"{unacknowledged.uid}.dcm").write_bytes(b"a file without its receipt")
    storage_scp.start()
    assert answers(storage_scp)
    assert {row.sop_uid: row._replace(updated_ns=0) for row in storage_scp.rows()} == before
    assert before[ours.uid].receipts == 2


@pytest.mark.parametrize(
    ("misbehaviour", "receipts"), [(Misbehaviour.LOSES_EVERY_200TH, 199), (Misbehaviour.STORES_ONE_TWICE, 201)]
)
def test_a_misbehaving_node_acknowledges_all_the_same(
    start_scp: StartScp, tmp_path: Path, misbehaviour: Misbehaviour, receipts: int
) -> None:
    scp = start_scp("dicom", misbehaviour=(misbehaviour,), storage="digest")
    samples = ct_samples(tmp_path, 200)
    with scp.associate(CT_CONTEXT) as association:
        assert {store(association, sample).status for sample in samples} == {0x0000}
    counted = Counter(receipt.key for receipt in scp.receipts())
    assert sum(counted.values()) == receipts
    assert counted[int(samples[199].uid[5:]) & (1 << 58) - 1] == receipts - 199


def test_every_storage_sop_class_is_offered_once() -> None:
    offered = Counter(context.abstract_syntax for context in storage_contexts())
    assert set(offered.values()) == {1}
    assert len(offered) > 180
    retired_ultrasound = "1.2.840.10008.5.1.4.1.1.6"
    assert {CT, retired_ultrasound, VERIFICATION} <= set(offered)


def test_a_worklist_query_finds_no_context_here(standing_scp: RunningScp) -> None:
    worklist = ProposedContext("1.2.840.10008.5.1.4.31", (EXPLICIT,))
    with standing_scp.associate(ECHO_CONTEXT, worklist) as association:
        assert association.transfer_syntax_for("1.2.840.10008.5.1.4.31") is None


def test_sigterm_ends_the_service_with_code_0(storage_scp: RunningScp) -> None:
    assert answers(storage_scp)
    with storage_scp.associate(ECHO_CONTEXT):
        assert storage_scp.end() == 0


def test_a_descriptor_that_does_not_listen_is_named_and_nothing_starts(engine: str, tmp_path: Path) -> None:
    with socket.socket() as unbound:
        os.set_inheritable(unbound.fileno(), True)
        file = tmp_path / "settings.json"
        file.write_text(
            f'{{"node": "mach7-1", "service": "dicom", "listen_fd": {unbound.fileno()}, "directory": "{tmp_path}",'
            ' "site_directories": []}'
        )
        command = [sys.executable, "-m", ENGINES[engine]["dicom"], str(file)]
        ended = subprocess.run(command, pass_fds=[unbound.fileno()], capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "listen_fd: expected an inherited listening socket" in ended.stderr
