"""Who a payload is, and what became of each attempt to deliver it.

An *identity* names a payload for ever: it is in the payload itself (SOP Instance UID, MSH-10, patient id, accession
number), in the client's history and in the node's journal, so that the three can be joined. An *operation* is one
attempt to deliver one identity, and its fate. Records are of a fixed size, so that a history survives `kill -9` and
twenty million of them can be read as one array.
"""

from __future__ import annotations

import enum
import fcntl
import functools
import ipaddress
import itertools
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Self

MARK = 0x5046  # "PF", the first 16 bits of every identity: UIDs of ours begin with 2.25.1067
SEQUENCE_BITS = 44
GENERATOR_BITS = 14
_SEQUENCE_LIMIT = 1 << SEQUENCE_BITS
_GENERATOR_LIMIT = 1 << GENERATOR_BITS
_KEY_BITS = GENERATOR_BITS + SEQUENCE_BITS
_KEY_LIMIT = 1 << _KEY_BITS
_EVERY_UUIDS_BITS = 0xFFFF << 112 | 0xF << 76 | 0b11 << 62  # those that are the same in each UUID of ours
_EVERY_UUID = MARK << 112 | 8 << 76 | 0b10 << 62  # mark, version 8, variant
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BASE_32 = "0123456789abcdefghijklmnopqrstuv"  # the digits that int() knows; "!" is none
_DIGITS = dict(zip(_CROCKFORD.encode(), _BASE_32.encode(), strict=True))
_CROCKFORD_TO_BASE_32 = bytes(_DIGITS.get(byte, ord("!")) for byte in range(256))
_CODE_LETTERS = 18
_ACCESSION_LETTERS = 14
UID_LENGTH = 44  # characters of every UID of ours: an encoded instance is patched in place


class RecordError(Exception):
    """A record file is not what it says it is, or could not be written."""


class Kind(enum.IntEnum):
    """What sort of thing an identity names. Only the kinds up to NOTE take part in the loss join."""

    INSTANCE = 1
    MESSAGE = 2
    NOTE = 3
    STUDY = 16
    SERIES = 17
    PATIENT = 18
    ORDER = 19
    PROCEDURE_STEP = 20
    QUERY = 32
    ECHO = 33


_KINDS = frozenset(map(int, Kind))


class Service(enum.IntEnum):
    """The four services of a node, as numbers for records."""

    DICOM = 1
    HL7 = 2
    DMWL = 3
    HTTPS = 4


class Outcome(enum.IntEnum):
    """The fate of one attempt.

    ACKNOWLEDGED: the node said that it took it. REFUSED: certainly not taken (a refusal was read, or not one byte of the
    payload left). INDETERMINATE: some of the payload left and no answer was read; the node may have it or not.
    """

    ACKNOWLEDGED = 1
    REFUSED = 2
    INDETERMINATE = 3


class Phase(enum.IntEnum):
    """How far an attempt came."""

    CONNECT = 1
    NEGOTIATE = 2
    SEND = 3
    RESPONSE = 4
    DONE = 5


class Way(enum.IntEnum):
    """Which way an attempt went: through the VIP, or straight to a real server (the baseline)."""

    VIP = 1
    STRAIGHT = 2


class Identity(NamedTuple):
    """The name of one payload.

    Parameters
    ----------
    run : int
        The run, 32 bits.
    kind : Kind
        What it names.
    generator : int
        Which generator made it, 14 bits; given out centrally.
    sequence : int
        Counted by its generator from 1, 44 bits.
    """

    run: int
    kind: Kind
    generator: int
    sequence: int

    @property
    def key(self) -> int:
        """The join key of one run: generator and sequence, 58 bits."""
        return self.generator << SEQUENCE_BITS | self.sequence

    @property
    def uuid(self) -> int:
        """The UUID of version 8 (RFC 9562, 5.8) as an integer of 128 bits."""
        custom_a = MARK << 32 | self.run
        return custom_a << 80 | 8 << 76 | self.kind << 64 | 0b10 << 62 | self.generator << SEQUENCE_BITS | self.sequence

    @property
    def uid(self) -> str:
        """The UID `2.25.<decimal>` (PS3.5 B.2), always 44 characters."""
        return f"2.25.{self.uuid}"

    @property
    def code(self) -> str:
        """`PF` and 18 Crockford characters, for MSH-10 and patient ids: run, generator, sequence (not the kind)."""
        return "PF" + _crockford(self.run << 58 | self.key, _CODE_LETTERS)

    @property
    def accession(self) -> str:
        """`PF` and 14 Crockford characters, for the accession number (SH, 16): sequence, generator, 12 bits of the run."""
        value = self.sequence << 26 | self.generator << 12 | self.run & 0xFFF
        return "PF" + _crockford(value, _ACCESSION_LETTERS)


def identity_of_uid(uid: str) -> Identity | None:
    """Read an identity back from a UID; None when the UID is not one of ours."""
    found = run_key_and_kind_of_uid(uid)
    if found is None:
        return None
    run, key, kind = found
    return Identity(run, Kind(kind), key >> SEQUENCE_BITS, key & _SEQUENCE_LIMIT - 1)


def run_key_and_kind_of_uid(uid: str) -> tuple[int, int, int] | None:
    """Read run, join key and kind back from a UID, as `identity_of_uid` does; None when the UID is not one of ours."""
    if len(uid) != UID_LENGTH or uid[:9] != "2.25.1067":
        return None
    digits = uid[5:]
    if not (digits.isascii() and digits.isdigit()):
        return None
    value = int(digits)
    kind = value >> 64 & 0xFFF
    if value & _EVERY_UUIDS_BITS != _EVERY_UUID or kind not in _KINDS:
        return None
    return value >> 80 & 0xFFFFFFFF, value & _KEY_LIMIT - 1, kind


def identity_of_code(code: str, kind: Kind) -> Identity | None:
    """Read an identity back from MSH-10 or a patient id; None when it is not one of ours. The kind comes from the field."""
    found = run_and_key_of_code(code.encode("ascii", "replace"))
    if found is None:
        return None
    run, key = found
    return Identity(run, kind, key >> SEQUENCE_BITS, key & _SEQUENCE_LIMIT - 1)


def run_and_key_of_code(code: bytes) -> tuple[int, int] | None:
    """Read run and join key back from the bytes of an MSH-10, as `identity_of_code` does; None when it is not one of ours."""
    value = _crockford_value(code, _CODE_LETTERS)
    return None if value is None else (value >> _KEY_BITS, value & _KEY_LIMIT - 1)


def key_of_accession(accession: str) -> int | None:
    """Read the join key back from an accession number; None when it is not one of ours."""
    value = _crockford_value(accession.encode("ascii", "replace"), _ACCESSION_LETTERS)
    if value is None:
        return None
    return (value >> 12 & _GENERATOR_LIMIT - 1) << SEQUENCE_BITS | value >> 26


class IdentitySource:
    """Gives out the identities of one generator of one run, densely, to any number of threads.

    Parameters
    ----------
    run : int
        0 to 2**32 - 1.
    generator : int
        0 to 2**14 - 1.

    Raises
    ------
    ValueError
        When a number does not fit its bits.
    """

    def __init__(self, run: int, generator: int) -> None:
        if not 0 <= run < 1 << 32:
            raise ValueError(f"run: expected 0 to {(1 << 32) - 1}, found {run}")
        if not 0 <= generator < _GENERATOR_LIMIT:
            raise ValueError(f"generator: expected 0 to {_GENERATOR_LIMIT - 1}, found {generator}")
        self.run = run
        self.generator = generator
        self._sequence = itertools.count(1)  # next() of a count is atomic in CPython

    def next(self, kind: Kind) -> Identity:
        """Return the next identity, of the kind asked for."""
        return Identity(self.run, kind, self.generator, next(self._sequence))


class Operation(NamedTuple):
    """One attempt to deliver one identity, and its fate. Times are `time.monotonic_ns()` of the client's host.

    `status` is the protocol's own: the DICOM status, the two letters of MSA-1 as big-endian bytes, the HTTP status; 0 when
    none was read. `intended_ns` is when it was due, `begun_ns` when it began (connect included), `ended_ns` when its fate
    was known. `size_bytes` and `digest` (xxh3-128) are of the payload as on the wire. `session` numbers the connection
    within its client's process. `node` is who answered, as the node told it; empty when it did not. `workload` is the
    number of the workload in the run. `warning` is 1 when a DICOM warning status was taken as acknowledged.
    """

    run: int
    key: int
    patient: int
    kind: int
    service: int
    outcome: int
    phase: int
    way: int
    warning: int
    attempt: int
    status: int
    workload: int
    session: int
    intended_ns: int
    begun_ns: int
    ended_ns: int
    size_bytes: int
    digest: bytes
    source: bytes
    source_port: int
    target: bytes
    target_port: int
    node: bytes


OPERATION_FIELDS: tuple[tuple[str, str], ...] = (
    ("run", "I"), ("key", "Q"), ("patient", "Q"), ("kind", "B"), ("service", "B"), ("outcome", "B"), ("phase", "B"),
    ("way", "B"), ("warning", "B"), ("attempt", "H"), ("status", "H"), ("workload", "H"), ("session", "I"),
    ("intended_ns", "q"), ("begun_ns", "q"), ("ended_ns", "q"), ("size_bytes", "Q"), ("digest", "16s"), ("source", "16s"),
    ("source_port", "H"), ("target", "16s"), ("target_port", "H"), ("node", "16s"),
)  # fmt: skip
OPERATION_MAGIC = b"PFOPERATIONS\x00\x01"


class RecordFile:
    """An append-only file of fixed-size records behind a header of 16 bytes. One `write(2)` for each batch, unbuffered.

    Parameters
    ----------
    path : Path
        Created, with its folders, when missing; a record torn by a kill is cut off before new ones follow.
    magic : bytes
        At most 16 bytes that say what the records are.
    fields : tuple of (name, struct format)
        Little-endian, packed.
    shared : bool
        Whether other processes may have the file open for appending too; all of them must say so.

    Raises
    ------
    RecordError
        When the file holds something else, or a write did not go through whole.

    Notes
    -----
    What several processes append with O_APPEND does not mix: the kernel finds the end of the file and writes there under one
    lock of the inode (write(2); so it is on local files, not on NFS), and each batch is whole records. Two things are not
    covered by that: to take back a batch that a full disk cut short, and to cut off what a kill left torn, while another
    process appends behind it. Therefore a shared file is locked (flock(2), which dies with its process) for each write.
    """

    def __init__(self, path: Path, magic: bytes, fields: tuple[tuple[str, str], ...], *, shared: bool = False) -> None:
        self.path = path
        self._struct = record_struct(fields)
        self._lock: AbstractContextManager[object] = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        if shared:
            self._lock = _AloneWith(self._fd)
        with self._lock:
            self._make_whole(magic)

    def append(self, records: Iterable[tuple[object, ...]]) -> None:
        """Append records with one write."""
        pack = self._struct.pack
        self.append_packed(b"".join([pack(*record) for record in records]))

    def append_packed(self, batch: bytes) -> None:
        """Append whole records that are packed already, with one write."""
        if batch:
            with self._lock:
                self._write(batch)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_whole(self, magic: bytes) -> None:
        size = os.fstat(self._fd).st_size
        if size < HEADER_BYTES:
            os.ftruncate(self._fd, 0)
            self._write(magic.ljust(HEADER_BYTES, b"\x00"))
            return
        with self.path.open("rb") as file:
            check_header(self.path, file.read(HEADER_BYTES), magic)
        os.ftruncate(self._fd, size - (size - HEADER_BYTES) % self._struct.size)

    def _write(self, batch: bytes) -> None:
        try:
            written = os.write(self._fd, batch)
        except OSError as error:
            raise RecordError(f"{self.path}: expected to append {len(batch)} bytes, found {error}") from error
        if written != len(batch):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)  # a torn record would shift all that follow
            raise RecordError(f"{self.path}: expected to append {len(batch)} bytes, found room for {written}")


class _AloneWith:
    """Keeps other threads and other processes from a file (flock(2)) for as long as the context lasts."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._threads = threading.Lock()  # to the kernel all threads of a process are the same owner of one open file

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._threads.release()


HEADER_BYTES = 16


def record_struct(fields: tuple[tuple[str, str], ...]) -> struct.Struct:
    """Return the packed little-endian struct of a record's fields."""
    return struct.Struct("<" + "".join(code for _, code in fields))


def check_header(path: Path, header: bytes, magic: bytes) -> None:
    """Raise RecordError unless a file begins with the header that its reader expects."""
    expected = magic.ljust(HEADER_BYTES, b"\x00")
    if header != expected:
        raise RecordError(f"{path}: expected a file that begins with {expected!r}, found {header!r}")


def operation_file(path: Path) -> RecordFile:
    """Open a history for appending."""
    return RecordFile(path, OPERATION_MAGIC, OPERATION_FIELDS)


def read_operations(path: Path) -> Iterator[Operation]:
    """Yield the operations of a history; a record torn at the end is left out.

    Raises
    ------
    RecordError
        When the file is not a history.
    """
    for values in read_records(path, OPERATION_MAGIC, OPERATION_FIELDS):
        yield Operation(*values)


def read_records(path: Path, magic: bytes, fields: tuple[tuple[str, str], ...]) -> Iterator[tuple]:  # type: ignore[type-arg]
    """Yield the records of a file as tuples; a record torn at the end is left out."""
    content = path.read_bytes()
    check_header(path, content[:HEADER_BYTES], magic)
    layout = record_struct(fields)
    end = HEADER_BYTES + (len(content) - HEADER_BYTES) // layout.size * layout.size
    yield from layout.iter_unpack(content[HEADER_BYTES:end])


@functools.lru_cache(maxsize=65536)  # a client has two addresses and packs both for every operation
def packed_address(address: str) -> bytes:
    """Return an IPv4 or IPv6 address as 16 bytes (IPv4 mapped as in RFC 4291, 2.5.5.2)."""
    parsed = ipaddress.ip_address(address)
    return parsed.packed if parsed.version == 6 else b"\x00" * 10 + b"\xff\xff" + parsed.packed


def text_address(packed: bytes) -> str:
    """Return 16 packed bytes as an address in its usual spelling."""
    address = ipaddress.IPv6Address(packed.ljust(16, b"\x00"))
    return str(address.ipv4_mapped or address)


def _crockford(value: int, letters: int) -> str:
    return "".join(_CROCKFORD[value >> 5 * place & 31] for place in reversed(range(letters)))


def _crockford_value(text: bytes, letters: int) -> int | None:
    if len(text) != letters + 2 or text[:2] != b"PF":
        return None
    try:
        return int(text[2:].translate(_CROCKFORD_TO_BASE_32), 32)
    except ValueError:
        return None
