"""A listener that stood still does not apply what its senders have given up."""

from __future__ import annotations

import select
import signal
from contextlib import closing
from typing import TYPE_CHECKING

import psutil
import pytest

from simulators.client import Attempt, Timeouts
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.samples import SamplePatient, Template
from simulators.operations import Identity, IdentitySource, Kind, Outcome

if TYPE_CHECKING:
    from tests.simulators.hl7.conftest import RunningListener, StartListener

IDENTITIES = IdentitySource(run=12, generator=5)
ADMISSION = Template("ADT^A01")
IMPATIENT = Timeouts(connect_s=1, negotiate_s=1, send_s=1, response_s=1)  # longer than a standstill has to be


def send(engine: InterfaceEngine) -> tuple[Identity, int]:
    identity = IDENTITIES.next(Kind.MESSAGE)
    message = ADMISSION.message(identity, SamplePatient(IDENTITIES.next(Kind.PATIENT)))
    return identity, engine.send(message, Attempt(identity)).outcome


def stop(listener: RunningListener) -> None:
    listener.process.send_signal(signal.SIGSTOP)
    while psutil.Process(listener.process.pid).status() != psutil.STATUS_STOPPED:
        select.select([], [], [], 0.01)


@pytest.mark.parametrize("connected", [True, False], ids=["open connection", "waiting to be accepted"])
def test_a_message_whose_sender_has_gone_is_left_out(start_listener: StartListener, connected: bool) -> None:
    listener = start_listener()
    with closing(listener.engine()) as first:
        assert send(first)[1] == Outcome.ACKNOWLEDGED
    with closing(listener.engine(IMPATIENT)) as engine:
        known = {send(engine)[0].key} if connected else set()
        stop(listener)
        given_up, outcome = send(engine)
        assert outcome == Outcome.INDETERMINATE
        listener.process.send_signal(signal.SIGCONT)
    with closing(listener.engine()) as later:
        answered, outcome = send(later)
        assert outcome == Outcome.ACKNOWLEDGED
    keys = {receipt.key for receipt in listener.receipts()}
    assert given_up.key not in keys
    assert known | {answered.key} <= keys
    assert "its sender has gone" in listener.log.read_text()


def test_a_message_whose_sender_still_waits_is_taken(start_listener: StartListener) -> None:
    listener = start_listener()
    with closing(listener.engine()) as engine:
        send(engine)
        stop(listener)
        engine.open()
        identity = IDENTITIES.next(Kind.MESSAGE)
        content = ADMISSION.message(identity, SamplePatient(IDENTITIES.next(Kind.PATIENT)))
        assert engine.send_raw(b"\x0b" + content + b"\x1c\r", wait_s=0.7) is None
        listener.process.send_signal(signal.SIGCONT)
        answer = engine.read_raw(wait_s=10)
    assert answer is not None
    assert b"\rMSA|AA|" in answer
    assert identity.key in {receipt.key for receipt in listener.receipts()}
