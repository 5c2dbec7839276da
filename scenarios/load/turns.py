"""Whose turn it is: an arrival goes to the client that has been free longest. For greenlets of one loop.

gevent's own queue does not promise that: whoever asks it while something lies in it is served at once, before those that have
waited, and were only not woken yet. In a crowd some clients would then never have a turn.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from gevent.event import AsyncResult

_T = TypeVar("_T")


class Turns(Generic[_T]):
    """Arrivals on one side, clients on the other; each side in the order in which it came."""

    def __init__(self) -> None:
        self._free: OrderedDict[AsyncResult[_T | None], None] = OrderedDict()  # clients that wait, longest first
        self._waiting: deque[_T] = deque()  # arrivals; none as long as a client waits
        self._is_over = False

    def offer(self, arrival: _T) -> None:
        """Give an arrival to the client that has been free longest, or to the next one that is."""
        if self._free:
            self._free.popitem(last=False)[0].set(arrival)
        else:
            self._waiting.append(arrival)

    def take(self) -> _T | None:
        """Return the next arrival for the client that asks, in its greenlet; None when there are no more."""
        if self._waiting:
            return self._waiting.popleft()
        if self._is_over:
            return None
        turn: AsyncResult[_T | None] = AsyncResult()
        self._free[turn] = None
        try:
            return turn.get()
        except BaseException:  # the client is ended, and leaves the line; what it was just given is another's
            if turn in self._free:
                del self._free[turn]
            elif (given := turn.value) is not None:
                self._give_back(given)
            raise

    def close(self) -> None:
        """Say that there are no further arrivals: those that wait for a client are still taken."""
        self._is_over = True
        while self._free:
            self._free.popitem(last=False)[0].set(None)

    def _give_back(self, arrival: _T) -> None:
        if self._free:
            self._free.popitem(last=False)[0].set(arrival)
        else:
            self._waiting.appendleft(arrival)
