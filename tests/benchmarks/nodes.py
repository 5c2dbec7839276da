"""SCPs of ours for benchmarks, and a balancer before them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from simulators.service import ServiceName, ServiceSettings

from .dicom_store import AE_TITLE, wait_until_it_answers
from .rows import BarError

_ADDRESS = "127.0.0.1"
_START_LIMIT_S = 10.0
_DEFAULTS = """\
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
"""
_LISTEN = """\
listen {name}
    bind 127.0.0.1:{port}
    server {name} 127.0.0.1:{behind}
"""


@contextmanager
def running_scp(
    module: str, directory: Path, associations: int, service: ServiceName = "dicom"
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run an SCP called BENCH, whose storage digests; yield its process and its port once it answers.

    Parameters
    ----------
    module : str
        `simulators.dicom.wire_scp`, `simulators.dicom.storage_scp` or `simulators.dicom.worklist_scp`.
    directory : Path
        The node's folder.
    associations : int
        How many it takes at a time.
    service : str
        "dicom" or "dmwl".
    """
    directory.mkdir(parents=True, exist_ok=True)
    with socket.create_server((_ADDRESS, 0), backlog=1024) as server:
        settings = ServiceSettings(
            node="mach7-1", service=service, listen_fd=server.fileno(), directory=str(directory), ae_title=AE_TITLE,
            site_directories=(str(directory),), storage="digest", maximum_associations=associations,
        )  # fmt: skip
        file = directory / f"{service}.json"
        file.write_bytes(msgspec.json.encode(settings))
        port: int = server.getsockname()[1]
        with subprocess.Popen([sys.executable, "-m", module, str(file)], pass_fds=(server.fileno(),)) as process:
            try:
                wait_until_it_answers(process, port)
                yield process, port
            finally:
                process.terminate()


def compiled_pingpong(directory: Path) -> Path:
    """Compile the C ping-pong into a directory, and return the program."""
    program, source = directory / "pingpong", Path(__file__).with_name("pingpong.c")
    subprocess.run(["gcc", "-O2", "-pthread", "-o", str(program), str(source)], check=True)
    return program


@contextmanager
def haproxy(directory: Path, behind: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Run HAProxy with a listener before each port, by a name; yield the ports of the listeners by the same names."""
    ports = {}
    for name in behind:
        with socket.create_server((_ADDRESS, 0)) as free:
            ports[name] = free.getsockname()[1]
    listens = [_LISTEN.format(name=name, port=ports[name], behind=behind[name]) for name in behind]
    file = directory / "haproxy.cfg"
    file.write_text("".join([_DEFAULTS, *listens]))
    with subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(file)]) as process:
        try:
            deadline = time.monotonic() + _START_LIMIT_S
            for port in ports.values():
                while not _listens(port):
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise BarError(f"HAProxy: expected it to listen on {_ADDRESS}:{port}, found it does not")
            yield ports
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_ADDRESS, port)) == 0
