"""Attribute matching by example, and against naive references."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.dicom.matching import (
    MatchingError,
    date_test,
    glob_matches,
    moment_test,
    name_test,
    text_test,
    uid_test,
)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("", "anything", True),
        ("  ", "", True),
        ("*", "", True),
        ("CT1", "CT1 ", True),
        ("CT1", "ct1", False),
        ("CT1", "CT12", False),
        ("CT?", "CT1", True),
        ("CT?", "CT", False),
        ("*1*", "CT12", True),
        ("A[1]", "A1", False),
        ("A.1", "AB1", False),
    ],
)
def test_text_is_matched_with_its_case_and_without_its_padding(key: str, value: str, expected: bool) -> None:
    assert text_test(key)(value) is expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("doe^john", "DOE^JOHN", True),
        ("DOE^JOHN^^^", "Doe^John", True),
        ("DOE", "DOE^JOHN", False),
        ("DOE*", "Doe^John", True),
        ("DOE^*", "DOE", True),
        ("M?LLER^*", "Müller^Anna", True),
        ("MÜLLER^ANNA", "müller^anna", True),
        ("山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("Yamada^Tarou=山田*", "Yamada^Tarou=山田^太郎", True),
        ("Yamada^Hanako=*", "Yamada^Tarou=山田^太郎", False),
    ],
)
def test_names_are_matched_without_regard_to_case_in_any_component_group(key: str, value: str, expected: bool) -> None:
    assert name_test(key)(value) is expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("", "1.2", True),
        ("1.2", "1.2\0", True),
        ("1.2\\1.3", "1.3", True),
        ("1.2\\1.3", "1.4", False),
        ("1.2", "1.2.3", False),
    ],
)
def test_a_list_of_uids_matches_each_of_them(key: str, value: str, expected: bool) -> None:
    assert uid_test(key)(value) is expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("20260705", "20260705", True),
        ("20260705", "20260706", False),
        ("20260705-20260707", "20260705", True),
        ("20260705-20260707", "20260707", True),
        ("20260705-20260707", "20260708", False),
        ("-20260705", "19991231", True),
        ("-20260705", "20260706", False),
        ("20260705-", "20260704", False),
        ("20260705 - 20260707", "20260706", True),
        ("20260705-", "", False),
        ("", "", True),
    ],
)
def test_dates_match_a_value_or_a_range_with_both_its_ends(key: str, value: str, expected: bool) -> None:
    assert date_test(key)(value) is expected


@pytest.mark.parametrize(
    ("dates", "times", "moment", "expected"),
    [
        ("20260705-20260707", "1000-1800", ("20260705", "0959"), False),
        ("20260705-20260707", "1000-1800", ("20260705", "100000"), True),
        ("20260705-20260707", "1000-1800", ("20260706", "030000"), True),
        ("20260705-20260707", "1000-1800", ("20260707", "180059"), True),
        ("20260705-20260707", "1000-1800", ("20260707", "180100"), False),
        ("20260705", "1000-1800", ("20260705", "030000"), False),
        ("20260705-20260707", "1000", ("20260706", "100030"), True),
        ("20260705-20260707", "1000", ("20260706", "110000"), False),
        ("20260705-", "1000-", ("20260706", "030000"), True),
        ("20260705-", "1000-", ("20260705", "030000"), False),
        ("20260705-", "-1000", ("20260706", "110000"), False),
        ("", "-1000", ("20260706", "095959"), True),
        ("", "10", ("20260706", "105959.5"), True),
        ("20260705-20260707", "", ("20260706", ""), True),
        ("20260705-20260707", "1000-1800", ("20260706", ""), False),
        ("", "", ("", ""), True),
    ],
)
def test_a_date_range_and_a_time_range_are_one_period(
    dates: str, times: str, moment: tuple[str, str], expected: bool
) -> None:
    assert moment_test(dates, times)(*moment) is expected


@pytest.mark.parametrize(
    "key", ["2026", "20261301", "20260732", "yesterday", "-", "20260101-20260102-20260103", "2026-07-05"]
)
def test_what_is_no_date_is_no_key(key: str) -> None:
    with pytest.raises(MatchingError, match="date: expected a date or a range"):
        date_test(key)


@pytest.mark.parametrize("key", ["2500", "1", "10:00", "-", "100000.1234567"])
def test_what_is_no_time_is_no_key(key: str) -> None:
    with pytest.raises(MatchingError, match="time: expected a time or a range"):
        moment_test("", key)


@pytest.mark.parametrize("test", [text_test, name_test])
def test_several_values_of_a_text_are_refused(test: Callable[[str], object]) -> None:
    with pytest.raises(MatchingError, match="expected one value, found 2"):
        test("A\\B")


def test_wildcards_in_a_uid_are_refused() -> None:
    with pytest.raises(MatchingError, match="UID: expected digits and dots"):
        uid_test("1.2.*")


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_wildcards_match_as_the_same_regular_expression_does(pattern: str, value: str) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    assert glob_matches(pattern, value) is bool(re.fullmatch(expression, value))


def test_a_hostile_pattern_takes_no_longer_than_its_length_times_that_of_the_value() -> None:
    assert not glob_matches("*a" * 200 + "b", "a" * 2000)


@given(*[st.dates(date(1990, 1, 1), date(2030, 1, 1))] * 3)
def test_a_date_range_admits_exactly_its_days(low: date, high: date, day: date) -> None:
    key = f"{low:%Y%m%d}-{high:%Y%m%d}"
    assert date_test(key)(f"{day:%Y%m%d}") is (low <= day <= high)


def seconds(low: int, high: int) -> st.SearchStrategy[timedelta]:
    return st.integers(low, high).map(lambda count: timedelta(seconds=count))


WEEK_S = 7 * 86400


@given(st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)), seconds(0, WEEK_S), seconds(-WEEK_S, WEEK_S))
def test_a_period_admits_exactly_its_seconds(low: datetime, length: timedelta, offset: timedelta) -> None:
    low = low.replace(microsecond=0)
    high, moment = low + length, low + offset
    admits = moment_test(f"{low:%Y%m%d}-{high:%Y%m%d}", f"{low:%H%M%S}-{high:%H%M%S}")
    assert admits(f"{moment:%Y%m%d}", f"{moment:%H%M%S}") is (low <= moment <= high)
