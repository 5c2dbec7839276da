"""What every service of a node is started with.

A service is one process: `python -m simulators.<room>.<server> SETTINGS.json`. Its listening socket is bound by whoever
starts it and inherited, so that a taken port is found before the start and a socket can be taken away from a service that
hangs. It ends at SIGTERM with exit code 0.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .misbehaviour import Misbehaviour
from .outbound import Outbound

ServiceName = Literal["dicom", "hl7", "dmwl", "https"]
Storage = Literal["keep", "digest"]
Processes = Annotated[int, Meta(ge=1, le=64)]


_BACKLOG_AT = 28  # of struct tcp_info: tcpi_sacked, which for a listening socket is its backlog (tcp(7), net/ipv4/tcp.c)


class SettingsError(Exception):
    """The settings of a service cannot be used; the message says which and why."""


class ServiceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one service of one node.

    Parameters
    ----------
    node : str
        The node's name, 16 ASCII characters at most: it is told to every client.
    service : str
        Which of the four.
    listen_fd : int
        The inherited listening socket, bound and listening.
    directory : str
        The node's own folder: journal, database and kept payloads.
    site_directories : tuple of str
        The folders of all nodes, the own included, for reading what the others took.
    ae_title : str
        The called AE title of the DICOM and worklist services.
    accept_unknown_called_ae : bool
        Whether an association for another AE title is accepted.
    storage : "keep" or "digest"
        Whether images are kept on disk and indexed, or only receipted: for load.
    maximum_associations : int
        Associations at a time, of each process; a further one is rejected.
    processes : int
        1 to 64: how many processes accept from the listening socket (`simulators.prefork`).
    proxied_from : tuple of str
        The addresses whose connections begin with a header of the PROXY protocol (`simulators.proxy_protocol`).
    certificate_file, key_file : str or None
        PEM files of the HTTPS service.
    users : dict of str to str
        User names and passwords of the web page.
    outbound : Outbound or None
        Where the service sends of its own accord: the destination of C-MOVE, the receiver of results. None: nowhere.
    misbehaviour : tuple of Misbehaviour
        The defects that are switched on.
    """

    node: str
    service: ServiceName
    listen_fd: int
    directory: str
    site_directories: tuple[str, ...]
    ae_title: str = "MACH7"
    accept_unknown_called_ae: bool = False
    storage: Storage = "keep"
    maximum_associations: int = 200
    processes: Processes = 1
    proxied_from: tuple[str, ...] = ()
    certificate_file: str | None = None
    key_file: str | None = None
    users: dict[str, str] = {}
    outbound: Outbound | None = None
    misbehaviour: tuple[Misbehaviour, ...] = ()

    @property
    def node_directory(self) -> Path:
        """The node's own folder."""
        return Path(self.directory)

    def has(self, misbehaviour: Misbehaviour) -> bool:
        """Say whether a defect is switched on."""
        return misbehaviour in self.misbehaviour


def read_settings(path: Path) -> ServiceSettings:
    """Read the settings of a service from its JSON file.

    Raises
    ------
    SettingsError
        When the file is missing or not a ServiceSettings.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServiceSettings)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"{path}: {error}") from error


def listening_socket(listen_fd: int) -> socket.socket:
    """Return the inherited listening socket.

    Raises
    ------
    SettingsError
        When the descriptor is not a listening socket.
    """
    try:
        inherited = socket.socket(fileno=listen_fd)
        listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise SettingsError(
            f"listen_fd: expected an inherited listening socket, found descriptor {listen_fd}: {error}"
        ) from error
    if not listens:
        inherited.detach()
        raise SettingsError(f"listen_fd: expected an inherited listening socket, found {listen_fd}, which does not listen")
    return inherited


def backlog_of(listening: socket.socket) -> int:
    """Return the backlog that the maker of a listening socket chose: who listens on it once more must not change it."""
    info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BACKLOG_AT + 4)
    return int.from_bytes(info[_BACKLOG_AT:], sys.byteorder)


def settings_of_command_line(arguments: list[str]) -> ServiceSettings:
    """Return the settings named by a service's command line, or leave with a message and code 2."""
    if len(arguments) != 2:
        sys.exit(f"usage: python -m … SETTINGS.json, found {len(arguments) - 1} arguments")
    try:
        return read_settings(Path(arguments[1]))
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201  the service's log is its standard error
        sys.exit(2)
