"""One request, one answer: JSON lines over a unix socket in a folder that containers share.

The socket is out of reach of every network. Each connection carries one request, an object, and gets one object back;
where what was asked cannot be done, that is `{"error": why}`.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import unix_listener
from .lab import LabError

Answer = Callable[[dict[str, Any]], dict[str, Any]]
_LONGEST_REQUEST_BYTES = 1 << 20
_REQUEST_WITHIN_S = 5.0  # who connects has its request ready


def ask(path: Path, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Send a request and return the answer.

    Parameters
    ----------
    path : Path
        Of the socket; it may be longer than the 107 characters that the kernel takes.
    request : dict
        What is asked; `do` names it.
    timeout_s : float
        For connecting, and then for the answer, in seconds.

    Raises
    ------
    LabError
        When nobody answers in time, or the answer is an error; the message names the socket and what was asked.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        return _exchange(channel, path, request, timeout_s)


def hold(path: Path, request: dict[str, Any], timeout_s: float) -> socket.socket:
    """Send a request, wait for its answer, and return the connection: what was asked for lasts as long as that does.

    Raises
    ------
    LabError
        As `ask`.
    """
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _exchange(channel, path, request, timeout_s)
    except BaseException:
        channel.close()
        raise
    return channel


def listen(path: Path) -> socket.socket:
    """Return a listening socket at a path, as `unix_listener.listen` does, to which whoever can reach its folder may connect.

    Containers have users of their own: the folder is what keeps others away.
    """
    return unix_listener.listen(path, 0o666)


class Asked:
    """A request that came, and the connection that waits for its answer."""

    def __init__(self, connection: socket.socket, line: bytes) -> None:
        self.connection = connection
        self._line = line

    @property
    def what(self) -> str:
        """What is asked for; empty when that is not to be read."""
        try:
            request = json.loads(self._line)
        except ValueError:
            return ""
        return str(request.get("do", "")) if isinstance(request, dict) else ""

    def answer(self, answer: Answer) -> None:
        """Answer; an error of the request's becomes the answer. Who has gone meanwhile is not told."""
        reply = _reply(self._line, answer)
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(reply).encode() + b"\n")


def take(listener: socket.socket) -> Asked | None:
    """Accept one connection and read its request; None when it hung up, or was silent, before it had asked."""
    connection, _ = listener.accept()
    connection.settimeout(_REQUEST_WITHIN_S)
    try:
        line = _line(connection)
    except OSError:
        line = b""
    if not line:
        connection.close()
        return None
    return Asked(connection, line)


def answer_one(listener: socket.socket, answer: Answer) -> None:
    """Accept one connection, answer its request, and close it. An error of the request's becomes the answer."""
    asked = take(listener)
    if asked is not None:
        with asked.connection:
            asked.answer(answer)


def _exchange(channel: socket.socket, path: Path, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    what = f"{path}: {request.get('do')}"
    try:
        channel.settimeout(timeout_s)
        with unix_listener.short_name(path) as name:
            channel.connect(name)
        channel.sendall(json.dumps(request).encode() + b"\n")
        line = _line(channel)
    except OSError as error:
        raise LabError(f"{what}: expected an answer within {timeout_s:g} s, found {error}") from error
    if not line:
        raise LabError(f"{what}: expected an answer, found that it hung up")
    reply: dict[str, Any] = json.loads(line)
    if "error" in reply:
        raise LabError(f"{what}: {reply['error']}")
    return reply


def _reply(line: bytes, answer: Answer) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            raise ValueError(f"expected an object with a string `do`, found {line[:200]!r}")
        return answer(request)
    except LabError as error:
        return {"error": str(error)}
    except (KeyError, ValueError, TypeError, OSError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _line(channel: socket.socket) -> bytes:
    """Read until a line feed; what came before the other side hung up counts as nothing."""
    received = b""
    while not received.endswith(b"\n"):
        chunk = channel.recv(65536)
        if not chunk or len(received) > _LONGEST_REQUEST_BYTES:
            return b""
        received += chunk
    return received
