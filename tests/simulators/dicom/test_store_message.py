from __future__ import annotations

import fcntl
import signal
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import xxhash

from simulators.client import Target, Timeouts
from simulators.dicom.association import Association
from simulators.dicom.dimse import c_store_rq, c_store_rsp
from simulators.dicom.framing import whole_command
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.negotiation import AssociateRequested, ProposedContext
from simulators.dicom.samples import SampleImage, generated_image, sample_images
from simulators.dicom.store_message import StoreMessage
from simulators.dicom.upper_layer import UpperLayer
from simulators.operations import Identity, IdentitySource, Kind, Service

TIMEOUTS = Timeouts(connect_s=5, negotiate_s=5, send_s=5, response_s=5)
SMALL = generated_image("CT", 8192, seed=1)
IMAGES = [SMALL, generated_image("CT", 524288, seed=2), *sample_images()]
identities = IdentitySource(run=78, generator=4)


@contextmanager
def associated(
    image: SampleImage, *, maximum_length: int = 16384, then: Callable[[socket.socket], None] = lambda _: None
) -> Iterator[tuple[Association, int]]:
    """Open an association with a peer that takes P-DATA of so many bytes; return it with the image's context."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least there is

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                layer = UpperLayer(maximum_length=maximum_length)
                (request,) = layer.receive(connection.recv(65536))
                assert isinstance(request, AssociateRequested)
                chosen = {key: context.transfer_syntaxes[0] for key, context in request.contexts.items()}
                connection.sendall(layer.accept(dict(chosen), "NODE7"))
                then(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        context = ProposedContext(image.sop_class, (image.transfer_syntax,))
        target = Target("127.0.0.1", listening.getsockname()[1], Service.DICOM)
        association = Association(
            target, "127.1.7.2", calling_ae="PREFLIGHT", called_ae="MACH7", contexts=[context], timeouts=TIMEOUTS
        )
        try:
            yield association, association.context_for(image.sop_class, image.transfer_syntax) or 0
        finally:
            association.close()
            thread.join(10)


def copies_that_differ_in_one_identity_each(template: EncodedInstance) -> list[EncodedInstance]:
    kinds = (Kind.INSTANCE, Kind.STUDY, Kind.SERIES, Kind.PATIENT)

    def named(ones: list[Identity], accession: str | None) -> EncodedInstance:
        identity, study, series, patient = ones
        return template.named(identity, study, series, patient, accession)

    ones = [identities.next(kind) for kind in kinds]
    copies = [named(ones, None), named(ones, "PF00000000000001"), named(ones, "7")]
    for place, kind in enumerate(kinds):
        ones[place] = identities.next(kind)
        copies.append(named(ones, "7"))
    return copies


@pytest.mark.parametrize("maximum_length", [100, 16384, 0])
@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_every_copy_is_framed_as_if_it_were_the_first(image: SampleImage, maximum_length: int) -> None:
    copies = copies_that_differ_in_one_identity_each(image.instance)
    with associated(image, maximum_length=maximum_length) as (association, context_id):
        message = StoreMessage(association, context_id, image.instance)
        for message_id, copy in enumerate(copies, start=250):
            uid = copy.sop_instance.decode("ascii")
            command = c_store_rq(message_id, image.sop_class, uid)
            framed = message.framed(message_id, copy)
            afresh = b"".join(association.framed(context_id, command, copy.buffers))
            assert b"".join(framed.pieces) == afresh
            assert framed.usual_answer == whole_command(context_id, c_store_rsp(message_id, image.sop_class, uid))
            assert message.digest_of(copy) == copy.digest == xxhash.xxh3_128_digest(b"".join(copy.buffers))
            assert message.size_bytes == copy.size_bytes


def test_a_small_image_is_one_piece_and_the_pixels_of_a_large_one_are_shared() -> None:
    large = IMAGES[1]
    with associated(SMALL) as (association, context_id):
        assert len(StoreMessage(association, context_id, SMALL.instance).framed(1, SMALL.instance).pieces) == 1
    with associated(large) as (association, context_id):
        message = StoreMessage(association, context_id, large.instance)
        first, second = (message.framed(number, large.instance).pieces for number in (1, 2))
    assert len(first) > 1
    assert all(ours is theirs for ours, theirs in zip(first, second, strict=True))


def test_a_message_is_for_copies_of_its_template_on_its_association() -> None:
    (copy, *_), other = copies_that_differ_in_one_identity_each(SMALL.instance), generated_image("CT", 8192, seed=3)
    with associated(SMALL) as (first, context_id), associated(SMALL) as (second, _):
        message = StoreMessage(first, context_id, SMALL.instance)
        assert message.is_for(first, copy)
        assert not message.is_for(first, other.instance)
        assert not message.is_for(first, replace(copy, sop_class="1.2.840.10008.5.1.4.1.1.4"))
        assert not message.is_for(second, copy)


def test_a_send_that_takes_a_part_goes_on_with_the_rest() -> None:
    received = bytearray()
    sending_thread = threading.get_ident()

    def then(connection: socket.socket) -> None:
        while fcntl.ioctl(connection, termios.FIONREAD, bytes(4)) == bytes(4):
            continue
        signal.pthread_kill(sending_thread, signal.SIGUSR1)  # a send that has begun returns what it has sent
        while content := connection.recv(65536):
            received.extend(content)

    image = generated_image("CT", 30000, seed=4)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with associated(image, maximum_length=0, then=then) as (association, context_id):
            own = association.connection.socket
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            assert struct.unpack("i", own.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4))[0] < 10000
            (piece,) = StoreMessage(association, context_id, image.instance).framed(1, image.instance).pieces
            association.send_framed([piece])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == piece
