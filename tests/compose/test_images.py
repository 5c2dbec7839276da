"""The images, and a unit's first process, in real containers."""

from __future__ import annotations

import json
import re
import secrets
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compose.balancer_files import write_balancer_files
from compose.images import recipes
from compose.keeper_client import CHECKOUT
from compose.layout import UnitFiles, authority_file
from lbconfig.site_file import load_site
from simulators.web.certificates import LabAuthority

if TYPE_CHECKING:
    from tests.compose.conftest import Docker

UNIT = "lb-1"
INTERFACE = "ip link add eth0 type veth peer name nowhere && ip link set nowhere up && ip link set eth0 up"
LIMIT_S = 30.0
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def tag(docker: Docker) -> str:
    return recipes.image_tag()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    LabAuthority(authority_file(folder).parent)
    write_balancer_files(load_site(CHECKOUT / "lbconfig" / "sites" / "brief.toml"), folder)
    return folder


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{arguments[:2]}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


class RunningUnit:
    """One unit in a network of its own, with an interface that leads nowhere."""

    def __init__(self, tag: str, run: Path) -> None:
        self.name = f"preflight-test-{secrets.token_hex(4)}"
        self.files = UnitFiles(run, UNIT)
        begin = f'{INTERFACE} && ip addr add 192.168.110.10/24 dev eth0 && exec "$@"'
        docker(
            "run", "--detach", "--name", self.name, "--network=none", "--cap-drop=ALL", "--read-only",
            "--tmpfs=/run", "--tmpfs=/tmp",
            *(f"--cap-add={right}" for right in ("NET_ADMIN", "NET_RAW", "SETGID", "SETUID", "SYS_NICE")),
            "--sysctl=net.ipv4.ip_nonlocal_bind=1", "--sysctl=net.ipv4.ip_unprivileged_port_start=0",
            f"--volume={CHECKOUT}:/preflight:ro", f"--volume={self.files.directory}:/lab/balancers/{UNIT}",
            f"preflight-balancer:{tag}", "sh", "-c", begin, "unit",
            "python3", "-m", "compose.inside.balancer", f"/lab/balancers/{UNIT}",
        )  # fmt: skip
        self.until(self._is_ready, "an answer on its control socket")

    def ask(self, do: str) -> Answer:
        """Ask its first process to do something."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT_S)
            connection.connect(str(self.files.control_socket))
            connection.sendall(json.dumps({"do": do}).encode() + b"\n")
            answer: Answer = json.loads(connection.makefile().readline())
            return answer

    def _is_ready(self) -> bool:
        try:
            return "alive" in self.ask("status")
        except OSError:  # not there yet, or left by the one before
            return False

    def answers(self) -> bool:
        """Say whether HAProxy answers, as keepalived asks it."""
        asked = ["docker", "exec", self.name, "haproxy-answers", f"/lab/balancers/{UNIT}/haproxy.sock", "1"]
        return subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 0

    def holds_vips(self) -> bool:
        """Say whether it has the VIPs."""
        return "192.168.110.100/24" in docker("exec", self.name, "ip", "-brief", "address", "show", "eth0")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition, and say which one did not come."""
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {LIMIT_S:g} s in vain for {what}: {docker('logs', self.name)}"
            select.select([], [], [], 0.05)


@pytest.fixture
def unit(tag: str, run_folder: Path) -> Iterator[RunningUnit]:
    running = RunningUnit(tag, run_folder)
    yield running
    docker("rm", "--force", running.name)


def test_keepalived_and_haproxy_of_the_image_accept_what_is_rendered_for_a_unit(tag: str, run_folder: Path) -> None:
    files = UnitFiles(run_folder, UNIT)
    checks = f"{INTERFACE} && keepalived --config-test=keepalived.conf && haproxy -c -f haproxy.cfg"
    said = docker(
        "run", "--rm", "--network=none", "--cap-add=NET_ADMIN", f"--volume={files.directory}:/lab/balancers/{UNIT}",
        f"--workdir=/lab/balancers/{UNIT}", f"preflight-balancer:{tag}", "sh", "-ec", checks,
    )  # fmt: skip
    assert not re.search(
        "warning|alert|unknown", said.replace("IPv4 forwarding is disabled", ""), re.IGNORECASE | re.ASCII
    ), said


def test_a_unit_starts_all_of_its_programs_and_takes_the_vips(unit: RunningUnit) -> None:
    assert sorted(unit.ask("status")["alive"]) == ["fallback-1", "haproxy", "keepalived"]
    assert unit.answers()
    unit.until(unit.holds_vips, "the VIPs")


def test_a_dead_haproxy_stays_dead_until_it_is_mended_and_the_vips_are_given_up(unit: RunningUnit) -> None:
    unit.until(unit.holds_vips, "the VIPs")
    assert "haproxy" not in unit.ask("haproxy-dead")["alive"]
    assert not unit.answers()
    unit.until(lambda: not unit.holds_vips(), "the VIPs to go")
    assert "haproxy" in unit.ask("mend")["alive"]
    assert unit.answers()
    unit.until(unit.holds_vips, "the VIPs to come back, since no other unit has them")


def test_a_hung_haproxy_is_seen_though_the_kernel_still_accepts_for_it(unit: RunningUnit) -> None:
    unit.until(unit.holds_vips, "the VIPs")
    assert unit.ask("haproxy-hung")["hung"] is True
    assert not unit.answers()
    unit.until(lambda: not unit.holds_vips(), "the VIPs to go")
    assert unit.ask("mend")["hung"] is False
    assert unit.answers()


def test_a_keepalived_that_is_stopped_gives_the_vips_up(unit: RunningUnit) -> None:
    unit.until(unit.holds_vips, "the VIPs")
    assert "keepalived" not in unit.ask("keepalived-stopped")["alive"]
    assert not unit.holds_vips()
    assert unit.answers()


def test_a_request_that_a_unit_does_not_know_is_answered_with_those_that_it_knows(unit: RunningUnit) -> None:
    expected = (
        "expected do to be one of haproxy-dead, haproxy-hung, keepalived-stopped, mend, reload-keepalived, status, found "
    )
    assert unit.ask("explode") == {"error": expected + repr(b'{"do": "explode"}\n')}


def test_a_unit_ends_in_good_order_when_it_is_told_to(unit: RunningUnit) -> None:
    docker("stop", "--time=20", unit.name)
    assert docker("inspect", "--format={{.State.ExitCode}}", unit.name).strip() == "0"


def test_the_replication_port_refuses_everybody_but_the_other_unit(unit: RunningUnit) -> None:
    ask = "import socket; socket.create_connection(('192.168.110.10', 7778), 2, ('{}', 0))"
    inside = ["exec", unit.name, "sh", "-c"]
    docker(
        *inside,
        "ip addr add 192.168.110.11/24 dev eth0; ip addr add 192.168.110.20/24 dev eth0; iptables -D INPUT -i lo -j ACCEPT",
    )
    docker(*inside, f'python3 -c "{ask.format("192.168.110.11")}"')
    with pytest.raises(AssertionError, match="ConnectionRefusedError"):
        docker(*inside, f'python3 -c "{ask.format("192.168.110.20")}"')


@pytest.mark.parametrize("image", recipes.IMAGES)
def test_an_image_holds_no_mirror_no_credential_and_the_tag_that_it_was_made_with(image: recipes.Image, tag: str) -> None:
    (made,) = json.loads(subprocess.check_output(["docker", "image", "inspect", f"{image.name}:{tag}"], timeout=60))
    environment = dict(entry.partition("=")[::2] for entry in made["Config"]["Env"])
    assert environment[recipes.TAG_VARIABLE] == tag
    assert set(environment) <= {
        "PATH", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "LANG", recipes.TAG_VARIABLE,
    }  # fmt: skip
    look = "cat /etc/apt/sources.list /etc/apt/sources.list.d/* /root/.netrc /root/.pip/* 2>/dev/null; true"
    found = subprocess.check_output(
        ["docker", "run", "--rm", "--network=none", f"{image.name}:{tag}", "sh", "-c", look], timeout=60
    )
    assert found.strip() == b""


def test_the_tag_follows_what_the_images_are_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipes.image_tag()
    assert before == recipes.image_tag()
    assert re.fullmatch(r"[0-9a-f]{12}", before)
    monkeypatch.setattr(recipes, "dependencies", lambda: ["another"])
    assert recipes.image_tag() != before
