"""One service in several processes, which accept from one inherited listening socket: more than one core for one port.

The kernel gives each new connection to one of the processes, and there it stays. So what concerns one connection (the order
of its messages, one association) needs no thought; what concerns the whole service does: counts and limits are those of each
process, and whatever the processes write together must bear several writers. Journals do, when opened as shared.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable

_ENDING = frozenset((signal.SIGTERM, signal.SIGINT))
_WAITED_FOR = _ENDING | {signal.SIGCHLD}
_PR_SET_PDEATHSIG = 1
_CRASHED = 70  # EX_SOFTWARE of sysexits.h


def serve_in_processes(processes: int, serve: Callable[[int], int]) -> int:
    """Run a service in this process, or in several child processes of it, until all of them have ended.

    Call it from the main thread, before there is another thread, an event loop or an open database: children inherit copies
    of everything, and use what they inherit as if it were their own.

    Parameters
    ----------
    processes : int
        1: `serve(0)` runs in this very process, which is all that happens. Above: as many children run `serve`.
    serve : callable
        The service: takes its number among its siblings, from 0, serves until SIGTERM or SIGINT, returns its exit code.

    Returns
    -------
    int
        The exit code of the service: 0 when all children ended with 0; else that of the first that did not, which for one
        killed by a signal is 128 and the signal's number, as in a shell.

    Raises
    ------
    ValueError
        When there is to be no process.
    OSError
        When a process cannot be made; none is left then.

    Notes
    -----
    SIGTERM and SIGINT are passed on to the children. A child that ends by itself, however, ends the service: its siblings get
    SIGTERM, since half a service would look like a slow one. When this process is killed, the kernel kills the children
    (their parent-death signal, which follows the thread that forked: hence the main thread).
    """
    if processes < 1:
        raise ValueError(f"processes: expected at least 1, found {processes}")
    if processes == 1:
        return serve(0)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)  # none gets lost between the fork and the wait for it
    children: set[int] = set()
    try:
        for number in range(processes):
            children.add(_forked(number, serve, mask))
        return _wait(children)
    except BaseException:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forked(number: int, serve: Callable[[int], int], mask: Iterable[int]) -> int:
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # else a child would write it once more
    pid = os.fork()
    if pid:
        return pid
    code = _CRASHED
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else it died before the line above, and nobody would ever end this process
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = serve(number)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # the boundary of the process: beyond it lies the parent's stack
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _wait(children: set[int]) -> int:
    """Wait for the end of all children, passing on signals; return the exit code of the service. Empties `children`."""
    code = 0
    is_ending = False
    while children:
        number = signal.sigwait(_WAITED_FOR)
        if number in _ENDING:
            is_ending = True
            _signal(children, number)
        ended = _ended(children)
        children -= ended.keys()  # all of them, before any is signalled: a pid that was reaped may be anybody's
        for pid, ended_with in ended.items():
            code = code or ended_with
            if not is_ending:
                print(f"process {pid} of this service ended with {ended_with}: the service ends", file=sys.stderr)  # noqa: T201  its log
                code = code or _CRASHED  # a service that nobody ended has failed, whatever it says itself
                is_ending = True
                _signal(children, signal.SIGTERM)
    return code


def _ended(children: set[int]) -> dict[int, int]:
    """Return the exit code by pid of each child that has ended: one SIGCHLD may stand for several."""
    found = {}
    for pid in children:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            found[pid] = code if code >= 0 else 128 - code
    return found


def _signal(children: set[int], number: int) -> None:
    for pid in children:
        os.kill(pid, number)  # not reaped yet: the pid is still its own
