from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

import pydicom
import pytest
import xxhash

from simulators.client import Attempt, Failed
from simulators.dicom.dimse import c_echo_rsp, c_store_rsp
from simulators.dicom.samples import SampleImage, generated_image, sample_images
from simulators.dicom.upper_layer import Message
from simulators.operations import Kind, Outcome, Phase

from .peers import SMALL, SOURCE, copy_of, dcmtk, fate, identities, modality, peer, responding, stored_with


@pytest.mark.parametrize("image", sample_images(), ids=lambda image: image.name)
def test_dcmtk_stores_every_sample_byte_for_byte(image: SampleImage, tmp_path: Path) -> None:
    copy, attempt = copy_of(image)
    with dcmtk(tmp_path, "--accept-all", "--bit-preserving") as port, modality(port, image) as sender:
        operation = sender.store(copy, attempt)
    assert fate(operation) == (Outcome.ACKNOWLEDGED, Phase.DONE, 0)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(file)
    data_set = content[-copy.size_bytes :]
    assert xxhash.xxh3_128_digest(data_set) == operation.digest == copy.digest
    assert meta.TransferSyntaxUID == image.transfer_syntax
    stored = pydicom.dcmread(file)
    assert stored.SOPInstanceUID == attempt.identity.uid
    assert stored.AccessionNumber == attempt.identity.accession


def test_an_image_of_200_mb_arrives_whole(tmp_path: Path) -> None:
    image = generated_image("CR", 200_000_000, seed=4)
    copy, attempt = copy_of(image)
    with dcmtk(tmp_path, "--ignore") as port, modality(port, image) as sender:
        operation = sender.store(copy, attempt)
    assert fate(operation) == (Outcome.ACKNOWLEDGED, Phase.DONE, 0)
    assert operation.size_bytes == 200_000_000


def test_many_images_go_over_one_association(tmp_path: Path) -> None:
    with dcmtk(tmp_path, "--ignore") as port, modality(port, SMALL) as sender:
        operations = [sender.store(*copy_of(SMALL)) for _ in range(50)]
    assert {fate(operation) for operation in operations} == {(Outcome.ACKNOWLEDGED, Phase.DONE, 0)}
    assert len({operation.session for operation in operations}) == 1


def test_a_response_without_an_instance_acknowledges() -> None:
    def response(message: Message) -> bytes:
        whole = stored_with(0)(message)
        body = whole[12:-52]  # without the group length, and without the SOP Instance UID, the last element
        return whole[:8] + struct.pack("<I", len(body)) + body

    with peer(responding(response)) as port, modality(port, SMALL) as sender:
        assert fate(sender.store(*copy_of(SMALL))) == (Outcome.ACKNOWLEDGED, Phase.DONE, 0)


def test_an_echo_is_acknowledged_and_names_the_node(tmp_path: Path) -> None:
    with dcmtk(tmp_path) as port, modality(port) as sender:
        operation = sender.echo(Attempt(identities.next(Kind.ECHO)))
        assert re.fullmatch(r"OFFIS_DCMTK_\d{3}", sender.node)
    assert fate(operation) == (Outcome.ACKNOWLEDGED, Phase.DONE, 0)
    assert operation.node.rstrip(b"\x00").startswith(b"OFFIS_DCMTK_")
    assert operation.kind == Kind.ECHO


def test_an_association_that_dcmtk_rejects_is_refused_with_its_reason(tmp_path: Path) -> None:
    with dcmtk(tmp_path, "--refuse") as port:
        sender = modality(port, SMALL)
        operation = sender.store(*copy_of(SMALL))
    assert fate(operation)[:2] == (Outcome.REFUSED, Phase.NEGOTIATE)
    assert operation.status == 0x1101
    assert "rejected permanently by the service user: no reason given" in sender.last_failure


def test_a_rejection_is_raised_by_open(tmp_path: Path) -> None:
    with dcmtk(tmp_path, "--refuse") as port, pytest.raises(Failed, match="rejected permanently") as raised:
        modality(port, SMALL).open()
    assert (raised.value.outcome, raised.value.phase) == (Outcome.REFUSED, Phase.NEGOTIATE)


def test_a_context_that_is_not_accepted_refuses_the_image_and_keeps_the_association(tmp_path: Path) -> None:
    lossless = next(image for image in sample_images() if image.name == "sc-jpeg-lossless")
    with dcmtk(tmp_path, "--implicit", "--ignore") as port, modality(port, lossless) as sender:
        operation = sender.store(*copy_of(lossless))
        assert sender.is_open
    assert fate(operation) == (Outcome.REFUSED, Phase.NEGOTIATE, 0)
    assert "to be accepted, found it refused" in sender.last_failure


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_is_acknowledged_with_a_note(status: int) -> None:
    with peer(responding(stored_with(status))) as port, modality(port, SMALL) as sender:
        operation = sender.store(*copy_of(SMALL))
    assert fate(operation) == (Outcome.ACKNOWLEDGED, Phase.DONE, status)
    assert operation.warning == 1


def test_a_failure_status_is_refused_and_the_association_stays() -> None:
    with peer(responding(stored_with(0xA700))) as port, modality(port, SMALL) as sender:
        operation = sender.store(*copy_of(SMALL))
        assert sender.is_open
    assert fate(operation) == (Outcome.REFUSED, Phase.DONE, 0xA700)
    assert sender.last_failure == "status A700H"


def test_an_answer_to_another_message_is_indeterminate() -> None:
    def response(message: Message) -> bytes:
        request = message.command_set
        return c_store_rsp(request.message_id + 1, request.sop_class, request.sop_instance)

    with peer(responding(response)) as port, modality(port, SMALL) as sender:
        operation = sender.store(*copy_of(SMALL))
        assert not sender.is_open
    assert fate(operation) == (Outcome.INDETERMINATE, Phase.RESPONSE, 0)
    assert "to message 2" in sender.last_failure


def test_an_answer_for_another_instance_is_indeterminate() -> None:
    def response(message: Message) -> bytes:
        return c_store_rsp(message.command_set.message_id, message.command_set.sop_class, "1.2.3")

    with peer(responding(response)) as port, modality(port, SMALL) as sender:
        assert fate(sender.store(*copy_of(SMALL)))[0] is Outcome.INDETERMINATE


def test_an_echo_response_does_not_answer_a_store() -> None:
    echoes = responding(lambda message: c_echo_rsp(message.command_set.message_id))
    with peer(echoes) as port, modality(port, SMALL) as sender:
        assert fate(sender.store(*copy_of(SMALL)))[0] is Outcome.INDETERMINATE


def test_a_connection_comes_from_the_source_address_asked_for() -> None:
    seen: list[str] = []

    def serve(connection: socket.socket) -> None:
        seen.append(connection.getpeername()[0])
        responding(stored_with(0))(connection)

    with peer(serve) as port, modality(port, SMALL) as sender:
        sender.store(*copy_of(SMALL))
    assert seen == [SOURCE]
