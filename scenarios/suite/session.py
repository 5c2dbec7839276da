"""What the whole pytest session shares beside its fixtures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import Console

from compose.lab import Lab
from reports.terminal import VerdictBoard
from reports.writer import ClaimedFolder
from scenarios.acceptance import Acceptance
from scenarios.episodes import Episode
from scenarios.findings import Finding
from scenarios.load_runs.stories import LoadPlayed
from scenarios.options import fresh_seed
from scenarios.preparation import Prepared
from scenarios.run import Run
from scenarios.takeovers import UnitEpisode

Judge = Callable[[Finding], None]


class Session:
    """What the whole pytest session shares beside its fixtures."""

    def __init__(self, prepared: Prepared) -> None:
        self.options = options = prepared.options
        self.site = site = prepared.site
        self.defects = prepared.defects
        self.own = prepared.own
        self.folder: ClaimedFolder | None = None
        self.number = fresh_seed()
        self.acceptance = Acceptance(site, options, self.number)
        self.console = Console()
        self.board: VerdictBoard | None = None
        self.lab: Lab | None = None
        self.run: Run | None = None
        self.episodes: list[Episode] = []
        self.takeovers: list[UnitEpisode] = []
        self.load = LoadPlayed()
        self.is_active = False

    def say(self, text: str) -> None:
        """Show a line that is no verdict, where somebody looks on."""
        if self.board is not None:
            self.board.note(text)


SESSION = pytest.StashKey[Session]()
