"""The balancer while it runs: its state, its sessions and its persistence table, read and steered.

`Balancer` is what every balancer in front of a site can do; `RuntimeApi` does it over HAProxy's stats socket (2.6 and newer,
level admin). HAProxy 2.6 management manual, 9.3.
"""

from __future__ import annotations

import csv
import ipaddress
import re
import select
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from .master_cli import MasterCli, Worker
from .peers import PeerSeen, read_peers
from .stats_socket import BalancerError, ask

__all__ = [
    "Balancer", "BalancerError", "BalancerInfo", "MasterCli", "RuntimeApi", "ServerState", "SessionSeen", "TableEntry",
    "VipCounters", "Worker",
]  # fmt: skip

_FRONTEND, _BACKEND, _SERVER = 0, 1, 2  # the column `type` of `show stat`
_AGE = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_SESSION = re.compile(r"^(?P<id>0x[0-9a-f]+): proto=(?P<proto>\S+) src=(?P<client>\S+):(?P<port>\d+) fe=(?P<vip>\S+) .*")
_FIELD = re.compile(r"(\w+)=(\S*)")
_RESYNC = re.compile(r"^0x[0-9a-f]+: \[.*\] id=(?P<peers>\S+) .*\bflags=(?P<flags>0x[0-9a-f]+)", re.MULTILINE)
_RESYNC_FINISHED = 0b11  # from the local peer, and from remote ones
_NAME = re.compile(r"[A-Za-z0-9._:-]+")
_CLEARED_WITHIN_S = 5.0
_POLL_S = 0.02


class BalancerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What serves: product, version, process id of the worker, seconds since it started, connections now and at most.

    `dropped_log_lines`: HAProxy drops a line of its log rather than wait for another thread that writes; it counts them.
    `threads`: how many it has. `idle_share`: the part of the last second, 0 to 1 and averaged over the threads, in which they
    waited for something to do. `connections_per_s`: accepted in the last second. `tasks`, `run_queue`: all there are, and
    those that wait for a thread. `pipes`: in use for splicing.
    """

    product: str
    version: str
    pid: int
    uptime_s: int
    current_connections: int
    maxconn: int
    fd_limit: int
    dropped_log_lines: int
    threads: int
    idle_share: float
    connections_per_s: int
    tasks: int
    run_queue: int
    pipes: int


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """One server of one VIP as the balancer sees it now.

    `status` is HAProxy's text: UP, DOWN, MAINT, DRAIN, NOLB, `no check`; a check count follows while it changes (`DOWN 1/2`).
    `check_status` is the last result (`L4OK`, `L4CON`, `L4TOUT`; INI before the first, empty without a check).
    """

    vip: str
    label: str
    id: int
    address: str
    port: int
    status: str
    weight: int
    backup: bool
    check_status: str
    last_change_s: int
    downtime_s: int
    current_sessions: int
    total_sessions: int
    failed_checks: int
    times_down: int

    @property
    def state(self) -> str:
        """The first word of the status: UP, DOWN, MAINT, DRAIN, NOLB, or `no` for a server without a check."""
        return self.status.split(" ", 1)[0]

    @property
    def is_up(self) -> bool:
        """Whether new sources may be sent there: UP (a failing check included, until it counts), or never checked at all."""
        return self.state in ("UP", "no")

    @property
    def checked(self) -> bool:
        """Whether the first health check has ended; true without one."""
        return self.check_status != "INI"


class VipCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What went through one VIP since HAProxy started. `bytes_in` are from clients, `bytes_out` to them.

    `queued` are connections that wait just now for a place at a server; `response_errors` are servers that failed to answer.
    """

    vip: str
    status: str
    scheduler: str
    current_sessions: int
    most_sessions: int
    session_limit: int
    total_sessions: int
    queued: int
    bytes_in: int
    bytes_out: int
    connection_errors: int
    response_errors: int
    retries: int
    redispatches: int
    client_aborts: int
    server_aborts: int


class SessionSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One open session through a VIP. `server` is the real server's label, None while there is none."""

    id: str
    vip: str
    client: str
    client_port: int
    server: str | None
    age_s: int


class TableEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a VIP's persistence table: the source, its server, what is left of its life, and who uses it just now."""

    source: str
    server_id: int
    server: str | None
    expires_ms: int
    used: int


class Balancer(Protocol):
    """What every balancer can do. All methods raise BalancerError when it does not."""

    def info(self) -> BalancerInfo:
        """Return what serves."""

    def servers(self) -> list[ServerState]:
        """Return all servers of all VIPs, fallbacks included (`backup`)."""

    def drain(self, vip: str, label: str) -> None:
        """Send no new source to a real server. Sources with a table entry still reach it, unless the site clears entries."""

    def halt(self, vip: str, label: str) -> None:
        """Take a real server out; its sessions end where the configuration says so."""

    def online(self, vip: str, label: str) -> None:
        """Put a real server back into service."""

    def table(self, vip: str) -> list[TableEntry]:
        """Return the persistence table of a VIP."""

    def clear_table(self, vip: str, source: str | None = None) -> None:
        """Forget one source of a VIP, or all of them."""

    def clear_entries_of(self, vip: str, label: str) -> None:
        """Forget every source of a VIP that is kept to one real server; an entry that is being used just now may stay."""


class RuntimeApi:
    """HAProxy's stats socket.

    Parameters
    ----------
    socket_path : Path
        The socket of level admin that its configuration names.
    timeout_s : float
        For each answer.
    clears_on_drain : collection of str
        The VIPs whose entries for a real server are forgotten when it is drained (`Site.vips_cleared_on_drain`).
    """

    def __init__(self, socket_path: Path, timeout_s: float = 5.0, *, clears_on_drain: Collection[str] = ()) -> None:
        self.socket_path = socket_path
        self.timeout_s = timeout_s
        self._clears_on_drain = frozenset(clears_on_drain)

    def info(self) -> BalancerInfo:
        """Return what serves."""
        answer = self._ask("show info")
        fields = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
        try:
            return BalancerInfo(
                product=fields["Name"], version=fields["Version"], pid=int(fields["Pid"]),
                uptime_s=int(fields["Uptime_sec"]), current_connections=int(fields["CurrConns"]),
                maxconn=int(fields["Maxconn"]), fd_limit=int(fields["Ulimit-n"]),
                dropped_log_lines=int(fields["DroppedLogs"]), threads=int(fields["Nbthread"]),
                idle_share=int(fields["Idle_pct"]) / 100, connections_per_s=int(fields["ConnRate"]),
                tasks=int(fields["Tasks"]), run_queue=int(fields["Run_queue"]), pipes=int(fields["PipesUsed"]),
            )  # fmt: skip
        except (KeyError, ValueError) as error:
            raise self._unreadable("show info", f"the field {error}", answer) from None

    def servers(self) -> list[ServerState]:
        """Return all servers of all VIPs, fallbacks included (`backup`), as `show stat` has them."""
        return [self._server(row) for row in self._stat() if _number(row["type"]) == _SERVER]

    def server(self, vip: str, label: str) -> ServerState:
        """Return one server of one VIP. Raises BalancerError when there is none."""
        for server in self.servers():
            if (server.vip, server.label) == (vip, label):
                return server
        raise BalancerError(f"{self.socket_path}: expected a server {vip}/{label}, found none of that name")

    def server_label(self, vip: str, server_id: int) -> str:
        """Return the label of a VIP's server id. Raises BalancerError when there is none."""
        labels = {server.id: server.label for server in self.servers() if server.vip == vip}
        if server_id not in labels:
            raise BalancerError(f"{self.socket_path}: {vip}: expected a server id of {sorted(labels)}, found {server_id}")
        return labels[server_id]

    def vip_counters(self) -> list[VipCounters]:
        """Return the counters of every VIP."""
        rows = list(self._stat())
        clients = {row["# pxname"]: row for row in rows if _number(row["type"]) == _FRONTEND}
        backends = [row for row in rows if _number(row["type"]) == _BACKEND]
        return [_counters(clients[row["# pxname"]], row) for row in backends if row["# pxname"] in clients]

    def sessions(self, vip: str) -> list[SessionSeen]:
        """Return the sessions that are open through a VIP. Those of an old worker, after a reload, are not among them."""
        found = []
        for line in self._ask("show sess").splitlines():
            match = _SESSION.match(line)
            if match is None or match["vip"] != vip:
                continue
            fields = dict(_FIELD.findall(line))
            server = fields.get("srv", "<none>")
            seen = SessionSeen(
                id=match["id"], vip=vip, client=match["client"], client_port=int(match["port"]),
                server=None if server.startswith("<") else server, age_s=_seconds(fields.get("age", "")),
            )  # fmt: skip
            found.append(seen)
        return found

    def drain(self, vip: str, label: str) -> None:
        """Send no new source to a real server; sources with a table entry still reach it, unless they are to be forgotten.

        The state comes first: a source that connected between the two would get a new entry for the same server.
        """
        self._set_state(vip, label, "drain")
        if vip in self._clears_on_drain:
            self._forget(vip, label)

    def halt(self, vip: str, label: str) -> None:
        """Take a real server out (MAINT); with `on-marked-down shutdown-sessions` its sessions end now."""
        self._set_state(vip, label, "maint")

    def online(self, vip: str, label: str) -> None:
        """Put a real server back into service, from drain or halt."""
        self._set_state(vip, label, "ready")

    def table(self, vip: str) -> list[TableEntry]:
        """Return the persistence table of a VIP, in HAProxy's own order (by source)."""
        command = f"show table {_name(vip)}"
        answer = self._ask(command)
        if not answer.startswith("# table:"):
            raise self._unreadable(command, "a table", answer)
        entries = []
        labels: dict[int, str] | None = None
        for line in answer.splitlines():
            fields = dict(_FIELD.findall(line)) if "key=" in line else {}
            if "server_id" not in fields:
                continue  # the head of the table, or an entry that counts and stores no server
            server_id, server = int(fields["server_id"]), fields.get("server_key")
            if server is None:  # taught by a peer that does not know names: look the label up, once
                labels = labels or {known.id: known.label for known in self.servers() if known.vip == vip}
                server = labels.get(server_id)
            expires_ms, used = int(fields["exp"]), int(fields["use"])
            entries.append(
                TableEntry(source=fields["key"], server_id=server_id, server=server, expires_ms=expires_ms, used=used)
            )
        return entries

    def clear_table(self, vip: str, source: str | None = None) -> None:
        """Forget one source of a VIP, or all of them. A source without an entry is no error."""
        key = "" if source is None else f" key {_address(source)}"
        self._order(f"clear table {_name(vip)}{key}")

    def clear_entries_of(self, vip: str, label: str) -> None:
        """Forget every source of a VIP that is kept to one real server; an entry that is being used just now may stay."""
        self._order(f"clear table {_name(vip)} data.server_id eq {self.server(vip, label).id}")

    def shutdown_sessions(self, vip: str, label: str) -> None:
        """End all sessions of a real server, now."""
        self._order(f"shutdown sessions server {_name(vip)}/{_name(label)}")

    def can_teach_tables(self) -> bool:
        """Return whether a reload now keeps the persistence tables.

        A process that has not finished learning from its own peers teaches no other: one that was started less than five
        seconds ago, and had nobody to learn from, takes its entries to the grave. False without a `peers` section.
        """
        states = [int(match["flags"], 16) for match in _RESYNC.finditer(self._ask("show peers"))]
        return bool(states) and all(state & _RESYNC_FINISHED == _RESYNC_FINISHED for state in states)

    def peers(self) -> list[PeerSeen]:
        """Return the peers that this process knows, itself included, as it sees them now."""
        return read_peers(self._ask("show peers"))

    def server_states(self) -> str:
        """Return `show servers state`: what a file of server states holds, for a reload that keeps drain and halt."""
        return self._ask("show servers state").rstrip("\n") + "\n"

    def _forget(self, vip: str, label: str) -> None:
        deadline = time.monotonic() + _CLEARED_WITHIN_S
        self.clear_entries_of(vip, label)
        while left := [entry.source for entry in self.table(vip) if entry.server == label]:
            if time.monotonic() > deadline:
                raise BalancerError(
                    f"{self.socket_path}: {vip}/{label}: expected no entry in its table {_CLEARED_WITHIN_S:g} s after "
                    f"draining it, found {len(left)} ({', '.join(left[:3])}). Clear it by hand"
                )
            select.select([], [], [], _POLL_S)  # an entry in use stays for that moment
            self.clear_entries_of(vip, label)

    def _set_state(self, vip: str, label: str, state: str) -> None:
        self._order(f"set server {_name(vip)}/{_name(label)} state {state}")

    def _order(self, command: str) -> None:
        answer = self._ask(command).strip()
        if answer:  # HAProxy says nothing when it did it
            raise BalancerError(f"{self.socket_path}: {command}: expected HAProxy to do it, found its answer: {answer}")

    def _ask(self, command: str) -> str:
        return ask(self.socket_path, command, self.timeout_s)

    def _stat(self) -> Iterator[dict[str, str]]:
        answer = self._ask("show stat")
        lines = [line for line in answer.splitlines() if line]
        if not lines or not lines[0].startswith("# pxname,"):
            raise self._unreadable("show stat", "a table that begins with # pxname", answer)
        return iter(csv.DictReader(lines))

    def _server(self, row: dict[str, str]) -> ServerState:
        address, _, port = row["addr"].rpartition(":")
        return ServerState(
            vip=row["# pxname"], label=row["svname"], id=_number(row["sid"]), address=address, port=_number(port),
            status=row["status"], weight=_number(row["weight"]), backup=row["bck"] == "1",
            check_status=row["check_status"].removeprefix("* "),  # the star: the next check is under way
            last_change_s=_number(row["lastchg"]), downtime_s=_number(row["downtime"]),
            current_sessions=_number(row["scur"]), total_sessions=_number(row["stot"]),
            failed_checks=_number(row["chkfail"]), times_down=_number(row["chkdown"]),
        )  # fmt: skip

    def _unreadable(self, command: str, expected: str, answer: str) -> BalancerError:
        found = answer.strip()[:200] or "nothing"
        return BalancerError(f"{self.socket_path}: {command}: expected {expected}, found: {found}")


def _counters(client: dict[str, str], server: dict[str, str]) -> VipCounters:
    return VipCounters(
        vip=client["# pxname"], status=server["status"], scheduler=server["algo"],
        current_sessions=_number(client["scur"]), most_sessions=_number(client["smax"]),
        session_limit=_number(client["slim"]), total_sessions=_number(client["stot"]), queued=_number(server["qcur"]),
        bytes_in=_number(client["bin"]), bytes_out=_number(client["bout"]),
        connection_errors=_number(server["econ"]), response_errors=_number(server["eresp"]),
        retries=_number(server["wretr"]), redispatches=_number(server["wredis"]),
        client_aborts=_number(server["cli_abrt"]), server_aborts=_number(server["srv_abrt"]),
    )  # fmt: skip


def _number(text: str) -> int:
    """Read a field of `show stat`; an empty one is 0, as in the manual."""
    return int(text) if text else 0


def _seconds(age: str) -> int:
    """Read HAProxy's short durations: `3s`, `10m48s`, `1h5m`, `2d3h`."""
    match = _AGE.fullmatch(age)
    if match is None:
        raise BalancerError(f"show sess: expected an age such as 10m48s, found {age!r}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BalancerError(f"name of a VIP or server: expected letters, digits and any of . _ : -, found {name!r}")
    return name


def _address(source: str) -> str:
    try:
        return str(ipaddress.ip_address(source))
    except ValueError:
        raise BalancerError(f"source: expected an IP address, found {source!r}") from None
