"""The tester's container: `python -m compose.inside.tester SITE.toml SOCKET`, process 1 of it.

It takes the clients' addresses, and the router's, so that every host of the lab answers clients of other networks through
it. Then it answers what only root can: who has an address on the clients' network. pytest and Locust run beside it.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lbconfig.site import Site
from lbconfig.site_file import load_site

from ..arp import interface_of, who_has
from ..control_socket import answer_one, listen
from ..lab import LabError
from ..layout import ROUTER, WORKERS, tester_network, worker_network
from ..networks import first_octets, networks_of
from ..until_sigterm import until_sigterm

_IP_S = 20.0


def address_commands(site: Site, interface: str) -> Iterator[list[str]]:
    """Yield the arguments of `ip` that give the tester its addresses and routes.

    Parameters
    ----------
    site : Site
        Its VIPs' network is that of `clients.network`, or the /24 around it.
    interface : str
        The tester's interface there.
    """
    networks = networks_of(site)
    prefix = first_octets(networks.clients)
    yield ["addr", "replace", f"{prefix}.{ROUTER}/24", "dev", interface]
    for local in (site.clients.network, site.clients.straight_network):
        for address in ipaddress.IPv4Network(local) if local else ():
            if int(address) & 0xFF not in (0, 255):
                yield ["addr", "replace", f"{address}/24", "dev", interface]
    if networks.nodes is not None:  # the way there leads through whichever unit is active
        yield ["route", "replace", str(networks.nodes), "via", site.vip[0].address, "dev", interface]
    if site.clients.routed_network is not None:
        yield ["route", "replace", "local", str(tester_network(site.clients.routed_network)), "dev", "lo"]
        for octet in WORKERS:
            network = worker_network(site.clients.routed_network, octet)
            yield ["route", "replace", str(network), "via", f"{prefix}.{octet}", "dev", interface]


def take_addresses(site: Site) -> None:
    """Give this machine the addresses of the site's clients.

    Raises
    ------
    LabError
        When it may not, or has no interface in their network.
    """
    interface = interface_of(str(next(ipaddress.IPv4Network(site.clients.network).hosts())))
    run_ip(address_commands(site, interface))


def run_ip(commands: Iterable[Sequence[str]]) -> None:
    """Have `ip` do all of these commands. Raises LabError at the first that it cannot, or may not."""
    batch = "".join(f"{' '.join(command)}\n" for command in commands)
    done = subprocess.run(
        ["ip", "-batch", "-"], input=batch, capture_output=True, text=True, check=False, timeout=_IP_S
    )  # fmt: skip
    if done.returncode != 0:
        raise LabError(f"ip: expected it to give this host the clients' addresses, found: {done.stderr.strip()}")


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked: `who-has` some `addresses`, `interrupt` what was started in this container from outside, `status`.

    Raises
    ------
    LabError
        When it cannot be done.
    """
    match request["do"]:
        case "status":
            return {}
        case "who-has":
            return {"answers": who_has([str(address) for address in request["addresses"]])}
        case "interrupt":
            return {"interrupted": _interrupt()}
        case unknown:
            raise LabError(f"expected one of status, who-has, interrupt, found {unknown}")


def _interrupt() -> list[int]:
    """Send SIGINT, as Ctrl-C would, to what was started from outside: in here it has no parent."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[1] == "0":
                    os.kill(int(entry.name), signal.SIGINT)
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended meanwhile
    return found


def main(arguments: list[str]) -> None:
    """Be the tester until SIGTERM."""
    if len(arguments) != 3:
        sys.exit(f"usage: python -m compose.inside.tester SITE.toml SOCKET, found {len(arguments) - 1} arguments")
    with until_sigterm():
        take_addresses(load_site(Path(arguments[1])))
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans come to process 1, and nobody waits for them
        with listen(Path(arguments[2])) as listener:
            while True:
                answer_one(listener, answer)


if __name__ == "__main__":
    main(sys.argv)
