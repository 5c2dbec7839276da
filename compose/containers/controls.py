"""Whom the tester tells what: the keeper on the host, the nodes, the balancers, each over its socket in the run folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..control_socket import ask
from ..lab import LabError
from ..layout import UnitFiles, keeper_socket, node_folder

ASKED_S = 90.0  # a node that starts four services afresh takes its time on a busy machine
NODE_SOCKET = "control.sock"
PREPARE = "prepare"  # a service that ends when it has done its work


class Controls:
    """The control paths of a lab in containers.

    Parameters
    ----------
    run : Path
        The run folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run

    def begin(self, fault: str, **what: object) -> None:
        """Have the keeper write a fault down and begin it; return when it is in effect. Raises LabError."""
        self.keeper("begin", fault=fault, **what)

    def end(self, fault: str) -> None:
        """Have the keeper undo a fault; one that never began is nothing to undo."""
        self.keeper("end", fault=fault)

    def keeper(self, what: str, **more: object) -> dict[str, Any]:
        """Ask the keeper on the host."""
        return ask(keeper_socket(self._run), {"do": what, **more}, ASKED_S)

    def tell_node(self, node: str, what: str, **more: object) -> dict[str, Any]:
        """Tell a node's process 1."""
        return ask(node_folder(self._run, node) / NODE_SOCKET, {"do": what, **more}, ASKED_S)

    def tell_unit(self, unit: str, what: str) -> dict[str, Any]:
        """Tell a balancer's process 1."""
        return ask(UnitFiles(self._run, unit).control_socket, {"do": what}, ASKED_S)

    def wait(self, what: str, silence: Callable[[], str], deadline: float, poll_s: float) -> None:
        """Wait until something answers.

        Parameters
        ----------
        what : str
            For the message: `node mach7-1`.
        silence : function
            Asks once; returns why there was no answer, empty when there was one.
        deadline : float
            Of `time.monotonic()`.
        poll_s : float
            Between two looks, in seconds.

        Raises
        ------
        LabError
            At the deadline, or when a container of the lab has ended; with what it said last.
        """
        while reason := silence():
            for service, code, said in self.gone():
                raise LabError(f"{what}: expected it to come up, found that {service} exited with code {code}:\n{said}")
            if time.monotonic() > deadline:
                raise LabError(f"{what}: expected an answer in time, found {reason}")
            time.sleep(poll_s)

    def gone(self) -> list[tuple[str, int, str]]:
        """Return the containers that have ended though no fault ended them: service, exit code, last lines."""
        status = self.keeper("status")
        meant = {fault.partition(" ")[0] for fault in status["faults"]}
        return [
            (service, code, said)
            for service, (state, code, said) in status["containers"].items()
            if state in ("exited", "dead") and service not in meant and service != PREPARE
        ]
