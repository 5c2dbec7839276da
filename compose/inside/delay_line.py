"""Holds back packets of a queue of the packet filter: `python -m compose.inside.delay_line SECONDS`, until it is killed.

For kernels without netem. A rule `-j NFQUEUE --queue-num 110 --queue-bypass` puts packets into the queue; each is let go
after the same time, so that none overtakes another; without this process they pass at once. It runs as root of the network
whose packets they are. Standard library alone: it runs in the balancers' image.

Linux: include/uapi/linux/netfilter/nfnetlink_queue.h, whose names are kept here.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import select
import socket
import struct
import sys
import time

QUEUE = 110
_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5
_SUBSYSTEM_QUEUE = 3
_MSG_PACKET, _MSG_CONFIG, _MSG_VERDICT_BATCH = 0, 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLMSG_ERROR = 1, 4, 2
_CFG_CMD, _CFG_PARAMS, _CFG_QUEUE_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_CMD_BIND, _COPY_META = 1, 1
_FAIL_OPEN_GSO = 1 | 4  # a full queue lets packets pass; large ones stay whole
_PACKET_HDR, _VERDICT_HDR = 1, 2
_NF_ACCEPT = 1
_MOST_HELD = 65_536
_BUFFER_BYTES = 1 << 23
_READ_BYTES = 1 << 16
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_FAMILY = struct.Struct("!BBH")  # nfgenmsg: family, version, queue
_ATTRIBUTE = struct.Struct("=HH")


def message(kind: int, flags: int, *attributes: tuple[int, bytes]) -> bytes:
    """Return a message to the queue's subsystem of the kernel."""
    body = _FAMILY.pack(socket.AF_UNSPEC, 0, QUEUE)
    for number, value in attributes:
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), number) + value + b"\0" * (-len(value) % 4)
    return _HEADER.pack(_HEADER.size + len(body), _SUBSYSTEM_QUEUE << 8 | kind, flags, 0, 0) + body


def packet_ids(read: bytes) -> list[int]:
    """Return the numbers of the packets that messages from the kernel tell of, in their order."""
    found = []
    place = 0
    while place + _HEADER.size <= len(read):
        length, kind, _, _, _ = _HEADER.unpack_from(read, place)
        if length < _HEADER.size:
            break
        if kind == _SUBSYSTEM_QUEUE << 8 | _MSG_PACKET:
            found += _numbers(read[place + _HEADER.size + _FAMILY.size : place + length])
        place += (length + 3) & ~3
    return found


def _numbers(attributes: bytes) -> list[int]:
    place = 0
    while place + _ATTRIBUTE.size <= len(attributes):
        length, number = _ATTRIBUTE.unpack_from(attributes, place)
        if number == _PACKET_HDR:
            return [struct.unpack_from("!I", attributes, place + _ATTRIBUTE.size)[0]]
        place += max((length + 3) & ~3, _ATTRIBUTE.size)
    return []


def bind(queue: socket.socket) -> None:
    """Take the queue. Raises OSError when the kernel does not give it."""
    with contextlib.suppress(OSError):  # needs more rights than it may have; the usual size will do for less traffic
        queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    queue.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
    queue.bind((0, 0))
    for attributes in (
        ((_CFG_CMD, struct.pack("!BBH", _CMD_BIND, 0, socket.AF_INET)),),
        ((_CFG_PARAMS, struct.pack("!IB", 0, _COPY_META)),),
        ((_CFG_QUEUE_MAXLEN, struct.pack("!I", _MOST_HELD)),),
        ((_CFG_FLAGS, struct.pack("!I", _FAIL_OPEN_GSO)), (_CFG_MASK, struct.pack("!I", _FAIL_OPEN_GSO))),
    ):
        queue.send(message(_MSG_CONFIG, _NLM_F_REQUEST | _NLM_F_ACK, *attributes))
        answer = queue.recv(_READ_BYTES)
        _, kind, _, _, _ = _HEADER.unpack_from(answer)
        code = -struct.unpack_from("=i", answer, _HEADER.size)[0] if kind == _NLMSG_ERROR else errno.EPROTO
        if code:
            raise OSError(code, os.strerror(code))


def hold_back(queue: socket.socket, delay_s: float) -> None:
    """Let every packet go when it has waited for its time, for ever."""
    held: collections.deque[tuple[float, int]] = collections.deque()
    while True:
        wait_s = max(0.0, held[0][0] - time.monotonic()) if held else None
        if select.select([queue], [], [], wait_s)[0]:
            due = time.monotonic() + delay_s
            held += [(due, number) for number in packet_ids(queue.recv(_READ_BYTES))]
        last = None
        now = time.monotonic()
        while held and held[0][0] <= now:
            last = held.popleft()[1]
        if last is not None:  # and all before it
            verdict = (_VERDICT_HDR, struct.pack("!II", _NF_ACCEPT, last))
            queue.send(message(_MSG_VERDICT_BATCH, _NLM_F_REQUEST, verdict))


def main(arguments: list[str]) -> None:
    """Say `ready` once the queue is held, then hold back what comes."""
    if len(arguments) != 2:
        sys.exit(f"usage: python -m compose.inside.delay_line SECONDS, found {len(arguments) - 1} arguments")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as queue:
        try:
            bind(queue)
        except OSError as error:
            sys.exit(f"queue {QUEUE}: expected the kernel to give it, found {error}")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        hold_back(queue, float(arguments[1]))


if __name__ == "__main__":
    main(sys.argv)
