"""Something that is done again and again while something else goes on."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Repeated(ABC):
    """Takes one step after the other in a thread of its own, from `with` on until that is left.

    Parameters
    ----------
    name : str
        Of the thread.
    every_s : float
        The pause before each step, in seconds.
    """

    def __init__(self, name: str, every_s: float) -> None:
        self._every_s = every_s
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join()

    @abstractmethod
    def _step(self) -> None:
        """Do it once; what it raises ends the thread."""

    def _run(self) -> None:
        while not self._leave.wait(self._every_s):
            self._step()
