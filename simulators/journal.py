"""A node's receipts: what it took, written *before* it acknowledges.

One journal for each service of each node, in `<node's folder>/journal/<service>.receipts`. A receipt is of a fixed size
and written with one `write(2)`, so it survives `kill -9` of the service that wrote it.
"""

from __future__ import annotations

import enum
import functools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import xxhash

from .operations import Identity, RecordFile, Service, packed_address, read_records, record_struct

RECEIPT_MAGIC = b"PFRECEIPTS\x00\x01"
RECEIPT_FIELDS: tuple[tuple[str, str], ...] = (
    ("run", "I"), ("key", "Q"), ("kind", "B"), ("service", "B"), ("flags", "B"), ("received_ns", "q"), ("clock_ns", "q"),
    ("size_bytes", "Q"), ("digest", "16s"), ("peer", "16s"), ("peer_port", "H"), ("caller", "16s"), ("node", "16s"),
)  # fmt: skip


class Flag(enum.IntFlag):
    """What is special about a receipt."""

    NONE = 0
    FOREIGN = 1  # the payload carries no identity of ours: `key` is the xxh3-64 of its own identifier
    OBSERVATION = 2  # an echo or a query: seen, not stored, in no loss join


_FOREIGN = int(Flag.FOREIGN)  # the member of an enumeration is dear to look up, and to pack


class Receipt(NamedTuple):
    """What one node took, once. `received_ns` is `monotonic_ns`, `clock_ns` is `time_ns`, both of the node's host.

    `digest` is the xxh3-128 of the payload as on the wire, `peer` the address that the node saw, `caller` what the peer
    called itself (calling AE title, MSH-3), `node` the node's name.
    """

    run: int
    key: int
    kind: int
    service: int
    flags: int
    received_ns: int
    clock_ns: int
    size_bytes: int
    digest: bytes
    peer: bytes
    peer_port: int
    caller: bytes
    node: bytes


pack_receipt = record_struct(RECEIPT_FIELDS).pack
"""Pack the fields of a Receipt, in their order, without making one: for a service whose time goes into receipts."""


_WAY_FROM = [name for name, _ in RECEIPT_FIELDS].index("peer")
_pack_what_came = record_struct(RECEIPT_FIELDS[:_WAY_FROM]).pack
_pack_way = record_struct(RECEIPT_FIELDS[_WAY_FROM:]).pack


@functools.lru_cache(maxsize=256)  # the same for all that comes over one connection; few, so that memory is soon flat
def _packed_way(peer: tuple[str, int], caller: str, node: bytes) -> bytes:
    """Pack the last fields of a receipt: who sent it, who took it."""
    return _pack_way(packed_address(peer[0]), peer[1], caller.encode("ascii", "replace")[:16], node)


class Journal:
    """The receipts of one service of one node.

    Parameters
    ----------
    directory : Path
        The node's folder.
    node : str
        The node's name, 16 ASCII characters at most.
    service : Service
        Whose journal.
    shared : bool
        Whether several processes of the service write it; each of them opens it for itself.

    Raises
    ------
    RecordError
        From `append` too: a service that cannot write a receipt must not acknowledge.
    """

    def __init__(self, directory: Path, node: str, service: Service, *, shared: bool = False) -> None:
        self._node = node.encode("ascii")
        self._service = int(service)
        self._file = RecordFile(journal_path(directory, service), RECEIPT_MAGIC, RECEIPT_FIELDS, shared=shared)

    def receipt(
        self, identity: Identity | None, identifier: str, payload: bytes | memoryview, peer: tuple[str, int], caller: str,
        flags: Flag = Flag.NONE,
    ) -> Receipt:  # fmt: skip
        """Make the receipt of a payload, now.

        Parameters
        ----------
        identity : Identity or None
            None for a payload that is not ours: it is flagged as foreign and known by the hash of its identifier.
        identifier : str
            The payload's own identifier as found in it (SOP Instance UID, MSH-10, …).
        payload : bytes
            What was received, as on the wire.
        peer : (address, port)
            Who sent it, as the node sees it.
        caller : str
            What the peer called itself; cut to 16 bytes.
        flags : Flag
            Flag.OBSERVATION for what is seen and not stored.
        """
        digest = xxhash.xxh3_128_digest(payload)
        return self.receipt_of_digest(identity, identifier, digest, len(payload), peer, caller, flags)

    def receipt_of_digest(
        self, identity: Identity | None, identifier: str, digest: bytes, size_bytes: int, peer: tuple[str, int], caller: str,
        flags: Flag = Flag.NONE,
    ) -> Receipt:  # fmt: skip
        """Make a receipt as `receipt` does, of a payload whose digest is known already."""
        if identity is None:
            run, key, kind, flags = 0, xxhash.xxh3_64_intdigest(identifier.encode()), 0, flags | Flag.FOREIGN
        else:
            run, key, kind = identity.run, identity.key, int(identity.kind)
        return Receipt(
            run, key, kind, self._service, flags, time.monotonic_ns(), time.time_ns(), size_bytes, digest,
            packed_address(peer[0]), peer[1], caller.encode("ascii", "replace")[:16], self._node,
        )  # fmt: skip

    def packed_receipt(
        self, named: tuple[int, int, int] | None, identifier: str, digest: bytes, size_bytes: int, peer: tuple[str, int],
        caller: str,
    ) -> bytes:  # fmt: skip
        """Make a packed receipt, for `append_packed`, of a payload whose run, key and kind are known (None: it is foreign).

        The other arguments are those of `receipt_of_digest`; it says the same, at a third of the price.
        """
        run, key, kind = named or (0, xxhash.xxh3_64_intdigest(identifier.encode()), 0)
        return _pack_what_came(
            run, key, kind, self._service, 0 if named else _FOREIGN, time.monotonic_ns(), time.time_ns(), size_bytes, digest
        ) + _packed_way(peer, caller, self._node)

    def append(self, *receipts: Receipt) -> None:
        """Write receipts with one `write(2)`; when this returns they outlive the process."""
        self._file.append(receipts)

    def append_packed(self, receipts: Iterable[bytes]) -> None:
        """Write receipts that `pack_receipt` made, as `append` does."""
        self._file.append_packed(b"".join(receipts))

    def close(self) -> None:
        """Close the journal."""
        self._file.close()


def journal_path(directory: Path, service: Service) -> Path:
    """Return where the journal of a service lies in its node's folder."""
    return directory / "journal" / f"{service.name.lower()}.receipts"


def read_receipts(path: Path) -> Iterator[Receipt]:
    """Yield the receipts of a journal; one torn at the end is left out.

    Raises
    ------
    RecordError
        When the file is not a journal.
    """
    for values in read_records(path, RECEIPT_MAGIC, RECEIPT_FIELDS):
        yield Receipt(*values)
