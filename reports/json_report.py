"""report.json: the report for other programs, to the letter of the contract `preflight/report/1`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .errors import ReportError, UnreadableReportError
from .text import encodable
from .verdict import Report


def json_report(report: Report) -> bytes:
    """Return report.json: UTF-8, indented by two spaces, keys in the contract's order, a newline at the end.

    Raises
    ------
    ReportError
        When `measured`, `limit` or `predicted` of a check holds something that is no JSON.
    """
    try:
        plain = encodable(msgspec.to_builtins(report, str_keys=True))
        return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"
    except (TypeError, ValueError) as error:
        raise ReportError(
            "report.json: expected strings, numbers, booleans, lists and dicts in measured, limit and predicted, "
            f"found: {error}; convert the value in its checker"
        ) from error


def read_report(path: Path) -> Report:
    """Return the report that a report.json holds; unknown keys, missing keys and wrong types are refused.

    Raises
    ------
    UnreadableReportError
        When the file cannot be read, or is not what the contract says.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        found = error.strerror
        raise UnreadableReportError(f"{path}: expected a report, found: {found}; run `preflight accept` first") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableReportError(f"{path}: expected preflight/report/1, found: {error}; write the report anew") from error
