"""Copies of results: which leave a listener, to whom, from which address."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from simulators.client import Attempt
from simulators.hl7.receiver import MessageReceiver
from simulators.hl7.samples import OrderDetails, SamplePatient, Template
from simulators.operations import IdentitySource, Kind, Outcome
from simulators.outbound import Outbound
from simulators.received import Received, ReceivedLog

if TYPE_CHECKING:
    from tests.simulators.hl7.conftest import RunningListener, StartListener

RECEIVER = "RECEIVER"
OWN_ADDRESS = "127.0.0.5"  # what the node sends from
IDENTITIES = IdentitySource(run=11, generator=5)
RESULT, ORDER = Template("ORU^R01"), Template("ORM^O01")


@pytest.fixture
def log() -> ReceivedLog:
    return ReceivedLog()


@pytest.fixture
def start(start_listener: StartListener, log: ReceivedLog) -> Iterator[Callable[..., RunningListener]]:
    """Start a listener and the receiver of its copies, which admits these addresses."""
    opened: list[MessageReceiver] = []

    def started(*admitted: str, processes: int = 1) -> RunningListener:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        opened.append(MessageReceiver(listening, RECEIVER, admitted, log))
        outbound = Outbound(ae_title=RECEIVER, address="127.0.0.1", dicom_port=port, hl7_port=port, source=OWN_ADDRESS)
        return start_listener(processes=processes, outbound=outbound)

    yield started
    for receiver in opened:
        receiver.close()


def send(listener: RunningListener, template: Template, copies_to: str = "", *, text: str = "No finding.") -> str:
    """Send a message, return its MSH-10."""
    identity, order = IDENTITIES.next(Kind.MESSAGE), IDENTITIES.next(Kind.ORDER)
    details = OrderDetails(accession=order.accession, study_uid=IDENTITIES.next(Kind.STUDY).uid)
    patient = SamplePatient(IDENTITIES.next(Kind.PATIENT))
    message = template.message(identity, patient, details, text=text, copies_to=copies_to)
    with closing(listener.engine()) as engine:
        assert engine.send(message, Attempt(identity)).outcome is Outcome.ACKNOWLEDGED
    return identity.code


def await_entries(log: ReceivedLog, count: int) -> list[Received]:
    deadline = time.monotonic() + 10
    while len(found := log.entries()) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_a_result_that_names_the_receiver_is_copied_from_the_nodes_own_address(
    start: Callable[..., RunningListener], log: ReceivedLog, processes: int
) -> None:
    listener = start(OWN_ADDRESS, processes=processes)
    sent = [send(listener, RESULT, RECEIVER, text="large " * 20_000), send(listener, RESULT, RECEIVER)]
    assert {(entry.peer, entry.identifier) for entry in await_entries(log, 2)} == {(OWN_ADDRESS, one) for one in sent}


def test_other_messages_and_results_for_others_are_not_copied(
    start: Callable[..., RunningListener], log: ReceivedLog
) -> None:
    listener = start(OWN_ADDRESS)
    send(listener, RESULT)
    send(listener, RESULT, "SOMEBODY")
    send(listener, RESULT, text=RECEIVER)
    send(listener, ORDER, RECEIVER)
    last = send(listener, RESULT, RECEIVER)  # copies leave in order: this one is behind the others
    assert await_entries(log, 1) == [Received(OWN_ADDRESS, last, admitted=True)]


def test_a_receiver_that_does_not_know_the_node_holds_nobody_up(
    start: Callable[..., RunningListener], log: ReceivedLog
) -> None:
    listener = start("127.0.0.6")
    send(listener, RESULT, RECEIVER)
    send(listener, RESULT)
    assert set(await_entries(log, 3)) == {Received(OWN_ADDRESS, "", admitted=False)}
    assert listener.end() == 0
    assert "copy for RECEIVER, try 1" in listener.log.read_text()
