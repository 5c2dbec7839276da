from __future__ import annotations

import pytest

from simulators.web.browsing import day, moment, person, size


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("DOE^Jane^A", "DOE, Jane A"), ("DOE", "DOE"), ("", "(no name)"), ("^Jane", "Jane"),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou"), ("DOE^Jane^^Dr", "DOE, Jane"),
    ],
)  # fmt: skip
def test_a_person_name_is_shown_as_people_write_it(name: str, shown: str) -> None:
    assert person(name) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2_000_000, "2.0 MB")])
def test_a_size_is_shown_with_its_unit(count: int, shown: str) -> None:
    assert size(count) == shown


def test_a_date_is_shown_with_hyphens_and_what_is_none_as_it_is() -> None:
    assert (day("20260301"), day("2026"), day("")) == ("2026-03-01", "2026", "")


def test_a_moment_is_shown_in_utc() -> None:
    assert moment(1_000_000_000_999_999_999) == "2001-09-09 01:46:40 UTC"
