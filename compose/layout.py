"""The run folder of a compose lab, and the addresses of its hosts: what the host, the containers and compose.yaml agree on.

The folder lies on the host, is the containers' `/lab` (each sees only its part of it), and is the same path in all of them:

    site/                   the site file as it is run                         tester, workers
    config/                 ca.pem, certificates/<node>/                       nodes, tester, workers (read-only)
    control/                keeper.sock: the container keeper on the host      tester
    nodes/<name>/           what inside.node starts from, and its records     nodes (all of nodes/), tester
    balancers/<unit>/       haproxy.cfg, keepalived.conf, filter.rules, way-back.sh, arms.json, server.states, ca.pem,
                            haproxy.log, keepalived.log, haproxy.sock, master.sock, control.sock   that unit, tester (of all)

Variables of compose.yaml, all with defaults: PREFLIGHT_RUN (the run folder on the host), PREFLIGHT_SUBNET (the first three
octets of the lab's network), PREFLIGHT_NODES_SUBNET (of the nodes' own, in two-arm.yaml), PREFLIGHT_OUT (where reports go),
PREFLIGHT_CHECKOUT (where the code is), PREFLIGHT_IMAGES (the tag of the images), PREFLIGHT_OPEN_FILES (of each process:
`open_files()`), PREFLIGHT_LAB (1 when the folder was rendered on the host; else the service `prepare` renders it),
PREFLIGHT_GUIDES (0 where nobody plays: then no page says what to try).
"""

from __future__ import annotations

import ipaddress
import resource
from pathlib import Path, PurePosixPath

LAB = PurePosixPath("/lab")  # the run folder, in every container
NODE_UID = 10001  # whom nodes run as; their folders are this user's
ROUTER = 1  # last octet of everybody's default route: the tester holds it, the host does not
TESTER = 20
LOAD_MASTER = 21
WORKERS = range(64, 96)  # last octets that scaled workers get
_MOST_OPEN_FILES = 100_000  # enough for 40,000 connections through a balancer, two each


def authority_file(run: Path) -> Path:
    """Return the certificate of the authority that the lab's nodes are trusted by."""
    return run / "config" / "ca.pem"


def keeper_socket(run: Path) -> Path:
    """Return where the container keeper answers."""
    return run / "control" / "keeper.sock"


def tester_socket(run: Path) -> Path:
    """Return where the tester's process 1 answers."""
    return run / "control" / "tester.sock"


def site_file(run: Path) -> Path:
    """Return the site file as it is run."""
    return run / "site" / "site.toml"


def node_folder(run: Path, node: str) -> Path:
    """Return a node's own folder; its process 1 answers at `control.sock` in it."""
    return run / "nodes" / node


class UnitFiles:
    """Where the files of one unit are below a run folder: on the host, or at `/lab` in the containers."""

    def __init__(self, run: Path, unit: str) -> None:
        self.directory = run / "balancers" / unit
        self.configuration = self.directory / "haproxy.cfg"
        self.keepalived = self.directory / "keepalived.conf"
        self.filter_rules = self.directory / "filter.rules"
        self.way_back = self.directory / "way-back.sh"
        self.log = self.directory / "haproxy.log"
        self.keepalived_log = self.directory / "keepalived.log"
        self.runtime_socket = self.directory / "haproxy.sock"
        self.master_socket = self.directory / "master.sock"
        self.control_socket = self.directory / "control.sock"
        self.server_states = self.directory / "server.states"
        self.ca = self.directory / "ca.pem"


def open_files() -> int:
    """Return how many files a process of the lab may open: as many as this one may be allowed, 100,000 at most."""
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _MOST_OPEN_FILES)


def tester_network(routed_network: str) -> ipaddress.IPv4Network:
    """Return the part of the routed clients' network whose addresses the tester has: the lower half."""
    return next(ipaddress.IPv4Network(routed_network).subnets(prefixlen_diff=1))


def worker_network(routed_network: str, octet: int) -> ipaddress.IPv4Network:
    """Return the part of the routed clients' network whose addresses the worker with this last octet has.

    The upper half is cut into as many parts as there can be workers, so that no two of them use an address twice.
    """
    upper = list(ipaddress.IPv4Network(routed_network).subnets(prefixlen_diff=1))[1]
    size = upper.num_addresses // len(WORKERS)
    first = int(upper.network_address) + WORKERS.index(octet) * size
    return ipaddress.IPv4Network((first, 32 - (size.bit_length() - 1)))
