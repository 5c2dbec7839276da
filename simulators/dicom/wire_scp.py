"""The storage and the worklist SCP of a node for crowds and load: `python -m simulators.dicom.wire_scp SETTINGS.json`.

asyncio over our own upper layer, with the handlers of the pynetdicom SCPs. Which of the two it is, its settings say; also how
many processes share its work, each with associations of its own and one journal for all. Each writes its pulse.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import sys

import uvloop

from simulators.operations import RecordError
from simulators.prefork import serve_in_processes
from simulators.proxy_protocol import accept_connections
from simulators.pulse import keep_pulse, pulse_path
from simulators.service import ServiceSettings, SettingsError, listening_socket, settings_of_command_line

from .acceptor import ApplicationEntity, Provider
from .wire_storage import StorageProvider
from .wire_worklist import WorklistProvider


async def serve(settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is in hand, and end.

    Parameters
    ----------
    settings : ServiceSettings
        Of a dicom or dmwl service; `listen_fd` is the listening socket.

    Raises
    ------
    SettingsError
        When the settings are of another service, or `listen_fd` is not a listening socket.
    RecordError, OSError, sqlite3.Error
        When journal, images or index cannot be opened.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    _allow_many_files()
    listening = listening_socket(settings.listen_fd)
    entity = ApplicationEntity(settings, _provider(settings))
    path = pulse_path(settings.node_directory, settings.service)
    pulse = asyncio.create_task(keep_pulse(path, lambda: len(entity.connections), lambda: entity.handled))
    server = await accept_connections(listening, entity.connection, settings.proxied_from)
    await ended.wait()
    server.close()
    await entity.close()
    pulse.cancel()
    await asyncio.wait((pulse,))


def main() -> None:
    """Run the service that the command line names; leave with 2, and the reason, when it cannot start."""
    settings = settings_of_command_line(sys.argv)
    if settings.processes > 1:
        os.environ["UV_TCP_SINGLE_ACCEPT"] = "1"  # else whoever wakes first takes all the connections of a burst
    sys.exit(serve_in_processes(settings.processes, lambda _: _served(settings)))


def _served(settings: ServiceSettings) -> int:
    try:
        uvloop.run(serve(settings))
    except (SettingsError, RecordError, OSError, sqlite3.Error) as error:
        print(f"{settings.node} {settings.service}: cannot start: {error}", file=sys.stderr)  # noqa: T201  the service's log
        return 2
    return 0


def _provider(settings: ServiceSettings) -> Provider:
    if settings.service == "dicom":
        return StorageProvider(settings)
    if settings.service == "dmwl":
        return WorklistProvider(settings)
    raise SettingsError(f"service: expected dicom or dmwl, found {settings.service}")


def _allow_many_files() -> None:
    """Raise the limit of open files as far as it goes: each association is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
