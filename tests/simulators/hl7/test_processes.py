"""The listener in several processes on one socket."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import psutil
import pytest

from simulators.client import Attempt
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.samples import OrderDetails, SamplePatient, Template
from simulators.misbehaviour import Misbehaviour
from simulators.operations import IdentitySource, Kind, Operation, Outcome, read_records
from simulators.pulse import PULSE_FIELDS, PULSE_MAGIC, Pulse

if TYPE_CHECKING:
    from tests.simulators.hl7.conftest import RunningListener, StartListener

IDENTITIES = IdentitySource(run=11, generator=4)
ADMISSION, ORDER, APPOINTMENT = Template("ADT^A01"), Template("ORM^O01"), Template("SIU^S12")


@pytest.fixture(params=["keep", "digest"])
def shared(request: pytest.FixtureRequest, start_listener: StartListener) -> RunningListener:
    """Run a listener of two processes."""
    return start_listener(storage=request.param, processes=2)


@pytest.fixture
def engines(shared: RunningListener) -> Iterator[list[InterfaceEngine]]:
    """Connect engines until each of the two processes holds a connection; the first and the last meet two."""
    with ExitStack() as stack:
        connected: list[InterfaceEngine] = []
        while len(processes_met(shared)) < 2:
            engine = stack.enter_context(closing(shared.engine()))
            assert admitted(engine).outcome is Outcome.ACKNOWLEDGED
            connected.append(engine)
        yield connected


def workers(listener: RunningListener) -> list[psutil.Process]:
    return psutil.Process(listener.process.pid).children()


def processes_met(listener: RunningListener) -> set[int]:
    held = {worker.pid: worker.net_connections("tcp") for worker in workers(listener)}
    return {pid for pid, connections in held.items() if any(one.status == "ESTABLISHED" for one in connections)}


def admitted(engine: InterfaceEngine) -> Operation:
    identity = IDENTITIES.next(Kind.MESSAGE)
    return engine.send(ADMISSION.message(identity, SamplePatient(IDENTITIES.next(Kind.PATIENT))), Attempt(identity))


def test_every_message_is_receipted_once_and_in_the_order_of_its_connection(
    shared: RunningListener, engines: list[InterfaceEngine]
) -> None:
    before = len(shared.receipts())
    histories = [[admitted(engine) for _ in range(20)] for engine in (engines[0], engines[-1])]
    place = {receipt.key: number for number, receipt in enumerate(shared.receipts())}
    assert len(place) == len(shared.receipts()) == before + 40
    assert all(place[a.key] < place[b.key] for history in histories for a, b in itertools.pairwise(history))


@pytest.mark.parametrize("shared", ["keep"], indirect=True)
def test_what_one_process_acknowledged_the_other_can_change(shared: RunningListener, engines: list[InterfaceEngine]) -> None:
    whose, study = SamplePatient(IDENTITIES.next(Kind.PATIENT)), IDENTITIES.next(Kind.STUDY)
    accession = IDENTITIES.next(Kind.ORDER).accession
    for number, engine in enumerate((engines[0], engines[-1], engines[0], engines[-1])):
        details = OrderDetails(accession=accession, study_uid=study.uid, start_date=f"2026090{number + 1}")
        identity = IDENTITIES.next(Kind.MESSAGE)
        message = (APPOINTMENT if number else ORDER).message(identity, whose, details)
        assert engine.send(message, Attempt(identity)).outcome is Outcome.ACKNOWLEDGED
        (known,) = shared.store.orders("accession = ?", (accession,))
        assert (known.start_date, known.study_uid) == (f"2026090{number + 1}", study.uid)


def test_both_end_at_sigterm_with_code_zero_and_leave_their_pulses(
    shared: RunningListener, engines: list[InterfaceEngine]
) -> None:
    pids = {worker.pid for worker in workers(shared)}
    assert shared.end() == 0
    files = {path.name: path for path in (shared.directory / "pulses").iterdir()}
    last = [Pulse(*list(read_records(path, PULSE_MAGIC, PULSE_FIELDS))[-1]) for path in files.values()]
    assert set(files) == {f"hl7-{pid}.pulse" for pid in pids}
    assert {pulse.pid for pulse in last} == pids
    assert sum(pulse.handled for pulse in last) == len(engines) == len(shared.receipts())


def test_a_listener_that_swaps_messages_refuses_to_be_several(start_listener: StartListener) -> None:
    listener = start_listener(Misbehaviour.SWAPS_MESSAGES, processes=2)
    assert listener.process.wait(20) == 2
    assert "processes: expected 1 for a listener that swaps messages, found 2" in listener.log.read_text()
