"""The balancer's own log, read as evidence: one entry a connection, one for each change of a server's state.

The lines are those of `option tcplog` (HAProxy 2.6 configuration manual, 8.2.2), with or without the fields that our own
configuration adds (`haproxy.LOG_FORMAT`), behind an ISO 8601 time, a syslog header, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

Change = Literal["up", "down", "drain", "maintenance"]

_SYSLOG_HEADER = re.compile(r"^.*?\bhaproxy\[\d+\]: ")
_ISO_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\S+)\s+")
_CONNECTION = re.compile(
    r"(?P<client>\S+):(?P<client_port>\d+) \[(?P<accepted>[^\]]+)\] (?P<frontend>\S+) (?P<vip>[^/\s]+)/(?P<server>\S+) "
    r"(?P<wait>-?\d+)/(?P<connect>-?\d+)/(?P<total>\+?-?\d+) (?P<sent>\+?\d+) (?P<end>\S\S) "
    r"(?P<active>\d+)/\d+/(?P<backend_sessions>\d+)/(?P<server_sessions>\d+)/(?P<retries>\+?\d+) \d+/\d+"
    r"(?: (?P<received>\d+) (?P<source>\S+):(?P<source_port>\d+|-) (?P<address>\S+):(?P<port>\d+|-) (?P<epoch>\d+))?"
)
_SERVER = re.compile(r"(?:Backup )?Server (?P<vip>[^/\s]+)/(?P<label>\S+) (?P<what>.+)")
_ACCEPTED = "%d/%b/%Y:%H:%M:%S.%f"
_CHANGES: tuple[tuple[str, Change], ...] = (
    ("is UP", "up"),  # UP (leaving forced drain) and UP/READY (leaving forced maintenance) too
    ("is DOWN", "down"),
    ("is going DOWN for maintenance", "maintenance"),
    ("was DOWN and now enters maintenance", "maintenance"),
    ("enters drain state", "drain"),
)


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, written when it ended.

    Times are UTC; `accepted` has milliseconds. `wait_ms`, `connect_ms`: in the queue, and until the server accepted; None
    when it never came to that. `bytes_out` went to the client, `bytes_in` came from it. `termination` is HAProxy's two
    letters (manual, 8.5): `--` for a normal end, `sD` for a server's time-out, `D-` for a server marked DOWN, `SC` for one
    that refused. `redispatched`: it was sent to another server than persistence said. `source`, `server_address`: the two
    ends of the connection to the server; None when there was none, or when the log has only the fields of tcplog.
    """

    accepted: datetime
    client: str
    client_port: int
    vip: str
    server: str | None
    wait_ms: int | None
    connect_ms: int | None
    total_ms: int
    bytes_out: int
    bytes_in: int | None
    termination: str
    retries: int
    redispatched: bool
    source: str | None
    source_port: int | None
    server_address: str | None
    server_port: int | None

    @property
    def ended(self) -> datetime:
        """When it ended, UTC."""
        return self.accepted + timedelta(milliseconds=self.total_ms)


class ServerChange(msgspec.Struct, frozen=True, kw_only=True):
    """A server that changed its state. `time` is UTC, None when the line has none; `reason` is the rest of HAProxy's line."""

    time: datetime | None
    vip: str
    label: str
    change: Change
    reason: str


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What a log holds, in the order of its lines; `other_lines` counts those that are neither."""

    connections: tuple[Connection, ...]
    changes: tuple[ServerChange, ...]
    other_lines: int


def read_log(path: Path) -> Log:
    """Read a log file. Raises OSError when it cannot be read; bytes that are no UTF-8 are replaced."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return parse_log(lines)


def parse_log(lines: Iterable[str]) -> Log:
    """Parse lines of a log."""
    connections: list[Connection] = []
    changes: list[ServerChange] = []
    other_lines = 0
    for line in lines:
        entry = parse_line(line)
        if isinstance(entry, Connection):
            connections.append(entry)
        elif isinstance(entry, ServerChange):
            changes.append(entry)
        elif line.strip():
            other_lines += 1
    return Log(connections=tuple(connections), changes=tuple(changes), other_lines=other_lines)


def parse_line(line: str) -> Connection | ServerChange | None:
    """Parse one line; None when it is neither a connection nor a server's change of state."""
    text = _SYSLOG_HEADER.sub("", line.rstrip("\r\n"), count=1)
    time = None
    if (match := _ISO_TIME.match(text)) and (time := _iso(match[1])):
        text = text[match.end() :]
    if match := _CONNECTION.fullmatch(text):
        return _connection(match)
    if match := _SERVER.fullmatch(text):
        return _server_change(time, match)
    return None


def _connection(match: re.Match[str]) -> Connection | None:
    accepted = _accepted(match["accepted"], match["epoch"])
    if accepted is None:
        return None
    server, source, address = match["server"], _host(match["source"]), _host(match["address"])
    return Connection(
        accepted=accepted, client=match["client"], client_port=int(match["client_port"]), vip=match["vip"],
        server=None if server == "<NOSRV>" else server, wait_ms=_reached(match["wait"]),
        connect_ms=_reached(match["connect"]), total_ms=int(match["total"]),
        bytes_out=int(match["sent"]), bytes_in=_number(match["received"]),
        termination=match["end"], retries=int(match["retries"]), redispatched=match["retries"].startswith("+"),
        source=source, source_port=_number(match["source_port"]) if source else None,
        server_address=address, server_port=_number(match["port"]) if address else None,
    )  # fmt: skip


def _server_change(time: datetime | None, match: re.Match[str]) -> ServerChange | None:
    for words, change in _CHANGES:
        if match["what"].startswith(words):
            return ServerChange(time=time, vip=match["vip"], label=match["label"], change=change, reason=match["what"])
    return None


def _accepted(local: str, epoch: str | None) -> datetime | None:
    """Read the time of accept: HAProxy writes local time; the second in UTC decides where our format adds it."""
    try:
        moment = datetime.strptime(local, _ACCEPTED)
        if epoch is None:
            return moment.astimezone(UTC)
        return datetime.fromtimestamp(int(epoch), UTC).replace(microsecond=moment.microsecond)
    except (ValueError, OverflowError, OSError):
        return None


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def _reached(milliseconds: str) -> int | None:
    return None if milliseconds == "-1" else int(milliseconds)


def _number(text: str | None) -> int | None:
    return None if text in (None, "-") else int(text)


def _host(text: str | None) -> str | None:
    return None if text == "-" else text
