"""The lab that all checks share, and what a test asks of it first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compose.docker import ComposeLab
from compose.lab import Lab, LabError
from compose.native import NativeLab
from lbconfig.site import Vip
from scenarios.exchanges.places import Desk
from scenarios.handover import balancer_seen, lab_directory
from scenarios.kit import Kit
from scenarios.run import Run
from scenarios.stock import stocked
from scenarios.talkers import Talker, talker
from scenarios.traffic import TalkerFactory
from scenarios.workloads import StraightFactory, reconnect_at_random, stream_steadily
from simulators.client import Timeouts

from .session import SESSION, Judge, Session
from .settling import settle_and_end, verdict_id


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    """Return what the session shares."""
    return request.config.stash[SESSION]


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, session: Session) -> Iterator[Lab]:
    """Bring the site up, once for all checks, and take it down at the end."""
    try:
        in_containers = session.options.lab == "compose"
        make: type[NativeLab] | type[ComposeLab] = ComposeLab if in_containers else NativeLab
        lab = make(session.site, lab_directory(session.options.out), defects=session.defects)
        session.lab = lab
        lab.start()
    except LabError as error:
        session.acceptance.reason_for_the_rest = f"the lab did not come up: {error}"
        request.session.shouldstop = "the lab did not come up"
        raise
    try:
        session.acceptance.balancer = balancer_seen(lab, session.site.balancer.product)
        session.say("the lab is up")
        yield lab
    finally:
        for gone in lab.unexpected_exits():
            session.say(f"{gone.name} ended by itself: {gone}")
        lab.stop()


@pytest.fixture(scope="session")
def run(session: Session, lab: Lab) -> Run:
    """Begin the run's history."""
    session.run = Run(lab, lab.directory, session.options.seed, session.number)
    return session.run


@pytest.fixture(scope="session")
def kit(session: Session, run: Run) -> Kit:
    """Gather the samples, and store one study straight on a node for the web page to have something to show."""
    return stocked(run, session.own)


@pytest.fixture
def desk(request: pytest.FixtureRequest, run: Run, kit: Kit) -> Desk:
    """Make what an exchange needs, with a workload of its own."""
    return Desk(run, kit, run.timeouts(), run.workload(verdict_id(request.node)))


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Settle the check of the test that asks; end the test as its verdict says."""
    return lambda finding: settle_and_end(request.node, finding)


@pytest.fixture(scope="session")
def talkers(run: Run, kit: Kit) -> TalkerFactory:
    """Make talkers through a VIP, with the site's time-outs."""
    return talkers_with(run, kit, run.timeouts())


@pytest.fixture(scope="session")
def straight_talkers(run: Run, kit: Kit) -> StraightFactory:
    """Make talkers straight to a real server: the baseline."""
    return lambda vip, server, source: talker(run, kit, run.straight(vip, server), source, run.timeouts())


@pytest.fixture(scope="session")
def reconnects(run: Run, talkers: TalkerFactory) -> int:
    """Let many sources reconnect in random order on every VIP; return the workload's number."""
    workload = run.workload("reconnects in random order")
    reconnect_at_random(run, talkers, workload)
    return workload


@pytest.fixture(scope="session")
def steady_stream(run: Run, talkers: TalkerFactory) -> int:
    """Let a few sources say a lot on every VIP; return the workload's number."""
    workload = run.workload("steady stream")
    stream_steadily(run, talkers, workload)
    return workload


def talkers_with(run: Run, kit: Kit, timeouts: Timeouts) -> TalkerFactory:
    """Return a maker of talkers through a VIP that wait no longer than these limits."""

    def make(vip: Vip, source: str) -> Talker:
        return talker(run, kit, run.through(vip), source, timeouts)

    return make
