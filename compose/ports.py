"""Listening sockets, and who holds a port that is taken."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable

import psutil

from .lab import LabError

_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  what others may listen on


def bind_listener(address: str, port: int, backlog: int = 128) -> socket.socket:
    """Bind a TCP port and listen.

    With SO_REUSEADDR, so that connections of an earlier run that linger in TIME_WAIT do not matter; never with SO_REUSEPORT,
    which would share the port silently with a stale process.

    Parameters
    ----------
    address : str
        An IPv4 address of this machine.
    port : int
        0 lets the kernel choose.
    backlog : int
        How many connections the kernel accepts before the service does.

    Raises
    ------
    LabError
        When the port is taken (names who holds it), the address is not this machine's, or the port is privileged.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise LabError(f"{address}:{port}: expected a free port, found {_reason(error, address, port)}") from error
    return listener


def check_free(endpoints: Iterable[tuple[str, int]]) -> None:
    """Check that nobody listens on ports that another program (HAProxy) will bind with SO_REUSEPORT.

    Raises
    ------
    LabError
        For the first that is taken; names who holds it.
    """
    for address, port in endpoints:
        bind_listener(address, port).close()


def holders(address: str, port: int) -> list[str]:
    """Describe the processes that listen on a port: `pid 4711 (haproxy): haproxy -W -f …`. Empty when nobody is seen.

    Other users' processes are seen by root only.
    """
    found: dict[int | None, str] = {}
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.laddr.port != port:
            continue
        if connection.laddr.ip == address or connection.laddr.ip in _WILDCARDS or address in _WILDCARDS:
            found[connection.pid] = _describe(connection.pid)
    return list(found.values())


def _describe(pid: int | None) -> str:
    if pid is None:
        return f"a process that is not visible to this user (uid {os.getuid()}; ask root: ss -ltnp)"
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return f"pid {pid} ({process.name()}): {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return f"pid {pid}, which has just ended"
    except psutil.AccessDenied:
        return f"pid {pid}, not visible to this user (uid {os.getuid()})"


def _reason(error: OSError, address: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        who = "; ".join(holders(address, port)) or "no listener now: it may just have ended"
        return f"it held by {who}. End that process, or give this site other addresses or ports"
    if error.errno == errno.EADDRNOTAVAIL:
        return "that the address is not one of this machine. The native lab is for addresses in 127.0.0.0/8"
    if error.errno == errno.EACCES:
        return f"that user {os.getuid()} may not bind it. Give the site a port above 1023"
    return str(error)
