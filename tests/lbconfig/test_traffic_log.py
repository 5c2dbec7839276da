from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbconfig.traffic_log import Change, Connection, ServerChange, parse_line, parse_log, read_log

OURS = (
    "2026-11-23T19:24:59.183399+00:00 127.1.2.4:47099 [23/Nov/2026:19:24:59.181] DICOM DICOM/DICOM2 1/0/1 2 D- 3/3/2/0/0 0/0 "
    "7 127.0.115.10:49012 127.0.115.151:11112 1795461899"
)
SEEN = Connection(
    accepted=datetime(2026, 11, 23, 19, 24, 59, 181000, tzinfo=UTC), client="127.1.2.4", client_port=47099, vip="DICOM",
    server="DICOM2", wait_ms=1, connect_ms=0, total_ms=1, bytes_out=2, bytes_in=7, termination="D-", retries=0,
    redispatched=False, source="127.0.115.10", source_port=49012, server_address="127.0.115.151", server_port=11112,
)  # fmt: skip
DOWN = (
    "2026-11-23T19:24:58.309145+00:00 Server DMWL/DMWL2 is DOWN, reason: Layer4 connection problem, "
    'info: "Connection refused", check duration: 0ms. 1 active and 1 backup servers left.'
)
# What haproxy.LOG_FORMAT writes, spelled out here once more on purpose.
LINE = (
    "{client}:{client_port} [{accepted}] {vip} {vip}/{server} {wait}/{connect}/{total} {bytes_out} {end} 1/1/1/1/{retries} "
    "0/0 {bytes_in} {source}:{source_port} {address}:{port} {epoch}"
)


def test_a_connection_of_our_format_is_read_whole() -> None:
    assert parse_line(OURS) == SEEN


def test_a_connection_ended_its_total_time_after_it_was_accepted() -> None:
    assert SEEN.ended == SEEN.accepted + timedelta(milliseconds=1)


def test_a_connection_of_plain_tcplog_behind_a_syslog_header_lacks_only_what_we_add() -> None:
    line = (
        "Nov 23 19:24:59 lb1 haproxy[812]: "
        "10.0.0.7:47099 [23/Nov/2026:19:24:59.181] HL7 HL7/HL71 1/0/+250 96 -- 3/3/2/0/0 0/0"
    )
    connection = parse_line(line)
    assert isinstance(connection, Connection)
    assert (connection.vip, connection.server, connection.client, connection.total_ms) == ("HL7", "HL71", "10.0.0.7", 250)
    assert (connection.bytes_in, connection.source, connection.server_port) == (None, None, None)


def test_a_connection_that_found_no_server_has_none() -> None:
    line = "127.1.2.3:5 [23/Nov/2026:19:24:59.181] HL7 HL7/<NOSRV> -1/-1/0 0 SC 1/1/0/0/0 0/0 0 -:- -:- 1795461899"
    connection = parse_line(line)
    assert isinstance(connection, Connection)
    assert (connection.server, connection.wait_ms, connection.connect_ms) == (None, None, None)
    assert (connection.source, connection.source_port, connection.server_address) == (None, None, None)


def test_a_redispatched_connection_says_so() -> None:
    connection = parse_line(OURS.replace("3/3/2/0/0 ", "3/3/2/0/+3 "))
    assert isinstance(connection, Connection)
    assert (connection.retries, connection.redispatched) == (3, True)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("is DOWN, reason: Layer4 timeout, check duration: 2001ms. 0 active and 1 backup servers left.", "down"),
        ("is UP, reason: Layer4 check passed, check duration: 0ms. 2 active and 1 backup servers online.", "up"),
        ("is going DOWN for maintenance. 1 active and 1 backup servers left.", "maintenance"),
        ("was DOWN and now enters maintenance.", "maintenance"),
        ("enters drain state. 1 active and 1 backup servers online.", "drain"),
        ("is UP (leaving forced drain).", "up"),
        ("is UP/READY (leaving forced maintenance).", "up"),
    ],
)
def test_a_change_of_a_server_is_named(what: str, change: Change) -> None:
    seen = parse_line(f"2026-11-23T19:24:58.309145+00:00 Server HL7/HL71 {what}")
    time = datetime(2026, 11, 23, 19, 24, 58, 309145, tzinfo=UTC)
    assert seen == ServerChange(time=time, vip="HL7", label="HL71", change=change, reason=what)


def test_lines_that_are_neither_are_counted_and_the_order_is_kept() -> None:
    log = parse_log([
        "[NOTICE]   (7551) : haproxy version is 2.6.12", DOWN, "", OURS,
        "[WARNING]  (15965) : Server DMWL/DMWL2 is DOWN, reason: the same once more, on standard error",
        OURS[:60],  # torn off by a kill
    ])  # fmt: skip
    assert log.connections == (SEEN,)
    assert [(change.vip, change.label, change.change) for change in log.changes] == [("DMWL", "DMWL2", "down")]
    assert log.other_lines == 3


def test_an_empty_log_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    assert (read_log(path).connections, read_log(path).changes, read_log(path).other_lines) == ((), (), 0)


def test_bytes_that_are_no_text_are_one_more_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff\xfe\n" + OURS.encode() + b"\n")
    log = read_log(path)
    assert (log.connections, log.other_lines) == ((SEEN,), 1)


ports = st.integers(1, 65535)
hosts = st.ip_addresses(v=4).map(str)
labels = st.from_regex(r"[A-Za-z0-9._-]{1,16}", fullmatch=True)
reached = st.none() | st.integers(0, 10**9)
milliseconds = st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
)
connections = st.builds(
    Connection, accepted=milliseconds, client=hosts, client_port=ports, vip=labels, server=st.none() | labels,
    wait_ms=reached, connect_ms=reached, total_ms=st.integers(0, 10**9), bytes_out=st.integers(0, 2**63),
    bytes_in=st.integers(0, 2**63),
    termination=st.from_regex(r"[A-Za-z-]{2}", fullmatch=True), retries=st.integers(0, 100), redispatched=st.booleans(),
    source=hosts, source_port=ports, server_address=hosts, server_port=ports,
)  # fmt: skip


@given(connections)
def test_whatever_haproxy_writes_in_our_format_is_read_back(connection: Connection) -> None:
    line = LINE.format(
        client=connection.client, client_port=connection.client_port, vip=connection.vip,
        accepted=connection.accepted.strftime("%d/%b/%Y:%H:%M:%S.%f")[:-3], server=connection.server or "<NOSRV>",
        wait=-1 if connection.wait_ms is None else connection.wait_ms,
        connect=-1 if connection.connect_ms is None else connection.connect_ms, total=connection.total_ms,
        bytes_out=connection.bytes_out, bytes_in=connection.bytes_in, end=connection.termination,
        retries=f"{'+' if connection.redispatched else ''}{connection.retries}",
        source=connection.source, source_port=connection.source_port, address=connection.server_address,
        port=connection.server_port, epoch=int(connection.accepted.timestamp()),
    )  # fmt: skip
    assert parse_line(line) == connection


@given(st.text())
def test_no_line_breaks_the_parser(line: str) -> None:
    parse_log([line])
