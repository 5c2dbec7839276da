"""The first process of a load generator's container: `python -m compose.inside.worker SITE.toml`.

It takes its own part of the clients behind the router, by the last octet of its address: no two workers use one twice. Then
it is Locust's worker of the master in the tester, again and again: a master ends with its run, and the next one finds its
workers waiting.
"""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import sys
import time
from pathlib import Path

from lbconfig.site_file import load_site

from ..keeper_client import CHECKOUT, python_environment
from ..lab import LabError
from ..layout import TESTER, WORKERS, worker_network
from ..until_sigterm import until_sigterm
from .tester import run_ip

SOURCES_VARIABLE = "PREFLIGHT_LOAD_SOURCES"  # what the generator takes its clients' addresses from
_LOCUST_FILE = CHECKOUT / "scenarios" / "load" / "mixed.py"
_FAILURES_IN_A_ROW = 20
_STARTS_S = 3.0  # one that ends sooner never looked for a master


def own_part(site_file: Path) -> tuple[str, ipaddress.IPv4Network]:
    """Return the master's address, and the part of the routed clients' network that is this container's.

    Raises
    ------
    LabError
        When the site has no such network, or this container's address is not one of a worker.
    """
    site = load_site(site_file)
    master = f"{site.vip[0].address.rpartition('.')[0]}.{TESTER}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect((master, 9))  # sends nothing: it only chooses the address that it would be sent from
        own = str(asked.getsockname()[0])
    octet = int(own.rpartition(".")[2])
    if octet not in WORKERS or site.clients.routed_network is None:
        places = f"{WORKERS[0]} to {WORKERS[-1]}"
        raise LabError(f"worker: expected an address that ends in {places} and clients behind a router, found {own}")
    return master, worker_network(site.clients.routed_network, octet)


def work(master: str, sources: ipaddress.IPv4Network) -> None:
    """Be Locust's worker of one master after the other, until a KeyboardInterrupt. LabError when Locust cannot run at all."""
    environment = python_environment() | {SOURCES_VARIABLE: str(sources)}
    command = [sys.executable, "-m", "locust", "-f", str(_LOCUST_FILE), "--worker", "--master-host", master]
    failures = 0
    while failures < _FAILURES_IN_A_ROW:
        began = time.monotonic()
        with subprocess.Popen(command, env=environment, cwd=CHECKOUT) as locust:
            try:
                locust.wait()
            except KeyboardInterrupt:
                locust.terminate()
                raise
        failures = failures + 1 if time.monotonic() - began < _STARTS_S else 0
    raise LabError(f"Locust: expected it to wait for its master, found that it ended at once {failures} times")


def main(arguments: list[str]) -> None:
    """Be a worker until SIGTERM."""
    if len(arguments) != 2:
        sys.exit(f"usage: python -m compose.inside.worker SITE.toml, found {len(arguments) - 1} arguments")
    with until_sigterm():
        master, sources = own_part(Path(arguments[1]))
        run_ip([["route", "replace", "local", str(sources), "dev", "lo"]])
        work(master, sources)


if __name__ == "__main__":
    main(sys.argv)
