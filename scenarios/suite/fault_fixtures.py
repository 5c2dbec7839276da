"""What the suite breaks, each thing once for all checks that judge it."""

from __future__ import annotations

import functools

import pytest

from scenarios import maintenance, scripts
from scenarios.episodes import Episode
from scenarios.kit import Kit
from scenarios.pair_play import PROBE_TIMEOUTS, Failing, UnitFailures, client_timeouts, follow_entries
from scenarios.play import Script, play
from scenarios.run import Run
from scenarios.takeovers import WAYS, Replicated
from scenarios.traffic import TalkerFactory

from .fixtures import talkers_with
from .session import Session


@pytest.fixture(scope="session")
def services_stopped(session: Session, run: Run, talkers: TalkerFactory) -> Episode:
    """Stop all services of a node under traffic; then start them again."""
    return _played(session, run, scripts.stop_services(run.site), talkers)


@pytest.fixture(scope="session")
def node_died(session: Session, run: Run, kit: Kit) -> Episode:
    """Let a node die under traffic; then revive it and watch who goes back."""
    talkers = talkers_with(run, kit, scripts.patient(run.site, run.timeouts()))
    return _played(session, run, scripts.crash_node(run.site), talkers)


@pytest.fixture(scope="session")
def node_paused(session: Session, run: Run, kit: Kit) -> Episode:
    """Let a node hang for some seconds under traffic of clients that wait less long and try again."""
    return _played(session, run, scripts.pause_node(run.site), talkers_with(run, kit, scripts.impatient(run.timeouts())))


@pytest.fixture(scope="session")
def node_halted(session: Session, run: Run, talkers: TalkerFactory) -> Episode:
    """Halt all real servers of a node under traffic; then put them online."""
    return _played(session, run, scripts.halt_node(run.site), talkers)


@pytest.fixture(scope="session")
def node_drained(session: Session, run: Run, talkers: TalkerFactory) -> Episode:
    """Drain all real servers of a node under traffic; then put them online."""
    return _played(session, run, scripts.drain_node(run.site), talkers)


@pytest.fixture(scope="session")
def service_failures(session: Session, run: Run, talkers: TalkerFactory) -> maintenance.ServiceFailures:
    """Let one service after the other fail on one node."""
    return maintenance.fail_services(run, _player(session, run), talkers)


@pytest.fixture(scope="session")
def blackout(session: Session, run: Run, talkers: TalkerFactory) -> maintenance.Blackout:
    """Stop every real server of every VIP; then start them again."""
    return maintenance.black_out(run, _player(session, run), talkers)


@pytest.fixture(scope="session")
def reloads(session: Session, run: Run, talkers: TalkerFactory) -> maintenance.Reloads:
    """Reload the balancer under traffic: in plain service, with a node drained, with a node halted."""
    return maintenance.reload(run, _player(session, run), talkers)


@pytest.fixture(scope="session")
def around_reload(run: Run, talkers: TalkerFactory) -> tuple[int, dict[str, maintenance.Remembered]]:
    """Let many sources connect before a reload and again after it; return the workload's number and the tables."""
    workload = run.workload("around a reload")
    return workload, maintenance.reconnect_around_a_reload(run, talkers, workload)


@pytest.fixture(scope="session")
def node_hung(session: Session, run: Run, kit: Kit) -> maintenance.Hang:
    """Let a node accept and never answer, idle and under traffic of clients that wait less long and try again."""
    return maintenance.hang(run, _player(session, run), talkers_with(run, kit, scripts.impatient(run.timeouts())))


@pytest.fixture(scope="session")
def node_vanished(session: Session, run: Run, kit: Kit) -> Episode:
    """Let a node vanish from the network under traffic, without FIN or RST; then let it come back."""
    talkers = talkers_with(run, kit, scripts.patient(run.site, run.timeouts()))
    return _played(session, run, scripts.isolate_node(run.site), talkers)


@pytest.fixture(scope="session")
def followed_entries(session: Session, run: Run, talkers: TalkerFactory) -> dict[str, list[Replicated]]:
    """Let new sources come to every VIP, and follow their entries from one unit of the pair to the other."""
    session.say("new sources on every VIP, and both units' tables")
    return follow_entries(run, talkers, run.workload("entries that travel"))


@pytest.fixture(scope="session")
def unit_failures(session: Session, run: Run, kit: Kit) -> UnitFailures:
    """Let the active unit of the pair fail in one way after the other under traffic."""
    make_talker = talkers_with(run, kit, client_timeouts(run.timeouts()))
    failing = Failing(run, make_talker, talkers_with(run, kit, PROBE_TIMEOUTS))
    played = []
    for how in WAYS:
        session.say(f"the active unit {how}, under traffic on every VIP")
        played.append(failing.fail(how))
    session.takeovers += played
    return UnitFailures(tuple(played))


def _played(session: Session, run: Run, script: Script, talkers: TalkerFactory) -> Episode:
    where = f": {script.fault.node}" if script.fault.node else ""
    session.say(f"{script.fault.name}{where}, {'nobody under way' if script.quiet else 'under traffic on every VIP'}")
    episode = play(run, script, talkers)
    session.episodes.append(episode)
    return episode


def _player(session: Session, run: Run) -> maintenance.Player:
    return functools.partial(_played, session, run)
