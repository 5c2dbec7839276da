"""A node: a machine that runs four services, one process each, over one folder. Here are their settings and command lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from .misbehaviour import Misbehaviour
from .outbound import Outbound
from .service import Processes, ServiceName, ServiceSettings, Storage

Engine = Literal["pynetdicom", "wire"]
SERVICES: tuple[ServiceName, ...] = ("dicom", "hl7", "dmwl", "https")
_PROGRAM: dict[ServiceName, str] = {
    "dicom": "simulators.dicom.storage_scp",
    "hl7": "simulators.hl7.listener",
    "dmwl": "simulators.dicom.worklist_scp",
    "https": "simulators.web.server",
}
_WIRE_PROGRAM = "simulators.dicom.wire_scp"
_WIRE_ASSOCIATIONS = 20_000  # at a time: the limit is then the balancer's, not the node's


class SimulatedNode(msgspec.Struct, frozen=True, kw_only=True):
    """What the four services of a node share, and in what they lie.

    `directory` is the node's own folder, `site_directories` are those of all nodes, the own included. `certificate_file`
    and `key_file` are of the HTTPS service; `users` are the names and passwords of the web page. `engines` says which
    implementation plays the dicom and the dmwl service: pynetdicom unless it is named here; `processes` is how many share the
    work of one service, but those of pynetdicom. `outbound` is where the dicom and the hl7 service send of their own accord,
    each from its own address. `proxied_from` are, by service, the addresses whose connections begin with a header of the
    PROXY protocol.
    """

    name: str
    directory: Path
    site_directories: tuple[Path, ...]
    certificate_file: Path
    key_file: Path
    users: Mapping[str, str]
    ae_title: str
    accept_unknown_called_ae: bool = False
    storage: Storage = "keep"
    engines: Mapping[ServiceName, Engine] = {}
    processes: Processes = 1
    outbound: Mapping[ServiceName, Outbound] = {}
    proxied_from: Mapping[ServiceName, tuple[str, ...]] = {}
    misbehaviour: Mapping[ServiceName, tuple[Misbehaviour, ...]] = {}

    def settings(self, service: ServiceName, listen_fd: int) -> ServiceSettings:
        """Return what one service is started with; `listen_fd` is the number of its listening socket in that process."""
        web = service == "https"
        settings = ServiceSettings(
            node=self.name,
            service=service,
            listen_fd=listen_fd,
            directory=str(self.directory),
            site_directories=tuple(str(directory) for directory in self.site_directories),
            ae_title=self.ae_title,
            accept_unknown_called_ae=self.accept_unknown_called_ae,
            storage=self.storage if service == "dicom" else "keep",
            proxied_from=self.proxied_from.get(service, ()),
            certificate_file=str(self.certificate_file) if web else None,
            key_file=str(self.key_file) if web else None,
            users=dict(self.users) if web else {},
            outbound=self.outbound.get(service),
            misbehaviour=self.misbehaviour.get(service, ()),
        )
        if self._is_wire(service):
            settings = msgspec.structs.replace(settings, maximum_associations=_WIRE_ASSOCIATIONS)
        if self._is_wire(service) or service in ("hl7", "https"):
            settings = msgspec.structs.replace(settings, processes=self.processes)
        return settings

    def write_settings(self, service: ServiceName, listen_fd: int) -> Path:
        """Write the settings file of one service, `<node's folder>/settings/<service>.json`, readable by its owner alone."""
        path = self.directory / "settings" / f"{service}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # before the password is in it
        path.write_bytes(msgspec.json.encode(self.settings(service, listen_fd)))
        return path

    def command(self, service: ServiceName, listen_fd: int) -> list[str]:
        """Write the settings of one service and return the command line that starts it."""
        program = _WIRE_PROGRAM if self._is_wire(service) else _PROGRAM[service]
        return [sys.executable, "-m", program, str(self.write_settings(service, listen_fd))]

    def _is_wire(self, service: ServiceName) -> bool:
        return self.engines.get(service) == "wire"


def relay_command(settings_file: Path) -> list[str]:
    """Return the command line of a relay in front of a service; the file holds its `RelaySettings`."""
    return [sys.executable, "-m", "simulators.relay", str(settings_file)]
