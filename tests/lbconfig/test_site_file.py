from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbconfig.site import Site
from lbconfig.site_file import SiteError, load_site, site_sha256

from .conftest import SITES, TODAY

LOOPBACK = (SITES / "loopback.toml").read_text().split("\n[[waiver]]")[0]  # its waivers are not what is tried here
WAIVER = '\n[[waiver]]\ncheck = "{check}"\nby = "A. Person"\nwhy = "agreed"\nuntil = {until}\n'
Edit = Callable[[str], str]


def replaced(old: str, new: str, nth: int = 1) -> Edit:
    """Replace the n-th occurrence."""

    def edit(text: str) -> str:
        parts = text.split(old)
        assert len(parts) > nth, f"{old!r} stands in the file fewer than {nth} times"
        return old.join(parts[:nth]) + new + old.join(parts[nth:])

    return edit


def top(line: str) -> Edit:
    return lambda text: line + "\n" + text


def bottom(text: str) -> Edit:
    return lambda before: before + text


def without_vip(name: str) -> Edit:
    return lambda text: re.sub(rf'\[\[vip\]\]\nname = "{name}".*?(?=\n\[\[vip\]\]|\Z)', "", text, flags=re.DOTALL)


def error_of(tmp_path: Path, edit: Edit) -> str:
    path = tmp_path / "hospital.toml"
    path.write_text(edit(LOOPBACK))
    with pytest.raises(SiteError) as caught:
        load_site(path, today=TODAY)
    return str(caught.value)


WRONG = {
    "a port of 0": (
        replaced("port = 5104", "port = 0"),
        "hospital.toml: vip[2].port: expected 1 to 65535, found 0",
    ),
    "a port above 65535": (
        replaced("port = 6667", "port = 66670", nth=2),
        "hospital.toml: vip[1].real_server[0].port: expected 1 to 65535, found 66670",
    ),
    "a wrong type": (
        replaced("port = 5104", 'port = "5104"'),
        'hospital.toml: vip[2].port: expected 1 to 65535, found "5104"',
    ),
    "a truth value for a number": (
        replaced("retries = 3", "retries = true"),
        "hospital.toml: balancer.retries: expected a whole number, 0 or more, found true",
    ),
    "a number for a truth value": (
        replaced("redispatch = true", "redispatch = 1"),
        "hospital.toml: balancer.redispatch: expected true or false, found 1",
    ),
    "a table for an array": (
        lambda text: re.sub(r"\[\[node\]\].*?(?=\n#)", '[node]\nname = "a"\naddress = "127.0.0.9"\n', text, flags=re.DOTALL),
        "hospital.toml: node: expected an array, found a table",
    ),
    "a number for a table": (
        replaced('persistence = { kind = "source-ip", expire_s = 1800, table_size = 10240 }', "persistence = 1800"),
        "hospital.toml: vip[0].persistence: expected a table, found 1800",
    ),
    "an endless duration": (
        replaced("expire_s = 1800", "expire_s = inf"),
        "hospital.toml: vip[0].persistence.expire_s: expected 0.001 to 2147483, found inf",
    ),
    "no duration": (
        replaced("interval_s = 2", "interval_s = 0"),
        "hospital.toml: vip[0].health_check.interval_s: expected 0.001 to 2147483, found 0",
    ),
    "a share that is a percentage": (
        replaced("operation_s = 10", "operation_s = 10, busiest_source_share = 50.0"),
        "hospital.toml: vip[0].limits.busiest_source_share: expected a number above 0, 1 at most, found 50.0",
    ),
    "an unknown service": (
        replaced('service = "hl7"', 'service = "hl8"'),
        'hospital.toml: vip[1].service: expected "dicom" or "dmwl" or "hl7" or "https", found "hl8"',
    ),
    "a name with a blank": (
        replaced('label = "HL71"', 'label = "HL7 1"'),
        "hospital.toml: vip[1].real_server[0].label: expected 1 to 16 letters, digits, dots, dashes or underscores, "
        'found "HL7 1"',
    ),
    "a name with a line feed": (
        replaced('label = "HL71"', 'label = "HL71\\n"'),
        "hospital.toml: vip[1].real_server[0].label: expected 1 to 16 letters, digits, dots, dashes or underscores, "
        'found "HL71\\n"',
    ),
    "an unknown key with a close one": (
        replaced("port = 11112", "prot = 11112"),
        'hospital.toml: vip[0].prot: expected a known key (perhaps port), found "prot"',
    ),
    "an unknown key like no other": (
        replaced('network = "127.1.0.0/16"', 'network = "127.1.0.0/16"\nqqq = 1'),
        "hospital.toml: clients.qqq: expected one of the keys network, routed_network, straight_network, "
        'connect_timeout_s, negotiate_timeout_s, send_timeout_s, response_timeout_s, found "qqq"',
    ),
    "an unknown key at the top": (
        top("nodes = 2"),
        'hospital.toml: nodes: expected a known key (perhaps node), found "nodes"',
    ),
    "a missing key": (
        replaced("port = 11112\n", ""),
        "hospital.toml: vip[0].port: expected 1 to 65535, found nothing: the key is missing",
    ),
    "a missing table": (
        replaced("[clients]", "[dicom]"),
        "hospital.toml: dicom.network: expected one of the keys ae_title, unknown_called_ae, calling_ae_titles, storage, "
        'found "network"',
    ),
    "a missing VIP": (
        without_vip("DMWL"),
        'hospital.toml: vip: expected exactly one VIP with service = "dmwl", found a missing VIP: none speaks it',
    ),
    "two VIPs of one service": (
        replaced('service = "dmwl"', 'service = "dicom"'),
        'hospital.toml: vip: expected exactly one VIP with service = "dicom", found 2: DICOM, DMWL',
    ),
    "two VIPs on one address and port": (
        lambda text: text.replace('"127.0.110.101"', '"127.0.110.100"').replace("port = 6667", "port = 11112"),
        "hospital.toml: vip[1]: expected an address and port that no other VIP listens on, "
        "found 127.0.110.100:11112, as in vip[0]",
    ),
    "two VIPs of one name": (
        replaced('name = "HL7"', 'name = "DICOM"'),
        "hospital.toml: vip[1].name: expected a name that no other VIP has, found DICOM, as in vip[0].name",
    ),
    "two nodes of one name": (
        replaced('name = "mach7-2"', 'name = "mach7-1"'),
        "hospital.toml: node[1].name: expected a name that no other node has, found mach7-1, as in node[0].name",
    ),
    "an unknown node": (
        replaced('node = "mach7-2"', 'node = "mach7-3"'),
        'hospital.toml: vip[0].real_server[1].node: expected one of the nodes mach7-1, mach7-2, found "mach7-3"',
    ),
    "a label twice": (
        replaced('label = "HTTPS2"', 'label = "HTTPS1"'),
        "hospital.toml: vip[3].real_server[1].label: expected a label that HTTPS has once, "
        "found HTTPS1, as in vip[3].real_server[0].label",
    ),
    "a server id twice": (
        replaced("id = 2", "id = 1"),
        "hospital.toml: vip[0].real_server[1].id: expected an id that DICOM has once, "
        "found 1, as in vip[0].real_server[0].id",
    ),
    "one node twice behind a VIP": (
        replaced('node = "mach7-2"', 'node = "mach7-1"'),
        "hospital.toml: vip[0].real_server[1]: expected an address and port that DICOM has once, "
        "found 127.0.110.150:11112, as in vip[0].real_server[0]",
    ),
    "a real server on a VIP": (
        replaced('address = "127.0.110.151"', 'address = "127.0.110.100"'),
        "hospital.toml: vip[0].real_server[1]: expected a server behind the VIPs, "
        "found 127.0.110.100:11112, where the VIP DICOM itself listens",
    ),
    "a fallback on a VIP": (
        replaced('{ address = "127.0.110.10", port = 9081 }', '{ address = "127.0.110.101", port = 6667 }'),
        "hospital.toml: vip[0].fallback: expected an address and port that no VIP listens on, found 127.0.110.101:6667",
    ),
    "a real server with the fallback's label": (
        replaced('label = "DICOM1"', 'label = "backup"'),
        'hospital.toml: vip[0].real_server[0].label: expected a label other than the fallback\'s, found "backup"',
    ),
    "no address": (
        replaced('"127.0.110.102"', '"127.0.110.1002"'),
        'hospital.toml: vip[2].address: expected an IPv4 address, found "127.0.110.1002"',
    ),
    "the address of every host": (
        replaced('"127.0.110.102"', '"0.0.0.0"'),
        'hospital.toml: vip[2].address: expected the IPv4 address of one host, found "0.0.0.0"',
    ),
    "a network with host bits": (
        replaced("127.1.0.0/16", "127.1.0.1/16"),
        "hospital.toml: clients.network: expected an IPv4 network such as 10.0.8.0/24, "
        'found "127.1.0.1/16" (127.1.0.1/16 has host bits set)',
    ),
    "an expired waiver": (
        bottom(WAIVER.format(check="PERSIST-1/HL7", until="2026-11-22")),
        "hospital.toml: waiver[0].until: expected 2026-11-23 or later, "
        "found 2026-11-22: the waiver of PERSIST-1/HL7 by A. Person has expired; renew or remove it",
    ),
    "a waiver without an end": (
        bottom(WAIVER.format(check="PERSIST-1", until='"for ever"')),
        'hospital.toml: waiver[0].until: expected a date such as 2027-01-31, found "for ever"',
    ),
    "a waiver of nobody": (
        bottom(WAIVER.format(check="PERSIST-1", until="2027-01-31").replace("A. Person", "")),
        'hospital.toml: waiver[0].by: expected a text that is not empty, found ""',
    ),
    "a waiver for no check": (
        bottom(WAIVER.format(check="persistence", until="2027-01-31")),
        "hospital.toml: waiver[0].check: expected the id of a check, such as PERSIST-1 or PERSIST-1/DICOM, "
        'found "persistence"',
    ),
    "a required check of an unknown VIP": (
        top('required = ["REACH-1", "PERSIST-1/PACS"]'),
        'hospital.toml: required[1]: expected a check of one of the VIPs DICOM, HL7, DMWL, HTTPS, found "PERSIST-1/PACS"',
    ),
    "a check required twice": (
        top('required = ["REACH-1", "REACH-1"]'),
        "hospital.toml: required[1]: expected each check once, found REACH-1, as in required[0]",
    ),
    "several processes that keep images": (
        bottom('\n[engines]\nstorage = "wire"\nprocesses = 2\n'),
        'hospital.toml: engines.processes: expected 1 where the wire engine keeps images (engines.storage = "wire" and '
        'dicom.storage = "keep"), found 2',
    ),
    "a DICOM check of an HL7 service": (
        replaced('kind = "connect"', 'kind = "dicom-echo", calling_ae = "LB"', nth=2),
        'hospital.toml: vip[1].health_check.kind: expected "connect" or "mllp" on a VIP that speaks hl7, found "dicom-echo"',
    ),
    "a key of another kind of check": (
        replaced('kind = "connect"', 'kind = "dicom-echo", calling_ae = "LB", answer = "AA"'),
        'hospital.toml: vip[0].health_check.answer: expected no such key in a check of kind "dicom-echo", found one of mllp',
    ),
    "a check that nobody agreed on": (
        replaced('kind = "connect"', 'kind = "mllp", answer = "AA"', nth=2),
        'hospital.toml: vip[1].health_check.message: expected what a check of kind "mllp" says or wants, as agreed with the '
        "owner of the nodes, found nothing: the key is missing",
    ),
    "a check's segment of two lines": (
        replaced('kind = "connect"', 'kind = "mllp", message = ["MSH|", "QPD|\\r"], answer = "AA"', nth=2),
        "hospital.toml: vip[1].health_check.message[1]: expected a segment in printable ASCII, without its carriage return, "
        "found 'QPD|\\r'",
    ),
    "a check's path with a query": (
        replaced('kind = "connect"', 'kind = "https", path = "/health?x", certificate = "unverified"', nth=4),
        'hospital.toml: vip[3].health_check.path: expected a path such as /health, without a query, found "/health?x"',
    ),
    "no TOML": (
        top("name = Mach7"),
        "hospital.toml: line 1, column 8: expected TOML, found a syntax error: Invalid value",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_site_file_is_refused_with_file_key_expected_and_found(wrong: str, tmp_path: Path) -> None:
    edit, message = WRONG[wrong]
    assert error_of(tmp_path, edit) == message


def test_a_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "hospital.toml"
    with pytest.raises(SiteError) as caught:
        load_site(path)
    assert str(caught.value) == f"{path}: expected a readable site file, found No such file or directory"


def test_a_file_that_is_no_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "hospital.toml"
    path.write_bytes(b'name = "a"\nwho = "M\xfcller"\n')
    with pytest.raises(SiteError) as caught:
        load_site(path)
    assert str(caught.value) == "hospital.toml: line 2: expected UTF-8, found the byte 0xfc"


def test_a_waiver_holds_on_its_last_day(tmp_path: Path) -> None:
    path = tmp_path / "hospital.toml"
    path.write_text(LOOPBACK + WAIVER.format(check="PERSIST-1/HL7", until="2026-11-23"))
    assert load_site(path, today=TODAY).waiver[0].until == date(2026, 11, 23)


def test_the_digest_of_a_site_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "hospital.toml"
    path.write_bytes(b"abc")
    assert site_sha256(path) == hashlib.sha256(b"abc").hexdigest()


def test_the_brief_is_what_its_sections_agree_on(brief: Site) -> None:
    listening = [(vip.name, vip.address, vip.port) for vip in brief.vip]
    assert listening == [
        ("DICOM", "192.168.110.100", 11112),
        ("HL7", "192.168.110.101", 6667),
        ("DMWL", "192.168.110.102", 5104),
        ("HTTPS", "192.168.110.103", 443),
    ]
    assert [[server.label for server in vip.real_server] for vip in brief.vip] == [
        ["DICOM1", "DICOM2"], ["HL71", "HL72"], ["DMWL1", "DMWL2"], ["HTTPS1", "HTTPS2"],
    ]  # fmt: skip
    assert {tuple(server.node for server in vip.real_server) for vip in brief.vip} == {("mach7-1", "mach7-2")}
    assert [node.address for node in brief.node] == ["192.168.110.150", "192.168.110.151"]


def test_the_loopback_site_is_the_brief_on_one_machine() -> None:
    def values(name: str) -> list[str]:
        lines = (line.split("  #")[0].strip() for line in (SITES / name).read_text().splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    brief, loopback = values("brief.toml"), values("loopback.toml")
    pair = brief.index("[[balancer.unit]]")  # a second balancer takes containers
    brief[pair : brief.index("[clients]")] = []
    brief.remove('routed_network = "198.18.0.0/15"')
    load = loopback.index("[load]")
    rest = next(i for i in range(load + 1, len(loopback)) if loopback[i].startswith("["))
    assert loopback[load:rest] == [
        "[load]", "exams_per_year = 8_000_000", "compression = 2.5", "largest_sent_image_bytes = 10_000_000",
        "ack_latency_s = 0.005",
    ]  # fmt: skip
    loopback[load:rest] = []
    meant = {
        '"192.168.110.': '"127.0.110.',
        "port = 443": "port = 8443",
        " p99_s = 1, large_p99_s = 30": " p99_s = 0.018, large_p99_s = 0.5",
    }
    translated = brief
    for theirs, ours in meant.items():
        translated = [line.replace(theirs, ours) for line in translated]
    web = next(place for place, line in enumerate(translated) if line == 'name = "HTTPS"')  # a page takes longer than an echo
    translated[web:] = [line.replace("p99_s = 0.018,", "p99_s = 0.1,") for line in translated[web:]]
    differing = [(ours, theirs) for ours, theirs in zip(loopback, translated, strict=True) if ours != theirs]
    fallback = 'fallback = {{ address = "{}", port = 9081 }}'
    assert differing == [
        ('name = "Mach7 behind HAProxy, rehearsed on one machine"', 'name = "Mach7 behind a Loadbalancer.org appliance"'),
        ('nodes_are = "simulated"', 'nodes_are = "real"'),
        ('product = "HAProxy"', 'product = "Loadbalancer.org appliance (HAProxy)"'),
        ('network = "127.1.0.0/16"', 'network = "127.0.110.192/26"'),
        *[(fallback.format("127.0.110.10"), fallback.format("127.0.0.1"))] * 4,
    ]


def test_the_hardened_loopback_site_is_the_hardened_one_on_one_machine() -> None:
    text = msgspec.json.encode(load_site(SITES / "hardened.toml", today=TODAY)).decode()
    moved = text.replace("192.168.110.", "127.0.110.").replace('"port":443', '"port":8443')
    hardened = msgspec.json.decode(moved, type=Site)
    rehearsed, plain = (load_site(SITES / f"{name}.toml", today=TODAY) for name in ("hardened_loopback", "loopback"))
    limits = {vip.name: vip.limits for vip in plain.vip}
    vips = tuple(msgspec.structs.replace(vip, limits=limits[vip.name]) for vip in hardened.vip)
    expected = msgspec.structs.replace(
        hardened, name="Mach7 behind HAProxy, hardened, rehearsed on one machine", nodes_are="simulated", load=plain.load,
        clients=plain.clients, vip=vips,
        balancer=msgspec.structs.replace(hardened.balancer, product="HAProxy", unit=(), pair=None),
    )  # fmt: skip
    assert rehearsed == expected


def test_the_proxied_site_is_the_hardened_one_but_for_how_clients_are_named() -> None:
    hardened, proxied = (load_site(SITES / f"{name}_loopback.toml", today=TODAY) for name in ("hardened", "proxied"))
    vips = tuple(msgspec.structs.replace(vip, source="proxy-protocol") for vip in hardened.vip)
    assert proxied == msgspec.structs.replace(hardened, name=proxied.name, vip=vips)


def test_the_transparent_site_is_the_hardened_one_but_for_whom_nodes_see() -> None:
    hardened, transparent = (load_site(SITES / f"{name}.toml", today=TODAY) for name in ("hardened", "transparent"))
    vips = tuple(msgspec.structs.replace(vip, source="transparent") for vip in hardened.vip)
    assert transparent == msgspec.structs.replace(hardened, name=transparent.name, vip=vips)


def test_the_hardened_site_is_the_brief_but_for_what_mends_it() -> None:
    def values(name: str) -> dict[str, object]:
        site = msgspec.to_builtins(load_site(SITES / name, today=TODAY))
        return {key: value for key, value in leaves(site, "") if not key.startswith("waiver")}

    def leaves(value: object, key: str) -> Iterator[tuple[str, object]]:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple | list) else None
        if pairs is None:
            yield key, value
        for name, inner in pairs or ():
            yield from leaves(inner, f"{key}.{name}".lstrip("."))

    brief, hardened = values("brief.toml"), values("hardened.toml")
    differing = {key for key in brief.keys() | hardened.keys() if brief.get(key) != hardened.get(key)}
    of_each_vip = ["clear_entries_on_drain", "persistence.expire_s", "fallback.address", "fallback.port", "health_check.kind"]
    of_each_vip += ["health_check.fast_interval_s"]
    assert differing == {
        "name", "balancer.connect_timeout_s", "balancer.keepalive.idle_s", "balancer.keepalive.interval_s",
        "balancer.keepalive.count", "balancer.keep_server_states", "balancer.old_process_s",
        *(f"vip.{i}.{key}" for i in range(4) for key in of_each_vip),
        "vip.0.health_check.calling_ae", "vip.1.health_check.message.0", "vip.1.health_check.answer",
        "vip.2.health_check.calling_ae", "vip.3.health_check.path", "vip.3.health_check.certificate",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["brief.toml", "loopback.toml", "hardened.toml", "hardened_loopback.toml"])
def test_every_objective_of_a_shipped_site_allows_for_what_its_settings_predict(name: str) -> None:
    site = load_site(SITES / name, today=TODAY)
    silent_s = site.balancer.retries * site.balancer.connect_timeout_s
    for vip in site.vip:
        assert vip.limits.down_s >= vip.health_check.down_within_s
        assert vip.limits.sticky_s >= silent_s


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_is_refused_with_one_site_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "any.toml"
        path.write_bytes(text.encode())
        with pytest.raises(SiteError, match=r"^any\.toml: "):
            load_site(path, today=TODAY)
