"""Locust as its users start it, against a real lab: what it wrote down is what was sent, and nothing of it stays."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest

from compose.native import NativeLab
from lbconfig.site import ServiceKind
from lbconfig.site_file import load_site
from scenarios.load.arrivals import schedule_of
from scenarios.load.plan import LoadPlan, Shape
from scenarios.load.records import Arrival, Fate, WaitedFor
from simulators.journal import journal_path, read_receipts
from simulators.operations import Kind, Operation, Outcome, Phase, Service, read_records
from simulators.pulse import PULSE_FIELDS, PULSE_MAGIC, Pulse

if TYPE_CHECKING:
    from tests.scenarios.load.conftest import MakePlan, Play, Played

STORED = (Kind.INSTANCE, Kind.MESSAGE, Kind.NOTE)
LIMIT_S = 30.0


class Runs(NamedTuple):
    """Three runs of like plans, and the worker that was one too many for the third."""

    one: Played
    forked: Played
    workers: Played
    refused: str


@pytest.fixture(scope="module")
def runs(make_plan: MakePlan, play: Play) -> Runs:
    """Play three plans at a time: by one process, by two that are forked, by three workers on a master's word."""
    one, forked, workers = (play(make_plan()) for _ in range(3))
    alone = one.start("--headless")
    parent = forked.start("--headless", "--processes", "2", *own_port())
    port = own_port()
    master = workers.start("--headless", "--master", "--expect-workers", "3", *port)
    others = [workers.start("--worker", *port) for _ in range(4)]
    for played, process in ((one, alone), (forked, parent), (workers, master)):
        played.expect_exit(process, 0)
        played.wait_until_none_lives()
    codes = sorted(process.wait() for process in others)
    assert codes == [0, 0, 0, 1]
    return Runs(one, forked, workers, next(workers.log(process) for process in others if process.returncode))


def own_port() -> list[str]:
    """Return what tells Locust's master and workers to meet at a free port of this machine alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    address = "127.0.0.1"
    return [
        "--master-bind-host", address, "--master-bind-port", port, "--master-host", address, "--master-port", port,
    ]  # fmt: skip


def intended(played: Played, service: Service) -> list[float]:
    """Return when the arrivals of a service were due, in seconds after the first of all arrivals that were due."""
    arrivals = played.arrivals()
    first_ns = min(arrival.intended_ns for arrival in arrivals)
    return sorted((arrival.intended_ns - first_ns) / 1e9 for arrival in arrivals if arrival.service == service)


@pytest.mark.parametrize("which", ["one", "forked", "workers"])
def test_every_operation_is_acknowledged_and_what_is_stored_is_in_a_journal(runs: Runs, lab: NativeLab, which: str) -> None:
    operations: list[Operation] = getattr(runs, which).operations()
    assert {Service(operation.service) for operation in operations} == set(Service)
    assert {Outcome(operation.outcome) for operation in operations} == {Outcome.ACKNOWLEDGED}
    run = operations[0].run
    stored = {
        receipt.key for directory in lab.node_directories().values() for service in Service
        if journal_path(directory, service).exists()
        for receipt in read_receipts(journal_path(directory, service)) if receipt.run == run
    }  # fmt: skip
    assert {operation.key for operation in operations if operation.kind in STORED} <= stored


@pytest.mark.parametrize(("which", "generators"), [("one", 1), ("forked", 2), ("workers", 3)])
def test_the_histories_of_all_generators_merge_into_one(runs: Runs, which: str, generators: int) -> None:
    histories: dict[str, list[Operation]] = getattr(runs, which).operations_by_generator()
    assert list(histories) == [f"generator-{number}" for number in range(1, generators + 1)]
    keys = [operation.key for history in histories.values() for operation in history]
    assert len(keys) == len(set(keys))
    assert {operation.workload for history in histories.values() for operation in history} == {3}


@pytest.mark.parametrize("which", ["forked", "workers"])
def test_no_source_address_is_used_by_two_generators(runs: Runs, which: str) -> None:
    histories: dict[str, list[Operation]] = getattr(runs, which).operations_by_generator()
    sources = [{operation.source for operation in history} for history in histories.values()]
    for one, other in itertools.combinations(sources, 2):
        assert not one & other


def test_the_same_seed_gives_the_same_arrivals_whatever_the_number_of_generators(runs: Runs) -> None:
    for service in Service:
        alone = intended(runs.one, service)
        assert alone == pytest.approx(intended(runs.forked, service), abs=1e-6)
        assert alone == pytest.approx(intended(runs.workers, service), abs=1e-6)


def test_arrivals_are_those_of_the_schedule_and_all_are_carried_out(runs: Runs) -> None:
    plan = runs.one.plan
    due_s = [schedule_of(user, plan.seed, place).due_s for place, user in enumerate(plan.users)]
    arrivals = runs.one.arrivals()
    assert len(arrivals) == sum(map(len, due_s))
    assert {Fate(arrival.fate) for arrival in arrivals} == {Fate.DONE}
    assert sum(arrival.operations for arrival in arrivals) == len(runs.one.operations())
    rates = {Service(arrival.service): arrival.rate_milli for arrival in arrivals}
    assert rates == {Service.DICOM: 6000, Service.DMWL: 10000, Service.HL7: 20000, Service.HTTPS: 2000}


def test_each_further_image_of_a_study_is_due_when_the_one_before_has_ended(runs: Runs) -> None:
    due = {arrival.intended_ns for arrival in runs.one.arrivals() if arrival.service == Service.DICOM}
    images = [operation for operation in runs.one.operations() if operation.service == Service.DICOM]
    ends = {operation.ended_ns for operation in images}
    assert {operation.intended_ns for operation in images} <= due | ends
    assert len(images) > len(due)


def test_a_worker_that_comes_when_all_slices_are_given_out_is_refused(runs: Runs) -> None:
    assert re.search(r"expected at most 3 generators, because the source addresses are cut into as many slices", runs.refused)


def test_every_generator_leaves_its_pulse(runs: Runs) -> None:
    paths = sorted((runs.workers.records / "pulses").glob("*.pulse"))
    assert len(paths) == 3
    for path in paths:
        pulses = [Pulse(*values) for values in read_records(path, PULSE_MAGIC, PULSE_FIELDS)]
        assert len(pulses) >= 2
        assert pulses[-1].handled == len(runs.workers.operations_by_generator()[path.stem.rpartition("-")[0]])


def test_the_interface_engine_keeps_its_lines_and_the_order_of_each_patient(runs: Runs) -> None:
    messages = [operation for operation in runs.one.operations() if operation.service == Service.HL7]
    assert len({operation.session for operation in messages}) == 4
    for _, of_patient in itertools.groupby(
        sorted(messages, key=lambda one: (one.patient, one.begun_ns)), lambda one: one.patient
    ):
        ordered = list(of_patient)
        assert all(one.ended_ns <= other.begun_ns for one, other in itertools.pairwise(ordered))


def test_in_a_storm_every_client_connects_hangs_up_and_comes_back_at_one_instant(make_plan: MakePlan, play: Play) -> None:
    played = play(make_plan(shape=Shape(kind="storm"), lasts_s=2.0))
    played.expect_exit(played.start("--headless"), 0)
    arrivals = played.arrivals()
    clients = sum(user.clients for user in played.plan.users)
    instant_ns = max(arrival.intended_ns for arrival in arrivals)
    back = [arrival for arrival in arrivals if arrival.intended_ns == instant_ns]
    assert (len(arrivals), len(back)) == (2 * clients, clients)
    assert {(arrival.operations, arrival.failed) for arrival in arrivals} == {(1, 0)}
    sessions = {operation.session for operation in played.operations()}
    assert len(sessions) == 2 * clients


def test_sigterm_to_the_master_ends_all_in_good_order(make_plan: MakePlan, play: Play) -> None:
    played = play(make_plan(lasts_s=60.0))
    master = played.start("--headless", "--processes", "2", *own_port())
    played.wait_for_operations(20)
    master.send_signal(signal.SIGTERM)
    played.expect_exit(master, 1)  # it was not played to its end
    played.wait_until_none_lives()
    check_complete(played.arrivals(), played.operations())
    assert "the run was ended before its time" in played.log(master)


def test_no_worker_outlives_a_master_that_is_killed(make_plan: MakePlan, play: Play) -> None:
    played = play(make_plan(lasts_s=60.0))
    master = played.start("--headless", "--processes", "2", *own_port())
    played.wait_for_operations(20)
    master.kill()
    played.expect_exit(master, -signal.SIGKILL)
    played.wait_until_none_lives()
    check_complete(played.arrivals(), played.operations())


def check_complete(arrivals: list[Arrival], operations: list[Operation]) -> None:
    """Check that every operation belongs to an arrival that was written down, and that all were acknowledged."""
    assert sum(arrival.operations for arrival in arrivals) == len(operations)
    assert {Outcome(operation.outcome) for operation in operations} == {Outcome.ACKNOWLEDGED}


def test_a_generator_that_dies_makes_the_run_a_failure(make_plan: MakePlan, play: Play) -> None:
    played = play(make_plan(lasts_s=60.0))
    master = played.start("--headless", "--processes", "2", *own_port())
    played.wait_for_operations(20)
    worker = max(int(path.stem.rpartition("-")[2]) for path in (played.records / "pulses").glob("*.pulse"))
    assert worker != master.pid
    os.kill(worker, signal.SIGKILL)
    played.expect_exit(master, 1)
    played.wait_until_none_lives()
    assert "expected it to end in good order, found it gone" in played.log(master)


def test_what_is_under_way_when_the_time_is_over_is_cut_off_and_recorded(make_plan: MakePlan, play: Play) -> None:
    plan = make_plan(lasts_s=1.0)
    address = load_site(Path(plan.site)).vip_of("hl7").address
    with socket.create_server((address, 0)) as silent:  # the kernel accepts for it, and nobody answers
        played = play(with_vip(plan, "hl7", silent.getsockname()[1]))
        process = played.start("--headless", "--stop-timeout", "1", locustfile="engine")
        played.expect_exit(process, 0)  # the harness did all that it should
    operations, arrivals = played.operations(), played.arrivals()
    assert {(Outcome(one.outcome), Phase(one.phase)) for one in operations} == {(Outcome.INDETERMINATE, Phase.RESPONSE)}
    fates = Counter(Fate(arrival.fate) for arrival in arrivals)
    (due,) = (schedule_of(user, plan.seed, place).due_s for place, user in enumerate(plan.users) if user.kind == "engine")
    assert fates == {Fate.CUT: 4, Fate.DROPPED: len(due) - 4}
    waited = {WaitedFor(arrival.waited_for) for arrival in arrivals if arrival.fate == Fate.DROPPED}
    assert waited <= {WaitedFor.CLIENT, WaitedFor.NOTHING}


def with_vip(plan: LoadPlan, service: ServiceKind, port: int) -> LoadPlan:
    """Return a plan for a site whose VIP of a service listens on another port."""
    path = Path(plan.site)
    vip = load_site(path).vip_of(service)
    text, found = path.read_text(), f'address = "{vip.address}"\nport = {vip.port}\n'
    assert text.count(found) == 1
    other = Path(plan.records).with_name("site.toml")
    other.write_text(text.replace(found, f'address = "{vip.address}"\nport = {port}\n'))
    return msgspec.structs.replace(plan, site=str(other))


def test_a_generator_that_cannot_be_prepared_ends_the_run_with_an_error(make_plan: MakePlan, play: Play) -> None:
    plan = make_plan()
    assert plan.web is not None
    played = play(msgspec.structs.replace(plan, web=msgspec.structs.replace(plan.web, ca_file="/nowhere/ca.pem")))
    process = played.start("--headless")
    played.expect_exit(process, 1)
    assert "generator 1: FileNotFoundError" in played.log(process)


def test_more_workers_than_slices_are_refused_at_once(make_plan: MakePlan, play: Play) -> None:
    played = play(make_plan())
    process = played.start("--headless", "--processes", "4", *own_port())
    played.expect_exit(process, 1)
    played.wait_until_none_lives()
    assert "expected at most 3 generators (generators_at_most), found that 4 workers are waited for" in played.log(process)


def test_runs_are_started_watched_and_stopped_on_locusts_page(make_plan: MakePlan, play: Play) -> None:
    played = play(make_plan(lasts_s=1.0))
    port = own_port()[-1]
    process = played.start("--web-host", "127.0.0.1", "--web-port", port)
    page = f"http://127.0.0.1:{port}"
    played.wait_for_answer(f"{page}/")
    assert msgspec.json.decode(answer_of(f"{page}/swarm", b""))["success"]
    played.wait_for_operations(10)
    shown = msgspec.json.decode(answer_of(f"{page}/stats/requests"))
    assert {row["name"] for row in shown["stats"]} & {"C-STORE", "C-FIND", "message", "login"}
    answer_of(f"{page}/stop", b"")
    played_once = len(played.operations())
    answer_of(f"{page}/swarm", b"")
    played.wait_for_operations(played_once + 10)
    process.send_signal(signal.SIGTERM)
    played.expect_exit(process, 1)  # the second run was not played to its end
    check_complete(played.arrivals(), played.operations())
    keys = [operation.key for operation in played.operations()]
    assert len(keys) == len(set(keys))


def test_a_run_that_nobody_can_follow_was_not_played_when_it_is_stopped_on_the_page(make_plan: MakePlan, play: Play) -> None:
    played = play(make_plan(lasts_s=30.0))
    port = own_port()[-1]
    process = played.start("--web-host", "127.0.0.1", "--web-port", port, "--autostart", "--autoquit", "0")
    played.wait_for_operations(10)
    answer_of(f"http://127.0.0.1:{port}/stop", b"")
    played.expect_exit(process, 1)
    assert "the run was ended before its time" in played.log(process)
    check_complete(played.arrivals(), played.operations())


def answer_of(url: str, form: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, form, timeout=LIMIT_S) as answer:  # noqa: S310  it is Locust's own page
        content: bytes = answer.read()
        return content
