from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lbconfig.haproxy import render
from lbconfig.runtime_api import Balancer, BalancerError, RuntimeApi
from lbconfig.traffic_log import read_log

from .conftest import Rig, until


def test_the_state_of_a_running_balancer_is_read_whole(rig: Rig) -> None:
    assert (rig.api.info().product, rig.api.info().maxconn) == ("HAProxy", 1992)
    servers = {(server.vip, server.label): server for server in rig.api.servers()}
    assert len(servers) == 8
    seen = servers["DMWL", "DMWL2"]
    expected = rig.site.vip_named("DMWL").real_server[1]
    assert (seen.address, seen.port) == (rig.site.node_named(expected.node).address, expected.port)
    assert (seen.id, seen.status, seen.weight, seen.backup, seen.check_status) == (2, "UP", 100, False, "L4OK")
    assert rig.api.server_label("DMWL", 2) == "DMWL2"
    assert [(vip.vip, vip.scheduler, vip.session_limit) for vip in rig.api.vip_counters()] == [
        ("DICOM", "leastconn", 1992), ("HL7", "leastconn", 1992), ("DMWL", "leastconn", 1992), ("HTTPS", "leastconn", 1992),
    ]  # fmt: skip


def test_what_a_balancer_has_left_of_its_time_and_its_places_is_told(rig: Rig) -> None:
    info = rig.api.info()
    assert (info.threads >= 1, 0 <= info.idle_share <= 1, info.pipes, info.tasks > 0) == (True, True, 0, True)
    assert [(vip.queued, vip.response_errors) for vip in rig.api.vip_counters()] == [(0, 0)] * 4


def test_a_session_and_its_table_entry_name_the_client_and_its_server(rig: Rig) -> None:
    client = rig.connect("HL7", "127.1.2.3")
    (session,) = rig.api.sessions("HL7")
    assert (session.client, session.client_port, session.server) == ("127.1.2.3", client.port, client.server)
    assert rig.api.sessions("DICOM") == []
    (entry,) = rig.api.table("HL7")
    assert (entry.source, entry.server) == ("127.1.2.3", client.server)
    assert rig.api.server_label("HL7", entry.server_id) == client.server
    assert 0 < entry.expires_ms <= 1_800_000


def test_a_sticky_source_reaches_a_drained_server_until_its_entry_is_cleared(rig: Rig) -> None:
    first = rig.connect("DICOM", "127.1.2.3")
    rig.api.drain("DICOM", first.server)
    assert rig.api.server("DICOM", first.server).state == "DRAIN"
    assert rig.connect("DICOM", "127.1.2.3").server == first.server
    assert rig.connect("DICOM", "127.1.2.4").server != first.server
    rig.api.clear_table("DICOM", "127.1.2.3")
    assert [entry.source for entry in rig.api.table("DICOM")] == ["127.1.2.4"]
    assert rig.connect("DICOM", "127.1.2.3").server != first.server
    assert first.echo(b"still here") == b"still here"
    rig.api.online("DICOM", first.server)
    assert rig.api.server("DICOM", first.server).state == "UP"


def test_entries_of_one_server_are_cleared_and_no_others(rig: Rig) -> None:
    clients = [rig.connect("HL7", f"127.1.2.{number}") for number in range(1, 7)]
    gone = clients[0].server
    kept = {f"127.1.2.{number}" for number, client in enumerate(clients, 1) if client.server != gone}
    assert 0 < len(kept) < 6
    rig.api.clear_entries_of("HL7", gone)
    assert {entry.source for entry in rig.api.table("HL7")} == kept
    with pytest.raises(BalancerError, match="expected a server HL7/nobody"):
        rig.api.clear_entries_of("HL7", "nobody")


def test_draining_forgets_the_sources_of_a_server_where_the_site_says_so(rig: Rig) -> None:
    api = RuntimeApi(rig.api.socket_path, clears_on_drain={"HL7"})
    client, other = rig.connect("HL7", "127.1.2.3"), rig.connect("DICOM", "127.1.2.3")
    api.drain("HL7", client.server)
    api.drain("DICOM", other.server)
    assert api.table("HL7") == []
    assert [entry.source for entry in api.table("DICOM")] == ["127.1.2.3"]
    assert client.echo(b"still here") == b"still here"
    assert rig.connect("HL7", "127.1.2.3").server != client.server


def test_halting_a_server_ends_its_sessions_and_moves_its_sources(rig: Rig) -> None:
    client = rig.connect("HL7", "127.1.2.3")
    rig.api.halt("HL7", client.server)
    assert client.ended()
    assert rig.api.server("HL7", client.server).state == "MAINT"
    assert rig.connect("HL7", "127.1.2.3").server != client.server


def test_a_table_is_cleared_whole_and_a_source_without_an_entry_is_no_error(rig: Rig) -> None:
    for number in range(1, 4):
        rig.connect("HTTPS", f"127.1.3.{number}").close()
    until(lambda: [entry.used for entry in rig.api.table("HTTPS")] == [0, 0, 0], "three entries, none of them in use")
    rig.api.clear_table("HTTPS", "127.1.9.9")
    rig.api.clear_table("HTTPS")
    assert rig.api.table("HTTPS") == []


def test_sessions_are_shut_down_by_server(rig: Rig) -> None:
    client = rig.connect("DMWL", "127.1.2.3")
    rig.api.shutdown_sessions("DMWL", client.server)
    assert client.ended()


def test_a_refused_command_shows_the_answer_of_haproxy(rig: Rig) -> None:
    with pytest.raises(BalancerError) as caught:
        rig.api.drain("DICOM", "DICOM9")
    assert str(caught.value) == (
        f"{rig.api.socket_path}: set server DICOM/DICOM9 state drain: "
        "expected HAProxy to do it, found its answer: No such server."
    )
    with pytest.raises(BalancerError, match=r"show table PACS: expected a table, found: No such table"):
        rig.api.table("PACS")


def test_a_reload_brings_a_new_worker_and_keeps_table_and_connections(rig: Rig) -> None:
    client = rig.connect("DICOM", "127.1.2.3")
    before = rig.api.info().pid
    until(rig.api.can_teach_tables, "HAProxy able to teach its tables")
    worker = rig.master.reload()
    assert worker.pid != before
    assert rig.api.info().pid == worker.pid
    assert client.echo(b"through the old worker") == b"through the old worker"
    assert [(known.pid, known.old) for known in rig.master.workers()] == [(worker.pid, False), (before, True)]
    until(lambda: [entry.server for entry in rig.api.table("DICOM")] == [client.server], "the table taught to the new worker")


@pytest.mark.parametrize(("state_file", "after"), [(True, "DRAIN"), (False, "UP")])
def test_a_drained_server_stays_so_through_a_reload_only_with_a_state_file(rig: Rig, state_file: bool, after: str) -> None:
    states = rig.configuration.with_name("states")
    states.touch()
    if state_file:
        balancer = msgspec.structs.replace(rig.site.balancer, keep_server_states=True)
        keeping = msgspec.structs.replace(rig.site, balancer=balancer)
        rig.configuration.write_text(render(keeping, msgspec.structs.replace(rig.runtime, server_state_file=str(states))))
    rig.api.drain("HL7", "HL71")
    states.write_text(rig.api.server_states())
    rig.master.reload()
    assert rig.api.server("HL7", "HL71").state == after


def test_a_reload_of_a_bad_configuration_is_refused_and_the_old_worker_serves_on(rig: Rig) -> None:
    before = rig.api.info().pid
    rig.configuration.write_text(rig.configuration.read_text() + "    no-such-directive\n")
    with pytest.raises(BalancerError, match="expected HAProxy to load its configuration, found"):
        rig.master.reload()
    assert rig.api.info().pid == before
    assert rig.connect("HL7", "127.1.2.3").echo(b"served") == b"served"


def test_the_log_tells_the_same_story_as_the_clients(rig: Rig) -> None:
    client = rig.connect("DICOM", "127.1.2.3")
    assert client.echo(b"12345") == b"12345"
    rig.api.halt("DICOM", client.server)
    assert client.ended()
    rig.api.online("DICOM", client.server)
    until(lambda: len(read_log(rig.log).changes) == 2, "two changes in the log")
    until(lambda: len(read_log(rig.log).connections) == 1, "one connection in the log")
    log = read_log(rig.log)
    assert [(change.vip, change.label, change.change) for change in log.changes] == [
        ("DICOM", client.server, "maintenance"), ("DICOM", client.server, "up"),
    ]  # fmt: skip
    (seen,) = log.connections
    assert (seen.client, seen.client_port, seen.vip, seen.server) == ("127.1.2.3", client.port, "DICOM", client.server)
    assert (seen.bytes_in, seen.bytes_out) == (6, len(client.server) + 1 + 6)
    assert seen.termination in ("D-", "DC")  # 2.6 and 3.0 write the second letter differently
    assert (seen.source, seen.server_port) == (rig.site.balancer.address, 11112)
    assert all(change.time is not None for change in log.changes)


def test_a_server_that_stops_is_seen_down(rig: Rig) -> None:
    rig.servers["HL72"].close()
    until(lambda: rig.api.server("HL7", "HL72").status == "DOWN", "HL72 DOWN")
    down = rig.api.server("HL7", "HL72")
    assert (down.is_up, down.check_status, down.times_down) == (False, "L4CON", 1)


def test_the_runtime_api_is_a_balancer(tmp_path: Path) -> None:
    balancer: Balancer = RuntimeApi(tmp_path / "none.sock")
    with pytest.raises(BalancerError, match=r"none\.sock: show info: expected a listening HAProxy, found: No such file"):
        balancer.info()


@pytest.mark.parametrize("name", ["DICOM; shutdown sessions server HL7/HL71", "DICOM\nquit", "", "DICOM DICOM1"])
def test_a_name_that_would_be_another_command_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BalancerError, match="name of a VIP or server: expected"):
        RuntimeApi(tmp_path / "none.sock").halt(name, "DICOM1")


def test_a_source_that_is_no_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BalancerError, match="source: expected an IP address, found 'all'"):
        RuntimeApi(tmp_path / "none.sock").clear_table("DICOM", "all")


@pytest.fixture
def silent_socket(tmp_path: Path) -> Iterator[Path]:
    """Listen, and never answer."""
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield path


def test_a_balancer_that_never_answers_is_an_error_and_no_hang(silent_socket: Path) -> None:
    with pytest.raises(BalancerError, match=r"show stat: expected an answer within 0.2 s, found silence"):
        RuntimeApi(silent_socket, timeout_s=0.2).servers()


def test_an_answer_that_is_no_table_is_shown(silent_socket: Path) -> None:
    path = silent_socket.with_name("other.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"Permission denied\n")

        server = threading.Thread(target=answer)
        server.start()
        with pytest.raises(BalancerError, match="expected a table that begins with # pxname, found: Permission denied"):
            RuntimeApi(path).servers()
        server.join()
