from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from compose.native import NativeLab
from lbconfig.site_file import load_site
from scenarios.handover import PICTURED, write_records
from scenarios.run import Run
from simulators.journal import RECEIPT_FIELDS, RECEIPT_MAGIC, Flag, journal_path
from simulators.operations import Kind, RecordFile, Service, operation_file
from tests.scenarios.conftest import RUN, operation, receipt

SITE = Path(__file__).parents[2] / "lbconfig" / "sites" / "loopback.toml"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Make a run on a lab that is never started: its records are all that is read."""
    run = Run(NativeLab(load_site(SITE), tmp_path / "lab"), tmp_path / "run", 1, RUN)
    run.record(operation(1))
    yield run
    run.close()


def generated(run: Run, place: str, *keys: int) -> None:
    with operation_file(run.directory / "load" / place) as file:
        file.append([operation(key, workload=9) for key in keys])


def journalled(run: Run) -> None:
    assert isinstance(run.lab, NativeLab)
    [first, *_] = run.lab.node_directories().values()
    with RecordFile(journal_path(first, Service.HL7), RECEIPT_MAGIC, RECEIPT_FIELDS) as file:
        file.append([receipt(1), receipt(2), receipt(3, flags=Flag.OBSERVATION), receipt(4, run=RUN + 1)])


def test_the_operations_of_a_run_are_its_own_and_those_of_every_generator_of_its_load_runs(run: Run) -> None:
    generated(run, "peak/generator-2.operations", 30)
    generated(run, "peak/generator-1.operations", 20, 21)
    generated(run, "generator-3.operations", 40)
    assert run.operations("hl7")["key"].sort().to_list() == [1, 20, 21, 30, 40]
    assert run.operations("hl7", [9], kinds=[Kind.MESSAGE])["key"].sort().to_list() == [20, 21, 30, 40]
    assert run.scan_operations("hl7", [1]).collect()["key"].to_list() == [1]
    assert run.operations("dicom").height == 0


def test_the_history_of_a_generator_that_has_only_just_begun_is_passed_over(run: Run) -> None:
    (run.directory / "load").mkdir()
    (run.directory / "load" / "generator-1.operations").touch()
    assert run.history_paths == [run.history_path]


def test_own_receipts_come_with_or_without_observations(run: Run) -> None:
    journalled(run)
    assert run.receipts("hl7")["key"].to_list() == [1, 2]
    assert run.scan_receipts("hl7", observations=True).collect()["key"].to_list() == [1, 2, 3]
    assert run.receipts("dicom").height == 0


def test_all_operations_and_receipts_become_parquet_that_joins_by_key(run: Run, tmp_path: Path) -> None:
    generated(run, "generator-1.operations", 2)
    journalled(run)
    pictured = write_records(run, tmp_path)
    operations, receipts = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("operations", "receipts"))
    assert operations["key"].to_list() == [1, 2]
    assert receipts["key"].to_list() == [1, 2, 3, 4]
    assert operations.join(receipts, on="key")["node"].to_list() == ["mach7-1", "mach7-1"]
    assert operations["source"].to_list() == ["127.1.0.1", "127.1.0.1"]
    assert (pictured.columns, pictured.height) == (list(PICTURED), 2)
