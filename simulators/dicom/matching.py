"""Attribute matching of DICOM queries (PS3.4, C.2.2.2), as pure functions.

Each function compiles one key of a query into a test on the values of candidates, so that a key is read once however many
candidates there are. A zero-length key is universal matching: everything passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

Test = Callable[[str], bool]

_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")
_TIME = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)(?:\.(\d{1,6}))?)?)?")
_FIRST_MOMENT, _LAST_MOMENT = "000000.000000", "235960.999999"  # second 60: a leap second


class MatchingError(ValueError):
    """A key of a query is not one by the rules of its value representation."""


class Range(NamedTuple):
    """What a date or time key admits, both ends included; an empty end is open. Dates are YYYYMMDD, times HHMMSS.FFFFFF."""

    low: str
    high: str
    is_range: bool = True  # False for a single value

    def admits(self, value: str) -> bool:
        """Say whether a full-length value lies inside."""
        return value >= self.low and (not self.high or value <= self.high)


def text_test(key: str) -> Test:
    """Compile a key of text: single value, or wildcard with `*` and `?` (C.2.2.2.1, C.2.2.2.4).

    Case matters; leading and trailing spaces do not. For AE, CS, LO, SH and other text, not for PN, UI, DA, TM.

    Raises
    ------
    MatchingError
        When the key has several values: those need a negotiation that there was not.
    """
    wanted = _single(key)
    if not wanted:
        return _everything
    if "*" in wanted or "?" in wanted:
        return lambda value: glob_matches(wanted, value.strip())
    return lambda value: value.strip() == wanted


def name_test(key: str) -> Test:
    """Compile a key of a person's name (PN): as text, without regard to case, and to empty components at the end.

    A key without `=` is tried on every component group of a name (alphabetic, ideographic, phonetic).

    Raises
    ------
    MatchingError
        When the key has several values.
    """
    wanted = _name(_single(key))
    if not wanted:
        return _everything
    if "=" in wanted:
        return lambda value: glob_matches(wanted, "=".join(map(_name, value.split("="))))
    return lambda value: any(
        glob_matches(wanted, _name(group)) or glob_matches(wanted, _name(group) + "^^^^") for group in value.split("=")
    )  # the second for `DOE^*`, which is to find DOE without a given name too


def uid_test(key: str) -> Test:
    r"""Compile a key of UIDs: one, or a list parted by `\` (C.2.2.2.2). No wildcards.

    Raises
    ------
    MatchingError
        When one of them is no UID.
    """
    wanted = {uid.strip("\0 ") for uid in key.split("\\")} - {""}
    for uid in wanted:
        if not re.fullmatch(r"[0-9.]{1,64}", uid):
            raise MatchingError(f"UID: expected digits and dots, 64 at most, found {uid!r}")
    if not wanted:
        return _everything
    return lambda value: value.strip("\0 ") in wanted


def date_test(key: str) -> Test:
    """Compile a key of a date: single value or range. A candidate without a date passes universal matching alone.

    Raises
    ------
    MatchingError
        When the key is no date and no range of dates.
    """
    wanted = date_range(key)
    if wanted is None:
        return _everything
    return lambda value: bool(_DATE.fullmatch(value.strip())) and wanted.admits(value.strip())


def moment_test(date_key: str, time_key: str) -> Callable[[str, str], bool]:
    """Compile the keys of a date and a time that belong together, such as those of a Scheduled Procedure Step's start.

    Two ranges are one period (PS3.4, table K.6-1: July 5 to July 7 and 10 am to 6 pm is from July 5, 10 am, to July 7, 6 pm).
    Everything else is matched attribute by attribute; so are ranges where a time's end has no date's end beside it.

    Raises
    ------
    MatchingError
        When a key is no date or time and no range.
    """
    dates, times = date_range(date_key), time_range(time_key)

    def parted(date: str, time: str) -> bool:
        return (dates is None or (date != "" and dates.admits(date))) and (
            times is None or (time != "" and times.admits(time))
        )

    def as_period(date: str, time: str) -> bool:
        return date != "" and time != "" and period.admits(date + time)

    test = parted
    if dates and times and dates.is_range and times.is_range and _paired(dates, times):
        low = dates.low + (times.low or _FIRST_MOMENT) if dates.low else ""
        high = dates.high + (times.high or _LAST_MOMENT) if dates.high else ""
        period = Range(low, high)
        test = as_period
    return lambda date, time: test(_full_date(date), _full_time(time))


def date_range(key: str) -> Range | None:
    """Read a date key: None when it is empty (universal).

    Raises
    ------
    MatchingError
        When it is no date and no range of dates.
    """
    return _range(key, "date", _full_date_key, _full_date_key)


def time_range(key: str) -> Range | None:
    """Read a time key: None when it is empty. A time of less precision stands for its whole hour, minute or second.

    Raises
    ------
    MatchingError
        When it is no time and no range of times.
    """
    return _range(key, "time", lambda end: _time_key(end, "00", "0"), lambda end: _time_key(end, "59", "9"))


def glob_matches(pattern: str, value: str) -> bool:
    """Say whether a value matches a pattern in which `*` is any run of characters, also none, and `?` any single one.

    Takes at most len(pattern) · len(value) steps, whatever the pattern.
    """
    at = star = after_star = 0
    have_star = False
    index = 0
    while index < len(value):
        if at < len(pattern) and pattern[at] == "*":
            have_star, star, after_star = True, at, index
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", value[index]):
            at += 1
            index += 1
        elif have_star:
            after_star += 1
            at, index = star + 1, after_star
        else:
            return False
    return all(letter == "*" for letter in pattern[at:])


def _everything(_: str) -> bool:
    return True


def _single(key: str) -> str:
    if "\\" in key:
        raise MatchingError(f"expected one value, found {key.count(chr(92)) + 1}")
    return key.strip()


def _name(text: str) -> str:
    """Return one component group, or several, folded and without what is empty at its end."""
    return text.strip().rstrip("^ ").casefold()


def _paired(dates: Range, times: Range) -> bool:
    return bool(dates.low or not times.low) and bool(dates.high or not times.high)


def _range(key: str, what: str, low: Callable[[str], str], high: Callable[[str], str]) -> Range | None:
    wanted = key.strip()
    if not wanted:
        return None
    first, dash, last = (part.strip() for part in wanted.partition("-"))
    if not first and not last:
        raise MatchingError(f"{what}: expected a {what} or a range, found {key!r}")
    try:
        if not dash:
            return Range(low(first), high(first), is_range=False)
        return Range(low(first) if first else "", high(last) if last else "")
    except MatchingError as error:
        raise MatchingError(f"{what}: expected a {what} or a range, found {key!r}") from error


def _full_date_key(text: str) -> str:
    found = _DATE.fullmatch(text)
    if not found or not 1 <= int(found[2]) <= 12 or not 1 <= int(found[3]) <= 31:
        raise MatchingError(text)
    return text


def _time_key(text: str, missing: str, missing_fraction: str) -> str:
    found = _TIME.fullmatch(text)
    if not found:
        raise MatchingError(text)
    hours, minutes, seconds, fraction = found.groups()
    return f"{hours}{minutes or missing}{seconds or missing}.{(fraction or '').ljust(6, missing_fraction)}"


def _full_date(value: str) -> str:
    """Return the date of a candidate, or nothing when it has none that could be compared."""
    return value.strip() if _DATE.fullmatch(value.strip()) else ""


def _full_time(value: str) -> str:
    """Return the time of a candidate in full length, or nothing when it has none that could be compared."""
    return _time_key(value.strip(), "00", "0") if _TIME.fullmatch(value.strip()) else ""
