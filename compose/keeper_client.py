"""The harness's handle on the keeper: one request, one answer, from any thread."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from .keeper import MAXIMUM_PACKET_BYTES
from .lab import LabError

CHECKOUT = Path(__file__).resolve().parent.parent
_ANSWER_S = 15.0  # the keeper answers in milliseconds; this is for a machine that is on its knees
_END_S = 10.0  # its own grace for those that do not heed SIGTERM is 3 s


class Exit(NamedTuple):
    """How a process ended: `code` is its exit code, or the negative number of the signal that killed it."""

    name: str
    pid: int
    code: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f"{self.name} (pid {self.pid}) exited with code {self.code}"
        return f"{self.name} (pid {self.pid}) was killed by {signal.Signals(-self.code).name}"


class Status(NamedTuple):
    """What the keeper knows: pids by name of what runs, how the others ended (oldest first), the faults under way."""

    alive: dict[str, int]
    exits: list[Exit]
    faults: list[str]


class KeeperClient:
    """Starts a keeper and speaks with it.

    Whatever happens to this process, the keeper undoes the faults and ends all that was started through it.

    Raises
    ------
    LabError
        From every method, when the keeper is gone or refuses.
    """

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(_ANSWER_S)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "compose.keeper", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()], start_new_session=True, stdin=subprocess.DEVNULL, cwd="/",
                env=python_environment(),
            )  # fmt: skip
        try:
            self.status()  # it reads this only once it is ready
        except LabError:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The keeper's pid."""
        return self._process.pid

    def start(
        self, name: str, argv: Sequence[str], *, directory: Path, log: Path, environment: Mapping[str, str] | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> int:  # fmt: skip
        """Start a process and return its pid.

        Parameters
        ----------
        name : str
            By which it is known from now on; free again once the process has ended.
        argv : sequence of str
            The program and its arguments, no shell.
        directory : Path
            Its working directory.
        log : Path
            Where its standard output and error are appended.
        environment : mapping, optional
            By default `python_environment()`.
        sockets : sequence of socket
            It inherits them as file descriptors 3, 4, …; the caller's own copies may be closed afterwards.

        Raises
        ------
        LabError
            When the program cannot be started, or the name is in use.
        """
        request = {
            "do": "start", "name": name, "argv": list(argv), "directory": str(directory), "log": str(log),
            "environment": dict(python_environment() if environment is None else environment),
        }  # fmt: skip
        return int(self._ask(request, [listener.fileno() for listener in sockets])["pid"])

    def signal(self, names: Sequence[str], number: int) -> list[str]:
        """Send a signal to processes; return the names of those that were alive."""
        return list(self._ask({"do": "signal", "names": list(names), "number": int(number)})["signalled"])

    def begin_fault(self, fault: str, names: Sequence[str], number: int, *, undo: int) -> list[str]:
        """Write a fault down and begin it: the signal `number` to processes, which the signal `undo` will undo."""
        request = {"do": "begin", "fault": fault, "names": list(names), "number": int(number), "undo": int(undo)}
        return list(self._ask(request)["signalled"])

    def end_fault(self, fault: str) -> list[str]:
        """Undo a fault and forget it; one that never began is nothing to undo."""
        return list(self._ask({"do": "end", "fault": fault})["signalled"])

    def refuse_connections(self, names: Sequence[str]) -> None:
        """End LISTEN on the sockets that processes were started with; their open sessions are not touched."""
        self._ask({"do": "refuse", "names": list(names)})

    def accept_queues(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """Return for each process how many connections wait to be accepted on its socket, and how many may (its backlog)."""
        return [(waiting, at_most) for waiting, at_most in self._ask({"do": "queues", "names": list(names)})["queues"]]

    def make_directory(self, path: Path) -> None:
        """Make a directory, for its owner alone, that the keeper removes at its end with all that is in it."""
        self._ask({"do": "directory", "path": str(path)})

    def status(self) -> Status:
        """Ask what runs and what has ended."""
        answer = self._ask({"do": "status"})
        exits = [Exit(exit_["name"], exit_["pid"], exit_["code"]) for exit_ in answer["exits"]]
        return Status(dict(answer["alive"]), exits, list(answer["faults"]))

    def exit_of(self, name: str) -> Exit | None:
        """Return how the last process of a name ended; None while it runs, or when there never was one."""
        status = self.status()
        if name in status.alive:
            return None
        return next((exit_ for exit_ in reversed(status.exits) if exit_.name == name), None)

    def wait(self, names: Sequence[str], timeout_s: float) -> None:
        """Wait until processes have ended.

        Raises
        ------
        LabError
            When one still runs after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        for name in names:
            pid = self.status().alive.get(name)
            if pid is not None and not wait_for_exit(pid, deadline - time.monotonic()):
                raise LabError(f"{name} (pid {pid}): expected to end within {timeout_s:g} s, found it running")
        self.status()  # the keeper reaps before it answers, so the ports of the dead refuse when this returns

    def stop(self) -> None:
        """Let the keeper undo all faults, end all processes and leave; return when it is gone. Safe to call twice."""
        try:
            self._channel.shutdown(socket.SHUT_RDWR)  # a close would not end it while a forked copy is open somewhere
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EBADF, errno.EPIPE):
                raise
        self._channel.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children follow it by their parent-death signal
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ask(self, request: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        packet = json.dumps(request).encode()
        if len(packet) > MAXIMUM_PACKET_BYTES:
            raise LabError(f"keeper: expected a request of at most {MAXIMUM_PACKET_BYTES} bytes, found {len(packet)}")
        try:
            with self._lock:
                socket.send_fds(self._channel, [packet], list(fds))
                answer = self._channel.recv(4 * MAXIMUM_PACKET_BYTES)
        except OSError as error:
            self._channel.close()  # a late answer must not be read as that to the next request; the keeper ends the lab
            raise LabError(f"keeper (pid {self.pid}): expected an answer to {request['do']!r}, found {error}") from error
        if not answer:
            raise LabError(f"keeper (pid {self.pid}): expected an answer to {request['do']!r}, found it gone")
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            raise LabError(f"keeper: {request['do']} {request.get('name', '')}: {reply['error']}")
        return reply


def python_environment() -> dict[str, str]:
    """Return this process's environment, with this checkout as the place that Python imports our rooms from."""
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def wait_for_exit(pid: int, timeout_s: float) -> bool:
    """Wait until a process has ended; false when it still runs after `timeout_s` seconds."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        waiting = select.poll()  # not select(): a harness under load has more than 1,024 files open
        waiting.register(pidfd, select.POLLIN)
        return bool(waiting.poll(max(0.0, timeout_s) * 1000))
    finally:
        os.close(pidfd)
