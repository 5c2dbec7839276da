"""Pages that many ask for, rendered once: a page is shown again as long as no database that it was made from has changed.

Whether one has, SQLite says (`PRAGMA data_version`, some microseconds): what a node has acknowledged is on the next page that
anybody asks for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from starlette.responses import Response

from simulators.node_store import database_path

_MOST_PAGES = 256
_MOST_BYTES = 1 << 16  # of one page: a long one is rare, and rarely asked for twice
Version = tuple[int, ...]


class PageKey(NamedTuple):
    """Which page for whom: `target` is path and query, `user` stands on every page."""

    target: bytes
    user: str


class RenderedPages:
    """The last pages that were rendered. For one thread.

    Parameters
    ----------
    directories : iterable of Path
        The folders of the site's nodes.
    """

    def __init__(self, directories: Iterable[Path]) -> None:
        self._directories = tuple(directories)
        self._pages: dict[PageKey, tuple[Version, Response]] = {}
        self._databases: dict[Path, sqlite3.Connection] = {}

    def version(self, *services: str) -> Version:
        """Return a value that changes when a database of one of these services does, on any node.

        Ask for it before what is shown is read.

        Raises
        ------
        sqlite3.Error
            When a database cannot be read.
        """
        return tuple(self._version(database_path(node, service)) for service in services for node in self._directories)

    def get(self, key: PageKey, version: Version) -> Response | None:
        """Return a page that was rendered at this version; None when it has to be rendered."""
        known, page = self._pages.get(key, ((), None))
        return page if known == version else None

    def put(self, key: PageKey, version: Version, page: Response) -> None:
        """Keep a page, in the place of the oldest where there are too many."""
        self._pages.pop(key, None)
        if len(page.body) > _MOST_BYTES:
            return
        if len(self._pages) >= _MOST_PAGES:
            del self._pages[next(iter(self._pages))]
        self._pages[key] = version, page

    def _version(self, path: Path) -> int:
        database = self._databases.get(path)
        if database is None:
            if not path.exists():
                return -1  # its service has not made it yet
            uri = f"{path.resolve().as_uri()}?mode=ro"
            database = self._databases[path] = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        version: int = database.execute("PRAGMA data_version").fetchone()[0]
        return version
