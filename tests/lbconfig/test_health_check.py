"""Each kind of health check, said by a real HAProxy to a server that answers from a script."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import trustme
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF

from lbconfig.haproxy import Runtime, render
from lbconfig.runtime_api import RuntimeApi
from lbconfig.site import HealthCheck, ServiceKind, Site

from .conftest import moved, until

ACCEPTED = bytes.fromhex(  # an A-ASSOCIATE-AC for context 1, as storescp of DCMTK sends it
    "0200000000b800010000" + b"MACH7           LB_CHECK        ".hex() + "00" * 32
    + "10000015" + b"1.2.840.10008.3.1.1.1".hex() + "2100001901000000" + "40000011" + b"1.2.840.10008.1.2".hex()
    + "5000003a5100000400004000" + "5200001b" + b"1.2.276.0.7230010.3.0.3.6.7".hex() + "5500000f" + b"OFFIS_DCMTK_367".hex()
)  # fmt: skip
CONTEXT_REFUSED = ACCEPTED.replace(bytes.fromhex("2100001901000000"), bytes.fromhex("2100001901000300"))
NO_ROOM = bytes.fromhex("03000000000400020302")
NOT_KNOWN = bytes.fromhex("03000000000400010107")


def echo_response(status: int) -> bytes:
    elements = b"".join((
        bytes.fromhex("0000020012000000") + b"1.2.840.10008.1.1\x00", bytes.fromhex("00000001020000003080"),
        bytes.fromhex("00002001020000000100"), bytes.fromhex("00000008020000000101"),
        bytes.fromhex("0000000902000000") + status.to_bytes(2, "little"),
    ))  # fmt: skip
    command = bytes.fromhex("0000000004000000") + len(elements).to_bytes(4, "little") + elements
    pdv = (len(command) + 2).to_bytes(4, "big") + b"\x01\x03" + command
    return b"\x04\x00" + len(pdv).to_bytes(4, "big") + pdv


RELEASED = bytes.fromhex("06000000000400000000")
ECHOED = [ACCEPTED, echo_response(0), RELEASED]
WEB = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n"


class Scripted:
    """Answers the n-th piece that it receives on a connection with the n-th answer; then it is silent."""

    def __init__(self, address: str, port: int, tls: trustme.LeafCert | None = None) -> None:
        self.answers: Sequence[bytes] = ()
        self.heard: list[list[bytes]] = []
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self.show(tls)
        self._listener = socket.create_server((address, port))
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def show(self, certificate: trustme.LeafCert) -> None:
        """Show another certificate from now on."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(1)
                with connection, contextlib.suppress(OSError):
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        heard: list[bytes] = []
        self.heard.append(heard)
        for answer in self.answers:
            heard.append(connection.recv(4096))
            connection.sendall(answer)
        while not heard or heard[-1]:  # until the other side closes
            heard.append(connection.recv(4096))


class Checked:
    """A HAProxy that checks one scripted server, and has been told nothing else."""

    def __init__(self, program: str, site: Site, service: ServiceKind, directory: Path) -> None:
        vip = site.vip_of(service)
        check = msgspec.structs.replace(vip.health_check, interval_s=0.1, fast_interval_s=0.05, fall=2, rise=1, timeout_s=0.3)
        vip = msgspec.structs.replace(vip, health_check=check, real_server=vip.real_server[:1])
        balancer = msgspec.structs.replace(site.balancer, keep_server_states=False)
        server = vip.real_server[0]
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(directory / "ca.pem")
        address = site.node_named(server.node).address
        certificate = self.authority.issue_cert(address) if service == "https" else None
        self.server = Scripted(address, server.port, certificate)
        self.api = RuntimeApi(directory / "api.sock")
        runtime = Runtime(runtime_socket=str(self.api.socket_path), fd_limit=4096, ca_file=str(directory / "ca.pem"))
        configuration = directory / "haproxy.cfg"
        configuration.write_text(render(msgspec.structs.replace(site, vip=(vip,), balancer=balancer), runtime))
        self._vip, self._label = vip.name, server.label
        self._process = subprocess.Popen(
            [program, "-db", "-f", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def comes_to(self, status: str) -> bool:
        """Whether the server is of that state now, by a check that has ended."""
        if not self.api.socket_path.exists():
            return False
        server = self.api.server(self._vip, self._label)
        return server.checked and server.state == status and not server.status.startswith("UP ")

    def stop(self) -> None:
        """Stop HAProxy and the server."""
        self._process.terminate()
        self._process.wait(10)
        self.server.close()


@pytest.fixture
def checked(haproxy: str, hardened: Site, request: pytest.FixtureRequest) -> Iterator[Checked]:
    draw = random.SystemRandom()
    site = moved(hardened, f"127.{draw.randrange(16, 240)}.{draw.randrange(1, 255)}", quick=False)
    with tempfile.TemporaryDirectory(prefix="pf") as directory:
        checked = Checked(haproxy, site, request.param, Path(directory))
        try:
            yield checked
        finally:
            checked.stop()


def see(checked: Checked, answers: Sequence[bytes], status: str) -> None:
    checked.server.answers = answers
    until(lambda: checked.comes_to(status), f"{status}")


WRONG_DICOM = {
    "rejected for good": [NOT_KNOWN],
    "an answer in another protocol": [b"HTTP/1.0 400 Bad request\r\n\r\n"],
    "context refused": [CONTEXT_REFUSED],
    "association, then silence": [ACCEPTED],
    "echo fails": [ACCEPTED, echo_response(0x0122), RELEASED],
    "release is not answered": [ACCEPTED, echo_response(0)],
    "silence": [],
}


@pytest.mark.parametrize("checked", ["dicom"], indirect=True)
@pytest.mark.parametrize("wrong", WRONG_DICOM)
def test_a_dicom_service_is_up_only_while_it_echoes(checked: Checked, wrong: str) -> None:
    see(checked, ECHOED, "UP")
    see(checked, WRONG_DICOM[wrong], "DOWN")
    see(checked, ECHOED, "UP")


@pytest.mark.parametrize("checked", ["dmwl"], indirect=True)
def test_a_node_without_room_for_an_association_gets_no_new_sources_and_is_not_down(checked: Checked) -> None:
    see(checked, ECHOED, "UP")
    see(checked, [NO_ROOM], "NOLB")
    see(checked, ECHOED, "UP")


@pytest.mark.parametrize("checked", ["dicom"], indirect=True)
def test_the_dicom_check_says_what_the_standard_wants(checked: Checked) -> None:
    see(checked, ECHOED, "UP")
    heard = next(pieces for pieces in checked.server.heard if len(pieces) == 4)
    request, echo = A_ASSOCIATE_RQ(), P_DATA_TF()
    request.decode(heard[0])
    assert (request.calling_ae_title, request.called_ae_title) == ("LB_CHECK", "MACH7")
    proposed = [(c.context_id, c.abstract_syntax, c.transfer_syntax) for c in request.presentation_context]
    assert proposed == [(1, "1.2.840.10008.1.1", ["1.2.840.10008.1.2"])]
    assert request.encode() == heard[0]
    accept = A_ASSOCIATE_AC()
    accept.decode(ACCEPTED)  # what is played to HAProxy here is no invention either
    echo.decode(heard[1])
    assert echo.encode() == heard[1]
    assert heard[2] == bytes.fromhex("05000000000400000000")
    assert heard[3] == b""  # closed in good order, not reset


WRONG_HL7 = {
    "another code": [b"\x0bMSH|^~\\&||N|||1||ACK|1|P|2.5.1\rMSA|AE|\r\x1c\r"],
    "no end of the frame": [b"\x0bMSH|^~\\&||N|||1||ACK|1|P|2.5.1\rMSA|AR|\r"],
    "another protocol": [b"HTTP/1.0 400 Bad request\r\n\r\n"],
    "silence": [],
}
REFUSED = [b"\x0bMSH|^~\\&||N|||1||ACK|1|P|2.5.1\rMSA|AR|\rERR||MSH^1\r\x1c\r"]


@pytest.mark.parametrize("checked", ["hl7"], indirect=True)
@pytest.mark.parametrize("wrong", WRONG_HL7)
def test_an_hl7_service_is_up_only_while_it_answers_as_agreed(checked: Checked, wrong: str) -> None:
    see(checked, REFUSED, "UP")
    assert checked.server.heard[-1][0] == b"\x0bPFCHECK\r\x1c\r"
    see(checked, WRONG_HL7[wrong], "DOWN")
    see(checked, REFUSED, "UP")


@pytest.mark.parametrize("checked", ["https"], indirect=True)
@pytest.mark.parametrize("wrong", [[WEB % b"503 Unavailable"], []], ids=["another status", "silence"])
def test_a_web_service_is_up_only_while_it_says_200(checked: Checked, wrong: list[bytes]) -> None:
    see(checked, [WEB % b"200 OK"], "UP")
    assert checked.server.heard[-1][0].startswith(b"GET /health HTTP/1.1\r\nhost: 127.")
    see(checked, wrong, "DOWN")
    see(checked, [WEB % b"200 OK"], "UP")


@pytest.mark.parametrize("checked", ["https"], indirect=True)
def test_a_web_service_with_a_certificate_of_another_authority_is_down(checked: Checked) -> None:
    see(checked, [WEB % b"200 OK"], "UP")
    checked.server.show(trustme.CA().issue_cert("127.0.0.1"))
    see(checked, [WEB % b"200 OK"], "DOWN")


def test_what_a_check_predicts_counts_each_interval_and_each_time_out() -> None:
    check = HealthCheck(
        kind="mllp", message=("X",), answer="AR", interval_s=2, fast_interval_s=1, fall=3, rise=2, timeout_s=2
    )
    assert (check.down_within_s, check.up_within_s) == (10, 7)
