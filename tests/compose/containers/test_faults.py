"""What is done to a host's network, as the commands that do it; that they do it is tried on Docker itself."""

from __future__ import annotations

import pytest

from compose.containers.faults import UNDO_SCRIPT, Fault, each_arm, script_of
from compose.containers.project import Project, ProjectError
from compose.lab import LabError

CHAIN = "PREFLIGHT-FAULT"
PEER = "192.168.110.11"


def rules(fault: Fault) -> list[str]:
    """Return what the fault's own chain drops."""
    added = f"iptables -A {CHAIN} "
    return [line.removeprefix(added) for line in script_of(fault).splitlines() if line.startswith(added)]


def test_what_an_earlier_fault_left_is_removed_before_anything_is_dropped() -> None:
    script = script_of(Fault(kind="isolated", service="mach7-1"))
    assert script.startswith(UNDO_SCRIPT)
    assert script.endswith(f"iptables -I INPUT ! -i lo -j {CHAIN}\niptables -I OUTPUT ! -o lo -j {CHAIN}")


def test_a_host_that_is_cut_off_loses_every_interface_but_loopback_the_outer_one_first() -> None:
    assert each_arm("down") == (
        "for dev in $({ ip -o route show default | awk '{print $5}'; ip -o -4 addr show scope global | awk '{print $2}'; }"
        " | awk '!seen[$0]++'); do ip link set \"$dev\" down; done"
    )


def test_an_isolated_host_loses_everything_but_its_loopback() -> None:
    assert rules(Fault(kind="isolated", service="mach7-1")) == [" -j DROP"]


@pytest.mark.parametrize(
    ("which", "dropped"),
    [
        ("all", [f"-s {PEER} -j DROP", f"-d {PEER} -j DROP"]),
        ("heartbeat", [f"-s {PEER} -p 112 -j DROP", f"-d {PEER} -p 112 -j DROP"]),
        (
            "replication",
            [f"{way} {PEER} -p tcp --{port} 7778 -j DROP" for way in ("-s", "-d") for port in ("dport", "sport")],
        ),
    ],
)
def test_a_path_that_is_cut_is_cut_both_ways_and_no_other_is(which: str, dropped: list[str]) -> None:
    assert rules(Fault(kind="path", service="lb-1", peers=(PEER,), which=which, port=7778)) == dropped  # type: ignore[arg-type]


def test_packets_are_lost_at_random_each_way() -> None:
    assert rules(Fault(kind="degraded", service="mach7-1", loss=0.05)) == [
        "-m statistic --mode random --probability 0.050000 -j DROP"
    ]


def test_a_rate_drops_what_arrives_above_it_and_queues_what_leaves() -> None:
    fault = Fault(kind="degraded", service="mach7-1", rate_bytes_per_s=100_000)
    assert rules(fault) == [
        "-i $dev -m hashlimit --hashlimit-name preflight --hashlimit-above 100000b/s --hashlimit-burst 100000b -j DROP"
    ]
    assert script_of(fault).endswith("tc qdisc replace dev $dev root tbf rate 800000bit burst 16384 limit 40000")


def test_a_delay_is_netems() -> None:
    script = script_of(Fault(kind="degraded", service="mach7-1", delay_s=0.02))
    assert script.endswith("tc qdisc replace dev $dev root netem delay 20000us limit 10000")


def test_a_delay_without_netem_is_the_queues_of_a_process_and_of_what_leaves_alone() -> None:
    fault = Fault(kind="degraded", service="mach7-1", delay_s=0.02, loss=0.05)
    assert rules(fault) == rules(Fault(kind="degraded", service="mach7-1", loss=0.05))
    script = script_of(fault, queued=True)
    assert script.endswith(f"iptables -A {CHAIN} -o $dev -j NFQUEUE --queue-num 110 --queue-bypass")
    assert "netem" not in script


def test_a_project_that_is_not_ours_is_never_touched() -> None:
    with pytest.raises(ProjectError, match="hospital: expected a project whose name begins with preflight-"):
        Project("hospital")


def test_what_cannot_be_removed_since_the_daemon_has_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    left = Project("preflight-0badcafe").remove(None, within_s=0)
    assert left.startswith("preflight-0badcafe (")
    assert "expected a daemon that answers" in left


def test_a_daemon_that_does_not_answer_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(LabError, match=r"Docker: expected a daemon that answers, found .*systemctl start docker"):
        Project("preflight-0badcafe").container("tester")
