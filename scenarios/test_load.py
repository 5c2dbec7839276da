"""LOAD-1 to LOAD-4, STORM-1 and SOAK-1: what the site carries, and which part of it would give way first."""

import datetime
import time

import polars as pl
import pytest

from compose.lab import CanSteerBalancer
from lbconfig.site import Vip
from lbconfig.traffic_log import Connection, read_log
from scenarios.checkers.added import judge_added
from scenarios.checkers.knee import judge_knee, steps_of
from scenarios.checkers.load import judge_load
from scenarios.checkers.met_nodes import met_as_expected
from scenarios.checkers.soak import judge_soak
from scenarios.checkers.storm import judge_storm
from scenarios.findings import Finding
from scenarios.load.intended import intended_arrivals, intended_at_rates
from scenarios.load_runs.plans import as_asked, soaked_as_asked
from scenarios.load_runs.process import LoadRun
from scenarios.load_runs.stories import PAIRED
from scenarios.run import Run
from scenarios.suite.session import Judge, Session
from scenarios.traffic import TalkerFactory
from scenarios.workloads import StraightFactory, say_in_pairs
from simulators.operations import Kind


@pytest.mark.check("STORM-1")
def test_everybody_comes_back_at_once(run: Run, storm: LoadRun, vip: Vip, judge: Judge) -> None:
    """Let two thousand clients connect, hang up, and all come back at one instant."""
    instant_ns = storm.last_intended_ns(vip.service)
    judge(
        judge_storm(
            vip, _operations(run, storm, vip), storm.parts,
            clients=storm.clients(vip.service), instant_ns=instant_ns, generators=storm.generators(),
            connections=_logged(run, vip, instant_ns, storm.ended_ns) or (),
        )
    )  # fmt: skip


@pytest.mark.check("LOAD-1")
def test_the_site_carries_its_peak_and_half_again(
    session: Session, run: Run, peak_load: LoadRun, vip: Vip, judge: Judge
) -> None:  # fmt: skip
    """Put the peak times 1.5 on all VIPs at once, open-loop, and judge latencies from the intended start."""
    operations = _operations(run, peak_load, vip)
    carried = _carried(run, peak_load, vip, operations)
    met = met_as_expected(carried, operations, {server.node for server in vip.real_server})
    judge(as_asked(met, run.site, session.options.load))


@pytest.mark.check("LOAD-2")
@pytest.mark.usefixtures("planner")
def test_what_the_balancer_adds(
    session: Session, run: Run, talkers: TalkerFactory, straight_talkers: StraightFactory, vip: Vip, judge: Judge
) -> None:
    """Say the same things straight to a node and through the VIP, in pairs, and compare."""
    pairs = say_in_pairs(run, talkers, straight_talkers, run.workload(f"pairs on {vip.name}"), vip)
    session.load.pairs[vip.name] = pairs
    judge(judge_added(vip, {PAIRED[vip.service]: pairs}))


@pytest.mark.check("LOAD-3")
def test_one_node_carries_the_peak_alone(run: Run, one_node_load: LoadRun, vip: Vip, judge: Judge) -> None:
    """Halt one node and put the site's peak on the other."""
    operations = _operations(run, one_node_load, vip)
    carried = _carried(run, one_node_load, vip, operations)
    halted = run.site.node[0].name
    judge(met_as_expected(carried, operations, {server.node for server in vip.real_server} - {halted}))


@pytest.mark.check("LOAD-4")
def test_the_knee_and_what_saturates_there(session: Session, run: Run, steps: LoadRun, vip: Vip, judge: Judge) -> None:
    """Double the rate from step to step until something gives way, and name it by evidence."""
    operations = _operations(run, steps, vip)
    intended = intended_at_rates(steps.plan, vip.service)
    seen = steps_of(vip, operations, steps.arrivals(), steps.parts, intended=intended)
    judge(judge_knee(vip, seen, required_per_s=session.load.required[vip.service]))


@pytest.mark.check("SOAK-1")
def test_nothing_grows_and_nothing_aborts(session: Session, run: Run, soak: LoadRun, vip: Vip, judge: Judge) -> None:
    """Put the average rate on all VIPs for long; watch every process's memory."""
    operations = _operations(run, soak, vip)
    connections = _logged(run, vip, soak.started_ns, soak.ended_ns)
    finding = judge_soak(
        vip, operations, soak.arrivals(), soak.parts, intended=intended_arrivals(soak.plan, vip.service),
        connections=connections, begun_ns=soak.started_ns, ended_ns=soak.ended_ns,
    )  # fmt: skip
    judge(soaked_as_asked(finding, run.site, session.options.load))


def _carried(run: Run, load: LoadRun, vip: Vip, operations: pl.LazyFrame) -> Finding:
    """Judge a steady load on one VIP."""
    return judge_load(
        vip, operations, load.arrivals(), load.parts, load=load.name, intended=intended_arrivals(load.plan, vip.service),
        connections=_logged(run, vip, load.started_ns, load.ended_ns),
    )  # fmt: skip


def _operations(run: Run, load: LoadRun, vip: Vip) -> pl.LazyFrame:
    """Return everything that was done on one VIP in a load run, logins and echoes too."""
    return run.scan_operations(vip.service, [load.workload], kinds=tuple(Kind))


def _logged(run: Run, vip: Vip, begin_ns: int, end_ns: int) -> list[Connection] | None:
    """Return the balancer's log of one VIP between two times (`monotonic_ns`); None where there is none to read."""
    if not isinstance(run.lab, CanSteerBalancer):
        return None
    now, now_ns = datetime.datetime.now(tz=datetime.UTC), time.monotonic_ns()
    begin, end = (now - datetime.timedelta(seconds=(now_ns - at_ns) / 1e9) for at_ns in (begin_ns, end_ns))
    connections = read_log(run.lab.log_file).connections
    return [entry for entry in connections if entry.vip == vip.name and begin <= entry.accepted <= end]
