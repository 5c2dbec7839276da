from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import xxhash

from simulators.client import Attempt
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.samples import generated_image
from simulators.dicom.upper_layer import Event, Message, ReleaseRequested, UpperLayer
from simulators.operations import Outcome, Phase

from .peers import (
    SHORT,
    SMALL,
    accepting,
    copy_of,
    dcmtk,
    fate,
    modality,
    peer,
    resetting_the_first,
    responding,
    stored_with,
)


@pytest.mark.parametrize("eager", [False, True])
def test_a_study_is_stored_in_order_each_image_as_it_was_named(tmp_path: Path, *, eager: bool) -> None:
    jobs = [copy_of(SMALL) for _ in range(20)]
    with dcmtk(tmp_path, "--accept-all", "--bit-preserving") as port, modality(port, SMALL, eager=eager) as sender:
        operations = list(sender.store_all(jobs))
    assert [(operation.key, operation.digest) for operation in operations] == [
        (attempt.identity.key, copy.digest) for copy, attempt in jobs
    ]
    assert {fate(operation) for operation in operations} == {(Outcome.ACKNOWLEDGED, Phase.DONE, 0)}
    assert len({operation.session for operation in operations}) == 1
    stored = sorted(xxhash.xxh3_128_digest(file.read_bytes()[-8192:]) for file in tmp_path.iterdir())
    assert stored == sorted(xxhash.xxh3_128_digest(b"".join(copy.buffers)[-8192:]) for copy, _ in jobs)


def test_a_study_of_large_and_small_images_arrives_byte_for_byte(tmp_path: Path) -> None:
    large = generated_image("CT", 524288, seed=5)
    jobs = [copy_of(image) for image in (SMALL, large, large, SMALL, large)]
    with dcmtk(tmp_path, "--accept-all", "--bit-preserving") as port, modality(port, SMALL, large) as sender:
        operations = list(sender.store_all(jobs))
    assert [operation.size_bytes for operation in operations] == [8192, 524288, 524288, 8192, 524288]
    files = {
        str(pydicom.filereader.read_file_meta_info(file).MediaStorageSOPInstanceUID): file for file in tmp_path.iterdir()
    }
    for (copy, attempt), operation in zip(jobs, operations, strict=True):
        content = files[attempt.identity.uid].read_bytes()
        assert xxhash.xxh3_128_digest(content[-copy.size_bytes :]) == operation.digest


def test_no_image_of_a_study_is_sent_before_the_one_before_it_is_answered() -> None:
    arrived: list[str] = []

    def response(message: Message) -> bytes:
        arrived.append(message.command_set.sop_instance)
        return stored_with(0)(message)

    jobs = [copy_of(SMALL) for _ in range(3)]
    with peer(responding(response)) as port, modality(port, SMALL) as sender:
        operations = sender.store_all(jobs)
        next(operations)
        assert arrived == [jobs[0][1].identity.uid]
        del operations  # whoever does not ask for the rest does not send it
        assert sender.is_open
        assert fate(sender.store(*jobs[2])) == (Outcome.ACKNOWLEDGED, Phase.DONE, 0)
    assert arrived == [jobs[0][1].identity.uid, jobs[2][1].identity.uid]


def test_the_next_image_is_taken_while_the_peer_works_on_the_one_before_it() -> None:
    arrived, taken = threading.Event(), threading.Event()
    order: list[str] = []

    def response(message: Message) -> bytes:
        arrived.set()
        assert taken.wait(5)
        order.append("answered")
        return stored_with(0)(message)

    def jobs() -> Iterator[tuple[EncodedInstance, Attempt]]:
        yield copy_of(SMALL)
        assert arrived.wait(5)
        order.append("taken")
        taken.set()
        yield copy_of(SMALL)

    with peer(responding(response)) as port, modality(port, SMALL) as sender:
        operations = list(sender.store_all(jobs()))
    assert order == ["taken", "answered", "answered"]
    assert [fate(operation)[0] for operation in operations] == [Outcome.ACKNOWLEDGED] * 2


def test_an_image_under_way_has_a_fate_even_when_the_jobs_fail() -> None:
    def jobs() -> Iterator[tuple[EncodedInstance, Attempt]]:
        yield copy_of(SMALL)
        raise LookupError("no more images")

    with peer(responding(stored_with(0))) as port, modality(port, SMALL) as sender:
        operations = sender.store_all(jobs())
        assert fate(next(operations)) == (Outcome.ACKNOWLEDGED, Phase.DONE, 0)
        with pytest.raises(LookupError, match="no more images"):
            next(operations)


def test_a_study_goes_on_over_a_new_association_when_one_image_ends_the_first() -> None:
    with peer(resetting_the_first()) as port, modality(port, SMALL) as sender:
        sender.open()
        operations = list(sender.store_all([copy_of(SMALL) for _ in range(3)]))
    assert [fate(operation)[0] for operation in operations] == [
        Outcome.INDETERMINATE, Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED,
    ]  # fmt: skip
    assert len({operation.session for operation in operations}) == 2


def test_an_answer_in_pieces_is_one_answer() -> None:
    def answer(connection: socket.socket, layer: UpperLayer, event: Event) -> None:
        if isinstance(event, Message):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"".join(layer.message(event.context_id, stored_with(0)(event))):
                connection.sendall(bytes((byte,)))
        elif isinstance(event, ReleaseRequested):
            connection.sendall(layer.release_answer())

    with peer(accepting(answer)) as port, modality(port, SMALL) as sender:
        operations = list(sender.store_all([copy_of(SMALL) for _ in range(3)]))
    assert {fate(operation) for operation in operations} == {(Outcome.ACKNOWLEDGED, Phase.DONE, 0)}


def test_an_unusual_answer_within_a_study_is_understood() -> None:
    statuses = [0, 0xB000, 0xA700, 0]

    def response(message: Message) -> bytes:
        return stored_with(statuses[message.command_set.message_id - 1])(message)

    with peer(responding(response)) as port, modality(port, SMALL) as sender:
        operations = list(sender.store_all([copy_of(SMALL) for _ in statuses]))
    assert [fate(operation) for operation in operations] == [
        (Outcome.ACKNOWLEDGED, Phase.DONE, 0), (Outcome.ACKNOWLEDGED, Phase.DONE, 0xB000),
        (Outcome.REFUSED, Phase.DONE, 0xA700), (Outcome.ACKNOWLEDGED, Phase.DONE, 0),
    ]  # fmt: skip
    assert [operation.warning for operation in operations] == [0, 1, 0, 0]
    assert len({operation.session for operation in operations}) == 1


def test_an_answer_for_the_image_before_it_tells_nothing_about_an_image_of_a_study() -> None:
    answers: list[bytes] = []

    def response(message: Message) -> bytes:
        answers.append(stored_with(0)(message))
        return answers[0]

    jobs = [copy_of(SMALL) for _ in range(2)]
    with peer(responding(response)) as port, modality(port, SMALL) as sender:
        operations = list(sender.store_all(jobs))
    assert [fate(operation)[0] for operation in operations] == [Outcome.ACKNOWLEDGED, Outcome.INDETERMINATE]
    assert [operation.digest for operation in operations] == [copy.digest for copy, _ in jobs]


def test_silence_within_a_study_is_indeterminate() -> None:
    def answer(connection: socket.socket, layer: UpperLayer, event: Event) -> None:
        if isinstance(event, Message) and event.command_set.message_id == 1:
            connection.sendall(b"".join(layer.message(event.context_id, stored_with(0)(event))))

    with peer(accepting(answer)) as port:
        operations = modality(port, SMALL, timeouts=SHORT).store_all([copy_of(SMALL), copy_of(SMALL)])
        assert [fate(operation)[:2] for operation in operations] == [
            (Outcome.ACKNOWLEDGED, Phase.DONE), (Outcome.INDETERMINATE, Phase.RESPONSE),
        ]  # fmt: skip


def test_two_studies_in_turn_over_one_association_do_not_mix() -> None:
    arrived: list[bytes] = []

    def response(message: Message) -> bytes:
        arrived.append(xxhash.xxh3_128_digest(message.data or b""))
        return stored_with(0)(message)

    studies = [[copy_of(SMALL) for _ in range(4)] for _ in range(2)]
    with peer(responding(response)) as port, modality(port, SMALL) as sender:
        sender.open()
        turns = list(zip(*map(sender.store_all, studies), strict=True))
    operations = [operation for turn in turns for operation in turn]
    in_turn = [job for jobs in zip(*studies, strict=True) for job in jobs]
    assert arrived == [copy.digest for copy, _ in in_turn] == [operation.digest for operation in operations]
    assert [operation.key for operation in operations] == [attempt.identity.key for _, attempt in in_turn]
    assert {fate(operation) for operation in operations} == {(Outcome.ACKNOWLEDGED, Phase.DONE, 0)}


def test_a_part_of_an_answer_and_then_silence_is_indeterminate() -> None:
    def answer(connection: socket.socket, layer: UpperLayer, event: Event) -> None:
        if isinstance(event, Message):
            connection.sendall(b"".join(layer.message(event.context_id, stored_with(0)(event)))[:12])

    with peer(accepting(answer)) as port:
        operation = modality(port, SMALL, timeouts=SHORT).store(*copy_of(SMALL))
    assert fate(operation) == (Outcome.INDETERMINATE, Phase.RESPONSE, 0)
