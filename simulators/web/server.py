"""The HTTPS service of a node: `python -m simulators.web.server SETTINGS.json`.

Starlette on uvicorn (httptools, uvloop), TLS 1.2 or newer, on the inherited socket. Ends at SIGTERM with exit code 0.
"""

from __future__ import annotations

import functools
import signal
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from simulators.misbehaviour import Misbehaviour
from simulators.service import ServiceSettings, settings_of_command_line

from . import browsing, dicomweb
from .protocol import NODE_HEADER
from .web_node import Late, Leaking, Observed, WebNode

_KEEP_ALIVE_S = 300  # a viewer looks at one study for minutes
_GRACE_S = 1  # for the requests under way at SIGTERM
_CLOSE_NOTIFY_S = 0.1  # for an idle viewer's answer to the end of TLS, which most never send
_BACKLOG_OFFSET = 28  # of tcpi_sacked in struct tcp_info: for a listening socket the kernel keeps its backlog there


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM.

    Parameters
    ----------
    arguments : list of str
        The program's name and the path of its settings.
    """
    signal.signal(signal.SIGTERM, _leave)
    settings = settings_of_command_line(arguments)
    if settings.certificate_file is None or settings.key_file is None:
        print("certificate_file, key_file: expected two PEM files, found none", file=sys.stderr)  # noqa: T201  the service's log
        sys.exit(2)
    listener = socket.socket(fileno=settings.listen_fd)
    config = uvicorn.Config(
        application(settings), http=_Protocol, loop="uvloop", ws="none", lifespan="off", backlog=_backlog(listener),
        proxy_headers=False,  # the peer is whoever the node's socket says it is
        server_header=False, headers=[(NODE_HEADER, settings.node)], access_log=False, log_level="warning", use_colors=False,
        timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=settings.certificate_file, ssl_keyfile=settings.key_file, ssl_context_factory=_tls,
    )  # fmt: skip
    # at SIGTERM uvicorn ends its work, then raises the signal again for the handler that was there before: `_leave`
    uvicorn.Server(config).run(sockets=[listener])


def application(settings: ServiceSettings) -> ASGIApp:
    """Return the ASGI application of a node's HTTPS service."""
    web_node = WebNode(settings)
    refused = functools.partial(browsing.refused, web_node)
    handlers = {HTTPException: refused, 500: refused}
    pages = Starlette(routes=[*browsing.routes(web_node), *dicomweb.routes(web_node)], exception_handlers=handlers)
    app: ASGIApp = Observed(pages, web_node)
    if settings.has(Misbehaviour.LEAKS_MEMORY):
        app = Leaking(app)
    return Late(app) if settings.has(Misbehaviour.SLOW_BY_20_MS) else app


class _Protocol(HttpToolsProtocol):
    """One HTTP connection; idle at SIGTERM, it does not hold the process until the viewer has said goodbye too."""

    def shutdown(self) -> None:
        """Close when idle, else after the response under way."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(_CLOSE_NOTIFY_S, self.transport.abort)


def _tls(_config: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _backlog(listener: socket.socket) -> int:
    """Return the backlog that the listener was given: uvicorn listens once more, and must not change it."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BACKLOG_OFFSET + 4)
    backlog: int = struct.unpack_from("=I", info, _BACKLOG_OFFSET)[0]
    return backlog


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv)
