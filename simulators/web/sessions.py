"""Who is logged in on one node. No other node knows: that is why persistence matters."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Protocol


class Sessions(Protocol):
    """The sessions of one node, by their tokens."""

    def begin(self, token: str, user: str) -> None:
        """Begin a session."""

    def end(self, token: str) -> None:
        """Forget a session; nothing happens when there is none."""

    def user_of(self, token: str) -> str | None:
        """Return whose session it is; None when there is none."""


class OwnSessions:
    """The sessions of a service that is one process: they live and die with it."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}

    def begin(self, token: str, user: str) -> None:
        """Begin a session."""
        self._users[token] = user

    def end(self, token: str) -> None:
        """Forget a session; nothing happens when there is none."""
        self._users.pop(token, None)

    def user_of(self, token: str) -> str | None:
        """Return whose session it is; None when there is none."""
        return self._users.get(token)


class SharedSessions:
    """The sessions of a service of several processes, in a database of theirs (SQLite, WAL).

    Each request asks it, which takes microseconds: a session that one process ended is known to no other from then on.

    Parameters
    ----------
    directory : Path
        The node's folder, after `begin_anew`.

    Raises
    ------
    sqlite3.Error
        From all methods, when the database cannot be read or written.
    """

    def __init__(self, directory: Path) -> None:
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
            database.execute("CREATE TABLE sessions (token TEXT PRIMARY KEY, user TEXT NOT NULL) WITHOUT ROWID")

    def begin(self, token: str, user: str) -> None:
        """Begin a session."""
        self._database.execute("INSERT INTO sessions VALUES (?, ?)", (token, user))

    def end(self, token: str) -> None:
        """Forget a session; nothing happens when there is none."""
        self._database.execute("DELETE FROM sessions WHERE token = ?", (token,))

    def user_of(self, token: str) -> str | None:
        """Return whose session it is; None when there is none."""
        found = self._database.execute("SELECT user FROM sessions WHERE token = ?", (token,)).fetchone()
        return None if found is None else found[0]


def _path(directory: Path) -> Path:
    return directory / "https-sessions.sqlite"
