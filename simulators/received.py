"""What a receiver on the clients' side was brought: by whom, what, and whether it let the sender in."""

from __future__ import annotations

import threading
from typing import NamedTuple


class Received(NamedTuple):
    """One thing that came, or (not `admitted`) one sender that was turned away before it could say anything.

    `peer` is the address that it came from; `identifier` the SOP Instance UID, the MSH-10 or, of a report of storage
    commitment, its Transaction UID; empty for one turned away. `complaint`: what a report says is wrong, empty for nothing.
    """

    peer: str
    identifier: str
    admitted: bool
    complaint: str = ""


class ReceivedLog:
    """What has come so far; any thread may add and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Received] = []

    def add(self, entry: Received) -> None:
        """Add one entry."""
        with self._lock:
            self._entries.append(entry)

    def entries(self) -> list[Received]:
        """Return all entries, in the order in which they came."""
        with self._lock:
            return list(self._entries)
