"""What the kernel counts: processors, processes, sockets. Linux only (proc(5), sock_diag(7)); nothing is started for it.

Where a figure is not there (a process that has ended, a file that this kernel has not), the answer is None and no error: what
is missing is missing evidence, and the judge says so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from scenarios.load_runs.socket_table import States, tcp_sockets

_PROC = Path("/proc")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Endpoint = tuple[str, int]


class Processors(NamedTuple):
    """How many cores there are, and for how many seconds all of them together were busy and idle since the start."""

    cores: int
    busy_s: float
    idle_s: float


class Process(NamedTuple):
    """One process: its name, its parent, the CPU time of all its threads since it began, and its resident memory."""

    name: str
    parent: int
    cpu_s: float
    rss_bytes: int


class Sockets(NamedTuple):
    """TCP sockets (IPv4) of this machine: in use, and those that only wait out TIME_WAIT."""

    in_use: int
    waiting: int


def processors() -> Processors:
    """Return what /proc/stat says of all cores. Time stolen by a hypervisor counts as busy: it was not to be had."""
    lines = (_PROC / "stat").read_text().splitlines()
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, lines[0].split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    cores = sum(1 for line in lines if line.startswith("cpu") and line[3:4].isdigit())
    return Processors(cores, busy / _TICKS_A_SECOND, (idle + iowait) / _TICKS_A_SECOND)


def process(pid: int) -> Process | None:
    """Return a process; None when there is none. CPU time comes in steps of 10 ms."""
    try:
        name, _, rest = (_PROC / str(pid) / "stat").read_text().partition("(")[2].rpartition(")")
        fields = rest.split()
        resident = int((_PROC / str(pid) / "statm").read_text().split()[1])
    except OSError:
        return None
    return Process(name, int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND, resident * _PAGE_BYTES)


def siblings(pid: int) -> list[int]:
    """Return a process and those of the same name and parent: the workers of a master, old and new."""
    own = process(pid)
    if own is None:
        return []
    found = [pid]
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != pid:
            other = process(int(entry.name))
            if other is not None and (other.name, other.parent) == (own.name, own.parent):
                found.append(int(entry.name))
    return found


def open_files(pid: int) -> int | None:
    """Return how many files a process has open; None when that is not to be seen."""
    directory = _PROC / str(pid) / "fd"
    try:
        return directory.stat().st_size or len(list(directory.iterdir()))  # before Linux 6.2 its size is 0
    except OSError:
        return None


def sockets() -> Sockets:
    """Return what /proc/net/sockstat counts of TCP."""
    for line in (_PROC / "net" / "sockstat").read_text().splitlines():
        name, *words = line.split()
        if name == "TCP:":
            counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
            return Sockets(counts["inuse"], counts["tw"])
    return Sockets(0, 0)


def listen_overflows() -> int:
    """Return how many connections were dropped because some accept queue was full, since the start (ListenOverflows)."""
    return _counter("netstat", "TcpExt:", "ListenOverflows")


def active_opens() -> int:
    """Return how many connections were begun from here, since the start: each took a port (ActiveOpens)."""
    return _counter("snmp", "Tcp:", "ActiveOpens")


def accept_queues(listeners: Iterable[Endpoint]) -> dict[Endpoint, int]:
    """Return how many connections wait to be accepted at each listening socket (IPv4) that is there."""
    wanted = set(listeners)
    found: Counter[Endpoint] = Counter()
    for listener in tcp_sockets(States.LISTENING):
        if (place := (listener.address, listener.port)) in wanted:
            found[place] += listener.waiting  # one for each SO_REUSEPORT
    return dict(found)


def port_range() -> int:
    """Return how many ports the kernel gives out for one source address and one destination."""
    first, last = (_PROC / "sys" / "net" / "ipv4" / "ip_local_port_range").read_text().split()
    return int(last) - int(first) + 1


def busiest_source() -> tuple[str, int]:
    """Return the local address with the most ports taken towards one destination, and how many: they run out for it alone.

    Reads every socket of the machine: dear where there are many. No address, and 0, where the kernel does not tell.
    """
    taken = Counter((taker.address, taker.peer, taker.peer_port) for taker in tcp_sockets(States.TAKING_A_PORT))
    if not taken:
        return "", 0
    (source, *_), count = taken.most_common(1)[0]
    return source, count


def own_cpu_s() -> float:
    """Return the CPU time of this process, of all its threads."""
    times = os.times()
    return times.user + times.system


def _counter(file: str, group: str, name: str) -> int:
    names, counts = [line.split() for line in (_PROC / "net" / file).read_text().splitlines() if line.startswith(group)]
    return int(dict(zip(names, counts, strict=True))[name])
