"""A listening unix socket that is never there before it listens. Standard library alone: it runs in balancers' containers."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_BACKLOG = 64


def listen(path: Path, mode: int) -> socket.socket:
    """Return a listening socket at a path, in place of what an earlier process left there.

    It gets its name only once it listens: whoever finds it is not refused.

    Parameters
    ----------
    path : Path
        It may be longer than the 107 characters that the kernel takes.
    mode : int
        Who may connect, as the permissions of a file.
    """
    coming = path.with_name(f"{path.name}.new")
    coming.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_name(coming) as name:
        listener.bind(name)
    coming.chmod(mode)
    listener.listen(_BACKLOG)
    coming.replace(path)
    return listener


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Name a socket by its folder's file descriptor: the folder may lie too deep for the kernel's 107 characters."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
