"""A site file (TOML) into a `Site`, strictly: one clear error for a file that cannot be used.

Every error has the form `hospital.toml: vip[2].port: expected 1 to 65535, found 0`. msgspec names the place; what was
expected there is read from the type, what was found from the file's raw data.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from .errors import LoadBalancingError
from .site import Site
from .site_rules import Problem, problems

_PLACE = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*?)`(?= - at |$)", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<key>[^`]*)`")
_SYNTAX_PLACE = re.compile(r"(?P<what>.*) \(at (?P<where>line \d+, column \d+|end of document)\)", re.DOTALL)
_FOUND_LENGTH = 60  # characters of a found value that an error shows

Step = str | int


class SiteError(LoadBalancingError):
    """A site file cannot be used; the message names the file, the key, what was expected and what was found."""


def load_site(path: Path, *, today: date | None = None) -> Site:
    """Read a site file.

    Parameters
    ----------
    path : Path
        The TOML file.
    today : date, optional
        The day on which waivers must still hold; by default the current one (UTC).

    Returns
    -------
    Site
        Complete, typed, and consistent in itself.

    Raises
    ------
    SiteError
        The first thing that is wrong: unreadable, no TOML, a key that is unknown, missing or of the wrong type, a value
        out of range, or values that contradict each other.
    """
    raw = _parse(path.name, _read(path))
    try:
        site = msgspec.convert(raw, Site)
    except msgspec.ValidationError as error:
        raise _error(path.name, _explain(str(error), raw)) from None
    for problem in problems(site, today or datetime.now(UTC).date()):
        raise _error(path.name, problem)
    return site


def site_sha256(path: Path) -> str:
    """Return the SHA-256 of a site file's bytes, in hexadecimal. Raises SiteError when it cannot be read."""
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SiteError(f"{path}: expected a readable site file, found {error.strerror or error}") from None


def _parse(name: str, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SiteError(f"{name}: line {line}: expected UTF-8, found the byte 0x{content[error.start]:02x}") from None
    except tomllib.TOMLDecodeError as error:
        match = _SYNTAX_PLACE.fullmatch(str(error))
        what, where = (match["what"], match["where"]) if match else (str(error), "somewhere")
        raise SiteError(f"{name}: {where}: expected TOML, found a syntax error: {what}") from None


def _error(name: str, problem: Problem) -> SiteError:
    return SiteError(f"{name}: {problem.key}: expected {problem.expected}, found {problem.found}")


def _explain(message: str, raw: dict[str, Any]) -> Problem:
    """Turn msgspec's message, which names the place but not the value, into a problem."""
    match = _PLACE.search(message)
    steps: list[Step] = [key or int(index) for key, index in _STEP.findall(match["path"])] if match else []
    if unknown := _UNKNOWN.match(message):
        key = unknown["key"]
        return Problem(_key([*steps, key]), _known_key(steps, key), f'"{key}"')
    if missing := _MISSING.match(message):
        steps.append(missing["key"])
        return Problem(_key(steps), _expected(_type_at(steps)), "nothing: the key is missing")
    value: Any = raw
    for step in steps:
        value = value[step]
    return Problem(_key(steps) or "the file", _expected(_type_at(steps)), _found(value))


def _key(steps: list[Step]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


def _known_key(steps: list[Step], key: str) -> str:
    table = _type_at(steps)
    names = [field.encode_name for field in table.fields] if isinstance(table, inspect.StructType) else []
    closest = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"a known key (perhaps {closest[0]})" if closest else f"one of the keys {', '.join(names)}"


def _type_at(steps: list[Step]) -> inspect.Type:
    """Return the type that the site declares at a place in the file."""
    current = inspect.type_info(Site)
    for step in steps:
        current = _without_none(current)
        if isinstance(current, inspect.StructType):
            current = next(field.type for field in current.fields if field.encode_name == step)
        elif isinstance(current, inspect.VarTupleType):
            current = current.item_type
    return _without_none(current)


def _without_none(declared: inspect.Type) -> inspect.Type:
    """Return the one type of an optional value: TOML cannot say None."""
    while isinstance(declared, inspect.Metadata | inspect.UnionType):
        if isinstance(declared, inspect.Metadata):
            declared = declared.type
        else:
            declared = next(member for member in declared.types if not isinstance(member, inspect.NoneType))
    return declared


def _expected(declared: inspect.Type) -> str:
    match declared:
        case inspect.IntType():
            return _range("a whole number", declared.ge, declared.le)
        case inspect.FloatType():
            return _range("a number", declared.ge, declared.le, above=declared.gt)
        case inspect.StrType(pattern=pattern) if pattern is not None:
            return f"{declared.min_length} to {declared.max_length} letters, digits, dots, dashes or underscores"
        case inspect.StrType():
            return "a text that is not empty" if declared.min_length else "a text"
        case inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in declared.values)
        case inspect.VarTupleType(min_length=low, max_length=high):
            return _array(low, high)
        case inspect.StructType():
            return "a table"
        case inspect.DateType():
            return "a date such as 2027-01-31"
        case inspect.BoolType():
            return "true or false"
    return "another value"


def _array(low: int | None, high: int | None) -> str:
    if low is not None and low == high:
        return f"an array of {low}"
    return "an array" if not low else f"an array of at least {low}"


def _range(what: str, low: float | None, high: float | None, above: float | None = None) -> str:
    if above is not None:
        return f"{what} above {above:.10g}" + (f", {high:.10g} at most" if high is not None else "")
    if low is not None and high is not None:
        return f"{low:.10g} to {high:.10g}"
    return f"{what}, {low:.10g} or more" if low is not None else what


def _found(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case list():
            return f"an array of {len(value)}"
        case str():
            text = '"' + value.replace("\n", "\\n") + '"'
        case _:
            text = str(value)
    return text if len(text) <= _FOUND_LENGTH else text[:_FOUND_LENGTH] + "..."
