"""How a lying listener treats a message that it should simply have taken. Without misbehaviour: it takes it."""

from __future__ import annotations

from typing import NamedTuple

from simulators.misbehaviour import Misbehaviour

_EVERY_LOST, _EVERY_DOUBLED, _EVERY_MISNAMED, _EVERY_HELD = 200, 200, 5, 10


class Treatment(NamedTuple):
    """How often a message is stored, whether it is held back until its patient's next one, and the MSA-2 of its answer."""

    copies: int
    held: bool
    answer_id: bytes


class Lies:
    """Counts messages and says which are treated wrongly.

    Parameters
    ----------
    misbehaviour : tuple of Misbehaviour
        The defects that are switched on.
    """

    def __init__(self, misbehaviour: tuple[Misbehaviour, ...]) -> None:
        self._on = frozenset(misbehaviour)
        self._messages = 0
        self._followers = 0  # messages of patients who had one before
        self._seen: set[str] = set()
        self._last_id = b"0"

    @property
    def accepts_bad_messages(self) -> bool:
        """Whether content that must be refused is answered with AA."""
        return Misbehaviour.ACCEPTS_BAD_MESSAGES in self._on

    @property
    def swaps_messages(self) -> bool:
        """Whether some messages are held back until their patient's next one."""
        return Misbehaviour.SWAPS_MESSAGES in self._on

    def treatment(self, control_id: bytes, patient_id: str) -> Treatment:
        """Say how the next acceptable message is treated."""
        if not self._on:
            return Treatment(1, held=False, answer_id=control_id)
        self._messages += 1
        copies = 1
        if Misbehaviour.LOSES_EVERY_200TH in self._on and self._messages % _EVERY_LOST == 0:
            copies = 0
        elif Misbehaviour.STORES_ONE_TWICE in self._on and self._messages % _EVERY_DOUBLED == 0:
            copies = 2
        answer_id = control_id
        if Misbehaviour.ACKNOWLEDGES_ANOTHER in self._on and self._messages % _EVERY_MISNAMED == 0:
            answer_id = self._last_id
        self._last_id = control_id
        return Treatment(copies, self._holds(patient_id), answer_id)

    def _holds(self, patient_id: str) -> bool:
        if Misbehaviour.SWAPS_MESSAGES not in self._on:
            return False
        follows = patient_id in self._seen
        self._seen.add(patient_id)
        self._followers += follows
        return follows and self._followers % _EVERY_HELD == 0
