"""Everything that a profile breaks or loads, for the checks that judge over all of it."""

from __future__ import annotations

import itertools

import pytest

from scenarios.catalogue import profile_of
from scenarios.checkers.coverage import Trial
from scenarios.episodes import Episode, Episodes
from scenarios.load_runs.process import LoadRun
from scenarios.pair_play import UnitFailures

from .session import Session


@pytest.fixture(scope="session")
def trials(request: pytest.FixtureRequest, session: Session) -> tuple[Trial, ...]:
    """Go through everything that this profile breaks or loads; LOSS-1 and ORDER-1 judge over all of it."""
    played = [request.getfixturevalue(name) for name in profile_of(session.options.profile, session.options.lab).trials]
    return tuple(itertools.chain.from_iterable(map(_trials_of, played)))


def _trials_of(played: Episode | LoadRun | Episodes | UnitFailures) -> list[Trial]:
    if isinstance(played, UnitFailures):
        return [Trial(episode.name, episode.workload) for episode in played.failures]
    if isinstance(played, LoadRun):
        return [Trial(played.name, played.workload)]
    episodes = (played,) if isinstance(played, Episode) else played.episodes
    return [Trial(episode.fault, episode.workload) for episode in episodes]
