"""The defects of load runs in a real lab: services that are slow, and processes that take the CPU."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from compose.lab import Defects, MisbehavingService
from compose.native import NativeLab
from compose.probes import answers
from lbconfig.site import ServiceKind
from lbconfig.site_file import load_site
from simulators.misbehaviour import LATE_BY_S, Misbehaviour

LIMIT_S = 20.0
SERVICES: tuple[ServiceKind, ...] = ("dicom", "hl7", "dmwl", "https")
SLOW = "mach7-2"


@pytest.fixture(scope="module")
def lab(site_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeLab]:
    """Have a lab up one of whose nodes is slow in all services, by either engine, with one hog for each core."""
    site = load_site(site_file)
    both = msgspec.structs.replace(site, engines=msgspec.structs.replace(site.engines, storage="wire", worklist="pynetdicom"))
    slow = tuple(MisbehavingService(SLOW, service, Misbehaviour.SLOW_BY_20_MS) for service in SERVICES)
    with NativeLab(both, tmp_path_factory.mktemp("lab"), defects=Defects(misbehaviour=slow, cpu_hogs_per_core=1)) as running:
        yield running


@pytest.mark.parametrize("service", SERVICES)
def test_a_slow_service_answers_and_never_sooner_than_20_ms(lab: NativeLab, service: ServiceKind) -> None:
    begun = time.monotonic()
    answers(lab.straight_target(service, SLOW), lab.source_addresses(1)[0], lab.site.dicom.ae_title, "PREFLIGHT", LIMIT_S)
    assert time.monotonic() - begun >= LATE_BY_S  # a lower bound: no machine is too slow for it


def test_a_slow_listener_answers_in_the_order_of_the_messages(lab: NativeLab) -> None:
    target = lab.straight_target("hl7", SLOW)
    message = b"\x0bMSH|^~\\&|ADT|H|MACH7|HOSPITAL|20261123||ADT^A01|%s|P|2.5.1\rEVN|A01|20261123\r\x1c\r"
    with socket.create_connection((target.address, target.port), LIMIT_S) as connection:
        connection.settimeout(LIMIT_S)
        connection.sendall(b"".join(message % b"ID%d" % number for number in range(20)))
        answer = b""
        while answer.count(b"\x1c\r") < 20:
            chunk = connection.recv(65536)
            assert chunk, answer
            answer += chunk
    found = [frame.partition(b"\rMSA|")[2].split(b"|")[1].split(b"\r")[0] for frame in answer.split(b"\x1c\r")[:20]]
    assert found == [b"ID%d" % number for number in range(20)]


def test_hogs_burn_while_the_lab_is_up_and_end_with_it(lab: NativeLab) -> None:
    def hogs() -> list[psutil.Process]:
        own = psutil.Process().children(recursive=True)
        return [process for process in own if "compose.hog" in process.cmdline()]

    burning = hogs()
    assert len(burning) == len(psutil.Process().cpu_affinity() or [])
    lab.stop()
    assert not [process for process in burning if process.is_running()]
