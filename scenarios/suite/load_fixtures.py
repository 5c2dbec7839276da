"""The load runs of the suite, each once for all checks that judge it."""

from __future__ import annotations

import pytest

from compose.lab import CanKeepReceiptsOnly
from scenarios.faults import NodeHalted
from scenarios.kit import Kit
from scenarios.load.plan import LoadPlan
from scenarios.load_runs.plans import Planner
from scenarios.load_runs.process import LoadRun, play_load
from scenarios.play import wait_until_up
from scenarios.run import Run
from scenarios.stock import fill_worklists
from scenarios.traffic import TalkerFactory

from .session import Session


@pytest.fixture(scope="session")
def planner(session: Session, run: Run, kit: Kit, talkers: TalkerFactory) -> Planner:
    """Make load plans; let the worklists have something to show first, and the nodes keep receipts only from now on."""
    fill_worklists(run, kit)
    if isinstance(run.lab, CanKeepReceiptsOnly):
        run.lab.keep_receipts_only()
        wait_until_up(run)
    return Planner(run, kit, session.options.site, session.options.load)


@pytest.fixture(scope="session")
def peak_load(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Put the site's peak times 1.5 on all VIPs, or what the options ask for."""
    return _loaded(session, run, "LOAD-1", planner.peak(), "the peak", page=session.options.load.page)


@pytest.fixture(scope="session")
def one_node_load(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Halt the real servers of the first node, and put the site's peak on what is left."""
    halted = NodeHalted(run.site.node[0].name)
    try:
        halted.begin(run.lab)
        return _loaded(session, run, "LOAD-3", planner.one_node(), f"the peak, {halted.node} halted")
    finally:
        halted.end(run.lab)


@pytest.fixture(scope="session")
def steps(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Step the load of one VIP after the other up, until something is at its limit."""
    session.load.required = {vip.service: planner.required_rate(vip.service) for vip in run.site.vip}
    return _loaded(session, run, "LOAD-4", planner.steps(), "steps")


@pytest.fixture(scope="session")
def storm(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Let every client come back at once."""
    return _loaded(session, run, "STORM-1", planner.storm(), "a storm")


@pytest.fixture(scope="session")
def soak(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Put the average rate on all VIPs, for long, or what the options ask for."""
    factor = session.options.load.factor
    rate = f"{factor:.3g} times the peak hour's rate" if factor else "the average rate"
    return _loaded(session, run, "SOAK-1", planner.soak(), f"{rate}, for long", page=session.options.load.page)


def _loaded(session: Session, run: Run, check: str, plan: LoadPlan, name: str, *, page: int | None = None) -> LoadRun:
    offered = ", ".join(f"{user.rate:.3g} {user.kind}/s" for user in plan.users if user.rate)
    session.say(f"load: {name}, {plan.duration_s:.0f} s{': ' + offered if offered else ''}")
    played = play_load(
        run.lab, plan, name, processes=session.options.load.processes, page=page, workers=session.options.load.workers
    )
    session.load.runs[check] = played
    return played
