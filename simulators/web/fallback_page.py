"""The appliance's fallback page: `python -m simulators.web.fallback_page FD`.

A plain HTTP server on an inherited listening socket that says to everybody that the service is away (503), and to whoever
does not speak HTTP that it does not understand (400), as the appliance's own does. Ends at SIGTERM with exit code 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

_HEAD_BYTES = 16384
_HEAD_WITHIN_S = 10
_BACKLOG = 128
_PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Service unavailable</title></head>
<body><h1>The service is not available at the moment</h1>
<p>None of its servers answers. Please try again in a few minutes.</p></body></html>
"""


async def serve(listener: socket.socket) -> None:
    """Answer on a listening socket until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(_answer, sock=listener, limit=_HEAD_BYTES, backlog=_BACKLOG)
    await ended.wait()
    server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):  # a client that went away needs no answer
        async with asyncio.timeout(_HEAD_WITHIN_S):
            understood = await _is_http(reader)
            writer.write(_response("503 Service Unavailable") if understood else _response("400 Bad Request"))
            await writer.drain()
    writer.close()


async def _is_http(reader: asyncio.StreamReader) -> bool:
    first = await reader.readexactly(1)
    if not first.isalpha():  # DICOM begins with 0x01, MLLP with 0x0B, TLS with 0x16: no need to wait for a line
        return False
    try:
        await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return False
    return True


def _response(status: str) -> bytes:
    headers = f"Content-Type: text/html; charset=utf-8\r\nContent-Length: {len(_PAGE)}\r\nConnection: close"
    return f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + _PAGE


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM.

    Parameters
    ----------
    arguments : list of str
        The program's name and the number of the inherited listening socket.
    """
    if len(arguments) != 2 or not arguments[1].isdigit():
        sys.exit("usage: python -m simulators.web.fallback_page FD")
    asyncio.run(serve(socket.socket(fileno=int(arguments[1]))))


if __name__ == "__main__":
    main(sys.argv)
