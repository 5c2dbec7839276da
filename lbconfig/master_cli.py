"""HAProxy's master process: reload, and which workers serve. HAProxy 2.6 management manual, 9.4."""

from __future__ import annotations

import re
import select
import time
from pathlib import Path

import msgspec

from .stats_socket import BalancerError, ask

_POLL_S = 0.05
_MASTER = re.compile(r"^\d+\s+master\s+(?P<reloads>\d+)(?:\s+\[failed: (?P<failed>\d+)\])?", re.MULTILINE)
_WORKER = re.compile(r"^(?P<pid>\d+)\s+worker\s+(?P<reloads>\d+)\s+(?P<uptime>\S+)(?:\s+(?P<version>\S+))?")
_REFUSED = re.compile(r"^Success=0", re.MULTILINE)  # what HAProxy 2.7 and newer answer to a reload that failed


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process: `old` ones have stopped listening and serve what connections they still have."""

    pid: int
    reloads: int
    version: str
    old: bool


class MasterCli:
    """The master's socket (`haproxy -W -S SOCKET`).

    Parameters
    ----------
    socket_path : Path
        What follows `-S`.
    timeout_s : float
        For each answer.
    """

    def __init__(self, socket_path: Path, timeout_s: float = 5.0) -> None:
        self.socket_path = socket_path
        self.timeout_s = timeout_s

    def workers(self) -> list[Worker]:
        """Return the workers, the serving one first. Raises BalancerError when the master does not answer."""
        return _workers(self._processes())

    def reload(self, within_s: float = 20.0) -> Worker:
        """Reload; return the new worker once it answers. Old connections stay with the old worker.

        Persistence tables survive where `RuntimeApi.can_teach_tables` holds; they may arrive a moment later.

        Raises
        ------
        BalancerError
            When the new configuration was refused, or no new worker answers in time. The old worker then still serves.

        Notes
        -----
        HAProxy 2.6 executes itself anew at once and closes the connection without a word; newer ones answer when they have
        loaded. Either way the list of processes decides: a worker that was not there before.
        """
        deadline = time.monotonic() + within_s
        before = self._processes()
        known = {worker.pid for worker in _workers(before)}
        answer = self._say_reload(within_s)
        if _REFUSED.search(answer):
            raise self._refused(answer.strip())
        last = answer.strip()
        while time.monotonic() < deadline:
            try:
                last = self._processes()
                new = [worker for worker in _workers(last) if not worker.old and worker.pid not in known]
                if new and self._answers(new[0]):
                    return new[0]
            except BalancerError as error:  # the master is executing itself just now
                last = str(error)
            if (failed := _failed(last)) > _failed(before):
                raise self._refused(f"[failed: {failed}], and the old worker still serving")
            select.select([], [], [], _POLL_S)  # the master has no event to wait for
        raise BalancerError(f"{self.socket_path}: reload: expected a new worker within {within_s:g} s, found: {last}")

    def _say_reload(self, within_s: float) -> str:
        try:
            return ask(self.socket_path, "reload", within_s)
        except BalancerError as error:
            if isinstance(error.__cause__, ConnectionResetError):  # it was gone before it had read to the end
                return ""
            raise

    def _processes(self) -> str:
        answer = ask(self.socket_path, "show proc", self.timeout_s)
        if _MASTER.search(answer) is None:  # between two masters the connection closes without an answer
            found = answer.strip()[:200] or "nothing"
            raise BalancerError(f"{self.socket_path}: show proc: expected the master in a list, found {found}")
        return answer

    def _answers(self, worker: Worker) -> bool:
        return f"Pid: {worker.pid}\n" in ask(self.socket_path, f"@!{worker.pid} show info", self.timeout_s)

    def _refused(self, found: str) -> BalancerError:
        return BalancerError(
            f"{self.socket_path}: reload: expected HAProxy to load its configuration, found {found}. "
            "Check it with haproxy -c; HAProxy's log says more"
        )


def _failed(processes: str) -> int:
    match = _MASTER.search(processes)
    return int(match["failed"] or 0) if match else 0


def _workers(processes: str) -> list[Worker]:
    """Read `show proc`: the serving workers stand under `# workers`, the others under `# old workers`."""
    workers, old = [], False
    for line in processes.splitlines():
        if line.startswith("#"):
            old = line.startswith("# old")
        elif match := _WORKER.match(line):
            version = match["version"] or ""
            workers.append(Worker(pid=int(match["pid"]), reloads=int(match["reloads"]), version=version, old=old))
    return sorted(workers, key=lambda worker: worker.old)
