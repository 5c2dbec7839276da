"""The wire engine in several processes on one socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from simulators.client import Attempt
from simulators.dicom.modality import Modality
from simulators.dicom.samples import generated_image
from simulators.dicom.worklist_client import WorklistClient, WorklistQuery
from simulators.node_store import NodeStore
from simulators.operations import IdentitySource, Kind, Outcome, read_records
from simulators.pulse import PULSE_FIELDS, PULSE_MAGIC

from .conftest import ENGINES, ORDER, TIMEOUTS, RunningScp

if TYPE_CHECKING:
    from .conftest import StartScp

IMAGE = generated_image("CT", 8 << 10, seed=1).instance
IDENTITIES = IdentitySource(run=12, generator=5)


@pytest.fixture(scope="session", params=["wire"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shared_scp(start_scp: StartScp) -> Iterator[RunningScp]:
    """Run a storage SCP of two processes."""
    scp = start_scp("dicom", storage="digest", processes=2)
    yield scp
    scp.end()


def workers(scp: RunningScp) -> list[psutil.Process]:
    return psutil.Process(scp.process.pid).children()


def are_all_met(scp: RunningScp, processes: int = 2) -> bool:
    """Say whether each of the processes holds an association."""
    held = [worker.net_connections("tcp") for worker in workers(scp)]
    return [any(one.status == "ESTABLISHED" for one in connections) for connections in held] == [True] * processes


def modality(scp: RunningScp) -> Modality:
    return Modality(
        scp.target, "127.0.0.1", calling_ae="MODALITY", called_ae="MACH7", images=(IMAGE,), timeouts=TIMEOUTS
    )  # fmt: skip


def test_all_processes_take_images_and_one_journal_holds_every_receipt(shared_scp: RunningScp) -> None:
    study, series, patient = (IDENTITIES.next(kind) for kind in (Kind.STUDY, Kind.SERIES, Kind.PATIENT))
    stored = set()
    with ExitStack() as stack:
        while not are_all_met(shared_scp):
            one = stack.enter_context(modality(shared_scp))
            for _ in range(20):
                identity = IDENTITIES.next(Kind.INSTANCE)
                operation = one.store(IMAGE.named(identity, study, series, patient, None), Attempt(identity))
                assert operation.outcome is Outcome.ACKNOWLEDGED, one.last_failure
                stored.add(identity.key)
    receipts = shared_scp.receipts()
    assert len(receipts) == len(stored)
    assert {receipt.key for receipt in receipts} == stored


def test_each_process_writes_its_pulse(shared_scp: RunningScp) -> None:
    with modality(shared_scp) as one:
        identity = IDENTITIES.next(Kind.INSTANCE)
        one.store(IMAGE.named(identity, identity, identity, identity, None), Attempt(identity))
        pids = {worker.pid for worker in workers(shared_scp)}
        assert shared_scp.end() == 0
    files = list((shared_scp.directory / "pulses").iterdir())
    assert {path.name for path in files} == {f"dicom-{pid}.pulse" for pid in pids}
    last = [list(read_records(path, PULSE_MAGIC, PULSE_FIELDS))[-1] for path in files]
    assert sum(handled for *_, handled in last) == 1


def test_processes_of_a_worklist_find_what_is_ordered_while_they_run(start_scp: StartScp, tmp_path: Path) -> None:
    scp = start_scp("dmwl", tmp_path, processes=2)
    store = NodeStore(tmp_path, "hl7")
    with ExitStack() as stack:
        clients: list[WorklistClient] = []
        while not are_all_met(scp):
            clients.append(
                stack.enter_context(
                    WorklistClient(scp.target, "127.0.0.1", calling_ae="MODALITY", called_ae="MACH7", timeouts=TIMEOUTS)
                )
            )
            clients[-1].open()
        for number in range(3):
            store.put(ORDER._replace(accession=f"ACC{number}"))
            for client in clients:
                _, found = client.find(WorklistQuery(), Attempt(IDENTITIES.next(Kind.QUERY)))
                assert sorted(item.accession for item in found.items) == [f"ACC{known}" for known in range(number + 1)]
    store.close()
    assert scp.end() == 0


def test_several_processes_that_are_to_keep_images_do_not_start(start_scp: StartScp) -> None:
    scp = start_scp("dicom", storage="keep", processes=2)
    assert scp.process.wait(20) == 2
    assert 'processes: expected 1 where images are kept, found 2; set storage to "digest" for more' in scp.log.read_text()


def test_the_reference_engine_is_one_process(tmp_path: Path) -> None:
    scp = RunningScp(ENGINES["pynetdicom"]["dicom"], "dicom", tmp_path, storage="digest", processes=2)
    assert scp.process.wait(20) == 2
    assert "processes: expected 1 for an engine of pynetdicom, found 2" in scp.log.read_text()
    scp.close()
