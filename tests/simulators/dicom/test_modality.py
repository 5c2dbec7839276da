from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
import xxhash

from simulators.client import Attempt, Failed, Target, Timeouts
from simulators.dicom.dimse import c_echo_rsp, c_store_rsp
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.modality import Modality, Sendable
from simulators.dicom.negotiation import AssociateRequested
from simulators.dicom.samples import SampleImage, generated_image, sample_images
from simulators.dicom.upper_layer import Event, Message, ReleaseRequested, UpperLayer
from simulators.operations import IdentitySource, Kind, Operation, Outcome, Phase, Service

SOURCE = "127.1.7.1"
TIMEOUTS = Timeouts(connect_s=5, negotiate_s=5, send_s=5, response_s=5)
SHORT = Timeouts(connect_s=5, negotiate_s=0.2, send_s=0.2, response_s=0.2)
SMALL = generated_image("CT", 8192, seed=1)
identities = IdentitySource(run=77, generator=3)


def copy_of(image: SampleImage) -> tuple[EncodedInstance, Attempt]:
    identity = identities.next(Kind.INSTANCE)
    study, series, patient = (identities.next(kind) for kind in (Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    return image.instance.named(identity, study, series, patient, identity.accession), Attempt(identity, patient=patient.key)


def modality(port: int, *images: Sendable, timeouts: Timeouts = TIMEOUTS) -> Modality:
    target = Target("127.0.0.1", port, Service.DICOM)
    return Modality(target, SOURCE, calling_ae="PREFLIGHT", called_ae="MACH7", images=images, timeouts=timeouts)


def free_port() -> int:
    """Return a port that was free just now: DCMTK binds it itself."""
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))  # as DCMTK will: a port in TIME_WAIT at any address is not free for it
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def dcmtk(directory: Path, *options: str) -> Iterator[int]:
    """DCMTK's storescp on a port of its own, once it accepts connections."""
    port = free_port()
    command = ["/usr/bin/storescp", *options, "--output-directory", str(directory), str(port)]
    with subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_it_listens(process, port)
            yield port
        finally:
            process.terminate()


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline_ns = time.monotonic_ns() + 10 * 10**9
    listening = f"0100007F:{port:04X}", f"00000000:{port:04X}"
    while process.poll() is None and time.monotonic_ns() < deadline_ns:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()]
        if any(fields[1] in listening and fields[3] == "0A" for fields in lines):
            return
    raise AssertionError(f"storescp on port {port}: expected it to listen within 10 s, exit code {process.poll()}")


@contextmanager
def peer(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen, and give each connection to `serve`, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def first_choices(request: AssociateRequested) -> dict[int, str | None]:
    return {context_id: context.transfer_syntaxes[0] for context_id, context in request.contexts.items()}


def accept_once(connection: socket.socket) -> None:
    layer = UpperLayer()
    (request,) = layer.receive(connection.recv(65536))
    assert isinstance(request, AssociateRequested)
    connection.sendall(layer.accept(first_choices(request), "NODE7"))


def accepting(answer: Callable[[socket.socket, UpperLayer, Event], None]) -> Callable[[socket.socket], None]:
    """Return a peer that accepts every association and leaves what follows to `answer`."""

    def serve(connection: socket.socket) -> None:
        layer = UpperLayer()
        while connection.fileno() >= 0 and (content := connection.recv(65536)):
            for event in layer.receive(content):
                if isinstance(event, AssociateRequested):
                    connection.sendall(layer.accept(first_choices(event), "NODE7"))
                else:
                    answer(connection, layer, event)

    return serve


def responding(response: Callable[[Message], bytes]) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket, layer: UpperLayer, event: Event) -> None:
        if isinstance(event, Message):
            connection.sendall(b"".join(layer.message(event.context_id, response(event))))
        elif isinstance(event, ReleaseRequested):
            connection.sendall(layer.release_answer())

    return accepting(answer)


def stored_with(status: int) -> Callable[[Message], bytes]:
    def response(message: Message) -> bytes:
        request = message.command_set
        return c_store_rsp(request.message_id, request.sop_class, request.sop_instance, status)

    return response


def fate(operation: Operation) -> tuple[Outcome, Phase, int]:
    return Outcome(operation.outcome), Phase(operation.phase), operation.status


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


def test_a_study_is_stored_in_order_each_image_as_it_was_named(tmp_path: Path) -> None:
    jobs = [copy_of(SMALL) for _ in range(20)]
    with dcmtk(tmp_path, "--accept-all", "--bit-preserving") as port, modality(port, SMALL) as sender:
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
    connections = 0

    def serve(connection: socket.socket) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            responding(stored_with(0))(connection)
            return
        accept_once(connection)
        connection.recv(100)
        reset(connection)

    with peer(serve) as port, modality(port, SMALL) as sender:
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


def test_an_association_that_dcmtk_aborts_before_the_response_is_indeterminate(tmp_path: Path) -> None:
    with dcmtk(tmp_path, "--abort-after") as port:
        sender = modality(port, SMALL)
        operation = sender.store(*copy_of(SMALL))
        assert fate(operation)[0] is Outcome.INDETERMINATE
        assert not sender.is_open


def test_a_refused_connection_is_refused() -> None:
    sender = modality(free_port(), SMALL)
    operation = sender.store(*copy_of(SMALL))
    assert fate(operation) == (Outcome.REFUSED, Phase.CONNECT, 0)
    assert "Connection refused" in sender.last_failure


def test_a_peer_that_never_answers_the_request_for_an_association_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sender = modality(silent.getsockname()[1], SMALL, timeouts=SHORT)
        operation = sender.store(*copy_of(SMALL))
    assert fate(operation) == (Outcome.REFUSED, Phase.NEGOTIATE, 0)
    assert "found silence" in sender.last_failure


def test_a_peer_that_answers_with_http_is_refused() -> None:
    with peer(lambda connection: connection.sendall(b"HTTP/1.0 503 Service Unavailable\r\n\r\n")) as port:
        sender = modality(port, SMALL)
        operation = sender.store(*copy_of(SMALL))
    assert fate(operation) == (Outcome.REFUSED, Phase.NEGOTIATE, 0)
    assert "found 48H" in sender.last_failure


def test_a_peer_that_takes_the_image_and_stays_silent_is_indeterminate() -> None:
    with peer(accepting(lambda *_: None)) as port:
        sender = modality(port, SMALL, timeouts=SHORT)
        copy, attempt = copy_of(SMALL)
        operation = sender.store(copy, attempt)
    assert fate(operation) == (Outcome.INDETERMINATE, Phase.RESPONSE, 0)
    assert (operation.size_bytes, operation.digest) == (8192, copy.digest)
    assert operation.node.rstrip(b"\x00") == b"NODE7"


def test_a_peer_that_stops_reading_is_indeterminate_in_the_send() -> None:
    stop = threading.Event()

    def serve(connection: socket.socket) -> None:
        accept_once(connection)
        stop.wait(10)

    image = generated_image("CT", 16_000_000, seed=2)
    with peer(serve) as port:
        operation = modality(port, image, timeouts=SHORT).store(*copy_of(image))
        stop.set()
    assert fate(operation) == (Outcome.INDETERMINATE, Phase.SEND, 0)


def test_a_reset_in_the_middle_of_a_pdu_is_indeterminate_and_the_next_store_opens_anew() -> None:
    connections = 0

    def serve(connection: socket.socket) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            responding(stored_with(0))(connection)
            return
        accept_once(connection)
        connection.recv(100)
        reset(connection)

    with peer(serve) as port, modality(port, SMALL) as sender:
        first = sender.store(*copy_of(SMALL))
        second = sender.store(*copy_of(SMALL))
    assert fate(first)[0] is Outcome.INDETERMINATE
    assert fate(second) == (Outcome.ACKNOWLEDGED, Phase.DONE, 0)
    assert first.session != second.session


def test_an_association_closed_while_idle_is_opened_anew_before_anything_is_sent() -> None:
    def answer(connection: socket.socket, layer: UpperLayer, event: Event) -> None:
        if isinstance(event, Message):
            connection.sendall(b"".join(layer.message(event.context_id, stored_with(0)(event))))
        connection.close()

    with peer(accepting(answer)) as port, modality(port, SMALL) as sender:
        first = sender.store(*copy_of(SMALL))
        while sender.is_open:  # until the FIN has come
            continue
        second = sender.store(*copy_of(SMALL))
    assert fate(first) == fate(second) == (Outcome.ACKNOWLEDGED, Phase.DONE, 0)
    assert first.session != second.session


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


def test_a_peer_that_closes_instead_of_answering_a_release_is_tolerated() -> None:
    with peer(accepting(lambda connection, *_: connection.close())) as port:
        sender = modality(port, SMALL)
        sender.open()
        sender.release()
    assert not sender.is_open


def test_a_connection_comes_from_the_source_address_asked_for() -> None:
    seen: list[str] = []

    def serve(connection: socket.socket) -> None:
        seen.append(connection.getpeername()[0])
        responding(stored_with(0))(connection)

    with peer(serve) as port, modality(port, SMALL) as sender:
        sender.store(*copy_of(SMALL))
    assert seen == [SOURCE]
