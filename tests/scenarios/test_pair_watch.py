"""What is seen of a pair: where its tables lead; what is heard of a UDP port: an answer, a refusal, or nothing."""

import socket
import threading

from lbconfig.runtime_api import ServerState, TableEntry
from lbconfig.site_file import load_site
from scenarios.options import SITE_OF_LAB
from scenarios.pair_watch import ask_udp, led_to, nodes_led_to

HERE = "127.0.0.1"


def test_a_port_that_answers_one_that_refuses_and_one_that_is_silent_are_told_apart() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((HERE, 0))
        port = listening.getsockname()[1]
        assert ask_udp(HERE, HERE, port) == "silent"
        listening.recvfrom(1)
        echo = threading.Thread(target=lambda: listening.sendto(b"!", listening.recvfrom(1)[1]))
        echo.start()
        assert ask_udp(HERE, HERE, port) == "answered"
        echo.join(5)
    assert ask_udp(HERE, HERE, port) == "refused"


def server(label: str, number: int, address: str) -> ServerState:
    return ServerState(
        vip="DICOM", label=label, id=number, address=address, port=11112, status="UP", weight=100, backup=False,
        check_status="L4OK", last_change_s=0, downtime_s=0, current_sessions=0, total_sessions=0, failed_checks=0,
        times_down=0,
    )  # fmt: skip


def led(*servers: ServerState) -> list[str]:
    """Return where a unit with these servers leads a source with a name, one whose name it has not, and one without."""
    behind = nodes_led_to(servers, "DICOM", load_site(SITE_OF_LAB["compose"]).node)
    return [
        led_to(TableEntry(source="10.0.0.1", server_id=1, server=name, expires_ms=1, used=0), behind)
        for name in ("DICOM1", "OLD", None)
    ]


def test_a_unit_leads_by_name_to_its_own_server_of_that_name_and_else_by_id() -> None:
    one, two = "192.168.110.150", "192.168.110.151"
    assert led(server("DICOM1", 1, one), server("DICOM2", 2, two)) == ["mach7-1", "mach7-1", "mach7-1"]
    assert led(server("DICOM1", 2, one), server("DICOM2", 1, two)) == ["mach7-1", "mach7-2", "mach7-2"]
    assert led(server("DICOM1", 1, two), server("DICOM2", 2, one)) == ["mach7-2", "mach7-2", "mach7-2"]
    assert led(server("backup", 1, "127.0.0.1")) == ["", "", ""]
