from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import xxhash

from simulators.client import Attempt, Timeouts
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.many_modalities import ManyModalities
from simulators.dicom.modality import Modality
from simulators.dicom.samples import SampleImage, generated_image
from simulators.dicom.upper_layer import Event, Message, ReleaseRequested, UpperLayer
from simulators.operations import Operation, Outcome, Phase

from .peers import (
    SHORT,
    SMALL,
    TIMEOUTS,
    accept_once,
    accepting,
    copy_of,
    dcmtk,
    fate,
    modality,
    peer,
    reset,
    responding,
    stored_with,
)

LARGE = generated_image("CT", 16 << 20, seed=5)
STORED = (Outcome.ACKNOWLEDGED, Phase.DONE, 0)
SILENT = (Outcome.INDETERMINATE, Phase.RESPONSE, 0)
Job = tuple[EncodedInstance, Attempt]


@contextmanager
def many(port: int, count: int, *images: SampleImage, timeouts: Timeouts = TIMEOUTS) -> Iterator[list[Modality]]:
    with ExitStack() as stack:
        yield [stack.enter_context(modality(port, *images, timeouts=timeouts)) for _ in range(count)]


def jobs_of(image: SampleImage, count: int) -> list[Job]:
    return [copy_of(image) for _ in range(count)]


def stored(senders: Sequence[Modality], jobs: Sequence[Sequence[Job]]) -> list[Operation]:
    return list(ManyModalities(senders).store_all(jobs))


def test_every_image_of_every_modality_is_stored_as_it_was_named(tmp_path: Path) -> None:
    jobs = [jobs_of(SMALL, 10) for _ in range(5)]
    with dcmtk(tmp_path, "--accept-all", "--bit-preserving", "--fork") as port, many(port, 5, SMALL) as senders:
        operations = stored(senders, jobs)
    copies = [job for of_one in jobs for job in of_one]
    assert {fate(operation) for operation in operations} == {STORED}
    assert {operation.key: operation.digest for operation in operations} == {
        attempt.identity.key: copy.digest for copy, attempt in copies
    }
    assert sorted(Counter(operation.session for operation in operations).values()) == [10] * 5
    found = sorted(xxhash.xxh3_128_digest(file.read_bytes()[-8192:]) for file in tmp_path.iterdir())
    assert found == sorted(xxhash.xxh3_128_digest(b"".join(copy.buffers)[-8192:]) for copy, _ in copies)


def test_images_that_leave_in_many_parts_arrive_byte_for_byte(tmp_path: Path) -> None:
    jobs = [jobs_of(LARGE, 2) for _ in range(2)]
    with dcmtk(tmp_path, "--accept-all", "--bit-preserving", "--fork") as port, many(port, 2, LARGE) as senders:
        operations = stored(senders, jobs)
    assert [fate(operation) for operation in operations] == [STORED] * 4
    files = [file.read_bytes() for file in tmp_path.iterdir()]
    assert {xxhash.xxh3_128_digest(content[-LARGE.size_bytes :]) for content in files} == {
        operation.digest for operation in operations
    }


def test_each_modality_has_one_image_outstanding_and_waits_for_no_other() -> None:
    def response(message: Message) -> bytes:
        arrived.wait(10)
        return stored_with(0)(message)

    arrived = threading.Barrier(3)  # nobody is answered before all have sent
    with peer(responding(response), 3) as port, many(port, 3, SMALL) as senders:
        operations = stored(senders, [jobs_of(SMALL, 2) for _ in range(3)])
    assert [fate(operation) for operation in operations] == [STORED] * 6


def test_modalities_may_have_different_numbers_of_images_and_none(tmp_path: Path) -> None:
    with dcmtk(tmp_path, "--accept-all", "--fork") as port, many(port, 3, SMALL) as senders:
        operations = stored(senders, [jobs_of(SMALL, 3), [], jobs_of(SMALL, 1)])
    assert [fate(operation) for operation in operations] == [STORED] * 4


def test_silence_is_indeterminate_and_the_others_go_on() -> None:
    silent = threading.Lock()

    def response(message: Message) -> bytes:
        if silent.acquire(blocking=False):
            given_up.wait(10)
        return stored_with(0)(message)

    given_up = threading.Event()
    with peer(responding(response), 2) as port, many(port, 2, SMALL, timeouts=SHORT) as senders:
        operations = stored(senders, [jobs_of(SMALL, 1), jobs_of(SMALL, 1)])
        given_up.set()
    assert [fate(operation) for operation in operations] == [STORED, SILENT]


def test_a_peer_that_stops_reading_is_indeterminate_in_the_send() -> None:
    with peer(accept_once) as port, many(port, 1, LARGE, timeouts=SHORT) as senders:
        [operation] = stored(senders, [jobs_of(LARGE, 1)])
    assert fate(operation) == (Outcome.INDETERMINATE, Phase.SEND, 0)


def test_a_reset_costs_one_image_and_the_next_goes_over_a_new_association() -> None:
    seen: list[Event] = []

    def answer(connection: socket.socket, layer: UpperLayer, event: Event) -> None:
        seen.append(event)
        if len(seen) == 2:
            reset(connection)
        elif isinstance(event, Message):
            connection.sendall(b"".join(layer.message(event.context_id, stored_with(0)(event))))
        elif isinstance(event, ReleaseRequested):
            connection.sendall(layer.release_answer())

    with peer(accepting(answer)) as port, many(port, 1, SMALL) as senders:
        operations = stored(senders, [jobs_of(SMALL, 4)])
    assert [fate(operation) for operation in operations] == [STORED, SILENT, STORED, STORED]
    assert len({operation.session for operation in operations}) == 2


def test_an_unusual_answer_is_understood() -> None:
    with peer(responding(stored_with(0xA700)), 2) as port, many(port, 2, SMALL) as senders:
        operations = stored(senders, [jobs_of(SMALL, 2), jobs_of(SMALL, 2)])
    assert [fate(operation) for operation in operations] == [(Outcome.REFUSED, Phase.DONE, 0xA700)] * 4


def test_a_refused_connection_refuses_each_image() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with many(port, 2, SMALL) as senders:
        operations = stored(senders, [jobs_of(SMALL, 2), jobs_of(SMALL, 1)])
    assert [fate(operation) for operation in operations] == [(Outcome.REFUSED, Phase.CONNECT, 0)] * 3


def test_what_is_under_way_has_a_fate_even_when_the_jobs_fail(tmp_path: Path) -> None:
    def failing() -> Iterator[Job]:
        yield copy_of(SMALL)
        raise ZeroDivisionError

    operations: list[Operation] = []
    with dcmtk(tmp_path, "--accept-all", "--fork") as port, many(port, 2, SMALL) as senders:
        running = ManyModalities(senders).store_all([jobs_of(SMALL, 5), failing()])
        with pytest.raises(ZeroDivisionError):
            operations += running
    assert [fate(operation) for operation in operations] == [STORED] * 2


def test_jobs_for_another_number_of_modalities_are_refused() -> None:
    with pytest.raises(ValueError, match="jobs: expected those of 0 modalities, found those of 1"):
        list(ManyModalities(()).store_all([[]]))
