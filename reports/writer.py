"""A report on disk: removed as a whole, written by atomic rename, so that a reader never meets half of one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from .errors import ForeignFolderError, ReportError
from .html import html_report
from .json_report import json_report, read_report
from .junit import junit_report
from .verdict import Pictures, Report

__all__ = ["OWN_FILES", "OWN_FOLDERS", "ClaimedFolder", "read_report", "remove_older_report", "write_report"]

# report.json first: once that is gone, nothing in the folder claims a verdict any more.
OWN_FILES = ("report.json", "index.html", "junit.xml", "operations.parquet", "receipts.parquet")
OWN_FOLDERS = ("logs",)
_MARKER = ".preflight-report"
_MARKER_TEXT = "Preflight writes its report into this folder and removes its older one from it.\n"


def write_report(directory: Path, report: Report, pictures: Pictures) -> None:
    """Write index.html, junit.xml and, last, report.json into `directory`, each by atomic rename.

    Everything is rendered before anything is written. A report.json that is there is complete, and so is what it stands
    beside.

    Parameters
    ----------
    directory : Path
        The report's folder; it is made where it is missing. Evidence paths of the checks are relative to it.
    report : Report
        What was found.
    pictures : Pictures
        What index.html draws.

    Raises
    ------
    ReportError
        When the report holds what is no JSON, or a file cannot be written. Older files then stand as they were.
    """
    files = {
        "index.html": html_report(report, pictures).encode("utf-8"),
        "junit.xml": junit_report(report),
        "report.json": json_report(report),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _replace(directory / name, content)
    except OSError as error:
        raise ReportError(f"{directory}: expected to write the report, found: {error}; choose another --out") from error


class ClaimedFolder:
    """A report's folder that one run has for itself, until it is released or the process ends.

    Parameters
    ----------
    directory : Path
        Made, marked and emptied of an older report.

    Raises
    ------
    ReportError
        When another run has it, or as `remove_older_report` does.
    """

    def __init__(self, directory: Path) -> None:
        _prepare_mark(directory)
        self._mark = (directory / _MARKER).open("r+b")
        try:
            fcntl.flock(self._mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._mark.close()
            raise ReportError(
                f"{directory}: expected no other run, found one that writes its report here; wait for it, "
                "or choose another --out"
            ) from error
        try:
            remove_older_report(directory)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let another run have it."""
        self._mark.close()


def remove_older_report(directory: Path) -> None:
    """Make `directory` ready for a new report: it exists, it is marked as ours, and nothing of an older report is in it.

    Only the files of a report are removed, by name: report.json, index.html, junit.xml, the two Parquet files and logs/.
    Anything else stays. The mark (a hidden file) is what lets the next run clean up after one that was killed.

    Raises
    ------
    ForeignFolderError
        When the folder holds something and neither a report of ours nor our mark. Nothing was touched.
    ReportError
        When the folder cannot be made or cleaned.
    """
    _prepare_mark(directory)
    try:
        for name in OWN_FILES:
            (directory / name).unlink(missing_ok=True)
            for draft in directory.glob(f".{name}.*.tmp"):
                draft.unlink()
        for name in OWN_FOLDERS:
            _remove_folder(directory / name)
    except OSError as error:
        raise ReportError(
            f"{directory}: expected to remove the older report, found: {error}; choose another --out"
        ) from error


def _prepare_mark(directory: Path) -> None:
    """Make the folder, see that it is ours or empty, and mark it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()) and not _is_ours(directory):
            raise ForeignFolderError(
                f"{directory}: expected an empty folder or an older report, found other files; choose another --out, "
                "or empty the folder yourself"
            )
        if not (directory / _MARKER).exists():
            _replace(directory / _MARKER, _MARKER_TEXT.encode())
    except OSError as error:
        raise ReportError(
            f"{directory}: expected to make the report's folder, found: {error}; choose another --out"
        ) from error


def _is_ours(directory: Path) -> bool:
    """Whether the folder is marked as ours, or holds a report.json that calls itself one of ours, of any version."""
    if (directory / _MARKER).is_file():
        return True
    try:
        return b'"preflight/report/' in (directory / "report.json").read_bytes()
    except OSError:
        return False


def _remove_folder(folder: Path) -> None:
    if folder.is_symlink():  # only the link is ours, never what it points at
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _replace(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: whoever opens it sees the old file or the new one, also after a power cut."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o644)  # mkstemp makes it private; a report is there to be read
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
