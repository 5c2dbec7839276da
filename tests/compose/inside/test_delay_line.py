"""Packets that are held back: real ones, in a network of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from compose.inside.delay_line import message, packet_ids
from compose.keeper_client import CHECKOUT

LATE_S = 0.25
SENT_BYTES = 300_000

# Sends through a network that has nothing but loopback; says how long connections took, and whether all came as it was sent.
_SCRIPT = """
import json, socket, subprocess, sys, threading, time
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listener = socket.create_server(("127.0.0.1", 5000))

def connected():
    began = time.monotonic()
    client = socket.create_connection(("127.0.0.1", 5000))
    return time.monotonic() - began, client, listener.accept()[0]

rule = "iptables -A OUTPUT -o lo -p tcp --sport 5000 -j NFQUEUE --queue-num 110 --queue-bypass"
subprocess.run(rule.split(), check=True)
before_s, _, _ = connected()
line = subprocess.Popen([sys.executable, "-m", "compose.inside.delay_line", sys.argv[1]], stdout=subprocess.PIPE, text=True)
said = line.stdout.readline()
late_s, client, server = connected()
content = bytes(number % 251 for number in range(int(sys.argv[2])))
threading.Thread(target=lambda: (server.sendall(content), server.close())).start()
came = b""
while part := client.recv(1 << 16):
    came += part
line.kill()
line.wait()
after_s, _, _ = connected()
print(json.dumps([said, before_s, late_s, after_s, came == content]))
"""


def test_what_leaves_comes_later_in_order_and_whole_and_passes_at_once_when_nobody_holds_it() -> None:
    if os.getuid() != 0 or shutil.which("unshare") is None or shutil.which("iptables") is None:
        pytest.skip("needs root, unshare and iptables, for a network of its own")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", _SCRIPT, str(LATE_S), str(SENT_BYTES)], capture_output=True, text=True,
        check=False, timeout=60, env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    if "NFQUEUE" in done.stderr:
        pytest.skip("this kernel has no NFQUEUE")
    assert done.stderr == ""
    said, before_s, late_s, after_s, whole = json.loads(done.stdout)
    assert said == "ready\n"
    assert late_s >= LATE_S
    assert before_s < LATE_S
    assert after_s < LATE_S
    assert whole is True


def test_the_numbers_of_packets_are_read_whatever_else_the_kernel_tells() -> None:
    def packet(number: int) -> bytes:
        header = number.to_bytes(4, "big") + b"\x08\x00\x03"
        return message(0, 0, (5, b"\0\0\0\x01"), (1, header))

    acknowledged = message(2, 0)
    assert packet_ids(packet(7) + acknowledged + packet(4_000_000_000)) == [7, 4_000_000_000]
    assert packet_ids(b"") == packet_ids(b"\0" * 16) == []
