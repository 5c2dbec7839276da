"""Writes the run folder of a lab in containers: all that its hosts start from, rendered from the site.

`python -m compose.run_folder RUN [SITE.toml]` writes one by hand (by default of the brief's site), as `docker compose up`
alone does.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import msgspec

from lbconfig.site import ServiceKind, Site
from lbconfig.site_file import SiteError, load_site
from simulators.web.certificates import CertificateFiles, LabAuthority

from .balancer_files import write_balancer_files
from .configuration import through_relay, unit_editor
from .inside.node import NodeFile, write_node_file
from .keeper_client import CHECKOUT
from .lab import Defects, LabError
from .layout import LAB, NODE_UID, UnitFiles, keeper_socket, node_folder, site_file
from .native_nodes import endpoints_of
from .networks import networks_of, receiver_of
from .simulated_nodes import certificate_names, check_defects, simulated_node

CA = "ca.pem"
ACCOUNT = "account.json"
_RELAY_PORTS = 20001  # and on: where relays listen, on their node's address
_BRIEF = CHECKOUT / "lbconfig" / "sites" / "brief.toml"
_HAPROXY = "haproxy.cfg"


class WebAccount(msgspec.Struct, frozen=True):
    """The lab's own account at the web page; its password is random, of this lab alone."""

    user: str
    password: str


def write_run_folder(site: Site, text: str, run: Path, defects: Defects) -> None:
    """Write everything into a run folder that is there and empty but for its `control/`.

    Parameters
    ----------
    site : Site
        As it is run: for load, with the engines for crowds.
    text : str
        Its file, from which the hosts read addresses and ports.
    run : Path
        The folder; nobody but its owner may enter it.
    defects : Defects
        What is broken on purpose.

    Raises
    ------
    LabError
        When the site does not fit a lab in containers, or a defect names what is not there.
    """
    networks_of(site)
    check_defects(site, defects)
    for folder in (site_file(run).parent, run / "config", keeper_socket(run).parent, run / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    site_file(run).write_text(text)
    account = WebAccount(site.web.user, secrets.token_urlsafe(18))
    _write_private(run / "config" / ACCOUNT, msgspec.json.encode(account))
    relay_ports = relay_ports_of(site, defects)
    _write_nodes(site, run, defects, account, relay_ports)

    planted = unit_editor(defects)

    def edit(unit: str, file: str, rendered: str) -> str:
        return planted(unit, file, _through_relays(site, rendered, relay_ports) if file == _HAPROXY else rendered)

    write_balancer_files(site, run, edit)
    for unit in defects.other_authority:
        LabAuthority(UnitFiles(run, unit).ca.parent)  # over the copy of the one that issued the nodes' certificates


def relay_ports_of(site: Site, defects: Defects) -> dict[tuple[str, ServiceKind], int]:
    """Return where the relays of the defects listen, by node and service."""
    del site  # the ports are free on every node: services listen below them
    return {(relay.node, relay.service): port for port, relay in enumerate(defects.relays, _RELAY_PORTS)}


def _write_nodes(
    site: Site, run: Path, defects: Defects, account: WebAccount, relay_ports: dict[tuple[str, ServiceKind], int]
) -> None:  # fmt: skip
    authority = LabAuthority(run / "config")
    inside, receiver = Path(LAB), receiver_of(site)
    directories = {node.name: node_folder(inside, node.name) for node in site.node}
    for node in site.node:
        place = Path("config") / "certificates" / node.name
        issued = authority.issue(
            run / place, certificate_names(site, node), expired=node.name in defects.expired_certificates
        )
        certificate = CertificateFiles(*(inside / place / file.name for file in issued))
        users = {account.user: account.password}
        folder = node_folder(run, node.name)
        folder.mkdir(parents=True)
        own = NodeFile(
            site_file=site_file(inside),
            node=simulated_node(site, node, defects, directories, certificate, users, receiver),
            relays=tuple(relay for relay in defects.relays if relay.node == node.name),
            relay_ports={service: port for (name, service), port in relay_ports.items() if name == node.name},
        )
        write_node_file(own, folder / "node.json")
        _give_to_nodes(folder, folder / "node.json", *issued)


def _through_relays(site: Site, text: str, relay_ports: dict[tuple[str, ServiceKind], int]) -> str:
    endpoints = endpoints_of(site)
    for (node, service), port in relay_ports.items():
        vip = site.vip_of(service)
        for server in vip.real_server:
            if server.node == node:
                text = through_relay(text, vip.name, server.label, endpoints[node, service].address, port)
    return text


def _give_to_nodes(folder: Path, *files: Path) -> None:
    """Let the nodes' user, who is nobody else, write its folder and read its files; the run folder keeps others away."""
    for path in (folder, *files):
        if os.getuid() == 0:
            os.chown(path, NODE_UID, NODE_UID)
        else:
            path.chmod(0o777 if path.is_dir() else 0o644)


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def main(arguments: list[str]) -> None:
    """Write a run folder."""
    if len(arguments) not in (2, 3):
        sys.exit(f"usage: python -m compose.run_folder RUN [SITE.toml], found {len(arguments) - 1} arguments")
    path = Path(arguments[2]) if len(arguments) == 3 else _BRIEF
    try:
        write_run_folder(load_site(path), path.read_text(), Path(arguments[1]), Defects())
    except (SiteError, LabError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv)
