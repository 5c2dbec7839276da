"""One command to one of HAProxy's unix sockets, and its answer. Shared by the run-time API and the master's CLI."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from .errors import LoadBalancingError

_CHUNK_BYTES = 65536


class BalancerError(LoadBalancingError):
    """The balancer did not answer, or refused, or answered what cannot be read; the message shows its own words."""


def ask(socket_path: Path, command: str, timeout_s: float) -> str:
    """Send one command; return the answer once HAProxy has closed the connection.

    Parameters
    ----------
    socket_path : Path
        The stats socket, or the master's.
    command : str
        One command, without line feeds or semicolons (they would make it several).
    timeout_s : float
        For the whole exchange.

    Raises
    ------
    BalancerError
        When nobody listens, the answer takes too long, or the command would be several.
    """
    if "\n" in command or ";" in command:
        raise BalancerError(f"{socket_path}: expected one command, found {command!r}")
    deadline = time.monotonic() + timeout_s
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(socket_path))
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)  # the master keeps the connection open for more commands otherwise
            while chunk := connection.recv(_CHUNK_BYTES):
                answer += chunk
                connection.settimeout(max(0.001, deadline - time.monotonic()))
    except TimeoutError:
        read = f", found {len(answer)} bytes and no end" if answer else ", found silence"
        raise BalancerError(f"{socket_path}: {command}: expected an answer within {timeout_s:g} s{read}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise BalancerError(f"{socket_path}: {command}: expected a listening HAProxy, found: {reason}") from error
    return answer.decode("utf-8", errors="replace")
