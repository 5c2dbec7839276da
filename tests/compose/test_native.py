from __future__ import annotations

import select
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from compose.lab import (
    CanCrashNodes,
    CanCutPaths,
    CanDegradeNetwork,
    CanFailUnits,
    CanGiveWebAccount,
    CanIsolateNodes,
    CanKeepReceiptsOnly,
    CanNameUnexpectedExits,
    CanPauseNodes,
    CanReadJournals,
    CanReceive,
    CanSteerBalancer,
    CanStopServices,
    ConfigurationEdit,
    Defects,
    HasBalancerPair,
    HasRoutedSources,
    Lab,
    LabError,
    MisbehavingService,
    Relayed,
)
from compose.native import NativeLab
from compose.ports import check_free
from compose.probes import NotReady, answers, refuses
from lbconfig.site import ServiceKind, Site
from lbconfig.site_file import load_site
from simulators.client import Target
from simulators.misbehaviour import Misbehaviour

SERVICES: tuple[ServiceKind, ...] = ("dicom", "hl7", "dmwl", "https")
LIMIT_S = 20.0
ESTABLISHED = 1  # TCP_ESTABLISHED, the first byte of TCP_INFO


@pytest.fixture(scope="session")
def site(site_file: Path) -> Site:
    return load_site(site_file)


@pytest.fixture(scope="module")
def lab(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeLab]:
    """Have one lab up for the tests that leave it as they found it."""
    with NativeLab(site, tmp_path_factory.mktemp("lab")) as running:
        yield running


def probe(lab: NativeLab, target: Target, timeout_s: float = LIMIT_S) -> None:
    answers(target, lab.site.balancer.address, lab.site.dicom.ae_title, "PREFLIGHT", timeout_s)


def mllp_session(lab: NativeLab, node: str) -> socket.socket:
    target = lab.straight_target("hl7", node)
    session = socket.create_connection((target.address, target.port), LIMIT_S)
    session.sendall(b"\x0bPFPROBE\x1c\r")
    assert session.recv(4096).startswith(b"\x0bMSH")
    return session


def test_a_native_lab_has_every_capability_that_one_machine_allows(site: Site, tmp_path: Path) -> None:
    lab = NativeLab(site, tmp_path)
    for capability in (
        Lab, CanSteerBalancer, CanReadJournals, CanStopServices, CanCrashNodes, CanPauseNodes, CanKeepReceiptsOnly,
        CanGiveWebAccount, CanNameUnexpectedExits, CanReceive,
    ):  # fmt: skip
        assert isinstance(lab, capability)


def test_a_native_lab_claims_nothing_that_needs_machines_of_their_own(site: Site, tmp_path: Path) -> None:
    lab = NativeLab(site, tmp_path)
    for capability in (CanIsolateNodes, CanDegradeNetwork, HasBalancerPair, CanFailUnits, CanCutPaths, HasRoutedSources):
        assert not isinstance(lab, capability)


def test_the_receivers_address_is_always_the_same_and_no_clients(site: Site, tmp_path: Path) -> None:
    lab = NativeLab(site, tmp_path)
    receiver = lab.receiver_address()
    assert lab.receiver_address() == receiver
    assert receiver not in lab.source_addresses(100)


@pytest.mark.parametrize("service", SERVICES)
def test_each_vip_of_a_lab_answers_at_its_own_protocol(lab: NativeLab, service: ServiceKind) -> None:
    probe(lab, lab.vip_target(service))


def test_a_worklist_and_an_archive_answer_dcmtk_through_their_vips(lab: NativeLab) -> None:
    for service in ("dicom", "dmwl"):
        vip = lab.site.vip_of(service)
        subprocess.run(["/usr/bin/echoscu", "-aec", "MACH7", vip.address, str(vip.port)], check=True, timeout=LIMIT_S)


def test_every_real_server_has_been_checked_when_a_lab_is_up(lab: NativeLab) -> None:
    states = {(server.vip, server.label): server.state for server in lab.balancer.servers() if not server.backup}
    assert len(states) == 8
    assert set(states.values()) == {"UP"}


def test_the_page_is_served_with_a_certificate_of_the_labs_own_authority(lab: NativeLab) -> None:
    vip = lab.site.vip_of("https")
    context = ssl.create_default_context(cafile=lab.ca_file)
    with socket.create_connection((vip.address, vip.port), LIMIT_S) as connection:
        context.wrap_socket(connection, server_hostname=vip.hostname or vip.address).close()


def test_readiness_leaves_no_receipt(lab: NativeLab) -> None:
    sizes = [path.stat().st_size for folder in lab.node_directories().values() for path in folder.glob("journal/*.receipts")]
    assert sizes == [16] * 8  # a header, and nothing else


def test_a_second_lab_of_a_running_site_is_refused_and_told_who_holds_the_port(lab: NativeLab, tmp_path: Path) -> None:
    second = NativeLab(lab.site, tmp_path)
    with pytest.raises(LabError, match=r"expected a free port, found it held by pid \d+ \(.*End that process"):
        second.start()
    probe(lab, lab.vip_target("hl7"))


def test_a_vip_held_by_a_running_haproxy_is_not_free_though_haproxy_would_share_it(lab: NativeLab) -> None:
    vip = lab.site.vip_of("hl7")
    with pytest.raises(LabError, match=r"held by pid \d+ \(haproxy\)"):
        check_free([(vip.address, vip.port)])


def test_a_running_lab_is_not_started_twice(lab: NativeLab) -> None:
    with pytest.raises(LabError, match="expected a lab that is not up, found it up"):
        lab.start()


def test_a_crashed_node_refuses_while_its_open_sessions_get_neither_fin_nor_rst(lab: NativeLab) -> None:
    with mllp_session(lab, "mach7-1") as session:
        lab.crash_node("mach7-1")
        session.sendall(b"\x0bPFPROBE\x1c\r")
        waiting = select.poll()
        waiting.register(session, select.POLLIN | select.POLLRDHUP)
        assert waiting.poll(0) == []
        assert session.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED
        for service in SERVICES:
            target = lab.straight_target(service, "mach7-1")
            assert refuses(target.address, target.port, "127.0.0.1", LIMIT_S)
        probe(lab, lab.straight_target("hl7", "mach7-2"))
        lab.revive_node("mach7-1")
        assert waiting.poll(LIMIT_S * 1000), "expected the old session to end with its process"
    for service in SERVICES:
        probe(lab, lab.straight_target(service, "mach7-1"))


def test_a_killed_service_refuses_and_its_sessions_end_until_it_is_started_again(lab: NativeLab) -> None:
    target = lab.straight_target("hl7", "mach7-2")
    with mllp_session(lab, "mach7-2") as session:
        lab.kill_service("mach7-2", "hl7")
        assert session.recv(1) == b""
    assert refuses(target.address, target.port, "127.0.0.1", LIMIT_S)
    probe(lab, lab.straight_target("dicom", "mach7-2"))
    lab.start_service("mach7-2", "hl7")
    probe(lab, target)


def test_a_paused_node_accepts_and_does_not_answer_until_it_is_resumed(lab: NativeLab) -> None:
    target = lab.straight_target("hl7", "mach7-2")
    lab.pause_node("mach7-2")
    with socket.create_connection((target.address, target.port), LIMIT_S):
        pass
    with pytest.raises(NotReady, match="timed out"):
        probe(lab, target, 0.2)
    lab.resume_node("mach7-2")
    probe(lab, target)


def test_what_a_paused_service_leaves_in_its_accept_queue_is_told(lab: NativeLab) -> None:
    target = lab.straight_target("dmwl", "mach7-2")
    backlog = lab.accept_queue("mach7-2", "dmwl").backlog
    lab.pause_node("mach7-2")
    before = lab.accept_queue("mach7-2", "dmwl").waiting
    connections = [socket.create_connection((target.address, target.port), LIMIT_S) for _ in range(3)]
    assert lab.accept_queue("mach7-2", "dmwl").waiting >= before + 3  # health checks wait there too
    for connection in connections:
        connection.close()
    lab.resume_node("mach7-2")
    probe(lab, target)
    assert (backlog, lab.accept_queue("mach7-2", "dmwl").backlog) == (128, 128)


def test_a_node_that_was_paused_and_then_crashed_is_revived_whole(lab: NativeLab) -> None:
    lab.pause_node("mach7-2")
    lab.crash_node("mach7-2")
    with pytest.raises(LabError, match="expected a paused node, found one that crashed"):
        lab.resume_node("mach7-2")
    lab.revive_node("mach7-2")
    for service in SERVICES:
        probe(lab, lab.straight_target(service, "mach7-2"))


def test_a_node_that_did_not_crash_is_not_revived(lab: NativeLab) -> None:
    with pytest.raises(LabError, match="expected a crashed node, found one that was not"):
        lab.revive_node("mach7-1")


def test_a_reloaded_balancer_still_serves(lab: NativeLab) -> None:
    lab.reload_balancer()
    probe(lab, lab.vip_target("dicom"))


def test_an_unknown_node_is_an_error_that_names_the_known(lab: NativeLab) -> None:
    with pytest.raises(LabError, match=r"mach7-9/hl7: expected one of mach7-1/dicom, .*mach7-2/https"):
        lab.kill_service("mach7-9", "hl7")


def test_a_lab_starts_with_its_defects_and_stops_without_a_trace(site: Site, tmp_path: Path, short_directory: Path) -> None:
    defects = Defects(
        configuration=(ConfigurationEdit("HL7", r"(server HL72 \S+):6667", r"\1:6999"),),
        misbehaviour=(MisbehavingService("mach7-1", "hl7", Misbehaviour.ACKNOWLEDGES_ANOTHER),),
        relays=(Relayed("mach7-1", "dicom"),),
        expired_certificates=("mach7-2",),
    )
    elsewhere = on_another_block(site)
    with NativeLab(elsewhere, tmp_path, defects=defects) as lab:
        servers = {server.label: server for server in lab.balancer.servers() if not server.backup}
        assert {label for label, server in servers.items() if server.state != "UP"} == {"HL72"}
        assert servers["DICOM1"].port != 11112
        assert pixels_damaged_by(servers["DICOM1"].port, lab) == 1
        target = lab.straight_target("https", "mach7-2")
        context = ssl.create_default_context(cafile=lab.ca_file)
        with (
            socket.create_connection((target.address, target.port), LIMIT_S) as connection,
            pytest.raises(ssl.SSLCertVerificationError, match="expired"),
        ):
            context.wrap_socket(connection, server_hostname=target.address)
        lab.crash_node("mach7-1")
        assert refuses(servers["DICOM1"].address, servers["DICOM1"].port, "127.0.0.1", LIMIT_S)
    lab.stop()
    assert list(short_directory.iterdir()) == []


def test_a_configuration_that_haproxy_refuses_is_shown_with_what_it_says(site: Site, tmp_path: Path) -> None:
    defects = Defects(configuration=(ConfigurationEdit("HL7", "mode tcp", "mode nonsense"),))
    lab = NativeLab(on_another_block(site), tmp_path, defects=defects)
    with pytest.raises(LabError, match=r"(?s)to accept it, found:.*nonsense"):
        lab.start()


def test_a_lab_refuses_the_directory_of_an_earlier_one(site: Site, tmp_path: Path) -> None:
    (tmp_path / "nodes" / "mach7-1").mkdir(parents=True)
    with pytest.raises(LabError, match=r"expected no records of an earlier lab, found .*mach7-1"):
        NativeLab(site, tmp_path).start()


def test_a_site_that_is_not_on_loopback_is_refused(site: Site, tmp_path: Path) -> None:
    real = msgspec.structs.replace(site, balancer=msgspec.structs.replace(site.balancer, address="192.168.110.10"))
    with pytest.raises(LabError, match=r"balancer.address: expected an address in 127.0.0.0/8 .* found 192.168.110.10"):
        NativeLab(real, tmp_path)


def test_a_missing_haproxy_is_an_error_that_says_what_to_install(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compose.native_balancer._USUAL_PLACES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="apt-get install haproxy"):
        NativeLab(site, tmp_path)


def test_a_defect_of_an_unknown_node_is_refused_before_anything_starts(site: Site, tmp_path: Path) -> None:
    defects = Defects(relays=(Relayed("mach7-9", "dicom"),))
    with pytest.raises(LabError, match="defect of mach7-9/dicom: expected a service of the site"):
        NativeLab(site, tmp_path, defects=defects)


def pixels_damaged_by(relay_port: int, lab: NativeLab) -> int:
    """Store an image with DCMTK through the relay before mach7-1; return how many bytes of its pixel data changed."""
    original = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    address = lab.straight_target("dicom", "mach7-1").address
    subprocess.run(["/usr/bin/storescu", "-aec", "MACH7", address, str(relay_port), original], check=True, timeout=LIMIT_S)
    (stored,) = (lab.node_directories()["mach7-1"] / "images").glob("*.dcm")
    pairs = zip(dcmread(original).PixelData, dcmread(stored).PixelData, strict=True)
    return sum(sent != kept for sent, kept in pairs)


def on_another_block(site: Site) -> Site:
    """Return a site with its second octet one higher, so that two labs of a test run may be up at once."""
    encoded = msgspec.json.encode(site)
    second = site.balancer.address.split(".")[1].encode()
    moved = encoded.replace(b'"127.' + second + b".", b'"127.%d.' % (int(second) + 1))
    return msgspec.json.decode(moved, type=Site)
