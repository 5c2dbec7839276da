"""The keeper of a lab in containers: it stands on the host, owns the compose project and every fault that needs Docker.

`python -m compose.containers.keeper LIFELINE_FD PROJECT RUN`, a process in a session of its own. It makes the run folder,
says `ready` on its standard output, and answers JSON lines at `RUN/control/keeper.sock`, to the command on the host and to
pytest in the tester alike. When the lifeline ends (the command is over, however it ended), at SIGTERM and when it is told to
stop, it removes all that the project has (containers, networks, volumes) and the run folder.

Who breaks things holds a connection (`hold`) as long as it lives: when that ends, every fault is undone. Each fault is
written down before it begins.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from ..control_socket import ask, listen, take
from ..lab import LabError
from ..layout import keeper_socket
from . import faults
from .project import Project, ProjectError

_MEND_S = 60.0


class ContainerKeeper:
    """Answers requests until its lifeline ends, then removes the lab.

    Parameters
    ----------
    project : Project
        What it owns.
    run : Path
        The run folder; made here, removed at the end.
    """

    def __init__(self, project: Project, run: Path) -> None:
        self._project = project
        self._run = run
        self._faults: dict[str, faults.Fault] = {}
        self._holders: set[socket.socket] = set()
        self._ending = False

    def serve(self, lifeline: int) -> None:
        """Answer until the end, then clean up."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_ending", True))
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)  # Ctrl-C is the command's: it ends the lab in good order
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        keeper_socket(self._run).parent.mkdir(parents=True, mode=0o700)
        with listen(keeper_socket(self._run)) as listener, selectors.DefaultSelector() as selector:
            for source in (listener, lifeline, wake_read):
                selector.register(source, selectors.EVENT_READ)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            while not self._ending:
                for key, _ in selector.select():
                    if key.fileobj is listener:
                        self._take(listener, selector)
                    elif key.fileobj in self._holders:
                        self._let_go(key.fileobj, selector)
                    else:
                        self._ending = True
        self.clean_up()

    def clean_up(self) -> None:
        """Remove the project and the run folder; say what could not be removed."""
        left = self._project.remove(self._run)
        if left:
            sys.stderr.write(f"preflight: could not remove {left}. Once Docker answers: preflight lab down --lab compose\n")

    def _take(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        asked = take(listener)
        if asked is None:
            return
        if asked.what == "hold":
            asked.answer(lambda _: {})
            self._holders.add(asked.connection)
            selector.register(asked.connection, selectors.EVENT_READ)
            return
        with asked.connection:
            asked.answer(self._do)

    def _let_go(self, holder: socket.socket, selector: selectors.BaseSelector) -> None:
        selector.unregister(holder)
        self._holders.discard(holder)
        holder.close()
        with contextlib.suppress(LabError):  # what cannot be mended goes with the lab; the next fault says so
            self._undo()

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "status":
                return {"faults": sorted(self._faults), "containers": self._project.states()}
            case "up":
                self._project.up(request["environment"], request["options"], request["scale"])
                return {}
            case "begin":
                return self._begin(request)
            case "end":
                fault = self._faults.get(request["fault"])
                if fault is not None:
                    faults.undo(self._project, fault)
                    del self._faults[request["fault"]]
                return {}
            case "undo":
                self._undo()
                return {}
            case "logs":
                self._project.write_logs(Path(request["directory"]))
                return {}
            case "stop":
                self._ending = True
                return {}
            case unknown:
                raise LabError(f"expected a command of the container keeper, found {unknown!r}")

    def _begin(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["fault"]
        if name in self._faults:
            raise LabError(f"{name}: expected not to have begun, found it under way")
        fault = faults.fault_of(self._project, request)
        self._faults[name] = fault  # before it begins: whatever happens next, it will be undone
        faults.begin(self._project, fault)
        return {}

    def _undo(self) -> None:
        """Undo all faults, those that nodes and balancers were told themselves included."""
        failures = []
        for name, fault in list(self._faults.items()):
            try:
                faults.undo(self._project, fault)
                del self._faults[name]
            except (LabError, ProjectError) as error:
                failures.append(str(error))
        for path in (*self._run.glob("nodes/*/control.sock"), *self._run.glob("balancers/*/control.sock")):
            try:
                ask(path, {"do": "mend"}, _MEND_S)
            except LabError as error:
                failures.append(str(error))
        if failures:
            raise LabError("; ".join(failures))


def main(arguments: list[str]) -> None:
    """Keep a lab until its lifeline ends."""
    if len(arguments) != 4:
        sys.exit(f"usage: python -m compose.containers.keeper LIFELINE_FD PROJECT RUN, found {len(arguments) - 1} arguments")
    lifeline, run = int(arguments[1]), Path(arguments[3])
    try:
        run.mkdir(mode=0o700)
        ContainerKeeper(Project(arguments[2]), run).serve(lifeline)
    except (LabError, ProjectError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv)
