"""A place without a network: loopback is the only interface in its namespaces, and its Docker daemon has no image."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

READY_S = 60.0
STOP_S = 60.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST = """
ip link set lo up
"$@" &
daemon=$!
trap 'kill $daemon' TERM
while kill -0 $daemon 2>/dev/null; do wait $daemon; done
"""


class AirGap:
    """Runs programs in the place, with an environment that says nothing of this machine's settings."""

    def __init__(self, first_pid: int, home: Path, docker_host: str) -> None:
        self._enter = ["nsenter", f"--target={first_pid}", "--net", "--mount", "--pid"]
        self._home = home
        self._docker_host = docker_host

    def run(
        self, *command: str, cwd: Path | None = None, timeout_s: float = 60.0, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there; what it printed, and its exit code."""
        environment = {"PATH": PATH, "HOME": str(self._home), "DOCKER_HOST": self._docker_host, **more}
        inside = f"cd {shlex.quote(str(cwd or self._home))} && exec {shlex.join(command)}"
        return subprocess.run(
            [*self._enter, "sh", "-c", inside], env=environment, capture_output=True, text=True, check=False,
            timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@contextlib.contextmanager
def air_gap() -> Iterator[AirGap]:
    """Make the place; at the end all that runs in it ends with its first process. Needs root."""
    scratch = Path(tempfile.mkdtemp(prefix="preflight-gap-", dir="/tmp"))  # short: it holds unix sockets
    home = scratch / "home"
    home.mkdir()
    host = f"unix://{scratch}/docker.sock"
    daemon = [
        "dockerd", "--host", host, "--data-root", f"{scratch}/data", "--exec-root", f"{scratch}/exec",
        "--pidfile", f"{scratch}/pid", "--containerd-namespace", scratch.name, "--bridge=none", "--ip-forward=false",
        "--ip-masq=false",
    ]  # fmt: skip
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", _FIRST, "first"]
    with (scratch / "dockerd.log").open("wb") as log:
        place = subprocess.Popen(
            [*unshare, *daemon], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"PATH": PATH}
        )
    try:
        first = _first_pid(place)
        gap = AirGap(first, home, host)
        _wait_for_daemon(gap, scratch / "dockerd.log")
        yield gap
        os.kill(first, signal.SIGTERM)
        place.wait(STOP_S)
    finally:
        place.kill()
        place.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def _first_pid(place: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{place.pid}/task/{place.pid}/children")
    deadline = time.monotonic() + READY_S
    while not (pids := children.read_text().split()):
        assert place.poll() is None, "unshare ended: is this root?"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(pids[0])


def _wait_for_daemon(gap: AirGap, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while gap.run("docker", "version").returncode != 0:
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
        time.sleep(0.2)
