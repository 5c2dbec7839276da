from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from simulators.web.sessions import IDLE_S, OwnSessions, Sessions, SharedSessions


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def own(_: Path, clock: Clock) -> Sessions:
    return OwnSessions(clock)


def shared(directory: Path, clock: Clock) -> Sessions:
    SharedSessions.begin_anew(directory)
    return SharedSessions(directory, clock)


@pytest.fixture(params=[own, shared])
def sessions(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Sessions:
    made: Callable[[Path, Clock], Sessions] = request.param
    return made(tmp_path, clock)


def test_a_session_is_its_users_until_it_ends(sessions: Sessions) -> None:
    sessions.begin("a", "ada")
    sessions.begin("b", "bob")
    sessions.end("a")
    sessions.end("nobody's")
    assert (sessions.user_of("a"), sessions.user_of("b"), sessions.user_of("c")) == (None, "bob", None)


def test_a_session_that_is_used_now_and_then_lives_on(sessions: Sessions, clock: Clock) -> None:
    sessions.begin("a", "ada")
    for _ in range(10):
        clock.now_s += IDLE_S - 60
        sessions.begin(f"another at {clock.now_s}", "bob")
        assert sessions.user_of("a") == "ada"


def test_a_session_that_nobody_used_for_ten_minutes_is_over(sessions: Sessions, clock: Clock) -> None:
    sessions.begin("a", "ada")
    clock.now_s += IDLE_S - 1
    assert sessions.user_of("a") == "ada"
    clock.now_s += IDLE_S
    assert sessions.user_of("a") is None


def test_no_more_sessions_are_held_than_began_in_ten_minutes(clock: Clock) -> None:
    sessions = OwnSessions(clock)
    for number in range(5000):
        sessions.begin(f"session {number}", "ada")
        clock.now_s += 1
    assert len(sessions) == IDLE_S


def test_a_database_holds_no_more_sessions_than_began_in_ten_minutes(clock: Clock, tmp_path: Path) -> None:
    sessions = shared(tmp_path, clock)
    for number in range(2000):
        sessions.begin(f"session {number}", "ada")
        clock.now_s += 1
    with closing(sqlite3.connect(tmp_path / "https-sessions.sqlite")) as database:
        assert database.execute("SELECT COUNT(*) FROM sessions").fetchone() == (IDLE_S,)


def test_a_use_that_one_process_noted_counts_for_the_others(clock: Clock, tmp_path: Path) -> None:
    one = shared(tmp_path, clock)
    another = SharedSessions(tmp_path, clock)
    one.begin("a", "ada")
    clock.now_s += IDLE_S - 1
    assert one.user_of("a") == "ada"
    clock.now_s += IDLE_S - 1
    assert another.user_of("a") == "ada"
