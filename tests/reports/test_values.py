"""Measured values as a reader wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reports.values import Grid, Listing, Pairs, Text, compared, label_and_unit, scalar, shown

if TYPE_CHECKING:
    from .conftest import CheckFactory


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("down_s", ("DOWN", "s")),
        ("first_error_ms", ("first error", "ms")),
        ("operations_per_s", ("operations", "/s")),
        ("sent_mb_per_s", ("sent", "MB/s")),
        ("busiest_source_share", ("busiest source", "share")),
        ("share", ("share", "share")),
        ("size_bytes", ("size", "bytes")),
        ("sources", ("sources", "")),
        ("vips_with_tls", ("VIPs with TLS", "")),
        ("127.0.110.2:11112", ("127.0.110.2:11112", "")),
        ("DICOM1", ("DICOM1", "")),
    ],
)
def test_the_end_of_a_name_is_its_unit(name: str, expected: tuple[str, str]) -> None:
    assert label_and_unit(name) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1.6123, "s", "1.61 s"),
        (0.08765, "s", "0.0877 s"),
        (12.0, "s", "12 s"),
        (43200, "s", "43 200 s (12 h)"),
        (212.34, "ms", "212 ms"),
        (0.5156, "share", "51.6 %"),
        (1.0, "share", "100 %"),
        (0.99999, "share", "99.999 %"),
        (0, "share", "0 %"),
        (8192, "bytes", "8.19 KB"),
        (200_000_000, "bytes", "200 MB"),
        (170, "bytes", "170 B"),
        (48211, "", "48 211"),
        (1024, "", "1024"),
        (-3, "", "\u22123"),
        (0.00000031, "", "3.1·10⁻⁷"),
        (float("nan"), "s", "not a number"),
        (float("inf"), "", "∞"),
        (True, "", "yes"),
        (False, "", "no"),
        (None, "s", "—"),
        ("node1", "", "node1"),
        ("", "", "(empty)"),
    ],
)
def test_a_value_is_rounded_to_what_matters_and_carries_its_unit(value: object, unit: str, expected: str) -> None:
    assert scalar(value, unit=unit).replace("\u202f", " ") == expected


def test_a_number_that_counts_nothing_is_left_as_it_is() -> None:
    assert [scalar(number, name) for number, name in ((11112, "port"), (20261123, "seed"), (31337, "haproxy_pid"))] == [
        "11112",
        "20261123",
        "31337",
    ]


def test_quantities_of_one_name_share_a_row(make_check: CheckFactory) -> None:
    check = make_check(
        "HEALTH-1/HL7", measured={"down_s": 1.5, "flaps": 0}, limit={"down_s": 5, "up_s": 20}, predicted={"down_s": 2.5}
    )
    rows = [(row.label, row.measured, row.limit, row.predicted) for row in compared(check)]
    assert rows == [
        ("DOWN", Text("1.5\u202fs"), Text("5\u202fs"), Text("2.5\u202fs")),
        ("flaps", Text("0"), None, None),
        ("UP", None, Text("20\u202fs"), None),
    ]


def test_a_small_nested_value_becomes_rows_that_inherit_its_unit(make_check: CheckFactory) -> None:
    check = make_check("FAILOVER-1/HL7", measured={"recovered_s": {"new": 2, "sticky": 2.3}}, limit={}, predicted={})
    assert [(row.label, row.measured) for row in compared(check)] == [
        ("recovered, new", Text("2\u202fs")),
        ("recovered, sticky", Text("2.3\u202fs")),
    ]


def test_records_of_one_shape_become_a_grid() -> None:
    grid = shown([{"node": "node1", "share": 0.5}, {"node": "node2", "share": 0.5}])
    assert grid == Grid(
        ("node", "share"), ((Text("node1"), Text("50\u202f%")), (Text("node2"), Text("50\u202f%"))), folded=False
    )


def test_a_long_list_is_folded_and_a_short_one_is_not() -> None:
    folded = [item.folded for item in (shown(list(range(9))), shown(list(range(8)))) if isinstance(item, Listing)]
    assert folded == [True, False]


def test_what_is_too_deep_for_a_page_is_shown_as_json() -> None:
    deep = shown({"a": {"b": {"c": {"d": 1}}}})
    assert deep == Pairs((("a", Pairs((("b", Pairs((("c", Text('{"d": 1}')),))),))),))


def test_nothing_in_a_list_or_dict_says_so() -> None:
    assert [shown([]), shown({})] == [Text("none"), Text("none")]
