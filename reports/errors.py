"""The errors of this room: ReportError, and under it ForeignFolderError and UnreadableReportError."""

from __future__ import annotations


class ReportError(Exception):
    """A report could not be written, removed or read. The message names the file, what was expected and what to do."""


class ForeignFolderError(ReportError):
    """The folder for the report holds something else: nothing in it was touched."""


class UnreadableReportError(ReportError):
    """A report.json cannot be read, or breaks the contract `preflight/report/1`."""
