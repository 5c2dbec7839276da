"""The PROXY protocol, version 2: a balancer says first on a connection whose it is (haproxy.org, proxy-protocol.txt, 2.2).

A service is told from which addresses connections begin with a header. There it must come, whole and first; from all others
none is looked for, because whoever may send one may claim to be anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import sys
from collections.abc import Callable, Container
from ssl import SSLContext
from typing import NamedTuple, Protocol

from .service import backlog_of

HEADER_WITHIN_S = 5.0
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = struct.Struct(">12sBBH")  # signature, version and command, family, length of the rest
_LOCAL, _PROXY = 0x20, 0x21
_TCP_OVER_IPV4 = 0x11
_ADDRESSES = struct.Struct(">4s4sHH")  # source, destination, and their ports
_LARGEST_REST_BYTES = 4096  # addresses, and what a balancer adds to them; we read none of that


class ProxyHeaderError(Exception):
    """A connection did not begin with a header that we can read; the message says what was expected and what was found."""


class Peer(NamedTuple):
    """Whose a connection is: the address and port of the client."""

    address: str
    port: int


class Accepting(Protocol):
    """What accepts connections, until it is closed."""

    def close(self) -> None:
        """Accept no more."""

    async def wait_closed(self) -> None:
        """Return when no more are accepted."""


def rest_length(fixed: bytes) -> int:
    """Return how many bytes follow the first sixteen of a header.

    Raises
    ------
    ProxyHeaderError
        When they do not begin a header of version 2.
    """
    if len(fixed) < _FIXED.size or not fixed.startswith(_SIGNATURE):
        raise ProxyHeaderError(f"expected a PROXY header of version 2, found {fixed[:16].hex() or 'nothing'}")
    _, command, _, length = _FIXED.unpack(fixed[: _FIXED.size])
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"PROXY header: expected version 2, LOCAL or PROXY, found {command:#04x}")
    if length > _LARGEST_REST_BYTES:
        raise ProxyHeaderError(f"PROXY header: expected at most {_LARGEST_REST_BYTES} bytes, found {length}")
    return int(length)


def client_of(header: bytes) -> Peer | None:
    """Return the client that a whole header names; None when the balancer speaks for itself (LOCAL: a health check).

    Raises
    ------
    ProxyHeaderError
        When it names no client of TCP over IPv4.
    """
    length = rest_length(header)
    _, command, family, _ = _FIXED.unpack(header[: _FIXED.size])
    if command == _LOCAL:
        return None
    rest = header[_FIXED.size :]
    if family != _TCP_OVER_IPV4 or length < _ADDRESSES.size or len(rest) < length:
        found = f"family {family:#04x} and {len(rest)} of {length} bytes"
        raise ProxyHeaderError(f"PROXY header: expected TCP over IPv4, and all of it, found {found}")
    source, _, port, _ = _ADDRESSES.unpack_from(rest)
    return Peer(str(ipaddress.IPv4Address(source)), int(port))


def read_client(connection: socket.socket) -> Peer | None:
    """Read the header from a blocking socket, and nothing behind it; return what `client_of` does.

    Raises
    ------
    ProxyHeaderError
        When it is none, or does not come in time. The connection is of no use then.
    """
    before = connection.gettimeout()
    connection.settimeout(HEADER_WITHIN_S)
    try:
        fixed = _read(connection, _FIXED.size)
        found = client_of(fixed + _read(connection, rest_length(fixed)))
    except OSError as error:
        raise ProxyHeaderError(f"expected a PROXY header, found {error}") from error
    connection.settimeout(before)
    return found


async def accept_connections(
    listening: socket.socket,
    protocol: Callable[[Peer | None], asyncio.BaseProtocol],
    proxied_from: Container[str],
    tls: SSLContext | None = None,
) -> Accepting:
    """Accept connections with the running event loop.

    Parameters
    ----------
    listening : socket.socket
        Bound and listening.
    protocol : callable
        Makes the protocol of a new connection; it is given the client that a header named, else None.
    proxied_from : container of str
        The peers whose connections begin with a header; empty: none.
    tls : SSLContext, optional
        What is spoken behind the header.
    """
    loop = asyncio.get_running_loop()
    if not proxied_from:
        return await loop.create_server(lambda: protocol(None), sock=listening, backlog=backlog_of(listening), ssl=tls)
    listening.setblocking(False)
    return _Proxied(listening, protocol, proxied_from, tls)


class _Proxied:
    """Accepts connections, and reads a header first where one is due: each byte of it, and none behind it."""

    def __init__(
        self, listening: socket.socket, protocol: Callable[[Peer | None], asyncio.BaseProtocol], proxied_from: Container[str],
        tls: SSLContext | None,
    ) -> None:  # fmt: skip
        self._listening = listening
        self._protocol = protocol
        self._proxied_from = proxied_from
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._task = self._loop.create_task(self._accept())

    def close(self) -> None:
        """Accept no more."""
        self._task.cancel()
        for task in self._beginning:
            task.cancel()

    async def wait_closed(self) -> None:
        """Return when no more are accepted."""
        await asyncio.wait((self._task,))

    async def _accept(self) -> None:
        while True:
            try:
                connection, peer = await self._loop.sock_accept(self._listening)
            except ConnectionError:
                continue  # it was reset while it waited
            task = self._loop.create_task(self._begin(connection, peer[0]))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket, peer: str) -> None:
        """Find out whose a connection is, and hand it to its protocol."""
        try:
            client = None
            if peer in self._proxied_from:
                async with asyncio.timeout(HEADER_WITHIN_S):
                    client = await self._client(connection)
            await self._loop.connect_accepted_socket(lambda: self._protocol(client), connection, ssl=self._tls)
        except (ProxyHeaderError, OSError) as error:  # TimeoutError is an OSError; so is a failed TLS handshake
            if isinstance(error, ProxyHeaderError):
                _log(f"closed a connection of {peer}: {error}")
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise

    async def _client(self, connection: socket.socket) -> Peer | None:
        fixed = await self._read(connection, _FIXED.size)
        return client_of(fixed + await self._read(connection, rest_length(fixed)))

    async def _read(self, connection: socket.socket, length: int) -> bytes:
        content = b""
        while len(content) < length:
            piece = await self._loop.sock_recv(connection, length - len(content))
            if not piece:
                break
            content += piece
        return content


def _read(connection: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length and (piece := connection.recv(length - len(content))):
        content += piece
    return content


def _log(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201  the service's log
