"""The first process of a balancer's container: `python -m compose.inside.balancer DIRECTORY`.

It loads the unit's packet filter, starts the fallback page, HAProxy and keepalived from the files of the unit's folder, reaps
whatever ends, and lets them fail one by one when it is asked to: JSON lines on `control.sock`, one request, one answer.
Nothing is restarted by itself: a unit that failed stays so until somebody mends it.

Single-threaded, and of the standard library alone: the image of a balancer has no other Python packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..keeper import descendants, ended_children
from ..unix_listener import listen

ARMS_FILE = "arms.json"  # the own addresses of a unit with two arms by what its files call their interfaces; else none
OUTER, INNER = "outer", "inner"
FALLBACKS_FILE = "fallbacks.json"  # addresses and ports of the pages that this unit serves itself
_GRACE_S = 3.0
_POLL_S = 0.02
_REAP_EVERY_S = 1.0
_REQUEST_BYTES = 4096
_REQUEST_S = 2.0
_RUN = Path("/run")
_FALLBACK_BACKLOG = 128
_HAPROXY, _KEEPALIVED = "haproxy", "keepalived"


class Unit:
    """The programs of one unit, and how they can fail.

    Parameters
    ----------
    directory : Path
        The unit's folder: its configuration, its logs, its sockets.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pids: dict[str, int] = {}
        self._exits: list[dict[str, Any]] = []
        self._hung = False
        self._commands = {
            _HAPROXY: ["haproxy", "-W", "-db", "-S", str(directory / "master.sock"), "-f", str(directory / "haproxy.cfg")],
            _KEEPALIVED: [
                "keepalived", "--dont-fork", "--vrrp", "--log-console", "--log-detail", "--use-file",
                str(with_interfaces(directory, _RUN)),
            ],
        }  # fmt: skip
        self.actions: dict[str, Callable[[], object]] = {
            "haproxy-dead": self._haproxy_dies,
            "haproxy-hung": self._haproxy_hangs,
            "keepalived-stopped": self._keepalived_stops,
            "mend": self._mend,
            "reload-keepalived": lambda: self._signal(_KEEPALIVED, signal.SIGHUP),
            "status": lambda: None,
        }

    def start(self) -> None:
        """Load the packet filter, then start everything."""
        rules = self._directory / "filter.rules"
        subprocess.run(["iptables-restore", str(rules)], check=True)
        subprocess.run(["/bin/sh", "-e", str(self._directory / "way-back.sh")], check=True)  # of transparent VIPs; else empty
        for number, (address, port) in enumerate(json.loads((self._directory / FALLBACKS_FILE).read_text()), 1):
            self._start_fallback(f"fallback-{number}", address, port)
        self._start_haproxy()
        self._start(_KEEPALIVED)

    def answer(self, request: bytes) -> dict[str, Any]:
        """Do what one request asks for, and return the unit's status or the reason why not."""
        try:
            asked = json.loads(request)["do"]
            action = self.actions[asked]
        except (ValueError, KeyError, TypeError):
            return {"error": f"expected do to be one of {', '.join(self.actions)}, found {request[:80]!r}"}
        try:
            action()
        except OSError as error:
            return {"error": f"{asked}: {error}"}
        return self.status()

    def status(self) -> dict[str, Any]:
        """Return what runs, what hangs, and how the rest ended (oldest first)."""
        self.reap()
        return {"alive": self._pids, "hung": self._hung, "exits": self._exits}

    def reap(self) -> None:
        """Take notice of every process that has ended, orphans included."""
        for pid, code in ended_children():
            for name in [name for name, own in self._pids.items() if own == pid]:
                del self._pids[name]
                self._exits.append({"name": name, "pid": pid, "code": code})

    def stop(self) -> None:
        """Give the VIPs up first, then end all."""
        self._end(_KEEPALIVED)
        if self._hung:
            self._haproxy_goes_on()
        for name in list(self._pids):
            self._end(name)

    def _start(self, name: str, *, inherited: tuple[int, ...] = ()) -> None:
        """Start a program with its log, unless it runs."""
        if name in self._pids:
            return
        with (self._directory / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                self._commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=inherited, cwd="/"
            )
        started.returncode = 0  # it is reaped here, by its pid, and not by the object
        self._pids[name] = started.pid

    def _start_haproxy(self) -> None:
        """Start HAProxy and wait for its socket: a keepalived that comes first finds it dead, and gives the VIPs away."""
        answers = self._directory / "haproxy.sock"
        if _HAPROXY not in self._pids:
            for left in (self._directory / "master.sock", answers):
                left.unlink(missing_ok=True)  # of an earlier life
            self._start(_HAPROXY)
        deadline = time.monotonic() + _GRACE_S
        while not answers.exists() and _HAPROXY in self._pids and time.monotonic() < deadline:
            self._ended(_HAPROXY, _POLL_S)

    def _start_fallback(self, name: str, address: str, port: int) -> None:
        with socket.create_server((address, port), backlog=_FALLBACK_BACKLOG) as listener:
            fd = listener.fileno()
            self._commands[name] = [sys.executable, "-m", "simulators.web.fallback_page", str(fd)]
            self._start(name, inherited=(fd,))

    def _haproxy_dies(self) -> None:
        self._hung = False
        self._signal_family(_HAPROXY, signal.SIGKILL)
        self._ended(_HAPROXY, _GRACE_S)

    def _haproxy_hangs(self) -> None:
        self._hung = _HAPROXY in self._pids
        self._signal_family(_HAPROXY, signal.SIGSTOP)

    def _haproxy_goes_on(self) -> None:
        self._hung = False
        self._signal_family(_HAPROXY, signal.SIGCONT)

    def _keepalived_stops(self) -> None:
        self._end(_KEEPALIVED)

    def _mend(self) -> None:
        self._haproxy_goes_on()
        self.reap()
        self._start_haproxy()
        self._start(_KEEPALIVED)

    def _family(self, name: str) -> list[int]:
        return [self._pids[name], *descendants(self._pids[name])] if name in self._pids else []

    def _signal_family(self, name: str, number: int) -> None:
        for pid in self._family(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _signal(self, name: str, number: int) -> None:
        if name in self._pids:
            os.kill(self._pids[name], number)

    def _end(self, name: str) -> None:
        """End a program in good order, or else by force."""
        self._signal(name, signal.SIGTERM)
        if not self._ended(name, _GRACE_S):
            self._signal_family(name, signal.SIGKILL)
            self._ended(name, _GRACE_S)

    def _ended(self, name: str, within_s: float) -> bool:
        """Wait until a program has ended; false when it still runs after that time."""
        if name in self._pids:
            ended = os.pidfd_open(self._pids[name])  # not reaped yet, so the pid is still its own
            select.select([ended], [], [], within_s)
            os.close(ended)
            self.reap()
        return name not in self._pids


def with_interfaces(directory: Path, place: Path) -> Path:
    """Return the keepalived.conf to start with: the unit's own, or, with two arms, one with the interfaces' names put in.

    Docker numbers interfaces as it comes. They keep the names that it gave: one that it does not find again when the
    container ends stays on the bridge, with its hardware address, beside that of the unit's next life.
    """
    rendered = directory / "keepalived.conf"
    arms: dict[str, str] = json.loads((directory / ARMS_FILE).read_text())
    if not arms:
        return rendered
    names: dict[str, str] = {}
    for arm, address in arms.items():
        asked = ["ip", "-json", "-4", "address", "show", "to", address]
        told = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
        found = [str(interface["ifname"]) for interface in told if interface]
        if len(found) != 1:
            sys.exit(f"{ARMS_FILE}: expected one interface with {address}, the {arm} address, found {found or 'none'}")
        names[arm] = found[0]
    written = place / "keepalived.conf"
    written.write_text(re.sub(rf"(?m)(?<=\s)({OUTER}|{INNER})$", lambda found: names[found[1]], rendered.read_text()))
    return written


def serve(unit: Unit, control: Path) -> None:
    """Answer requests until a KeyboardInterrupt; children are reaped meanwhile."""
    with listen(control, 0o600) as listener:
        while True:
            ready, _, _ = select.select([listener], [], [], _REAP_EVERY_S)
            unit.reap()
            if ready:
                _answer_one(unit, listener)


def _answer_one(unit: Unit, listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):  # who went away needs no answer
        connection.settimeout(_REQUEST_S)
        request = b""
        while not request.endswith(b"\n") and len(request) < _REQUEST_BYTES:
            part = connection.recv(_REQUEST_BYTES)
            if not part:
                break
            request += part
        connection.sendall(json.dumps(unit.answer(request)).encode() + b"\n")


def main(arguments: list[str]) -> None:
    """Be a unit until SIGTERM."""
    if len(arguments) != 2:
        sys.exit(f"usage: python -m compose.inside.balancer DIRECTORY, found {len(arguments) - 1} arguments")
    directory = Path(arguments[1])
    unit = Unit(directory)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # process 1 has no default of its own for it
    try:
        unit.start()
        serve(unit, directory / "control.sock")
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        unit.stop()


if __name__ == "__main__":
    main(sys.argv)
