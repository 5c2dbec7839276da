"""A lab in containers, as the command on the host has it: brought up, something run in its tester, taken down.

Everything that outlives a call belongs to the container keeper, which takes the lab down when this process ends, however it
ends. `labs` finds those that are there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Self

from lbconfig.site import Site
from lbconfig.site_file import load_site
from lbconfig.transparency import node_script

from ..control_socket import ask
from ..images.recipes import image_tag
from ..keeper_client import CHECKOUT, python_environment
from ..lab import Defects, LabError
from ..layout import keeper_socket, open_files, tester_socket
from ..networks import first_octets, moved, networks_of
from ..overlap import check_free_network, lab_network
from ..run_folder import write_run_folder
from .project import PREFIX, TWO_ARM_FILE, Project, connect

_READY_S = 30.0
_UP_S = 240.0
_ASKED_S = 60.0
_GONE_S = 150.0  # the keeper itself tries for a minute, and Docker takes its time
_TESTER = "tester"


class FoundLab(NamedTuple):
    """A lab that is there: its project, its run folder, how many of its containers run, and whether its keeper lives."""

    project: str
    run: Path | None
    running: int
    containers: int
    is_kept: bool


class HostedLab:
    """A lab in containers that this process has.

    Parameters
    ----------
    site : Site
        As it is run.
    text : str
        Its file.
    out : Path
        Where reports go: the tester's `/out`.
    defects : Defects
        What is broken on purpose.
    workers : int
        Containers that play load, beside the tester.

    Raises
    ------
    LabError
        From `start`: Docker, images or the network are not as they have to be; says what to do.
    """

    def __init__(
        self, site: Site, text: str, out: Path, *, defects: Defects, workers: int = 0
    ) -> None:  # fmt: skip
        self._site = site
        self._text = text
        self._out = out.resolve()
        self._defects = defects
        self._networks = networks_of(site)
        self._options = ["--file", str(TWO_ARM_FILE)] if self._networks.nodes else []
        self._options += ["--profile", "load"] if workers else []
        self._workers = workers
        self._project = Project(PREFIX + secrets.token_hex(4))
        self.run = self._out.parent / f".{self._project.name}"
        self._keeper: subprocess.Popen[str] | None = None
        self._lifeline: int | None = None

    def start(self) -> None:
        """Bring the lab up; return when its containers have been started. The tester waits for their services."""
        for network in self._networks.all:
            check_free_network(network, self._project.engine)
        self._out.mkdir(parents=True, exist_ok=True)
        self._start_keeper()
        try:
            write_run_folder(self._site, self._text, self.run, self._defects)
            scale = {"worker": self._workers} if self._workers else {}
            up = {"do": "up", "environment": self._environment(), "options": self._options, "scale": scale}
            ask(keeper_socket(self.run), up, _UP_S)
            if way_back := node_script(self._site):  # a node itself may not change its routes
                for node in self._site.node:
                    if node.name not in self._defects.past_the_balancer:
                        self._project.in_network_of(node.name, "way back through the balancer", way_back)
        except BaseException:
            self.stop()
            raise

    def run_in_tester(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Run a command in the tester, with this process's terminal or output, and return its exit code.

        Ctrl-C and SIGTERM reach it as Ctrl-C: it ends in good order.
        """
        has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        given = [word for name, value in (environment or {}).items() for word in ("--env", f"{name}={value}")]
        container = self._project.container(_TESTER).id
        program = ["docker", "exec", *(["--interactive", "--tty"] if has_terminal else []), *given, str(container), *command]
        with self._passing_signals_on(), subprocess.Popen(program, start_new_session=not has_terminal) as running:
            return running.wait()

    @property
    def project(self) -> str:
        """The name of its Compose project."""
        return self._project.name

    def wait_until_gone(self) -> None:
        """Return when somebody else has taken the lab down."""
        if self._keeper is not None:
            self._keeper.wait()

    def keep_logs(self) -> None:
        """Write what the containers have said into the report's folder, and give all that is in it to this user."""
        logs = self._out / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._ask("logs", directory=str(logs))

    def give_out_to_this_user(self) -> None:
        """Let the report be this user's: what the tester wrote is root's."""
        if os.getuid() != 0:
            owner = f"{os.getuid()}:{os.getgid()}"
            self.run_in_tester(["chown", "--recursive", owner, "/out"])

    def stop(self) -> None:
        """Take the lab down; return when nothing of it is left. Safe to call twice."""
        keeper, self._keeper = self._keeper, None
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            os.close(lifeline)
        if keeper is None:
            return
        try:
            keeper.wait(_GONE_S)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        if keeper.stdout is not None:
            keeper.stdout.close()
        if keeper.returncode != 0:  # it was killed, and did not clean up
            take_down(self._project.name, self.run)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_keeper(self) -> None:
        read, self._lifeline = os.pipe()
        try:
            self._keeper = keeper = subprocess.Popen(
                [sys.executable, "-m", "compose.containers.keeper", str(read), self._project.name, str(self.run)],
                pass_fds=[read], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd="/",
                env=python_environment(),
            )  # fmt: skip
        finally:
            os.close(read)
        assert keeper.stdout is not None  # noqa: S101  it is a pipe
        if keeper.stdout.readline() != "ready\n":
            raise LabError(
                f"container keeper: expected it to be ready, found that it ended with code {keeper.wait(_READY_S)}"
            )

    def _environment(self) -> dict[str, str]:
        nodes = {"PREFLIGHT_NODES_SUBNET": first_octets(self._networks.nodes)} if self._networks.nodes else {}
        return nodes | {
            "PREFLIGHT_RUN": str(self.run),
            "PREFLIGHT_OUT": str(self._out),
            "PREFLIGHT_CHECKOUT": str(CHECKOUT),
            "PREFLIGHT_SUBNET": first_octets(self._networks.clients),
            "PREFLIGHT_IMAGES": image_tag(),
            "PREFLIGHT_OPEN_FILES": str(open_files()),
            "PREFLIGHT_LAB": "1",
            "PREFLIGHT_GUIDES": "0",
        }

    def _ask(self, what: str, **more: object) -> None:
        ask(keeper_socket(self.run), {"do": what, **more}, _ASKED_S)

    @contextlib.contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        def pass_on(_number: int, _frame: FrameType | None) -> None:
            with contextlib.suppress(LabError):  # it has ended meanwhile
                ask(tester_socket(self.run), {"do": "interrupt"}, _ASKED_S)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def moved_site_file(path: Path, subnet: str | None) -> Iterator[Path]:
    """Give a site file as a lab in containers runs it: the file itself, or a copy with all hosts moved to another network.

    Parameters
    ----------
    path : Path
        The site file.
    subnet : str or None
        The /24 that its hosts are moved to, those of a nodes' network to the /24 after it; None: they stay where they are.

    Raises
    ------
    SiteError, LabError
        When the file or the network cannot be used.
    """
    if subnet is None:
        yield path
        return
    moves = networks_of(load_site(path)).moves_to(lab_network(subnet))
    for network in moves.values():
        lab_network(str(network))  # the one after it may be outside of what a lab may have
    text = moved(path.read_text(), moves)
    with tempfile.TemporaryDirectory(prefix="preflight-site-") as directory:
        copy = Path(directory) / path.name
        copy.write_text(text)
        yield copy


def labs() -> list[FoundLab]:
    """Return the labs that Docker has, whoever brought them up. Raises LabError when Docker does not answer."""
    found: dict[str, list[tuple[str, Path | None]]] = {}
    engine = connect()
    label = "com.docker.compose.project"
    for container in engine.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        if container.labels[label].startswith(PREFIX):
            sources = [Path(mount["Source"]) for mount in container.attrs["Mounts"] if mount["Destination"] == "/lab"]
            found.setdefault(container.labels[label], []).append((container.status, sources[0] if sources else None))
    for network in engine.networks.list(filters={"label": label}):
        project = (network.attrs.get("Labels") or {}).get(label, "")
        if project.startswith(PREFIX):
            found.setdefault(project, [])
    return [_found(project, containers) for project, containers in sorted(found.items())]


def take_down(project: str, run: Path | None) -> None:
    """Remove a lab that nobody keeps, or have its keeper do it; return when it is gone.

    Raises
    ------
    LabError
        When something of it is left.
    """
    if run is not None and keeper_socket(run).exists():
        with contextlib.suppress(LabError):
            ask(keeper_socket(run), {"do": "stop"}, _ASKED_S)
    left = Project(project).remove(run)
    if left:
        raise LabError(f"{project}: expected nothing left, found {left}")


def _found(project: str, containers: list[tuple[str, Path | None]]) -> FoundLab:
    run = next((run for _, run in containers if run is not None), None)
    running = sum(status == "running" for status, _ in containers)
    return FoundLab(project, run, running, len(containers), run is not None and _is_kept(run))


def _is_kept(run: Path) -> bool:
    try:
        ask(keeper_socket(run), {"do": "status"}, _ASKED_S)
    except (LabError, OSError):
        return False
    return True
