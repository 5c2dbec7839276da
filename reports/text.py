"""Text that came from elsewhere (a reason, a name, a log line), made fit for paper, XML and a terminal."""

from __future__ import annotations

import re

# What XML 1.0 (section 2.2) forbids, what drives a terminal (C0, DEL, C1), and the marks that reorder what a reader sees.
_ILLEGIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def legible(text: str) -> str:
    """Return `text` without the characters that no reader can see: controls other than tab and newline, surrogates."""
    return _ILLEGIBLE.sub("", text)


def one_line(text: str) -> str:
    """Return `text`, legible, on one line: every run of white space becomes one space."""
    return " ".join(legible(text).split())


def shortened(text: str, limit: int) -> str:
    """Return `text` on one line of `limit` characters at most; what was cut off shows as an ellipsis."""
    line = one_line(text)
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def encodable(value: object) -> object:
    """Return plain data (dicts, lists, scalars) with every lone surrogate replaced, so that it can be written as UTF-8.

    A file name or a garbled message can carry them into a reason; a report must not be lost for that.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [encodable(item) for item in value]
    return value
