from __future__ import annotations

import re
import subprocess
from pathlib import Path

import msgspec
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from lbconfig.haproxy import ConfigurationError, Runtime, maxconn_for, render
from lbconfig.health_check import HealthCheckError
from lbconfig.site import HealthCheck, Persistence, RealServer, Site, SourceKind
from lbconfig.site_file import load_site
from lbconfig.site_rules import problems

from .conftest import GOLDEN, SITES, TODAY

STATES, CA_FILE = "/run/preflight/server-states", "/run/preflight/ca.pem"
RUNTIME = Runtime(
    runtime_socket="/run/preflight/haproxy.sock", fd_limit=20000, server_state_file=STATES, ca_file=CA_FILE
)  # fmt: skip
SHIPPED = [
    "brief",
    "loopback",
    "hardened",
    "hardened_loopback",
    "proxied_loopback",
    "transparent",
    "two-arm",
    "two-arm-transparent",
]


def accepted(program: str, configuration: str, directory: Path) -> str:
    """Have HAProxy check a configuration; return all that it says."""
    path = directory / "haproxy.cfg"
    path.write_text(configuration.replace(STATES, str(directory / "states")).replace(CA_FILE, str(directory / "ca.pem")))
    (directory / "states").write_text("1\n")
    trustme.CA().cert_pem.write_to_path(directory / "ca.pem")
    checked = subprocess.run([program, "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    return f"{checked.returncode}: {checked.stdout}{checked.stderr}".strip()


def section(configuration: str, head: str) -> list[str]:
    """Return the lines of one section."""
    body = configuration.split(f"{head}\n", 1)[1].split("\n\n", 1)[0]
    return [line.strip() for line in body.splitlines()]


VALID = ("0: Configuration file is valid", "0:")  # HAProxy 2.6 says so, 3.0 is silent; a warning would stand there


@pytest.mark.parametrize("name", SHIPPED)
def test_the_configuration_of_a_shipped_site_is_the_golden_one(name: str) -> None:
    site = load_site(SITES / f"{name}.toml", today=TODAY)
    assert render(site, RUNTIME) == (GOLDEN / f"{name}.haproxy.cfg").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_haproxy_accepts_a_golden_configuration_without_a_warning(name: str, haproxy: str, tmp_path: Path) -> None:
    said = accepted(haproxy, (GOLDEN / f"{name}.haproxy.cfg").read_text(), tmp_path)
    assert said in VALID


def test_haproxy_accepts_a_transparent_site_with_every_option(loopback: Site, haproxy: str, tmp_path: Path) -> None:
    check = HealthCheck(interval_s=1.5, fall=3, rise=4, timeout_s=0.25, fast_interval_s=0.5, down_interval_s=6)
    vips = tuple(
        msgspec.structs.replace(vip, source="transparent", health_check=check, fallback=None) for vip in loopback.vip
    )
    balancer = msgspec.structs.replace(loopback.balancer, redispatch=False, shutdown_sessions_on_down=False, retries=0)
    site = msgspec.structs.replace(loopback, vip=vips, balancer=balancer)
    configuration = render(site, RUNTIME)
    assert accepted(haproxy, configuration, tmp_path) in VALID
    dicom = section(configuration, "listen DICOM")
    assert "source 0.0.0.0 usesrc clientip" in dicom
    assert "option redispatch" not in dicom
    assert "timeout check 250ms" in dicom
    assert dicom[-1] == (
        "server DICOM2 127.0.110.151:11112 id 2 weight 100 check inter 1500ms fastinter 500ms downinter 6s fall 3 rise 4"
    )


def keeping_states(site: Site) -> Site:
    return msgspec.structs.replace(site, balancer=msgspec.structs.replace(site.balancer, keep_server_states=True))


def test_a_state_file_is_taken_up_where_the_site_keeps_states(loopback: Site) -> None:
    configuration = render(keeping_states(loopback), RUNTIME)
    assert f"server-state-file {STATES}" in section(configuration, "global")
    assert "load-server-state-from-file global" in section(configuration, "defaults")
    assert "state" not in render(loopback, RUNTIME)


def test_states_cannot_be_kept_without_a_file(loopback: Site) -> None:
    with pytest.raises(ConfigurationError, match="keep_server_states: expected a file to keep them in, found none"):
        render(keeping_states(loopback), msgspec.structs.replace(RUNTIME, server_state_file=None))


def test_certificates_cannot_be_verified_without_a_ca(hardened: Site) -> None:
    with pytest.raises(HealthCheckError) as caught:
        render(hardened, msgspec.structs.replace(RUNTIME, ca_file=None))
    assert str(caught.value) == (
        'VIP HTTPS: health_check.certificate: expected the file of a CA for "verified", found none. '
        'Name it in web.ca_file, or say "unverified"'
    )


def test_a_certificate_is_checked_for_the_name_that_users_reach_the_vip_by(hardened: Site) -> None:
    https = msgspec.structs.replace(hardened.vip_of("https"), hostname="mach7.example.org")
    site = msgspec.structs.replace(hardened, vip=(*hardened.vip[:3], https))
    servers = [line for line in section(render(site, RUNTIME), "listen HTTPS") if line.startswith("server ")]
    assert len(servers) == 2
    assert all(" check-sni mach7.example.org verifyhost mach7.example.org " in line for line in servers)


def test_a_site_may_verify_no_certificate(hardened: Site) -> None:
    check = HealthCheck(kind="https", certificate="unverified")
    https = msgspec.structs.replace(hardened.vip_of("https"), health_check=check)
    lines = section(render(msgspec.structs.replace(hardened, vip=(*hardened.vip[:3], https)), RUNTIME), "listen HTTPS")
    assert "http-check send meth GET uri /health ver HTTP/1.1 hdr Host 127.0.110.103" in lines
    assert lines[-1].endswith(" rise 2 check-ssl verify none on-marked-down shutdown-sessions")


def test_a_server_line_holds_all_that_a_planted_defect_changes(loopback: Site) -> None:
    for vip in loopback.vip:
        lines = section(render(loopback, RUNTIME), f"listen {vip.name}")
        assert lines.count("stick on src") == 1
        assert lines.count("option redispatch") == 1
        servers = [line for line in lines if re.match(r"server (?!backup)", line)]
        assert len(servers) == 2
        assert all(" check inter 2s " in line and line.endswith(" on-marked-down shutdown-sessions") for line in servers)


def test_maxconn_is_the_sites_where_descriptors_are_many(loopback: Site) -> None:
    assert maxconn_for(1_000_000, loopback) == 40000


def test_maxconn_is_what_two_descriptors_a_connection_allow(loopback: Site) -> None:
    assert maxconn_for(20000, loopback) == 9944  # 20000 less 64, less 4 for each of 4 VIPs and 8 servers; halved


def test_too_few_descriptors_are_refused_with_the_limit_that_is_needed(loopback: Site) -> None:
    with pytest.raises(ConfigurationError) as caught:
        render(loopback, msgspec.structs.replace(RUNTIME, fd_limit=143))
    assert str(caught.value) == (
        "open files: expected at least 144, found a limit of 143; "
        "raise it (ulimit -n 80112 allows the site's maxconn of 40000)"
    )


@pytest.mark.parametrize("path", ["", "/tmp/a b", "/tmp/a\nuser root", "/tmp/$HOME", '/tmp/"'])  # noqa: S108  nothing is written
def test_a_path_that_would_change_the_configuration_is_refused(path: str, loopback: Site) -> None:
    with pytest.raises(ConfigurationError, match="expected no blanks, quotes"):
        render(loopback, msgspec.structs.replace(RUNTIME, runtime_socket=path))


def test_haproxy_starts_with_the_fewest_descriptors_that_are_allowed(loopback: Site, haproxy: str, tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(render(loopback, msgspec.structs.replace(RUNTIME, fd_limit=144)))
    limited = ["sh", "-c", 'ulimit -n 144 && exec "$0" -c -f "$1"', haproxy, str(path)]
    checked = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


seconds = st.floats(0.001, 2_147_483)
optional_seconds = st.none() | seconds
checks = st.builds(
    HealthCheck, interval_s=seconds, fall=st.integers(1, 50), rise=st.integers(1, 50), timeout_s=seconds,
    fast_interval_s=optional_seconds, down_interval_s=optional_seconds,
)  # fmt: skip
names = st.from_regex(r"[A-Za-z0-9._-]{1,16}", fullmatch=True).filter(lambda name: name != "backup")
servers = st.lists(
    st.builds(
        RealServer, label=names, node=st.just("mach7-1"), port=st.integers(1, 65535), weight=st.integers(0, 256),
        id=st.integers(1, 2**31 - 1),
    ),
    min_size=1, max_size=4, unique_by=(lambda server: server.label, lambda server: server.port, lambda server: server.id),
)  # fmt: skip


sources = st.sampled_from(["balancer", "transparent", "proxy-protocol"])


@settings(max_examples=25, deadline=None)
@given(
    check=checks, expire_s=seconds, table_size=st.integers(1, 2**20), servers=servers, source=sources,
    scheduler=st.sampled_from(["leastconn", "roundrobin", "source"]), client_timeout_s=seconds, retries=st.integers(0, 100),
    maxconn=st.integers(1, 100_000), fd_limit=st.integers(1024, 2**20),
)  # fmt: skip
def test_haproxy_accepts_whatever_a_valid_site_renders_to(
    tmp_path_factory: pytest.TempPathFactory, haproxy: str, check: HealthCheck, expire_s: float, table_size: int,
    servers: list[RealServer], source: SourceKind, scheduler: str, client_timeout_s: float, retries: int, maxconn: int,
    fd_limit: int,
) -> None:  # fmt: skip
    site = load_site(SITES / "loopback.toml", today=TODAY)
    dicom = msgspec.structs.replace(
        site.vip[0], health_check=check, persistence=Persistence(expire_s=expire_s, table_size=table_size),
        real_server=tuple(servers), source=source, scheduler=scheduler, client_timeout_s=client_timeout_s,
    )  # fmt: skip
    balancer = msgspec.structs.replace(site.balancer, retries=retries, maxconn=maxconn)
    site = msgspec.structs.replace(site, vip=(dicom, *site.vip[1:]), balancer=balancer)
    assert list(problems(site, TODAY)) == []
    said = accepted(
        haproxy, render(site, msgspec.structs.replace(RUNTIME, fd_limit=fd_limit)), tmp_path_factory.mktemp("cfg")
    )
    assert said.startswith("0:"), said
