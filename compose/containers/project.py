"""A lab's containers, networks and volumes, as Docker knows them: one Compose project, found by its labels alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container

from ..keeper_client import CHECKOUT
from ..lab import LabError

COMPOSE_FILE = CHECKOUT / "compose" / "compose.yaml"
TWO_ARM_FILE = CHECKOUT / "compose" / "two-arm.yaml"  # after that one: what a nodes' network changes
CLIENTS_NETWORK = "lab"  # its name there
PREFIX = "preflight-"  # of every project of ours
_PROJECT_LABEL = "com.docker.compose.project"
_SERVICE_LABEL = "com.docker.compose.service"
_HELPER_LABEL = "preflight.lab"
_ANSWER_S = 60.0  # of the daemon, on a machine that is on its knees
_UP_S = 180.0
_REMOVE_S = 60.0
_READY_S = 20.0
_POLL_S = 0.05
_LOG_LINES = 15
_REMOVE_RUN = "rm -rf /run-folder/* /run-folder/.[!.]*"


class ProjectError(LabError):
    """Docker did not do what was asked; the message says what was expected, what was found and what to do."""


class State(NamedTuple):
    """How a container of the project is: `running`, `exited`, `paused`, …; the exit code; the end of its output."""

    state: str
    code: int
    said: str


class Project:
    """One lab's Compose project.

    Parameters
    ----------
    name : str
        The project's name; it begins with `preflight-`.
    """

    def __init__(self, name: str) -> None:
        if not name.startswith(PREFIX):
            raise ProjectError(f"{name}: expected a project whose name begins with {PREFIX}")
        self.name = name
        self._engine: docker.DockerClient | None = None

    @property
    def engine(self) -> docker.DockerClient:
        """The daemon. Raises ProjectError when none answers."""
        if self._engine is None:
            self._engine = connect()
        return self._engine

    def up(self, environment: Mapping[str, str], options: Sequence[str], scale: Mapping[str, int]) -> None:
        """Create and start the containers; return when they have been started, not when their services answer.

        Parameters
        ----------
        environment : mapping
            The variables of compose.yaml.
        options : sequence of str
            Of `docker compose`, before its command: profiles.
        scale : mapping
            How many containers of a service, where it is not one.
        """
        command = ["docker", "compose", "--project-name", self.name, "--file", str(COMPOSE_FILE), *options]
        command += ["up", "--detach", "--no-build", "--quiet-pull"]
        command += [word for service, count in scale.items() for word in ("--scale", f"{service}={count}")]
        try:
            done = subprocess.run(
                command, env=os.environ | dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, check=False, timeout=_UP_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ProjectError(f"docker compose up: expected an end within {_UP_S:g} s, found it running") from None
        if done.returncode != 0:
            said = "\n".join(done.stdout.splitlines()[-_LOG_LINES:])
            raise ProjectError(f"docker compose up: expected it to start the lab, found exit code {done.returncode}:\n{said}")

    def container(self, service: str) -> Container:
        """Return the container of a service. Raises ProjectError when there is none."""
        found = self._containers(service)
        if not found:
            raise ProjectError(f"{self.name}: expected a container of {service}, found none")
        return found[0]

    def gateway_of(self, container: Container) -> str:
        """Return the default route of a container of the clients' network. Raises ProjectError when it is not in that."""
        with _told(f"{self.name}: network of {container.name}"):
            container.reload()
            settings = container.attrs["NetworkSettings"]["Networks"].get(f"{self.name}_{CLIENTS_NETWORK}") or {}
            if settings.get("Gateway"):
                return str(settings["Gateway"])
        raise ProjectError(f"{container.name}: expected it in the clients' network, with a default route, found it elsewhere")

    def states(self) -> dict[str, list[Any]]:
        """Return how each service's container is (`State`), its last lines where it does not run."""
        found = {}
        for container in self._containers():
            ran = container.status in ("running", "paused")
            said = "" if ran else container.logs(tail=_LOG_LINES).decode(errors="replace").strip()
            state = State(container.status, int(container.attrs["State"].get("ExitCode", 0)), said)
            found[_service_of(container)] = list(state)
        return found

    def in_network_of(self, service: str, what: str, script: str) -> None:
        """Run a shell script as root of a service's network.

        A balancer has the rights and the programs itself; for others a short-lived container shares their network, so that
        they need neither.

        Parameters
        ----------
        service : str
            Whose network.
        what : str
            For the message.
        script : str
            Ends at the first command that fails.

        Raises
        ------
        ProjectError
            When the script fails; with what it said.
        """
        container, tools = self.container(service), self._tools_image()
        with _told(f"{service} {what}"):
            if container.status == "running" and container.attrs["Image"] == tools:
                code, said = container.exec_run(["/bin/sh", "-ec", script], user="0")
                if code != 0:
                    words = said.decode(errors="replace").strip() if isinstance(said, bytes) else ""
                    raise ProjectError(f"{service} {what}: expected the kernel to do it, found {words}")
                return
            self.engine.containers.run(
                tools, entrypoint=["/bin/sh", "-ec"], command=[script], remove=True, user="0", read_only=True,
                network_mode=f"container:{container.id}", cap_drop=["ALL"], cap_add=["NET_ADMIN", "NET_RAW"],
                tmpfs={"/run": ""}, labels={_HELPER_LABEL: self.name},
            )  # fmt: skip

    def start_beside(self, service: str, name: str, command: Sequence[str]) -> None:
        """Start a program as root of a service's network, in a container of its own; return when it says `ready`.

        Raises
        ------
        ProjectError
            When it ends instead, or says nothing in time; with what it said.
        """
        container = self.container(service)
        with _told(f"{service} {name}"):
            started = self.engine.containers.run(
                self._tools_image(), entrypoint=list(command), name=self._beside(service, name), detach=True, user="0",
                read_only=True, network_mode=f"container:{container.id}", cap_drop=["ALL"], cap_add=["NET_ADMIN"],
                volumes={str(CHECKOUT): {"bind": "/preflight", "mode": "ro"}}, labels={_HELPER_LABEL: self.name},
            )  # fmt: skip
            deadline = time.monotonic() + _READY_S
            while b"ready" not in (said := started.logs()):
                started.reload()
                if started.status == "exited" or time.monotonic() > deadline:
                    words = said.decode(errors="replace").strip() or "nothing"
                    started.remove(force=True)
                    raise ProjectError(f"{service} {name}: expected it to say that it is ready, found {words}")
                time.sleep(_POLL_S)

    def end_beside(self, service: str, name: str) -> None:
        """End a program that `start_beside` started, if it is there."""
        with _told(f"{service} {name}"), contextlib.suppress(NotFound):
            self.engine.containers.get(self._beside(service, name)).remove(force=True)

    def _beside(self, service: str, name: str) -> str:
        return f"{self.name}-{service}-{name}"

    def write_logs(self, directory: Path) -> None:
        """Write what each container has said into `container-<service>.log`."""
        for container in self._containers():
            with _told(f"{container.name}: logs"):
                (directory / f"container-{_service_of(container)}.log").write_bytes(container.logs(timestamps=True))

    def remove(self, run: Path | None, within_s: float = _REMOVE_S) -> str:
        """Remove the containers, networks and volumes of the project, and the run folder; return what is left, in words.

        Tries again for `within_s` seconds: the daemon may be restarting.
        """
        deadline = time.monotonic() + within_s
        while left := self._remove_once(run):
            if time.monotonic() > deadline:
                return left
            time.sleep(1.0)  # nothing says when a daemon is back
        return ""

    def _remove_once(self, run: Path | None) -> str:
        try:
            self._remove_containers_files(run)
            for container in [*self._containers(), *self._labelled(f"{_HELPER_LABEL}={self.name}")]:
                with contextlib.suppress(NotFound):
                    container.remove(force=True, v=True)
            label = {"label": f"{_PROJECT_LABEL}={self.name}"}
            for network in self.engine.networks.list(filters=label):
                with contextlib.suppress(NotFound):
                    network.remove()
            for volume in self.engine.volumes.list(filters=label):
                with contextlib.suppress(NotFound):
                    volume.remove(force=True)
        except (DockerException, OSError, ProjectError) as error:
            self._engine = None  # a new daemon is a new connection
            return f"{self.name} ({error})"
        return ""

    def _remove_containers_files(self, run: Path | None) -> None:
        """Remove the run folder; what the containers' users wrote there an ordinary user may not, but a container may."""
        if run is None or not run.exists():
            return
        containers = self._containers()
        for container in containers:
            with contextlib.suppress(NotFound):
                container.kill() if container.status == "running" else None
        shutil.rmtree(run, ignore_errors=True)
        if run.exists() and containers:
            self.engine.containers.run(
                containers[0].attrs["Image"], entrypoint=["/bin/sh", "-c"], command=[_REMOVE_RUN], network_mode="none",
                user="0", remove=True, volumes={str(run): {"bind": "/run-folder", "mode": "rw"}},
                labels={_HELPER_LABEL: self.name},
            )  # fmt: skip
            shutil.rmtree(run, ignore_errors=True)
        if run.exists():
            raise OSError(f"{run}: expected it to be removed, found it there")

    def _tools_image(self) -> str:
        """Return the image that has iptables and tc: the balancers'."""
        units = [container for container in self._containers() if "/balancers/" in str(container.attrs["Mounts"])]
        if not units:
            raise ProjectError(f"{self.name}: expected a balancer, whose image has iptables and tc, found none")
        return str(units[0].attrs["Image"])

    def _containers(self, service: str | None = None) -> list[Container]:
        found = self._labelled(f"{_PROJECT_LABEL}={self.name}")
        return [container for container in found if service in (None, _service_of(container))]

    def _labelled(self, label: str) -> list[Container]:
        with _told(f"{self.name}: containers"):
            return list(self.engine.containers.list(all=True, filters={"label": label}, ignore_removed=True))


def connect() -> docker.DockerClient:
    """Return the daemon that `docker` speaks with.

    Raises
    ------
    ProjectError
        When none answers; says what to do.
    """
    try:
        engine = docker.from_env(timeout=int(_ANSWER_S))
        engine.ping()
    except DockerException as error:
        raise ProjectError(
            f"Docker: expected a daemon that answers, found {error}. Start it (systemctl start docker), or see that this "
            "user may use it (sudo, or the group docker)"
        ) from error
    return engine


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Make an error of Docker's one of ours."""
    try:
        yield
    except (APIError, DockerException, OSError) as error:
        detail = getattr(error, "stderr", None)
        said = detail.decode(errors="replace").strip() if isinstance(detail, bytes) and detail else str(error)
        raise ProjectError(f"{what}: expected Docker to do it, found {said}") from error


def _service_of(container: Container) -> str:
    return str(container.labels.get(_SERVICE_LABEL, container.name))
