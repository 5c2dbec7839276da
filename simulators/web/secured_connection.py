"""A viewer's TLS connection: blocking, in a thread or a gevent greenlet alike, with as few system calls as that allows."""

from __future__ import annotations

import functools
import socket
import ssl
from _socket import socket as NativeSocket
from pathlib import Path

from simulators.client import Connection

_RECEIVE_BYTES = 65536
_LOOK = socket.MSG_PEEK | socket.MSG_DONTWAIT


def trusting(ca_file: Path) -> ssl.SSLContext:
    """Return a context that trusts one authority. Viewers that trust the same file share one: to load it is dear.

    Raises
    ------
    OSError
        When the file cannot be read (ssl.SSLError, a kind of OSError, when it is no certificate).
    """
    return _trusting(str(ca_file), ca_file.stat().st_mtime_ns)


class SecuredConnection:
    """TLS on a connection.

    Parameters
    ----------
    connection : Connection
        A new one; its socket becomes the secured one.
    context : ssl.SSLContext
        Whom to trust.
    server_name : str
        What the certificate must cover.
    negotiate_s : float
        How long the handshake may take.

    Raises
    ------
    OSError
        When there is no trusted certificate for that name, or no handshake (ssl.SSLError and ssl.CertificateError are kinds
        of OSError). The socket is closed then.
    """

    def __init__(self, connection: Connection, context: ssl.SSLContext, server_name: str, negotiate_s: float) -> None:
        self.connection = connection
        self._timeout_s = negotiate_s
        connection.socket.settimeout(negotiate_s)
        self._socket = connection.socket = context.wrap_socket(connection.socket, server_hostname=server_name)

    def is_alive(self) -> bool:
        """Say, without waiting, whether the peer has not closed it and nothing has come that nobody asked for."""
        # gevent's sockets wait where they should only look: so it is the descriptor that is looked at
        descriptor = NativeSocket(socket.AF_INET, socket.SOCK_STREAM, 0, self._socket.fileno())
        try:
            descriptor.recv(1, _LOOK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            descriptor.detach()  # it stays the connection's
        return self._is_only_a_ticket()

    def send(self, data: bytes, timeout_s: float) -> None:
        """Send all of it; each step may take that long.

        Raises
        ------
        OSError
            When it could not leave: TimeoutError, or what the network or TLS says.
        """
        self._wait_at_most(timeout_s)
        self._socket.sendall(data)

    def receive(self, timeout_s: float) -> bytes:
        """Return what comes next; nothing means the end.

        Raises
        ------
        OSError
            When nothing came: TimeoutError, or what the network or TLS says.
        """
        self._wait_at_most(timeout_s)
        return self._socket.recv(_RECEIVE_BYTES)

    def close(self) -> None:
        """Close it; what the peer has not read yet is still delivered."""
        self.connection.close()

    def _is_only_a_ticket(self) -> bool:
        """Read what TLS has sent of itself, as session tickets are; say whether there was nothing else."""
        self._wait_at_most(0)
        try:
            self._socket.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return True
        except OSError:
            return False
        return False  # the end, or something that nobody asked for

    def _wait_at_most(self, timeout_s: float) -> None:
        if timeout_s != self._timeout_s:  # to set it is a system call
            self._timeout_s = timeout_s
            self._socket.settimeout(timeout_s)


@functools.lru_cache(maxsize=64)
def _trusting(ca_file: str, _modified_ns: int) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)
