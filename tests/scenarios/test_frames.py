from pathlib import Path

import polars as pl
import pytest

from scenarios.frames import (
    BATCH_ROWS,
    batches,
    columns,
    operations_frame,
    own_receipts,
    receipts_frame,
    scan_operations,
    scan_receipts,
)
from simulators.journal import RECEIPT_FIELDS, RECEIPT_MAGIC, Flag, Receipt
from simulators.operations import (
    OPERATION_FIELDS,
    Operation,
    RecordError,
    RecordFile,
    Service,
    operation_file,
    packed_address,
)
from tests.scenarios.conftest import A, B, operation, receipt


def written(path: Path, *operations: Operation) -> Path:
    with operation_file(path) as file:
        file.append(operations)
    return path


def noted(path: Path, *receipts: Receipt) -> Path:
    with RecordFile(path, RECEIPT_MAGIC, RECEIPT_FIELDS) as file:
        file.append(receipts)
    return path


def test_a_history_becomes_a_frame_with_addresses_and_names_as_text_and_a_digest_in_two_halves(tmp_path: Path) -> None:
    path = written(
        tmp_path / "h", operation(5, source=packed_address("2001:db8::7"), node=b"mach7-2", digest=bytes(range(16)))
    )
    [row] = operations_frame([path]).iter_rows(named=True)
    assert (row["key"], row["source"], row["target"], row["node"]) == (5, "2001:db8::7", "127.0.110.101", "mach7-2")
    assert (row["digest_a"], row["digest_b"]) == (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    assert list(row) == [
        name for field, _ in OPERATION_FIELDS for name in (("digest_a", "digest_b") if field == "digest" else (field,))
    ]


def test_several_histories_are_one_frame_in_the_order_of_the_files(tmp_path: Path) -> None:
    first, second = written(tmp_path / "1", operation(3), operation(1)), written(tmp_path / "2", operation(2, node=b"n9"))
    frame = operations_frame([first, second])
    assert frame["key"].to_list() == [3, 1, 2]
    assert frame["node"].to_list() == ["mach7-1", "mach7-1", "n9"]


def test_a_scan_reads_the_file_as_it_is_when_it_is_collected(tmp_path: Path) -> None:
    lazy = scan_operations([written(tmp_path / "h", operation(1))])
    written(tmp_path / "h", operation(2))
    assert columns(lazy, "key")["key"].to_list() == [1, 2]


def test_a_scan_filters_by_a_column_that_is_not_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "h", operation(1, service=Service.DICOM), operation(2, node=b"n2"), operation(3))
    lazy = scan_operations([path]).filter((pl.col("service") == int(Service.HL7)) & (pl.col("node") == "n2"))
    assert columns(lazy, "key", "source").rows() == [(2, "127.1.0.1")]
    assert scan_operations([path]).select("key").head(2).collect()["key"].to_list() == [1, 2]


def test_more_rows_than_a_batch_holds_and_more_addresses_than_places_are_read_right(tmp_path: Path) -> None:
    count = BATCH_ROWS + 1000
    addresses = [f"127.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(1 << 16, (1 << 16) + count // 2)]
    sources = [addresses[n * 7919 % len(addresses)] for n in range(count)]
    path = written(tmp_path / "h", *(operation(key, source=source) for key, source in enumerate(sources)))
    frame = columns(scan_operations([path]), "key", "source")
    assert frame["key"].to_list() == list(range(count))
    assert frame["source"].to_list() == sources


def test_batches_hold_every_row_once(tmp_path: Path) -> None:
    path = written(tmp_path / "h", *(operation(key) for key in range(BATCH_ROWS + 5)))
    parts = [batch["key"] for batch in batches(scan_operations([path]), "key")]
    assert sum(map(len, parts)) == BATCH_ROWS + 5
    assert pl.concat(parts).to_list() == list(range(BATCH_ROWS + 5))
    assert [batch.rows() for batch in batches(operations_frame([path]).head(2), "key")] == [[(0,), (1,)]]


def test_a_torn_record_at_the_end_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "h", operation(1))
    with path.open("ab") as file:
        file.write(b"torn")
    assert operations_frame([path])["key"].to_list() == [1]


def test_no_file_and_an_empty_file_make_an_empty_frame_with_all_columns(tmp_path: Path) -> None:
    empty = operations_frame([written(tmp_path / "h")])
    assert (empty.height, empty.columns) == (0, operations_frame([]).columns)
    assert (receipts_frame([]).height, receipts_frame([]).schema["peer"]) == (0, pl.Categorical())


def test_another_kind_of_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    journal = noted(tmp_path / "j", receipt(1))
    with pytest.raises(RecordError, match="PFOPERATIONS"):
        scan_operations([journal])
    with pytest.raises(RecordError, match="PFRECEIPTS"):
        receipts_frame([written(tmp_path / "h")])


def test_own_receipts_are_of_the_run_and_neither_foreign_nor_observations(tmp_path: Path) -> None:
    path = noted(
        tmp_path / "j", receipt(1, digest=A), receipt(2, run=8, digest=B), receipt(3, flags=Flag.FOREIGN),
        receipt(4, flags=Flag.OBSERVATION),
    )  # fmt: skip
    assert own_receipts(receipts_frame([path]), 7)["key"].to_list() == [1]
    assert own_receipts(scan_receipts([path]), 7).collect()["key"].to_list() == [1]
