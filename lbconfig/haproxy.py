"""A site into HAProxy's configuration, in the dialect of the Loadbalancer.org appliance.

One `listen` section a VIP, named by its label; real servers by their labels; the fallback a server `backup` outside of
persistence; the persistence table taught to the next process by a `peers` section, as in a reload or a pair. Every
directive and every server stands on a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .errors import LoadBalancingError
from .health_check import check_lines, check_words
from .site import Balancer, HealthCheck, RealServer, Site, Vip
from .site_rules import FALLBACK_LABEL

PEERS = "preflight_replication"  # longer than the name of a VIP may be, so that it cannot be one
LOG_FORMAT = (
    "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq"  # `option tcplog`, to the letter
    " %U %bi:%bp %si:%sp %Ts"  # bytes from the client, both ends of the connection to the server, the second in UTC
)
_FDS_PER_CONNECTION = 2  # the client's and the server's
_FDS_OF_THE_PROCESS = 64  # listening sockets of the process itself, pollers and wake-up pipes of its threads, the log
_FDS_PER_SERVER = 4  # its health check, and an old process that is still there when a reload hands the sockets over
_FDS_PER_VIP = 4
_FEWEST_CONNECTIONS = 16


class ConfigurationError(LoadBalancingError):
    """No configuration can be made from this site on this machine; the message says what to change."""


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration needs to know of the machine that HAProxy runs on; none of it is the site's.

    Parameters
    ----------
    runtime_socket : str
        Path of the stats socket, of level admin.
    fd_limit : int
        What `ulimit -n` gives HAProxy: file descriptors of one process.
    log_target : str
        What follows `log`. By default standard output with ISO 8601 times, which `traffic_log` reads.
    peer_name : str
        The name of this HAProxy among its peers, where there is no pair; a unit goes by its own name.
    peer_port : int
        Where it teaches its tables, on the balancer's address; a pair has a port of its own. The appliance uses TCP 7778.
    server_state_file : str or None
        A file of states (`RuntimeApi.server_states`) that a starting process takes up; it must be there, and may be empty.
        Without one, drain and halt end with a reload. It is used where the site keeps states (`balancer.keep_server_states`).
    ca_file : str or None
        The PEM file of the authorities that servers' certificates are verified against; the site's own by default.
    """

    runtime_socket: str
    fd_limit: int
    log_target: str = "stdout len 4096 format iso local0 info"
    peer_name: str = "preflight"
    peer_port: int = 7778
    server_state_file: str | None = None
    ca_file: str | None = None


class _Place(msgspec.Struct, frozen=True):
    """What all VIPs share on this machine: connections at most, where those to real servers come from, whom to trust."""

    maxconn: int
    source: str
    ca_file: str | None


def render(site: Site, runtime: Runtime, unit: str | None = None) -> str:
    """Return the text of haproxy.cfg.

    Parameters
    ----------
    site : Site
        What is balanced.
    runtime : Runtime
        The machine that HAProxy runs on.
    unit : str, optional
        The unit of the pair that it is for (KeyError when there is none such): its peers are then the units, and it connects
        to real servers from its own address. Otherwise it is the site's only balancer, at `balancer.address`.

    Raises
    ------
    ConfigurationError
        When the machine gives too few file descriptors, a file is missing that the site's settings need, or a path has
        characters that the file cannot hold.
    HealthCheckError
        When certificates are to be verified against nothing.

    Notes
    -----
    HAProxy 2.6 configuration manual, 3 (global), 3.5 (peers), 4.2 (proxies), 5.2 (servers).
    """
    maxconn = maxconn_for(runtime.fd_limit, site)
    if unit is not None:
        own = site.balancer.unit_named(unit)
        runtime = msgspec.structs.replace(runtime, peer_name=own.name)
    source = site.balancer.address if unit is None else own.address_towards_nodes
    sections = [
        ("global", _global(site, runtime, maxconn)),
        ("defaults", _defaults(site.balancer)),
        (f"peers {PEERS}", _peers(site, runtime, unit)),
    ]
    ca_file = runtime.ca_file or site.web.ca_file
    place = _Place(maxconn=maxconn, source=source, ca_file=_path(ca_file) if ca_file else None)
    sections += [(f"listen {vip.name}", _listen(site, vip, number, place)) for number, vip in enumerate(site.vip, 1)]
    return "\n".join(f"{head}\n" + "".join(f"    {line}\n" for line in lines) for head, lines in sections)


def maxconn_for(fd_limit: int, site: Site) -> int:
    """Return how many connections HAProxy may proxy at a time: the site's `maxconn`, or less where descriptors are few.

    Parameters
    ----------
    fd_limit : int
        File descriptors that one HAProxy process may have open. Each connection takes two.
    site : Site
        The site; its VIPs and real servers need some descriptors for themselves.

    Raises
    ------
    ConfigurationError
        When fewer than 16 connections would be left.
    """
    servers = sum(len(vip.real_server) for vip in site.vip)
    reserve = _FDS_OF_THE_PROCESS + _FDS_PER_VIP * len(site.vip) + _FDS_PER_SERVER * servers
    possible = (fd_limit - reserve) // _FDS_PER_CONNECTION
    fewest = min(_FEWEST_CONNECTIONS, site.balancer.maxconn)
    if possible < fewest:
        needed = reserve + _FDS_PER_CONNECTION * site.balancer.maxconn
        raise ConfigurationError(
            f"open files: expected at least {reserve + _FDS_PER_CONNECTION * fewest}, found a limit of {fd_limit}; "
            f"raise it (ulimit -n {needed} allows the site's maxconn of {site.balancer.maxconn})"
        )
    return min(possible, site.balancer.maxconn)


def _global(site: Site, runtime: Runtime, maxconn: int) -> Iterator[str]:
    yield f"log {runtime.log_target}"
    yield f"stats socket {_path(runtime.runtime_socket)} mode 600 level admin"
    yield "stats timeout 60s"
    yield f"localpeer {runtime.peer_name}"
    yield f"maxconn {maxconn}"
    if site.balancer.old_process_s is not None:
        yield f"hard-stop-after {_time(site.balancer.old_process_s)}"
    if site.balancer.keep_server_states:
        if runtime.server_state_file is None:
            raise ConfigurationError(
                "balancer.keep_server_states: expected a file to keep them in, found none for this machine"
            )
        yield f"server-state-file {_path(runtime.server_state_file)}"


def _defaults(balancer: Balancer) -> Iterator[str]:
    yield "mode tcp"
    yield "log global"
    yield f'log-format "{LOG_FORMAT}"'
    yield f"retries {balancer.retries}"
    yield f"timeout connect {_time(balancer.connect_timeout_s)}"
    if balancer.keepalive is not None:
        for side in ("cli", "srv"):
            yield f"{side}tcpka-idle {balancer.keepalive.idle_s}s"
            yield f"{side}tcpka-intvl {balancer.keepalive.interval_s}s"
            yield f"{side}tcpka-cnt {balancer.keepalive.count}"
    if balancer.keep_server_states:
        yield "load-server-state-from-file global"


def _peers(site: Site, runtime: Runtime, unit: str | None) -> Iterator[str]:
    if unit is not None:
        port = site.balancer.pair.replication_port if site.balancer.pair else runtime.peer_port
        for member in site.balancer.unit:
            yield f"peer {member.name} {member.address}:{port}"
        return
    yield f"peer {runtime.peer_name} {site.balancer.address}:{runtime.peer_port}"


def _listen(site: Site, vip: Vip, number: int, place: _Place) -> Iterator[str]:
    persistence = vip.persistence
    yield f"id {number}"
    yield f"bind {vip.address}:{vip.port}"
    yield f"mode {vip.mode}"
    yield f"balance {vip.scheduler}"
    yield f"maxconn {place.maxconn}"
    yield f"timeout client {_time(vip.client_timeout_s)}"
    yield f"timeout server {_time(vip.server_timeout_s)}"
    yield f"timeout check {_time(vip.health_check.timeout_s)}"
    yield "option tcpka"
    yield "option abortonclose"
    if site.balancer.redispatch:
        yield "option redispatch"
    yield f"stick-table type ip size {persistence.table_size} expire {_time(persistence.expire_s)} peers {PEERS}"
    yield "stick on src"
    yield "source 0.0.0.0 usesrc clientip" if vip.source == "transparent" else f"source {place.source}"
    yield from check_lines(site, vip)
    if vip.fallback:
        yield f"server {FALLBACK_LABEL} {vip.fallback.address}:{vip.fallback.port} backup non-stick"
    for server in vip.real_server:
        yield _server(site, vip, server, place.ca_file)


def _server(site: Site, vip: Vip, server: RealServer, ca_file: str | None) -> str:
    address = site.node_named(server.node).address
    line = f"server {server.label} {address}:{server.port} id {server.id} weight {server.weight}"
    if vip.source == "proxy-protocol":
        line += " send-proxy-v2"  # health checks say it too: they are no clients, and the header says that (LOCAL)
    line += f" {_check(vip.health_check)}{check_words(vip, ca_file)}"
    return line + (" on-marked-down shutdown-sessions" if site.balancer.shutdown_sessions_on_down else "")


def _check(check: HealthCheck) -> str:
    words = f"check inter {_time(check.interval_s)}"
    if check.fast_interval_s is not None:
        words += f" fastinter {_time(check.fast_interval_s)}"
    if check.down_interval_s is not None:
        words += f" downinter {_time(check.down_interval_s)}"
    return f"{words} fall {check.fall} rise {check.rise}"


def _time(seconds: float) -> str:
    """Write a duration with HAProxy's units: whole seconds as such, others in milliseconds."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


def _path(path: str) -> str:
    if any(letter.isspace() or letter in "\"'\\#$" for letter in path) or not path:
        raise ConfigurationError(f"path in haproxy.cfg: expected no blanks, quotes, backslashes, # or $, found {path!r}")
    return path
