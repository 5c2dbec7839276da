"""What a checker says: a verdict, who is to blame, why, and with which numbers."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Values = dict[str, Any]
Numbers = dict[str, Values]  # measured, limit, predicted
Subject = Literal["balancer", "node", "network", "harness"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of one property.

    `reason` is one or a few sentences for a person. `measured`, `limit` and `predicted` hold JSON-able values whose names
    end in their unit.
    """

    verdict: Literal["pass", "fail", "unknown", "skipped"]
    reason: str
    subject: Subject | None = None
    measured: dict[str, Any] = {}
    limit: dict[str, Any] = {}
    predicted: dict[str, Any] = {}


def passed(reason: str, *, measured: Values = {}, limit: Values = {}, predicted: Values = {}) -> Finding:  # noqa: B006  never changed
    """Say that the property held, and was observed to."""
    return Finding(verdict="pass", reason=reason, measured=measured, limit=limit, predicted=predicted)


def failed(subject: Subject, reason: str, *, measured: Values = {}, limit: Values = {}, predicted: Values = {}) -> Finding:  # noqa: B006
    """Say that the property did not hold, and whose failure that is."""
    return Finding(verdict="fail", subject=subject, reason=reason, measured=measured, limit=limit, predicted=predicted)


def unknown(reason: str, *, measured: Values = {}, limit: Values = {}, predicted: Values = {}) -> Finding:  # noqa: B006
    """Say that too little was observed to tell."""
    return Finding(verdict="unknown", subject="harness", reason=reason, measured=measured, limit=limit, predicted=predicted)


def skipped(reason: str) -> Finding:
    """Say which ability of the target is missing."""
    return Finding(verdict="skipped", reason=reason)


def listed(items: list[str], at_most: int = 5) -> str:
    """Return a list as a phrase; what goes beyond the first few is counted."""
    rest = len(items) - at_most
    return "; ".join(items[:at_most]) + (f"; and {rest} more" if rest > 0 else "")
