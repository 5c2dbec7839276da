"""Measured values as a reader wants them: `first_error_s: 0.2314` becomes "first error, 0.231 s".

The unit is the end of a value's name (design: units in names). What is nested becomes pairs or a grid, never raw JSON
unless it is deeper than a page can show.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from .text import legible
from .verdict import CheckResult

MINUS = "\u2212"
THIN = "\u202f"  # the narrow no-break space that groups digits and joins a number with its unit
INLINE_ITEMS = 8  # a longer list or grid is folded
_DEEPEST = 3
_LARGEST_FLAT = 6  # a nested dict of scalars, up to this many, becomes rows of its own

_UNITS: tuple[tuple[str, str], ...] = (  # the longest ending first
    ("_mb_per_s", "MB/s"), ("_bytes_per_s", "B/s"), ("_per_s", "/s"), ("_bytes", "bytes"), ("_share", "share"),
    ("_shares", "share"), ("_ms", "ms"), ("_us", "µs"), ("_ns", "ns"), ("_s", "s"), ("_mb", "MB"), ("_days", "days"),
)  # fmt: skip
_WORDS = {
    "ack": "ACK", "ae": "AE", "api": "API", "ct": "CT", "cr": "CR", "dicom": "DICOM", "dmwl": "DMWL", "down": "DOWN",
    "hl7": "HL7", "https": "HTTPS", "ip": "IP", "mllp": "MLLP", "mr": "MR", "msa": "MSA", "msh": "MSH", "pdu": "PDU",
    "rip": "RIP", "sha256": "SHA-256", "tcp": "TCP", "tls": "TLS", "uid": "UID", "uids": "UIDs", "up": "UP", "url": "URL",
    "vip": "VIP", "vips": "VIPs",
}  # fmt: skip
_SNAKE = re.compile(r"[a-z][a-z0-9_]*\Z")
_NAMED_NUMBER = re.compile(r"(?:^|_)(?:port|ports|id|ids|pid|seed|status|year|serial)\Z")  # numbers that count nothing


@dataclass(frozen=True, slots=True)
class Text:
    """One value, ready to print."""

    text: str
    form: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Listing:
    """Several values in order; `folded` when they are too many to stand in a line."""

    items: tuple[Shown, ...]
    folded: bool
    form: Literal["listing"] = "listing"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Names with their values."""

    rows: tuple[tuple[str, Shown], ...]
    form: Literal["pairs"] = "pairs"


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows that have the same columns: one row a node, a source, a session."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Shown, ...], ...]
    folded: bool
    form: Literal["grid"] = "grid"


Shown = Text | Listing | Pairs | Grid


@dataclass(frozen=True, slots=True)
class Compared:
    """One quantity of a check: what was measured, what the site allows, what the balancer's settings predict."""

    label: str
    measured: Shown | None
    limit: Shown | None
    predicted: Shown | None

    @property
    def sides(self) -> tuple[tuple[str, Shown], ...]:
        """What there is of it, each with its word; what was measured needs none."""
        named = (("", self.measured), ("limit", self.limit), ("predicted", self.predicted))
        return tuple((word, side) for word, side in named if side is not None)

    @property
    def runs_in(self) -> bool:
        """Whether it can stand within a line of text."""
        return all(isinstance(side, Text) or (isinstance(side, Listing) and not side.folded) for _, side in self.sides)


def compared(check: CheckResult) -> list[Compared]:
    """Return the quantities of a check in the order measured, limit, predicted; those of one name share a row."""
    sides = [_rows(values) for values in (check.measured, check.limit, check.predicted)]
    labels = dict.fromkeys(label for side in sides for label in side)
    return [Compared(label, *(side.get(label) for side in sides)) for label in labels]


def label_and_unit(name: str) -> tuple[str, str]:
    """Split the name of a value into what a reader calls it and its unit: `down_s` is ("DOWN", "s"); no unit is ""."""
    if not _SNAKE.match(name):
        return legible(name), ""  # a node, an address, a sentence: not a name of ours
    if name in ("share", "shares"):
        return name, "share"
    for ending, unit in _UNITS:
        if name.endswith(ending) and name != ending:
            return _spoken(name.removesuffix(ending)), unit
    return _spoken(name), ""


def shown(value: object, name: str = "", unit: str = "", depth: int = 0) -> Shown:
    """Return a value of `measured`, `limit` or `predicted` as text, list, pairs or grid.

    Parameters
    ----------
    value : Any
        Plain data: what JSON can hold.
    name : str
        The name that it stands under; tells ports and other numbers that count nothing from quantities.
    unit : str
        Its unit, as `label_and_unit` gives it; what is nested inherits it.
    depth : int
        How deep it stands. Beyond three levels it is shown as JSON.
    """
    if isinstance(value, dict | list | tuple) and depth >= _DEEPEST:
        return Text(legible(json.dumps(value, ensure_ascii=False, default=str)))
    if isinstance(value, dict):
        return _shown_dict(value, unit, depth)
    if isinstance(value, list | tuple):
        return _shown_list(list(value), name, unit, depth)
    return Text(scalar(value, name, unit))


def scalar(value: object, name: str = "", unit: str = "") -> str:
    """Return one number, string, boolean or nothing as text with its unit."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return legible(str(value)) or "(empty)"
    if isinstance(value, float) and not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{MINUS if value < 0 else ''}∞"
    if _NAMED_NUMBER.search(name):
        return str(value)
    if unit == "share":
        return _percent(value)
    if unit == "bytes":
        return _bytes(value)
    if unit == "s" and abs(value) >= 3600:
        return f"{_number(value)}{THIN}s ({_number(value / 3600)}{THIN}h)"
    return f"{_number(value)}{THIN}{unit}" if unit else _number(value)


def _rows(values: dict[str, Any]) -> dict[str, Shown]:
    rows: dict[str, Shown] = {}
    for name, value in values.items():
        label, unit = label_and_unit(name)
        if (
            isinstance(value, dict)
            and 0 < len(value) <= _LARGEST_FLAT
            and not any(_is_nested(item) for item in value.values())
        ):
            for inner, item in value.items():
                inner_label, inner_unit = label_and_unit(str(inner))
                rows[f"{label}, {inner_label}"] = shown(item, str(inner), inner_unit or unit)
        else:
            rows[label] = shown(value, name, unit)
    return rows


def _is_nested(value: object) -> bool:
    return isinstance(value, dict | list | tuple)


def _shown_dict(value: dict[Any, Any], unit: str, depth: int) -> Shown:
    if not value:
        return Text("none")
    records = [item for item in value.values() if isinstance(item, dict)]
    if len(records) == len(value) > 1 and _same_keys(records):
        named = [{"": str(key)} | record for key, record in zip(value, records, strict=True)]
        return _grid(named, unit, depth)
    rows = []
    for key, item in value.items():
        label, own = label_and_unit(str(key))
        rows.append((label, shown(item, str(key), own or unit, depth + 1)))
    if len(rows) > INLINE_ITEMS and not any(_is_nested(item) for item in value.values()):
        return Grid(("", ""), tuple((Text(label), item) for label, item in rows), folded=True)
    return Pairs(tuple(rows))


def _shown_list(value: list[Any], name: str, unit: str, depth: int) -> Shown:
    if not value:
        return Text("none")
    records = [item for item in value if isinstance(item, dict)]
    if len(records) == len(value) > 1 and _same_keys(records):
        return _grid(records, unit, depth)
    items = tuple(shown(item, name, unit, depth + 1) for item in value)
    long = sum(len(item.text) for item in items if isinstance(item, Text)) > 400
    return Listing(items, folded=len(items) > INLINE_ITEMS or long)


def _same_keys(records: list[dict[Any, Any]]) -> bool:
    return bool(records[0]) and all(record.keys() == records[0].keys() for record in records)


def _grid(records: list[dict[Any, Any]], unit: str, depth: int) -> Grid:
    names = [str(key) for key in records[0]]
    heads = [label_and_unit(name) if name else ("", "") for name in names]
    rows = tuple(
        tuple(
            shown(item, name, own or (unit if name else ""), depth + 1)
            for item, name, (_, own) in zip(record.values(), names, heads, strict=True)
        )
        for record in ({str(key): record[key] for key in records[0]} for record in records)
    )
    return Grid(tuple(label for label, _ in heads), rows, folded=len(rows) > INLINE_ITEMS)


def _spoken(name: str) -> str:
    return " ".join(_WORDS.get(word, word) for word in name.split("_") if word)


def _number(value: float) -> str:
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return _grouped(str(int(value)))
    if abs(value) < 1e-3 or abs(value) >= 1e15:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{_minus(mantissa.rstrip('0').rstrip('.'))}·10{_superscript(int(exponent))}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    whole, dot, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return _grouped(whole) + (dot + fraction if fraction else "")


def _grouped(whole: str) -> str:
    sign, digits = (MINUS, whole[1:]) if whole.startswith("-") else ("", whole)
    if len(digits) < 5:
        return sign + digits
    return sign + f"{int(digits):,}".replace(",", THIN)


def _minus(text: str) -> str:
    return text.replace("-", MINUS)


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _percent(share: float) -> str:
    """Return a share as per cent; one short of the whole (or above nothing) is never rounded into it."""
    percent = share * 100
    text = f"{percent:.3g}" if abs(percent) < 100 else f"{percent:.4g}"
    if text in ("100", "0") and share not in (0, 1):
        text = f"{percent:.8g}"
    if "e" in text:
        return f"{_number(percent)}{THIN}%"
    return f"{_minus(text)}{THIN}%"


def _bytes(number: float) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if abs(number) >= size:
            return f"{_number(round(number / size, 2))}{THIN}{unit}"
    return f"{_number(number)}{THIN}B"
