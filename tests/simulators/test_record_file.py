from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from simulators.operations import RecordError, RecordFile, read_records

MAGIC = b"PFTEST\x00\x01"
FIELDS = (("writer", "B"), ("number", "I"), ("filling", "100s"))
_APPEND = """
import sys
from pathlib import Path
from tests.simulators.test_record_file import FIELDS, MAGIC
from simulators.operations import RecordFile

writer = int(sys.argv[2])
with RecordFile(Path(sys.argv[1]), MAGIC, FIELDS, shared=True) as file:
    for first in range(0, 3000, 3):
        file.append((writer, number, bytes((writer,)) * 100) for number in range(first, first + 3))
"""
_FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.simulators.test_record_file import FIELDS, MAGIC
from simulators.operations import RecordError, RecordFile

path = Path(sys.argv[1])
with RecordFile(path, MAGIC, FIELDS, shared=True) as file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 150, resource.RLIM_INFINITY))
    try:
        file.append((1, number, b"") for number in range(3))
    except RecordError as error:
        sys.exit(str(error))
"""


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stderr=subprocess.PIPE, text=True)


def test_what_several_processes_append_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "records"
    writers = [python(_APPEND, path, number) for number in range(4)]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [""] * 4
    found = list(read_records(path, MAGIC, FIELDS))
    assert all(filling == bytes((writer,)) * 100 for writer, _, filling in found)
    assert Counter(writer for writer, _, _ in found) == {0: 3000, 1: 3000, 2: 3000, 3: 3000}
    for writer in range(4):
        assert [number for found_writer, number, _ in found if found_writer == writer] == list(range(3000))


@pytest.mark.parametrize("shared", [False, True])
def test_a_record_torn_by_a_kill_is_cut_off_before_new_ones_follow(tmp_path: Path, *, shared: bool) -> None:
    path = tmp_path / "records"
    with RecordFile(path, MAGIC, FIELDS, shared=shared) as file:
        file.append([(1, 1, b"a")])
    with path.open("ab") as torn:
        torn.write(b"half a record")
    with RecordFile(path, MAGIC, FIELDS, shared=shared) as file:
        file.append([(1, 2, b"b")])
    assert [number for _, number, _ in read_records(path, MAGIC, FIELDS)] == [1, 2]


def test_a_batch_that_a_full_disk_cut_short_is_taken_back_and_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "records"
    with RecordFile(path, MAGIC, FIELDS, shared=True) as file:
        file.append([(0, 1, b"")])
        full = python(_FULL_DISK, path)
        assert "expected to append 315 bytes, found room for 150" in full.communicate(timeout=60)[1]
        file.append([(0, 2, b"")])
    assert [(writer, number) for writer, number, _ in read_records(path, MAGIC, FIELDS)] == [(0, 1), (0, 2)]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_bytes(b"something else, long enough")
    with pytest.raises(RecordError, match="expected a file that begins with"):
        RecordFile(path, MAGIC, FIELDS, shared=True)
