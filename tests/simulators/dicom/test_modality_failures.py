from __future__ import annotations

import socket
import threading
from pathlib import Path

from simulators.dicom.samples import generated_image
from simulators.dicom.upper_layer import Event, Message, UpperLayer
from simulators.operations import Outcome, Phase

from .peers import (
    SHORT,
    SMALL,
    accept_once,
    accepting,
    copy_of,
    dcmtk,
    fate,
    free_port,
    modality,
    peer,
    resetting_the_first,
    stored_with,
)


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
    with peer(resetting_the_first()) as port, modality(port, SMALL) as sender:
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


def test_a_peer_that_closes_instead_of_answering_a_release_is_tolerated() -> None:
    with peer(accepting(lambda connection, *_: connection.close())) as port:
        sender = modality(port, SMALL)
        sender.open()
        sender.release()
    assert not sender.is_open
