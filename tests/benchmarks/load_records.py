"""The records of a load run that never was: histories of several generators, and journals in which all of them are shuffled.

Nothing is wrong in them, so that every checker goes all the way: each source meets one node, each patient's messages follow
each other, and everything acknowledged is stored once, or as often as it was sent.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scenarios.frames import OPERATION_DTYPE, RECEIPT_DTYPE
from simulators.journal import RECEIPT_MAGIC, Flag, journal_path
from simulators.operations import (
    HEADER_BYTES,
    OPERATION_MAGIC,
    SEQUENCE_BITS,
    Kind,
    Outcome,
    Phase,
    Service,
    Way,
    packed_address,
)

RUN = 77
GENERATORS = 8
NODES = ("mach7-1", "mach7-2")
BALANCER = "127.0.110.10"
DURATION_NS = 1800 * 10**9
SOURCES = 60  # of each service and generator
CONNECTIONS = 20  # of each source, one after the other
FIRST_PORT = 1024
IN_FLIGHT = 64  # patients of a generator whose messages are sent in turns
MESSAGES = 8  # of each patient
_AGAIN = 500  # one stored payload in so many is sent twice: the first attempt ended without an answer
_SHARES = {Service.DICOM: 0.4, Service.HL7: 0.4, Service.DMWL: 0.1, Service.HTTPS: 0.1}
_KINDS = {Service.DICOM: Kind.INSTANCE, Service.HL7: Kind.MESSAGE, Service.DMWL: Kind.QUERY, Service.HTTPS: Kind.NOTE}
_WORD = OPERATION_DTYPE["node"]

Records = npt.NDArray[np.void]


class Place(NamedTuple):
    """Where the records of a run lie: `histories` holds a file for each generator, `nodes` a folder for each node."""

    histories: Path
    nodes: Path

    @classmethod
    def below(cls, directory: Path) -> Place:
        """Return the places below a folder."""
        return cls(directory / "load", directory / "nodes")


def write(directory: Path, operations: int) -> None:
    """Write the records of about so many operations below a folder; the same number, the same records."""
    place = Place.below(directory)
    place.histories.mkdir(parents=True)
    receipts: dict[tuple[str, Service], list[Records]] = {(node, service): [] for node in NODES for service in Service}
    for generator in range(1, GENERATORS + 1):
        rng = np.random.default_rng([operations, generator])
        history = _history(generator, operations // GENERATORS, rng)
        path = place.histories / f"generator-{generator}.operations"
        with path.open("wb") as file:
            file.write(OPERATION_MAGIC.ljust(HEADER_BYTES, b"\x00"))
            history.tofile(file)
        for (node, service), parts in receipts.items():
            parts.append(_receipts(history, node, service))
    rng = np.random.default_rng(operations)
    for (node, service), parts in receipts.items():
        journal = journal_path(place.nodes / node, service)
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("wb") as file:
            file.write(RECEIPT_MAGIC.ljust(HEADER_BYTES, b"\x00"))
            rng.permutation(np.concatenate(parts)).tofile(file)
        parts.clear()


def source_address(generator: int, service: int, number: int) -> str:
    """Return the address of a source of one service of one generator."""
    return f"127.1.{(generator - 1) * 4 + service}.{number + 1}"


def node_of(number: int) -> str:
    """Return the node that a source always meets."""
    return NODES[number % len(NODES)]


def _history(generator: int, count: int, rng: np.random.Generator) -> Records:
    """Return a generator's operations in the order in which they ended."""
    records = np.zeros(count, OPERATION_DTYPE)
    records["run"], records["workload"], records["attempt"], records["way"] = RUN, 1, 1, Way.VIP
    records["outcome"], records["phase"] = Outcome.ACKNOWLEDGED, Phase.DONE
    records["service"] = rng.choice(list(_SHARES), count, p=list(_SHARES.values()))
    begun = np.linspace(1, DURATION_NS, count).astype(np.int64)
    records["intended_ns"], records["begun_ns"] = begun - rng.integers(0, 10**6, count), begun
    records["ended_ns"] = begun + np.minimum(rng.lognormal(14.5, 0.6, count), 30e6).astype(np.int64)
    sequence = np.arange(1, count + 1, dtype=np.uint64)
    for service in Service:
        of_service = np.flatnonzero(records["service"] == service)
        place = np.arange(len(of_service))
        _address(records, of_service, generator, service, rng.integers(0, SOURCES, len(of_service)))
        records["kind"][of_service] = _KINDS[service]
        if service is Service.HL7:
            block, turn = place // (IN_FLIGHT * MESSAGES), place % IN_FLIGHT
            patients = (count + 1 + block * IN_FLIGHT + turn).astype(np.uint64)
            records["patient"][of_service] = patients | np.uint64(generator << SEQUENCE_BITS)
        _send_again(records, of_service, service)
    records["key"] = np.where(records["key"] > 0, sequence[records["key"].astype(np.int64) - 1], sequence)
    records["key"] |= np.uint64(generator << SEQUENCE_BITS)
    _fill_payload(records)
    return records[np.argsort(records["ended_ns"], kind="stable")]


def _address(
    records: Records, at: npt.NDArray[np.intp], generator: int, service: Service, number: npt.NDArray[np.int64]
) -> None:
    """Give operations their sources, ports (a new one for each connection) and the node that answered."""
    addresses = [packed_address(source_address(generator, service, n)) for n in range(SOURCES)]
    records["source"][at] = np.frombuffer(b"".join(addresses), _WORD)[number]
    nodes = [node_of(n).encode().ljust(16, b"\x00") for n in range(SOURCES)]
    records["node"][at] = np.frombuffer(b"".join(nodes), _WORD)[number]
    records["source_port"][at] = FIRST_PORT + np.arange(len(at)) * CONNECTIONS // max(len(at), 1)
    records["target"][at] = np.frombuffer(packed_address("127.0.110.100"), _WORD)


def _send_again(records: Records, at: npt.NDArray[np.intp], service: Service) -> None:
    """Let some operations be second attempts at what the one before them, of the same patient, left undecided."""
    if _KINDS[service] is Kind.QUERY:
        return
    step = IN_FLIGHT if service is Service.HL7 else 1
    second = np.arange(_AGAIN, len(at), _AGAIN)
    if service is Service.HL7:
        second = second[(second // IN_FLIGHT) % MESSAGES > 0]  # the first message of a patient has none before it
    first = second - step
    records["outcome"][at[first]], records["phase"][at[first]] = Outcome.INDETERMINATE, Phase.RESPONSE
    records["key"][at[second]] = at[first] + 1  # the place of the first attempt, counted from 1
    records["attempt"][at[second]] = 2
    for name in ("source", "node"):
        records[name][at[second]] = records[name][at[first]]
    records["node"][at[first]] = np.zeros(1, _WORD)


def _fill_payload(records: Records) -> None:
    """Give operations sizes and digests that follow from their keys, as a payload's would."""
    keys = records["key"]
    records["size_bytes"] = np.where(keys % np.uint64(10) == 0, 4 << 20, 20_000)
    records["size_bytes"][records["service"] != Service.DICOM] = 350
    records["digest_a"], records["digest_b"] = keys * np.uint64(0x9E3779B97F4A7C15), keys * np.uint64(0xC2B2AE3D27D4EB4F)


def _receipts(history: Records, node: str, service: Service) -> Records:
    """Return what one service of a node wrote down: what it acknowledged, and every other of what it did not."""
    name = np.frombuffer(node.encode().ljust(16, b"\x00"), _WORD)[0]
    number = (history["source"]["tail"] >> np.uint64(56)).astype(np.int64) - 1  # the last byte of the address
    at_hand = (number % len(NODES) == NODES.index(node)) & (history["key"] % np.uint64(2) == 0)
    undecided = (history["outcome"] == Outcome.INDETERMINATE) & at_hand
    taken = history[(history["service"] == service) & ((history["node"] == name) | undecided)]
    receipts = np.zeros(len(taken), RECEIPT_DTYPE)
    for column in ("run", "key", "kind", "service", "size_bytes", "digest_a", "digest_b"):
        receipts[column] = taken[column]
    receipts["flags"] = Flag.OBSERVATION if _KINDS[service] is Kind.QUERY else Flag.NONE
    receipts["received_ns"] = taken["begun_ns"] + (taken["ended_ns"] - taken["begun_ns"]) // 2
    receipts["clock_ns"] = receipts["received_ns"] + 10**18
    receipts["peer"] = np.frombuffer(packed_address(BALANCER), _WORD)
    receipts["caller"], receipts["node"] = np.frombuffer(b"PREFLIGHT".ljust(16, b"\x00"), _WORD), name
    return receipts


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
