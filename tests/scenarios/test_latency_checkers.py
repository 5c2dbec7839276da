import math

import pytest

from scenarios.checkers.latency import (
    busiest_source_shares,
    class_name,
    classes_over_time,
    enclosing_places,
    latencies,
    node_shares,
    source_shares,
)
from simulators.operations import Kind, Operation, Outcome, Service
from tests.scenarios.conftest import SECOND, History, operation

MS = SECOND // 1000
IMAGE = {"service": Service.DICOM, "kind": Kind.INSTANCE}


def took(key: int, milliseconds: int, *, at_s: float = 1, **fields: object) -> Operation:
    """Make an operation that was due so long before it ended, and began only just before."""
    ended_ns = int(at_s * SECOND)
    return operation(key, intended_ns=ended_ns - milliseconds * MS, begun_ns=ended_ns - MS, ended_ns=ended_ns, **fields)


def test_quantiles_are_exact_and_count_from_the_intended_start(history: History) -> None:
    [seen] = latencies(history(*(took(ms, ms) for ms in range(1, 1001))))
    assert (seen.service, seen.name, seen.n, seen.failed) == (Service.HL7, "HL7 message", 1000, 0)
    assert (seen.p50_s, seen.p90_s, seen.p95_s, seen.p99_s, seen.p999_s, seen.max_s) == (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


def test_the_interval_of_p99_comes_from_the_order_alone_and_takes_368_values(history: History) -> None:
    [many] = latencies(history(*(took(ms, ms) for ms in range(1, 369))))
    assert many.p99_interval_s == (0.36, 0.368)
    [few] = latencies(history(*(took(ms, ms) for ms in range(1, 368))))
    assert few.p99_interval_s == (0.359, None)


def test_the_places_that_enclose_a_median_are_those_of_the_tables() -> None:
    assert enclosing_places(5, 0.5) == (None, None)
    assert enclosing_places(6, 0.5) == (0, 5)
    assert enclosing_places(10, 0.5) == (1, 8)
    assert enclosing_places(100, 0.5) == (39, 60)


def test_the_places_of_millions_of_values_are_those_of_the_normal_limit() -> None:
    n = 20_000_000
    low, high = enclosing_places(n, 0.99)
    assert low is not None
    assert high is not None
    reach = 1.959964 * math.sqrt(n * 0.99 * 0.01)
    assert abs(n * 0.99 - reach - low) < 2
    assert abs(n * 0.99 + reach - high) < 2


def test_the_curve_reaches_the_last_values_and_rises(history: History) -> None:
    [seen] = latencies(history(*(took(ms, ms) for ms in range(1, 1001))))
    assert seen.curve[0] == (0.0, 0.001)
    assert seen.curve[-1] == pytest.approx((0.999, 0.999))
    assert list(seen.curve) == sorted(seen.curve)


def test_classes_are_told_apart_by_service_kind_and_size_and_failures_counted_apart(history: History) -> None:
    seen = latencies(
        history(
            took(1, 10, **IMAGE, size_bytes=1 << 20),
            took(2, 20, **IMAGE, size_bytes=(1 << 20) + 1),
            took(3, 90, **IMAGE, size_bytes=100, outcome=Outcome.REFUSED),
            took(4, 30, service=Service.DMWL, kind=Kind.QUERY),
            took(5, 40, service=Service.HTTPS, kind=Kind.QUERY),
            took(6, 50, service=Service.HTTPS, kind=Kind.NOTE, outcome=Outcome.INDETERMINATE),
        )
    )
    assert [(one.name, one.n, one.failed, one.max_s) for one in seen] == [
        ("C-STORE up to 1 MiB", 1, 1, 0.01), ("C-STORE above 1 MiB", 1, 0, 0.02), ("C-FIND", 1, 0, 0.03),
        ("web page", 1, 0, 0.04),
    ]  # fmt: skip


def test_a_class_that_nobody_thought_of_has_a_name_all_the_same() -> None:
    assert class_name(Service.HL7, Kind.ECHO) == "HL7 echo"
    assert class_name(Service.DICOM, Kind.ECHO) == "C-ECHO"


def test_throughput_errors_and_latency_are_of_the_step_in_which_an_operation_ended(history: History) -> None:
    frame = history(
        took(1, 10, at_s=100.1, size_bytes=50),
        took(2, 30, at_s=100.2, size_bytes=50),
        took(3, 20, at_s=101.9, outcome=Outcome.REFUSED),
        took(4, 40, at_s=106.0, size_bytes=10),
        took(9, 10, at_s=99.0),
    )
    [seen] = classes_over_time(frame, 100 * SECOND, 2.0)
    assert (seen.name, seen.step_s) == ("HL7 message", 2.0)
    assert seen.operations_per_s == (1.0, 0.0, 0.0, 0.5)
    assert seen.errors_per_s == (0.5, 0.0, 0.0, 0.0)
    assert seen.bytes_per_s == (50.0, 0.0, 0.0, 5.0)
    assert (seen.p50_s[0], seen.p99_s[0], seen.max_s[0], seen.max_s[3]) == (0.01, 0.03, 0.03, 0.04)
    assert math.isnan(seen.p99_s[1])


def test_a_run_of_too_many_steps_is_refused(history: History) -> None:
    with pytest.raises(ValueError, match="65536 steps"):
        classes_over_time(history(took(1, 1, at_s=70_000)), 0, 1.0)


def test_the_shares_of_nodes_are_of_what_was_acknowledged(history: History) -> None:
    frame = history(
        took(1, 1, at_s=0.5, node=b"n1"), took(2, 1, at_s=0.6, node=b"n2"), took(3, 1, at_s=0.7, node=b"n2"),
        took(4, 1, at_s=2.5, node=b"n2"), took(5, 1, at_s=2.5, node=b"", outcome=Outcome.REFUSED),
    )  # fmt: skip
    first, second = node_shares(frame, 0)
    assert (first.name, first.whole_share, second.name, second.whole_share) == ("n1", 0.25, "n2", 0.75)
    assert (first.share[0], first.share[2], second.share[2]) == (1 / 3, 0.0, 1.0)
    assert math.isnan(first.share[1])


def test_the_busiest_source_of_each_service_is_named(history: History) -> None:
    frame = history(
        took(1, 1, source="127.1.0.1"), took(2, 1, source="127.1.0.2"), took(3, 1, source="127.1.0.2"),
        took(4, 1, source="127.1.0.9", **IMAGE),
    )  # fmt: skip
    assert [(share.service, share.name, share.whole_share) for share in busiest_source_shares(frame, 0)] == [
        (Service.DICOM, "127.1.0.9", 1.0), (Service.HL7, "127.1.0.2", 2 / 3),
    ]  # fmt: skip
    assert source_shares(frame) == {"127.1.0.1": 0.25, "127.1.0.2": 0.5, "127.1.0.9": 0.25}


def test_an_empty_history_has_no_classes_and_no_shares(history: History) -> None:
    nothing = history()
    assert (latencies(nothing), classes_over_time(nothing, 0), node_shares(nothing, 0), source_shares(nothing)) == (
        [], [], [], {},
    )  # fmt: skip
