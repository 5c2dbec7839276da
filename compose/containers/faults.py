"""The faults of a lab in containers that need Docker, or root of a host's network: each is a value, begun and undone.

The packet filter's own chain (`PREFLIGHT-FAULT`, before all other rules) holds what a fault drops, so that undoing it is
removing the chain, whatever else the host filters.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..inside.delay_line import QUEUE
from ..lab import LabError
from .project import Project, ProjectError

Kind = Literal["killed", "stopped", "paused", "cut-off", "isolated", "degraded", "path"]
_CHAIN = "PREFLIGHT-FAULT"
_STOP_S = 5
_GONE_S = 30
_VRRP = 112  # its protocol number (RFC 5798)
_BURST_BYTES = 16_384
_DELAY_LINE = "delay-line"
_QUEUED_S = 0.4  # how long a full queue of the limited rate is


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault of one container.

    Parameters
    ----------
    kind : str
        What is done to it.
    service : str
        To which.
    peers : tuple of str
        Of `path`: the addresses that it no longer hears, nor is heard by.
    which : str
        Of `path`: replication, heartbeat or all.
    port : int
        Of `path`: where tables are replicated.
    loss : float
        Of `degraded`: the share of packets dropped, each way.
    rate_bytes_per_s : int
        Of `degraded`: 0 for no limit.
    delay_s : float
        Of `degraded`.
    gateway : str
        Of `cut-off`: the default route, which goes with the link.
    """

    kind: Kind
    service: str
    peers: tuple[str, ...] = ()
    which: Literal["replication", "heartbeat", "all"] = "all"
    port: int = 0
    loss: float = 0.0
    rate_bytes_per_s: int = 0
    delay_s: float = 0.0
    gateway: str = ""


def fault_of(project: Project, request: dict[str, Any]) -> Fault:
    """Read a fault from a request, with what undoing it will need.

    Raises
    ------
    LabError
        When it is none, or its container is not there.
    """
    try:
        fault = msgspec.convert({key: value for key, value in request.items() if key not in ("do", "fault")}, type=Fault)
    except msgspec.ValidationError as error:
        raise LabError(f"fault: {error}") from error
    container = project.container(fault.service)
    if fault.kind != "cut-off":
        return fault
    return msgspec.structs.replace(fault, gateway=project.gateway_of(container))


def begin(project: Project, fault: Fault) -> None:
    """Let it happen; return when it has. Raises LabError."""
    container = project.container(fault.service)
    match fault.kind:
        case "killed":
            container.kill("SIGKILL")
            container.wait(timeout=_GONE_S)
        case "stopped":
            container.stop(timeout=_STOP_S)
        case "paused":
            container.pause()
        case "cut-off":
            project.in_network_of(fault.service, fault.kind, each_arm("down"))
        case "degraded" if fault.delay_s and not fault.rate_bytes_per_s:
            _begin_delay(project, fault)
        case _:
            project.in_network_of(fault.service, fault.kind, script_of(fault))


def undo(project: Project, fault: Fault) -> None:
    """Undo it; return when the container is there again, not when its services answer. Raises LabError."""
    container = project.container(fault.service)
    if fault.kind == "degraded":
        project.end_beside(fault.service, _DELAY_LINE)
    match fault.kind:
        case "killed" | "stopped":
            container.start()
        case "paused":
            if container.status == "paused":
                container.unpause()
        case _ if container.status != "running":
            return  # its network has gone, with all that was done to it
        case "cut-off":
            up = f"{each_arm('up')}\nip route replace default via {fault.gateway}"
            project.in_network_of(fault.service, "back on the network", up)
        case _:
            project.in_network_of(fault.service, f"no longer {fault.kind}", UNDO_SCRIPT)


def script_of(fault: Fault, *, queued: bool = False) -> str:
    """Return the shell script that begins a fault of a host's network.

    `queued`: what is to be late is put into the queue of `compose.inside.delay_line`, where the kernel has no netem.
    """
    lines = [UNDO_SCRIPT, f"iptables -N {_CHAIN}"]
    lines += [f"iptables -A {_CHAIN} {rule} -j DROP" for rule in _dropped(fault)]
    lines += [f"iptables -I {way} ! {flag} lo -j {_CHAIN}" for way, flag in (("INPUT", "-i"), ("OUTPUT", "-o"))]
    rate = fault.rate_bytes_per_s
    if rate:  # what arrives is dropped above the rate, what leaves waits its turn: the kernel shapes one way only
        above = f"-m hashlimit --hashlimit-name preflight --hashlimit-above {rate}b/s --hashlimit-burst {rate}b"
        limit = max(_BURST_BYTES, round(rate * _QUEUED_S))
        lines.append(f"iptables -A {_CHAIN} -i $dev {above} -j DROP")
        lines.append(f"tc qdisc replace dev $dev root tbf rate {rate * 8}bit burst {_BURST_BYTES} limit {limit}")
    elif fault.delay_s and queued:
        lines.append(f"iptables -A {_CHAIN} -o $dev -j NFQUEUE --queue-num {QUEUE} --queue-bypass")
    elif fault.delay_s:
        lines.append(f"tc qdisc replace dev $dev root netem delay {round(fault.delay_s * 1e6)}us limit 10000")
    return "\n".join(lines)


def each_arm(state: Literal["up", "down"]) -> str:
    """Return the script that sets all of a host's interfaces but loopback.

    Of two arms the one with the default route comes first, the clients': they are to see a unit that has gone, not one that
    has lost its nodes.
    """
    devices = "{ ip -o route show default | awk '{print $5}'; ip -o -4 addr show scope global | awk '{print $2}'; }"
    return f"for dev in $({devices} | awk '!seen[$0]++'); do ip link set \"$dev\" {state}; done"


_DEVICE = "dev=$(ip -o -4 addr show scope global | awk 'NR == 1 {print $2}')"
UNDO_SCRIPT = f"""\
while iptables -D INPUT ! -i lo -j {_CHAIN} 2>/dev/null; do :; done
while iptables -D OUTPUT ! -o lo -j {_CHAIN} 2>/dev/null; do :; done
iptables -F {_CHAIN} 2>/dev/null && iptables -X {_CHAIN} || true
{_DEVICE}
tc qdisc del dev $dev root 2>/dev/null || true"""


def _begin_delay(project: Project, fault: Fault) -> None:
    """Let what a host sends arrive later: by netem, or else by a process that holds it back."""
    try:
        project.in_network_of(fault.service, "delayed by netem", script_of(fault))
    except ProjectError:  # most kernels of containers' hosts have it, some have not
        command = ["python3", "-m", "compose.inside.delay_line", f"{fault.delay_s:.6f}"]
        project.start_beside(fault.service, _DELAY_LINE, command)
        project.in_network_of(fault.service, "delayed by a queue", script_of(fault, queued=True))


def _dropped(fault: Fault) -> list[str]:
    """Return what the chain's rules match, in and out alike."""
    if fault.kind == "isolated":
        return [""]
    if fault.kind == "degraded":
        return [f"-m statistic --mode random --probability {fault.loss:.6f}"] if fault.loss else []
    found = []
    for peer in fault.peers:
        for place in (f"-s {peer}", f"-d {peer}"):
            if fault.which == "all":
                found.append(place)
            if fault.which == "heartbeat":
                found.append(f"{place} -p {_VRRP}")
            if fault.which == "replication":
                found += [f"{place} -p tcp --dport {fault.port}", f"{place} -p tcp --sport {fault.port}"]
    return found
