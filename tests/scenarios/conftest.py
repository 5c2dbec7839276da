"""Handwritten histories and journals: records go through real files, as in a run."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from scenarios.frames import operations_frame, receipts_frame
from simulators.journal import RECEIPT_FIELDS, RECEIPT_MAGIC, Receipt
from simulators.operations import (
    Kind,
    Operation,
    Outcome,
    Phase,
    RecordFile,
    Service,
    Way,
    operation_file,
    packed_address,
)

RUN = 7
A, B = b"a" * 16, b"b" * 16
SECOND = 1_000_000_000

_OPERATION = Operation(
    run=RUN,
    key=1,
    patient=0,
    kind=Kind.MESSAGE,
    service=Service.HL7,
    outcome=Outcome.ACKNOWLEDGED,
    phase=Phase.DONE,
    way=Way.VIP,
    warning=0,
    attempt=1,
    status=0,
    workload=1,
    session=1,
    intended_ns=0,
    begun_ns=0,
    ended_ns=SECOND,
    size_bytes=100,
    digest=A,
    source=packed_address("127.1.0.1"),
    source_port=1000,
    target=packed_address("127.0.110.101"),
    target_port=6667,
    node=b"mach7-1",
)
_RECEIPT = Receipt(
    run=RUN,
    key=1,
    kind=Kind.MESSAGE,
    service=Service.HL7,
    flags=0,
    received_ns=SECOND // 2,
    clock_ns=0,
    size_bytes=100,
    digest=A,
    peer=packed_address("127.0.110.10"),
    peer_port=2000,
    caller=b"PREFLIGHT",
    node=b"mach7-1",
)

History = Callable[..., pl.DataFrame]


def operation(key: int, **fields: object) -> Operation:
    if isinstance(source := fields.get("source"), str):
        fields["source"] = packed_address(source)
    return _OPERATION._replace(key=key, **fields)  # type: ignore[arg-type]


def receipt(key: int, **fields: object) -> Receipt:
    if isinstance(peer := fields.get("peer"), str):
        fields["peer"] = packed_address(peer)
    return _RECEIPT._replace(key=key, **fields)  # type: ignore[arg-type]


@pytest.fixture
def history(tmp_path: Path) -> History:
    def written(*operations: Operation) -> pl.DataFrame:
        path = tmp_path / "history.operations"
        path.unlink(missing_ok=True)
        with operation_file(path) as file:
            file.append(operations)
        return operations_frame([path])

    return written


@pytest.fixture
def journal(tmp_path: Path) -> History:
    def written(*receipts: Receipt) -> pl.DataFrame:
        path = tmp_path / "hl7.receipts"
        path.unlink(missing_ok=True)
        with RecordFile(path, RECEIPT_MAGIC, RECEIPT_FIELDS) as file:
            file.append(receipts)
        return receipts_frame([path])

    return written
