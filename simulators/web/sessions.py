"""Who is logged in on one node. No other node knows: that is why persistence matters.

A session that nobody used for ten minutes is over: the automatic logoff that 45 CFR 164.312(a)(2)(iii) asks of systems with
health records (it leaves the time to the hospital; ten minutes is our assumption). So a node holds the sessions of the last
ten minutes, however long it runs: a person who just closes the browser never logs out.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

IDLE_S = 600.0
_NOTED_EVERY_S = 30.0  # a use so soon after the last one is not written to a database: a session may live so much shorter
_FORGOTTEN_EVERY_S = 1.0
Clock = Callable[[], float]


class Sessions(Protocol):
    """The sessions of one node, by their tokens."""

    def begin(self, token: str, user: str) -> None:
        """Begin a session; those that are over are forgotten."""

    def end(self, token: str) -> None:
        """Forget a session; nothing happens when there is none."""

    def user_of(self, token: str) -> str | None:
        """Return whose session it is, and count that as its use; None when there is none, or no longer."""


class _Own(NamedTuple):
    user: str
    used_s: float


class OwnSessions:
    """The sessions of a service that is one process: they live and die with it.

    Parameters
    ----------
    clock : function of no arguments
        The time in seconds; it never goes back.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._of_token: OrderedDict[str, _Own] = OrderedDict()  # the one that was not used for longest first

    def __len__(self) -> int:
        """Count those that are held."""
        return len(self._of_token)

    def begin(self, token: str, user: str) -> None:
        """Begin a session; those that are over are forgotten."""
        self._forget()
        self._of_token[token] = _Own(user, self._clock())

    def end(self, token: str) -> None:
        """Forget a session; nothing happens when there is none."""
        self._of_token.pop(token, None)

    def user_of(self, token: str) -> str | None:
        """Return whose session it is, and count that as its use; None when there is none, or no longer."""
        self._forget()
        found = self._of_token.get(token)
        if found is None:
            return None
        self._of_token[token] = found._replace(used_s=self._clock())
        self._of_token.move_to_end(token)
        return found.user

    def _forget(self) -> None:
        over_s = self._clock() - IDLE_S
        while self._of_token and next(iter(self._of_token.values())).used_s <= over_s:
            self._of_token.popitem(last=False)


class SharedSessions:
    """The sessions of a service of several processes, in a database of theirs (SQLite, WAL).

    Each request asks it, which takes microseconds: a session that one process ended is known to no other from then on.

    Parameters
    ----------
    directory : Path
        The node's folder, after `begin_anew`.
    clock : function of no arguments
        The time in seconds, the same in all of these processes; it never goes back.

    Raises
    ------
    sqlite3.Error
        From all methods, when the database cannot be read or written.
    """

    def __init__(self, directory: Path, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._forgot_s = clock()
        self._database = sqlite3.connect(_path(directory), isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous=OFF")  # it need not outlive the system

    @staticmethod
    def begin_anew(directory: Path) -> None:
        """Make the database, without sessions, before any process of the service runs: none outlives its service."""
        directory.mkdir(parents=True, exist_ok=True)
        path = _path(directory)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE sessions (token TEXT PRIMARY KEY, user TEXT NOT NULL, used_s REAL) WITHOUT ROWID")
            database.execute("CREATE INDEX sessions_by_use ON sessions (used_s)")

    def begin(self, token: str, user: str) -> None:
        """Begin a session; those that are over are forgotten."""
        now_s = self._clock()
        if now_s - self._forgot_s >= _FORGOTTEN_EVERY_S:
            self._database.execute("DELETE FROM sessions WHERE used_s <= ?", (now_s - IDLE_S,))
            self._forgot_s = now_s
        self._database.execute("INSERT INTO sessions VALUES (?, ?, ?)", (token, user, now_s))

    def end(self, token: str) -> None:
        """Forget a session; nothing happens when there is none."""
        self._database.execute("DELETE FROM sessions WHERE token = ?", (token,))

    def user_of(self, token: str) -> str | None:
        """Return whose session it is, and count that as its use; None when there is none, or no longer."""
        found = self._database.execute("SELECT user, used_s FROM sessions WHERE token = ?", (token,)).fetchone()
        if found is None:
            return None
        user, used_s = found
        now_s = self._clock()
        if now_s - used_s >= IDLE_S:
            return None
        if now_s - used_s >= _NOTED_EVERY_S:
            self._database.execute("UPDATE sessions SET used_s = ? WHERE token = ?", (now_s, token))
        return str(user)


def _path(directory: Path) -> Path:
    return directory / "https-sessions.sqlite"
