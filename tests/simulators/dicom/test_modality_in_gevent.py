from __future__ import annotations

import subprocess
import sys

import pytest

# The peer is a greenlet of the same loop: a client that kept the loop to itself would wait for it in vain.
_PROGRAM = """
from gevent import monkey
monkey.patch_all()
import sys
from tests.simulators.dicom.peers import SMALL, copy_of, modality, peer, responding, stored_with

with peer(responding(stored_with(0))) as port, modality(port, SMALL, eager=sys.argv[1] == "eager") as sender:
    operations = list(sender.store_all([copy_of(SMALL) for _ in range(3)]))
    operations.append(sender.store(*copy_of(SMALL)))
    print([int(operation.outcome) for operation in operations])
"""


@pytest.mark.parametrize("waits", ["eager", "asleep"])
def test_a_modality_in_gevent_leaves_the_loop_to_others_while_it_waits(waits: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, waits]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("[1, 1, 1, 1]\n", "")
