"""The way from a test to its verdict: what was found settles the check that the test judges, and ends the test as it says."""

from __future__ import annotations

from typing import NoReturn

import pytest

from compose.lab import LabError
from lbconfig.site import Vip
from scenarios.faults import MissingAbilityError
from scenarios.findings import Finding, skipped, unknown
from scenarios.load_runs.process import LoadError

from .session import SESSION, Session


def check_id(item: pytest.Item) -> str | None:
    """Return the check that a test judges; None where it judges none."""
    marker = item.get_closest_marker("check")
    return str(marker.args[0]) if marker else None


def _vip(item: pytest.Item) -> str | None:
    vip = item.callspec.params.get("vip") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    return vip.name if isinstance(vip, Vip) else None


def verdict_id(item: pytest.Item) -> str:
    """Return what a test judges: a check, or a check on one VIP (PERSIST-1/HL7)."""
    vip = _vip(item)
    return f"{check_id(item)}/{vip}" if vip else str(check_id(item))


def settle(item: pytest.Item, finding: Finding) -> str:
    """Settle what a test judges, and return the verdict."""
    evidence = ["operations.parquet", "receipts.parquet", "logs/haproxy.log", "logs/haproxy.cfg"]
    result = item.config.stash[SESSION].acceptance.settle(str(check_id(item)), _vip(item), finding, evidence)
    return result.verdict


def settle_and_end(item: pytest.Item, finding: Finding) -> None:
    """Settle what a test judges, and end the test where it did not hold."""
    verdict = settle(item, finding)
    if verdict == "skipped":
        pytest.skip(finding.reason)
    if verdict in ("fail", "unknown"):
        _end(f"{verdict}: {finding.reason}")


def _end(reason: str) -> NoReturn:
    pytest.fail(reason, pytrace=False)


def breakdown(error: BaseException, session: Session) -> Finding:
    """Return what is to be said of a check that ended before it was judged: never that it held, or did not."""
    if isinstance(error, LabError) and session.run is None:
        return unknown(session.acceptance.reason_for_the_rest)
    if isinstance(error, MissingAbilityError):
        return skipped(f"this target cannot {error}")
    if isinstance(error, (LabError, LoadError)):
        return unknown(str(error))
    return unknown(f"the check itself broke down: {type(error).__name__}: {error}")
