"""The keeper of a lab: the parent of every process that a lab starts. It outlives the harness just long enough to clean up.

One single-threaded process, `python -m compose.keeper FD HARNESS_PID`, in a session of its own, and sub-reaper of all that
it starts, so that orphans (HAProxy's workers) come back to it. Over an inherited SOCK_SEQPACKET socket it reads one JSON
object a packet, listening sockets beside it (SCM_RIGHTS), and answers each with one. When that socket ends or the harness
dies, however it died, it undoes the faults that it knows of, ends all that is left, and leaves. It knows of every fault,
because it writes each down before it begins it.

If the keeper itself is killed, its children die by their parent-death signal. That signal follows the thread that forked,
which is why this process has one thread only. Nothing heavy is imported here: a lab waits for this process first.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIRST_FD = 3  # where a child finds its first inherited socket, as with systemd's LISTEN_FDS
MAXIMUM_PACKET_BYTES = 160_000  # below the default send buffer of a unix socket
_MAXIMUM_FDS = 16
_GRACE_S = 3.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_HIGH_FD = 200
_WAITING_AT = 24  # of struct tcp_info: tcpi_unacked, then tcpi_sacked: a listening socket's accept queue and its backlog


class _Child:
    """One process that was started: its name, its pid, and copies of its listening sockets for as long as it lives."""

    def __init__(self, name: str, pid: int, sockets: list[socket.socket]) -> None:
        self.name = name
        self.pid = pid
        self.sockets = sockets

    def close(self) -> None:
        for listener in self.sockets:
            listener.close()
        self.sockets = []


class Keeper:
    """Starts processes, signals them, reaps them, and leaves none behind.

    Parameters
    ----------
    channel : socket.socket
        The harness's end of the pair is at its other side.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[str, _Child] = {}
        self._exits: list[dict[str, Any]] = []  # name, pid, code or signal: what each process ended with
        self._faults: dict[str, tuple[list[str], int]] = {}  # id: the names, and the signal that undoes it
        self._directories: list[Path] = []
        self._ending = False

    def serve(self, harness_pid: int) -> None:
        """Answer the harness until it ends, then clean up."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing would be written to the wake-up pipe
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_ending", True))
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)  # Ctrl-C is the harness's: it stops the lab in good order
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            _watch(selector, harness_pid)
            while not self._ending:
                for key, _ in selector.select():
                    if key.fileobj is self._channel:
                        self._answer()
                    elif key.fileobj == wake_read:
                        _drain(wake_read)
                        self._reap()
                    else:
                        self._ending = True  # the harness is dead, whoever else still holds its end of the channel
        self._clean_up()

    def _answer(self) -> None:
        try:
            packet, fds, _, _ = socket.recv_fds(self._channel, MAXIMUM_PACKET_BYTES, _MAXIMUM_FDS)
        except OSError:
            packet, fds = b"", []
        if not packet:
            self._ending = True
            return
        for fd in fds:
            os.set_inheritable(fd, False)  # they come inheritable: the next child would keep a dead service's port open
        sockets = [socket.socket(fileno=fd) for fd in fds]
        self._reap()
        try:
            reply = self._do(json.loads(packet), sockets)
        except (KeyError, ValueError, TypeError, OSError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
            for listener in sockets:
                listener.close()
        try:
            self._channel.send(json.dumps(reply).encode())
        except OSError:
            self._ending = True

    def _do(self, request: dict[str, Any], sockets: list[socket.socket]) -> dict[str, Any]:
        match request.pop("do"):
            case "start":
                return self._start(sockets=sockets, **request)
            case "signal":
                return {"signalled": self._signal(request["names"], request["number"])}
            case "begin":
                return self._begin(**request)
            case "end":
                names, undo = self._faults.pop(request["fault"], ([], 0))
                return {"signalled": self._signal(names, undo)}
            case "refuse":
                return self._refuse(request["names"])
            case "queues":
                return {"queues": [self._queue(name) for name in request["names"]]}
            case "status":
                return {
                    "alive": {child.name: child.pid for child in self._children.values()},
                    "exits": self._exits,
                    "faults": sorted(self._faults),
                }
            case "directory":
                return self._directory(request["path"])
            case "stop":
                self._ending = True
                return {}
            case unknown:
                raise ValueError(f"expected a command of the keeper, found {unknown!r}")

    def _start(
        self, name: str, argv: list[str], environment: dict[str, str], directory: str, log: str, sockets: list[socket.socket]
    ) -> dict[str, Any]:
        if name in self._children:
            raise ValueError(f"{name}: expected no process of that name, found pid {self._children[name].pid}")
        pid = _spawn(argv, environment, directory, log, [listener.fileno() for listener in sockets])
        self._children[name] = _Child(name, pid, sockets)
        return {"pid": pid}

    def _begin(self, fault: str, names: list[str], number: int, undo: int) -> dict[str, Any]:
        if fault in self._faults:
            raise ValueError(f"fault {fault}: expected not to have begun, found it under way")
        self._faults[fault] = (names, undo)  # before it begins: whatever happens next, it will be undone
        return {"signalled": self._signal(names, number)}

    def _signal(self, names: list[str], number: int) -> list[str]:
        alive = [name for name in names if name in self._children]
        for name in alive:
            pid = self._children[name].pid  # not reaped yet, so the pid is still its own
            os.kill(pid, number)
            if number == signal.SIGSTOP and not _is_stopped(pid):
                os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # all of its threads stand, or it ended
            if number in (signal.SIGSTOP, signal.SIGCONT):
                _signal_workers(pid, number)
        return alive

    def _refuse(self, names: list[str]) -> dict[str, Any]:
        """End LISTEN on the sockets of processes: new connects are refused, open sessions are not touched."""
        for name in names:
            for listener in self._children[name].sockets if name in self._children else ():
                try:
                    listener.shutdown(socket.SHUT_RDWR)
                except OSError as error:
                    if error.errno != errno.ENOTCONN:  # it does not listen any more, which is what was asked for
                        raise
        return {}

    def _queue(self, name: str) -> tuple[int, int]:
        """Return how many connections wait to be accepted on a process's socket, and how many may."""
        if name not in self._children:
            raise ValueError(f"{name}: expected a process of that name, found none")
        info = self._children[name].sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING_AT + 8)
        waiting, at_most = (int.from_bytes(info[at : at + 4], sys.byteorder) for at in (_WAITING_AT, _WAITING_AT + 4))
        return waiting, at_most

    def _directory(self, path: str) -> dict[str, Any]:
        self._directories.append(Path(path))
        Path(path).mkdir(mode=0o700)
        return {}

    def _reap(self) -> None:
        for pid, code in ended_children():
            for child in [child for child in self._children.values() if child.pid == pid]:
                child.close()  # at once: a dead service's port must refuse
                del self._children[child.name]
                self._exits.append({"name": child.name, "pid": pid, "code": code})

    def _clean_up(self) -> None:
        for names, undo in self._faults.values():
            self._signal(names, undo)
        asked: set[int] = set()
        deadline = time.monotonic() + _GRACE_S
        while left := descendants(os.getpid()):  # each time anew: one may have been about to fork, or lost its parent to us
            out_of_patience = time.monotonic() >= deadline
            for pid in left:
                if out_of_patience or _is_stopped(pid):
                    _kill(pid, signal.SIGKILL)
                elif pid not in asked:
                    _kill(pid, signal.SIGTERM)
                    asked.add(pid)
            _wait_for_exit(left[0], _GRACE_S if out_of_patience else deadline - time.monotonic())
            self._reap()
        for directory in self._directories:
            import shutil  # only now: keeps the start short

            shutil.rmtree(directory, ignore_errors=True)


def ended_children() -> Iterator[tuple[int, int]]:
    """Yield pid and exit code of every child that has ended, orphans that came to us included; none is left a zombie."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def descendants(root: int) -> list[int]:
    """Return the pids of all processes below one, parents first.

    Read from every process's own entry: `/proc/PID/task/TID/children` is missing where the kernel was built without it.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = list(children.get(root, ()))
    for pid in found:  # grows while we walk: a process is looked at after its parent
        found += children.get(pid, ())
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` (proc(5)) from the state on; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _is_stopped(pid: int) -> bool:
    return _stat(pid)[:1] in (["T"], ["t"])


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_workers(parent: int, number: int) -> None:
    """Stop or continue the processes that a service shares its work with; ends of it they follow by themselves."""
    workers = descendants(parent)
    for pid in workers:
        _kill(pid, number)
    for pid in workers if number == signal.SIGSTOP else ():
        while _stat(pid)[:1] not in ([], ["T"], ["t"], ["Z"], ["X"]):  # no children of ours: waitid(2) knows nothing of them
            os.sched_yield()


def _wait_for_exit(pid: int, timeout_s: float) -> None:
    pidfd = _pidfd(pid)
    if pidfd is not None:
        waiting = select.poll()
        waiting.register(pidfd, select.POLLIN)
        waiting.poll(max(0.0, timeout_s) * 1000)
        os.close(pidfd)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _watch(selector: selectors.BaseSelector, harness_pid: int) -> None:
    pidfd = _pidfd(harness_pid)
    if pidfd is not None:  # else it is dead already, and the end of the channel says so
        selector.register(pidfd, selectors.EVENT_READ)


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        return


def _spawn(argv: list[str], environment: dict[str, str], directory: str, log: str, fds: list[int]) -> int:
    """Fork and exec; the child's sockets are 3, 4, …, its output goes to the log. Raises OSError when exec fails."""
    keeper = os.getpid()
    report_read, report_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(report_read)
        report_write = fcntl.fcntl(report_write, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD)
        try:
            _become_child(keeper, directory, log, fds)
            os.execvpe(argv[0], argv, environment)  # noqa: S606  no shell is wanted
        except OSError as error:
            os.write(report_write, f"{error.errno}:{error.filename or argv[0]}: {error.strerror}".encode())
        finally:
            os._exit(127)
    os.close(report_write)
    with open(report_read, "rb") as report:  # noqa: PTH123  a pipe, not a path
        failure = report.read().decode()
    if failure:
        number, _, reason = failure.partition(":")
        raise OSError(int(number), reason)
    return pid


def _become_child(keeper: int, directory: str, log: str, fds: list[int]) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(127)  # the keeper died before the line above: nobody would ever end this process
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whatever the harness's thread had blocked
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(directory)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    # First out of the way, then into place: a socket may sit on the very number that another is to get.
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for fd in (nothing, output, output, *fds)]
    for target, fd in enumerate(parked):
        os.dup2(fd, target)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def main(arguments: list[str]) -> None:
    """Keep a lab until its harness ends."""
    if len(arguments) != 3:
        sys.exit(f"usage: python -m compose.keeper FD HARNESS_PID, found {len(arguments) - 1} arguments")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    channel = socket.socket(fileno=int(arguments[1]))
    channel.set_inheritable(False)
    Keeper(channel).serve(int(arguments[2]))


if __name__ == "__main__":
    main(sys.argv)
