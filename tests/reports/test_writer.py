"""A report on disk: never half of one, and nothing removed that is not ours."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reports.errors import ForeignFolderError, ReportError
from reports.verdict import Pictures
from reports.writer import read_report, remove_older_report, write_report

if TYPE_CHECKING:
    from .conftest import CheckFactory, ReportFactory

_CHECKOUT = Path(__file__).parents[2]
_WRITES_FOR_EVER = """
import sys
from pathlib import Path
import msgspec
from reports.verdict import Pictures
from reports.writer import read_report, write_report
directory = Path(sys.argv[1])
report = read_report(directory / "report.json")
print("ready", flush=True)
while True:
    report = msgspec.structs.replace(report, profile="x" * (50_000 - len(report.profile)))
    write_report(directory, report, Pictures())
"""


def test_a_report_is_three_files_and_no_drafts(tmp_path: Path, make_check: CheckFactory, make_report: ReportFactory) -> None:
    write_report(tmp_path / "out" / "new", make_report(make_check("PERSIST-1/DICOM")), Pictures())
    assert sorted(path.name for path in (tmp_path / "out" / "new").iterdir()) == ["index.html", "junit.xml", "report.json"]


def test_everyone_may_read_a_report(tmp_path: Path, make_report: ReportFactory) -> None:
    write_report(tmp_path, make_report(), Pictures())
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_a_writer_that_is_killed_leaves_a_whole_report(tmp_path: Path, make_report: ReportFactory) -> None:
    write_report(tmp_path, make_report(profile="x"), Pictures())
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES_FOR_EVER, tmp_path], cwd=_CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        sizes = {len(read_report(tmp_path / "report.json").profile) for _ in range(300)}
        writer.send_signal(signal.SIGKILL)
    assert sizes <= {1, 49_999}
    assert len(read_report(tmp_path / "report.json").profile) in (1, 49_999)
    assert (tmp_path / "index.html").read_text().rstrip().endswith("</html>")


def test_a_file_that_cannot_be_replaced_stays_and_no_draft_is_left(tmp_path: Path, make_report: ReportFactory) -> None:
    (tmp_path / "report.json" / "in the way").mkdir(parents=True)
    with pytest.raises(ReportError, match="choose another --out"):
        write_report(tmp_path, make_report(), Pictures())
    assert (tmp_path / "report.json" / "in the way").is_dir()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_what_cannot_be_rendered_touches_no_file(
    tmp_path: Path, make_check: CheckFactory, make_report: ReportFactory
) -> None:
    write_report(tmp_path, make_report(), Pictures())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ReportError):
        write_report(tmp_path, make_report(make_check("LOSS-1/HL7", measured={"lost": object()})), Pictures())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_older_report_is_removed_with_its_records_and_logs(tmp_path: Path, make_report: ReportFactory) -> None:
    write_report(tmp_path, make_report(), Pictures())
    for name in ("operations.parquet", "receipts.parquet"):
        (tmp_path / name).write_bytes(b"PAR1")
    (tmp_path / "logs" / "node1").mkdir(parents=True)
    (tmp_path / "logs" / "node1" / "dicom.log").write_text("log")
    remove_older_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".preflight-report"]


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    remove_older_report(tmp_path / "out")
    (tmp_path / "out" / "logs").mkdir()
    (tmp_path / "out" / "operations.parquet").write_bytes(b"PAR1")
    (tmp_path / "out" / ".index.html.abc.tmp").write_bytes(b"half")
    remove_older_report(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".preflight-report"]


def test_other_peoples_files_beside_a_report_stay(tmp_path: Path, make_report: ReportFactory) -> None:
    write_report(tmp_path, make_report(), Pictures())
    (tmp_path / "minutes.docx").write_text("signed")
    remove_older_report(tmp_path)
    assert (tmp_path / "minutes.docx").read_text() == "signed"


@pytest.mark.parametrize("name", ["report.json", "index.html", "minutes.docx"])
def test_a_folder_without_a_report_of_ours_is_refused_untouched(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    (tmp_path / "logs").mkdir()
    with pytest.raises(ForeignFolderError, match="choose another --out"):
        remove_older_report(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "logs"])


def test_a_link_in_place_of_the_logs_is_removed_and_not_followed(tmp_path: Path, make_report: ReportFactory) -> None:
    write_report(tmp_path / "out", make_report(), Pictures())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.log").write_text("kept")
    (tmp_path / "out" / "logs").symlink_to(tmp_path / "elsewhere")
    remove_older_report(tmp_path / "out")
    assert not (tmp_path / "out" / "logs").exists()
    assert (tmp_path / "elsewhere" / "kept.log").read_text() == "kept"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ReportError, match="choose another --out"):
        remove_older_report(tmp_path / "out")
