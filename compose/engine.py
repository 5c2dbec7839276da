"""The Docker daemon: one that is there already, or one that is started here and ended again.

`python -m compose.engine start|stop|status` does it by hand. What is started keeps its data, log and pid under one folder of
ours, and changes as little of the host as Docker can: it forwards no packets and writes no masquerade.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from .keeper_client import wait_for_exit
from .lab import LabError

DEFAULT_SOCKET = Path("/var/run/docker.sock")
DIRECTORY = Path("/var/lib/preflight/engine")  # outside of any checkout: images outlive it
_READY_S = 60.0
_STOP_S = 60.0
_POLL_S = 0.1
_ANSWER_S = 5.0
_USUAL_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


class Engine(msgspec.Struct, frozen=True):
    """A daemon that answers: where (for DOCKER_HOST), and whether it was started by this very call."""

    host: str
    started: bool


def ensure_engine(directory: Path = DIRECTORY) -> Engine:
    """Return the daemon that answers; start one where none does.

    Parameters
    ----------
    directory : Path
        Where a daemon that is started here keeps its data, its log and its pid.

    Raises
    ------
    LabError
        When none answers and none can be started here. What DOCKER_HOST names is taken as it is.
    """
    host = os.environ.get("DOCKER_HOST")
    if host:
        return Engine(host, started=False)
    if _answers(DEFAULT_SOCKET):
        return Engine(f"unix://{DEFAULT_SOCKET}", started=False)
    program = shutil.which("dockerd") or shutil.which("dockerd", path=_USUAL_PLACES)
    if program is None:
        raise LabError(
            "docker: expected a daemon that answers, or the program dockerd, found neither. Run `make docker-programs`"
        )
    if os.geteuid() != 0:
        raise LabError(
            f"docker: expected a daemon that answers at {DEFAULT_SOCKET}, found none, and only root may start one. "
            "Start Docker, or become a member of its group"
        )
    _start(program, directory)
    return Engine(f"unix://{DEFAULT_SOCKET}", started=True)


def stop_engine(directory: Path = DIRECTORY) -> bool:
    """End the daemon that was started here; false when there is none such. Raises LabError when it does not end."""
    pid = _pid_of_ours(directory)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    if not wait_for_exit(pid, _STOP_S):
        raise LabError(f"dockerd (pid {pid}): expected to end within {_STOP_S:g} s, found it running; see {_log(directory)}")
    _remove_bridge()
    return True


def _start(program: str, directory: Path) -> None:
    directory.mkdir(mode=0o710, parents=True, exist_ok=True)
    _pid_file(directory).unlink(missing_ok=True)  # of one that died: its number may be another process's now
    arguments = [
        "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec"),
        "--pidfile", str(_pid_file(directory)), "--host", f"unix://{DEFAULT_SOCKET}", "--ip-forward=false", "--ip-masq=false",
    ]  # fmt: skip
    with _log(directory).open("ab") as log:
        daemon = subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + _READY_S
    while not _answers(DEFAULT_SOCKET):
        if daemon.poll() is not None or time.monotonic() > deadline:
            end = "\n".join(_log(directory).read_text(errors="replace").splitlines()[-10:])
            daemon.kill()
            raise LabError(
                f"dockerd: expected an answer within {_READY_S:g} s, found none. The end of {_log(directory)}:\n{end}"
            )
        wait_for_exit(daemon.pid, _POLL_S)
    daemon.returncode = 0  # it outlives this process, on purpose: it is ended by its pid file


def _answers(path: Path) -> bool:
    """Say whether a daemon answers at a socket: `GET /_ping` of the Docker Engine API."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(1024)
    except OSError:
        return False


def _is_ours(directory: Path) -> bool:
    return _pid_of_ours(directory) is not None


def _pid_of_ours(directory: Path) -> int | None:
    """Return the pid of the daemon whose data lie in our folder; None when there is none."""
    try:
        pid = int(_pid_file(directory).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\x00")
    except (OSError, ValueError):
        return None
    return pid if str(directory / "data").encode() in words else None


def _remove_bridge() -> None:
    """Remove docker0, which a daemon leaves behind, where no daemon answers that may still use it."""
    if not _answers(DEFAULT_SOCKET) and Path("/sys/class/net/docker0").exists():
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)


def _pid_file(directory: Path) -> Path:
    return directory / "dockerd.pid"


def _log(directory: Path) -> Path:
    return directory / "dockerd.log"


def main(arguments: list[str]) -> None:
    """Start, stop or look for the daemon."""
    try:
        match arguments[1:]:
            case ["start"]:
                print(ensure_engine().host)  # noqa: T201  this is a command
            case ["stop"]:
                print("stopped" if stop_engine() else "nothing to stop: no daemon was started here")  # noqa: T201
            case ["status"]:
                print("ours" if _is_ours(DIRECTORY) else "another's" if _answers(DEFAULT_SOCKET) else "none")  # noqa: T201
            case _:
                sys.exit("usage: python -m compose.engine start|stop|status")
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv)
