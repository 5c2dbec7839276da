"""The page that says what to try in a lab that somebody brought up to play with."""

from __future__ import annotations

import threading
import urllib.request

from compose.guide import page, server
from compose.keeper_client import CHECKOUT
from lbconfig.site_file import load_site

BRIEF = load_site(CHECKOUT / "lbconfig" / "sites" / "brief.toml")


def test_the_page_names_every_service_and_the_hosts_to_break() -> None:
    text = page(BRIEF)
    for vip in BRIEF.vip:
        assert f"{vip.name:<8} {vip.address}:{vip.port}\n" in text
    assert "    docker compose kill lb-1\n" in text
    assert "    docker compose exec lb-2 ip -brief address show eth0\n" in text
    assert "echoscu -v -aec MACH7 192.168.110.100 11112\n" in text
    assert "http://192.168.110.20:8080/" in text


def test_the_page_is_served_as_it_is_printed() -> None:
    with server("what to try\n", "127.0.0.1", 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{serving.server_port}/", timeout=20) as answer:
                assert answer.read() == b"what to try\n"
        finally:
            serving.shutdown()
            thread.join()
