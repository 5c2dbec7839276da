"""Storage SCPs to store to: DCMTK's, and peers that do what they are told to, well or badly."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simulators.client import Attempt, Target, Timeouts
from simulators.dicom.dimse import c_store_rsp
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.modality import Modality, Sendable
from simulators.dicom.negotiation import AssociateRequested
from simulators.dicom.samples import SampleImage, generated_image
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


def modality(port: int, *images: Sendable, timeouts: Timeouts = TIMEOUTS, eager: bool = False) -> Modality:
    target = Target("127.0.0.1", port, Service.DICOM)
    return Modality(
        target, SOURCE, calling_ae="PREFLIGHT", called_ae="MACH7", images=images, timeouts=timeouts, eager=eager
    )  # fmt: skip


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
def peer(serve: Callable[[socket.socket], None], connections: int = 1) -> Iterator[int]:
    """Listen, and give each connection to `serve`, so many at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)

        threads = [threading.Thread(target=accept) for _ in range(connections)]
        for thread in threads:
            thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for thread in threads:
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


def resetting_the_first() -> Callable[[socket.socket], None]:
    """Return a peer that resets its first association in the middle of a PDU, and stores what comes over others."""
    connections = itertools.count(1)

    def serve(connection: socket.socket) -> None:
        if next(connections) > 1:
            responding(stored_with(0))(connection)
            return
        accept_once(connection)
        connection.recv(100)
        reset(connection)

    return serve


def stored_with(status: int) -> Callable[[Message], bytes]:
    def response(message: Message) -> bytes:
        request = message.command_set
        return c_store_rsp(request.message_id, request.sop_class, request.sop_instance, status)

    return response


def fate(operation: Operation) -> tuple[Outcome, Phase, int]:
    return Outcome(operation.outcome), Phase(operation.phase), operation.status
