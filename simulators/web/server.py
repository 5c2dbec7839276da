"""The HTTPS service of a node: `python -m simulators.web.server SETTINGS.json`.

Starlette on uvicorn (httptools, uvloop), TLS 1.2 or newer with session tickets, on the inherited socket. `processes` of them
share it, and with it sessions, tickets, journal and store; each writes its pulse. Ends at SIGTERM with exit code 0.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import sqlite3
import ssl
import sys
from pathlib import Path
from types import FrameType
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from simulators.misbehaviour import Misbehaviour
from simulators.node_store import NodeStore
from simulators.prefork import serve_in_processes
from simulators.proxy_protocol import Peer, accept_connections
from simulators.pulse import keep_pulse, pulse_path
from simulators.service import (
    ServiceSettings,
    SettingsError,
    backlog_of,
    listening_socket,
    settings_of_command_line,
)

from . import browsing, dicomweb
from .protocol import NODE_HEADER
from .sessions import SharedSessions
from .web_node import Late, Leaking, Observed, WebNode

_KEEP_ALIVE_S = 300  # a viewer looks at one study for minutes
_GRACE_S = 1  # for the requests under way at SIGTERM
_CLOSE_NOTIFY_S = 0.1  # for an idle viewer's answer to the end of TLS, which most never send


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM, then leave with 0; leave with 2, and the reason, when the service cannot start.

    Parameters
    ----------
    arguments : list of str
        The program's name and the path of its settings.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    settings = settings_of_command_line(arguments)
    try:
        tls = _tls(settings)  # once for all processes: so each of them takes the session tickets of the others
        if settings.processes > 1:
            _prepare_for_several(settings)
        listener = listening_socket(settings.listen_fd)
    except (SettingsError, OSError, sqlite3.Error) as error:  # ssl.SSLError is a kind of OSError
        print(error, file=sys.stderr)  # noqa: T201  the service's log
        sys.exit(2)
    sys.exit(serve_in_processes(settings.processes, lambda _: _served(settings, tls, listener)))


def _served(settings: ServiceSettings, tls: ssl.SSLContext, listener: socket.socket) -> int:
    config = uvicorn.Config(
        application(settings), http=_Protocol, loop="uvloop", ws="none", lifespan="off", backlog=backlog_of(listener),
        proxy_headers=False,  # the peer is whoever the node's socket says it is
        server_header=False, headers=[(NODE_HEADER, settings.node)], access_log=False, log_level="warning", use_colors=False,
        timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_GRACE_S, ssl_context_factory=lambda *_: tls,
    )  # fmt: skip
    # at SIGTERM uvicorn ends its work, then raises the signal again for the handler that was there before: `_leave`
    server = _Server(config, pulse_path(settings.node_directory, settings.service), settings.proxied_from, tls)
    server.run(sockets=[listener])
    return 0


def _prepare_for_several(settings: ServiceSettings) -> None:
    """Make what several processes share, before there are any."""
    SharedSessions.begin_anew(settings.node_directory)
    NodeStore(settings.node_directory, "https").close()  # two at once could not make it one that both may write
    os.environ["UV_TCP_SINGLE_ACCEPT"] = "1"  # else whoever wakes first takes all the connections of a burst


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

    proxied: Peer | None = None  # the client, where the balancer said who it is

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the client is whom the balancer named, else whoever connected."""
        super().connection_made(transport)
        if self.proxied is not None:
            self.client = self.proxied

    def shutdown(self) -> None:
        """Close when idle, else after the response under way."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(_CLOSE_NOTIFY_S, self.transport.abort)


class _Server(uvicorn.Server):
    """uvicorn with a pulse, and clients that a balancer names."""

    def __init__(self, config: uvicorn.Config, pulse: Path, proxied_from: tuple[str, ...], tls: ssl.SSLContext) -> None:
        super().__init__(config)
        self._proxied_from = proxied_from
        self._tls = tls
        self._pulse_path = pulse
        self._pulse: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and to write the pulse."""
        await super().startup([] if self._proxied_from else sockets)
        for listening in sockets or [] if self._proxied_from else []:
            accepting = await accept_connections(listening, self._protocol_of, self._proxied_from, self._tls)
            self.servers.append(cast(asyncio.Server, accepting))  # uvicorn closes it, and waits for that
        state = self.server_state
        beating = keep_pulse(self._pulse_path, lambda: len(state.connections), lambda: state.total_requests)
        self._pulse = asyncio.create_task(beating)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is under way, and write the last pulse."""
        await super().shutdown(sockets)
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.wait((self._pulse,))

    def _protocol_of(self, client: Peer | None) -> _Protocol:
        """Return the protocol of a new connection, as uvicorn makes it."""
        protocol = _Protocol(self.config, self.server_state, self.lifespan.state)
        protocol.proxied = client
        return protocol


def _tls(settings: ServiceSettings) -> ssl.SSLContext:
    if settings.certificate_file is None or settings.key_file is None:
        raise SettingsError("certificate_file, key_file: expected two PEM files, found none")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.certificate_file, settings.key_file)
    return context


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: before uvicorn listens for signals there is nothing to end, and after it everything has ended."""
    os._exit(0)  # not by an exception: one that is raised within a weak reference's callback is ignored, and nothing ends


if __name__ == "__main__":
    main(sys.argv)
