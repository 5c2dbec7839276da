"""The lab in containers, brought up for real on Docker: what can be done to it, as the tester and the clients see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from compose import lab as abilities
from compose.docker import ComposeLab
from compose.lab import LabError, UnitFailure
from compose.networks import subnet_of
from compose.overlap import ways_to
from lbconfig.site import ServiceKind
from simulators.journal import read_receipts
from tests.compose.docker_lab import Seen, free_subnet, host_state, hosted, wait_for

if TYPE_CHECKING:
    from tests.compose.conftest import Docker

SERVICES: tuple[ServiceKind, ...] = ("dicom", "hl7", "dmwl", "https")
CAPABILITIES = (
    abilities.Lab, abilities.CanGiveWebAccount, abilities.CanSteerBalancer, abilities.CanReadJournals,
    abilities.CanStopServices, abilities.CanCrashNodes, abilities.CanKeepReceiptsOnly, abilities.CanPauseNodes,
    abilities.CanNameUnexpectedExits, abilities.CanIsolateNodes, abilities.CanDegradeNetwork, abilities.HasBalancerPair,
    abilities.CanFailUnits, abilities.CanCutPaths, abilities.CanReceive, abilities.HasRoutedSources,
)  # fmt: skip


LATE_S = 0.4
_CONNECT = """
import socket, sys, time
began = time.monotonic()
socket.create_connection((sys.argv[1], int(sys.argv[2])), 10).close()
print(time.monotonic() - began)
"""


def seconds_to_connect(up: Seen, node: str) -> float:
    """Return how long a connection from the tester to a node's HL7 service takes to be there."""
    port = up.site.vip_of("hl7").real_server[0].port
    return float(up.in_tester("python3", "-c", _CONNECT, up.site.node_named(node).address, str(port)))


@pytest.fixture(scope="module")
def up(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    host, site = hosted(free_subnet(), tmp_path_factory.mktemp("lab") / "out")
    with host:
        lab = ComposeLab(site, host.run / "own", run=host.run)
        lab.start()
        yield Seen(host, lab)
        lab.stop()


def test_a_lab_in_containers_has_every_capability(up: Seen) -> None:
    for capability in CAPABILITIES:
        assert isinstance(up.lab, capability)


@pytest.mark.parametrize("service", SERVICES)
def test_each_vip_answers_clients_of_its_own_subnet_and_clients_behind_the_router(up: Seen, service: ServiceKind) -> None:
    assert up.vip(service, up.lab.local_source_addresses(1)[0]) == "answered"
    assert up.vip(service, up.lab.routed_source_addresses(1)[0]) == "answered"


def test_no_address_is_given_out_twice_not_even_to_a_second_run_in_the_same_lab(up: Seen) -> None:
    first = up.lab.source_addresses(3) + up.lab.routed_source_addresses(3)
    again = ComposeLab(up.site, up.host.run / "again", run=up.host.run)
    assert not set(first) & set(again.source_addresses(3))
    assert len(set(first)) == 6


def test_one_unit_has_the_vips_and_its_haproxy_is_the_one_that_is_steered(up: Seen) -> None:
    (holder,) = up.lab.holders()
    assert up.lab.active_unit() == holder
    assert up.lab.balancer is up.lab.unit(holder).balancer
    assert up.lab.log_file == up.lab.unit(holder).log_file
    assert "listen DICOM" in up.lab.configuration_file.read_text()


def test_an_unknown_unit_is_an_error_that_names_the_known(up: Seen) -> None:
    with pytest.raises(LabError, match="lb-9: expected one of lb-1, lb-2"):
        up.lab.unit("lb-9")
    with pytest.raises(LabError, match="mach7-9: expected one of mach7-1, mach7-2"):
        up.lab.isolate_node("mach7-9")


def test_readiness_leaves_no_receipt(up: Seen) -> None:
    journals = [path for folder in up.lab.node_directories().values() for path in folder.glob("journal/*.receipts")]
    assert len(journals) == 8
    before = [len(list(read_receipts(journal))) for journal in journals]
    up.lab.kill_service("mach7-2", "hl7")
    up.lab.start_service("mach7-2", "hl7")
    assert [len(list(read_receipts(journal))) for journal in journals] == before


def test_nodes_have_no_root_and_no_rights_and_cannot_write_their_own_system(up: Seen) -> None:
    node = f"{up.host.project}-mach7-1-1"
    said = up.in_container(node, "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/1/status; touch /usr/nothing || true")
    assert "Uid:\t10001\t10001\t10001\t10001" in said
    assert "CapEff:\t0000000000000000" in said
    assert "NoNewPrivs:\t1" in said
    assert "Read-only file system" in said


def test_the_host_has_no_address_in_the_lab_and_no_route_into_it(up: Seen) -> None:
    assert ways_to(subnet_of(up.site)) == []


def test_a_crashed_node_refuses_and_is_revived_whole(up: Seen) -> None:
    up.lab.crash_node("mach7-1")
    try:
        assert "refused" in up.straight("hl7", "mach7-1")
    finally:
        up.lab.revive_node("mach7-1")
    assert [up.straight(service, "mach7-1") for service in SERVICES] == ["answered"] * 4


def test_an_isolated_node_is_a_black_hole_until_it_rejoins(up: Seen) -> None:
    up.lab.isolate_node("mach7-2")
    try:
        assert "timed out" in up.straight("hl7", "mach7-2", timeout_s=3.0)
        assert up.straight("hl7", "mach7-1") == "answered"
    finally:
        up.lab.rejoin_node("mach7-2")
    assert up.straight("hl7", "mach7-2") == "answered"


def test_what_is_lost_on_a_degraded_network_is_lost_until_it_is_restored(up: Seen) -> None:
    up.lab.degrade("mach7-1", loss=0.99)
    try:
        assert up.straight("https", "mach7-1", timeout_s=2.0) != "answered"
    finally:
        up.lab.restore("mach7-1")
    assert up.straight("https", "mach7-1") == "answered"


def test_a_rate_is_one_that_the_kernel_keeps(up: Seen) -> None:
    up.lab.degrade("mach7-1", rate_bytes_per_s=50_000)
    try:
        assert "qdisc tbf" in up.in_network_of("mach7-1", "tc qdisc show")
        assert "--hashlimit-above" in up.in_network_of("mach7-1", "iptables -S")
        assert up.straight("hl7", "mach7-1") == "answered"
    finally:
        up.lab.restore("mach7-1")
    assert "PREFLIGHT" not in up.in_network_of("mach7-1", "iptables -S; tc qdisc show")


def test_what_a_node_sends_comes_later_with_netem_or_without(up: Seen) -> None:
    up.lab.degrade("mach7-1", delay_s=LATE_S)
    try:
        assert seconds_to_connect(up, "mach7-1") >= LATE_S
        assert seconds_to_connect(up, "mach7-2") < LATE_S
        assert up.straight("dicom", "mach7-1") == "answered"
    finally:
        up.lab.restore("mach7-1")
    assert seconds_to_connect(up, "mach7-1") < LATE_S
    assert "PREFLIGHT" not in up.in_network_of("mach7-1", "iptables -S")
    assert not [name for name in host_state(up.host.project).containers if "delay-line" in name]


@pytest.mark.parametrize(("loss", "rate"), [(1.0, None), (-0.1, None), (0.0, 0)])
def test_what_is_no_degradation_is_refused(up: Seen, loss: float, rate: int | None) -> None:
    with pytest.raises(LabError, match="expected a loss of 0 to below 1, a rate above 0"):
        up.lab.degrade("mach7-1", loss=loss, rate_bytes_per_s=rate)


@pytest.mark.parametrize("how", get_args(UnitFailure))
def test_the_vips_move_when_the_active_unit_fails_and_it_can_be_mended(up: Seen, how: UnitFailure) -> None:
    wait_for(lambda: len(up.lab.holders()) == 1, "one unit with the VIPs")
    active = up.lab.active_unit()
    (other,) = [unit for unit in up.lab.units if unit != active]
    up.lab.fail_unit(active, how)
    try:
        wait_for(lambda: other in up.lab.holders() and _active(up.lab) == other, f"{other} to take the VIPs")
        assert up.vip("hl7") == "answered"
    finally:
        up.lab.mend_unit(active, how)
    assert {server.state for unit in up.lab.units for server in up.lab.unit(unit).balancer.servers() if server.checked}
    wait_for(lambda: len(up.lab.holders()) == 1, "one unit with the VIPs")
    assert up.vip("hl7") == "answered"


def test_both_units_have_the_vips_when_every_path_between_them_is_cut_and_one_when_it_is_mended(up: Seen) -> None:
    up.lab.cut_paths("all")
    try:
        wait_for(lambda: up.lab.holders() == up.lab.units, "two units with the VIPs")
        with pytest.raises(LabError, match="expected one unit that answers for the VIPs, found lb-1, lb-2"):
            up.lab.active_unit()
    finally:
        up.lab.mend_paths()
    wait_for(lambda: len(up.lab.holders()) == 1, "one unit with the VIPs")


def test_the_vips_stay_when_only_replication_is_cut(up: Seen) -> None:
    (holder,) = up.lab.holders()
    up.lab.cut_paths("replication")
    try:
        assert "--dport 7778" in up.in_network_of("lb-1", "iptables -S PREFLIGHT-FAULT")
        assert up.lab.holders() == (holder,)
    finally:
        up.lab.mend_paths()
    assert "PREFLIGHT" not in up.in_network_of("lb-1", "iptables -S")


def test_faults_end_with_the_connection_of_who_began_them(up: Seen) -> None:
    own = ComposeLab(up.site, up.host.run / "short", run=up.host.run)
    own.start()
    own.isolate_node("mach7-1")
    own.pause_node("mach7-2")
    own.let_go()  # as when its process is killed
    wait_for(lambda: up.straight("hl7", "mach7-1", 3.0) == "answered", "mach7-1 back on the network")
    wait_for(lambda: up.straight("hl7", "mach7-2", 3.0) == "answered", "mach7-2 to go on")


def test_nothing_ended_that_nobody_ended(up: Seen) -> None:
    assert up.lab.unexpected_exits() == []


def test_a_second_lab_at_the_same_network_is_told_whose_it_is_and_what_to_do(up: Seen, tmp_path: Path) -> None:
    vip = up.site.vip[0].address.rpartition(".")[0]
    second, _ = hosted(f"{vip}.0/24", tmp_path / "out")
    with pytest.raises(LabError, match=rf"found the lab {up.host.project}.*preflight lab down --lab compose"):
        second.start()


def _active(lab: ComposeLab) -> str:
    try:
        return lab.active_unit()
    except LabError:
        return ""
