"""What the four clients share: where they send, from which address, how long they wait, and how an attempt is written down.

Clients use blocking sockets, so that they run in threads and in gevent alike. A network that fails is not an exception to
them but a fate: every attempt ends as an `Operation`.
"""

from __future__ import annotations

import itertools
import socket
import time
from typing import NamedTuple

import msgspec

from .operations import Identity, Operation, Outcome, Phase, Service, Way, packed_address

_NO_DIGEST = bytes(16)
_IP_BIND_ADDRESS_NO_PORT = 24  # ip(7); Python's socket module knows it from 3.12 on
_sessions = itertools.count(1)  # numbers the connections of this process; next() of a count is atomic


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long a client waits in each phase, in seconds.

    To connect, to negotiate (association, TLS), for one send to make progress, for one response.
    """

    connect_s: float = 10.0
    negotiate_s: float = 15.0
    send_s: float = 30.0
    response_s: float = 30.0


class Target(NamedTuple):
    """Where a client sends: a VIP, or (the baseline) a real server itself."""

    address: str
    port: int
    service: Service
    way: Way = Way.VIP


class Attempt(NamedTuple):
    """The n-th try to deliver one identity.

    `number` counts from 1; `patient` is the join key of the patient's identity (0: none); `intended_ns` is when it was due
    (0: now); `workload` is the number of the workload in the run.
    """

    identity: Identity
    number: int = 1
    patient: int = 0
    intended_ns: int = 0
    workload: int = 0


class Failed(Exception):
    """An attempt ended without an acknowledgement: how, how far it had come, and why. Caught by the client itself."""

    def __init__(self, outcome: Outcome, phase: Phase, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.phase = phase
        self.reason = reason
        self.status = status


class Connection:
    """One TCP connection of one client, with its number, addresses and the name of the node behind it.

    Parameters
    ----------
    target : Target
        Where to.
    source : str
        The source address to bind; the port is the kernel's choice.
    timeouts : Timeouts
        `connect_s` bounds this.

    Raises
    ------
    Failed
        REFUSED in phase CONNECT: not one byte of a payload has left.
    """

    def __init__(self, target: Target, source: str, timeouts: Timeouts) -> None:
        self.target = target
        self.session = next(_sessions)
        self.node = ""
        try:
            self.socket = _connected(target, source, timeouts.connect_s)
        except OSError as error:
            reason = f"{source} to {target.address}:{target.port}: expected a connection, found {error}"
            raise Failed(Outcome.REFUSED, Phase.CONNECT, reason) from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.source_port: int = self.socket.getsockname()[1]

    def close(self) -> None:
        """Close the socket; what the peer has not read yet is still delivered."""
        self.socket.close()


def _connected(target: Target, source: str, timeout_s: float) -> socket.socket:
    """Connect as `socket.create_connection` does, but look no address up as if it were a name: gevent asks a thread then."""
    connected = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connected.settimeout(timeout_s)
        # the port is chosen while connecting: else a source has but one connection a port, and thousands a minute use them up
        connected.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        connected.bind((source, 0))
        connected.connect((target.address, target.port))
    except BaseException:
        connected.close()
        raise
    return connected


class Begun:
    """An attempt under way: it remembers when it began and turns its end into an Operation."""

    def __init__(self, attempt: Attempt, target: Target, source: str) -> None:
        self.attempt = attempt
        self.target = target
        self.source = source
        self.begun_ns = time.monotonic_ns()

    def ended(
        self, outcome: Outcome, phase: Phase, connection: Connection | None, *, status: int = 0, warning: bool = False,
        size_bytes: int = 0, digest: bytes = _NO_DIGEST,
    ) -> Operation:  # fmt: skip
        """Return the operation, ended now. `connection` is None when there never was one."""
        attempt, identity = self.attempt, self.attempt.identity
        return Operation(
            identity.run, identity.key, attempt.patient, identity.kind, self.target.service, outcome, phase, self.target.way,
            warning, attempt.number, status, attempt.workload, connection.session if connection else 0,
            attempt.intended_ns or self.begun_ns, self.begun_ns, time.monotonic_ns(), size_bytes, digest,
            packed_address(self.source), connection.source_port if connection else 0,
            packed_address(self.target.address), self.target.port,
            connection.node.encode("ascii", "replace")[:16] if connection else b"",
        )  # fmt: skip
