"""`python -m tests.benchmarks --out FILE`: run every benchmark, print a table, write the rows as JSON."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import msgspec

from .rows import Row

BENCHMARKS = (
    "dicom_store",
    "dicom_balanced",
    "dicom_worklist",
    "hl7_messages",
    "https_requests",
    "idle_associations",
    "locust_users",
    "checkers",
)


def main() -> int:
    """Run what was asked for; return 0 when every bar is met, 1 when one is not."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--rounds", type=int, default=11, help="interleaved rounds, at least 9 (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="short rounds: to see that it works, not to quote")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="run this benchmark alone (may be repeated)")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in options.only or BENCHMARKS:
        benchmark = importlib.import_module(f"{__package__}.{name}")  # each needs its own programs: only those asked for
        measured = benchmark.run(options.rounds, options.quick)
        print(table(measured), flush=True)  # noqa: T201  the command's output
        rows += measured
        options.out.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))  # each time: a later one may break down
    return 1 if any(row.met is False for row in rows) else 0


def table(rows: list[Row]) -> str:
    """Return the rows as lines of text, one for each row and one for each of its bars."""
    lines = []
    for row in rows:
        others = {**row.peers, **({"limit": row.limit} if row.limit is not None else {})}
        against = ", ".join(f"{name} {_figure(figure)}" for name, figure in others.items())
        lines.append(f"{row.name:<48} {_figure(row.ours):>10} {row.unit:<10} {against}")
        for bar in row.bars:
            low, high = bar.interval
            verdict = f"at least {bar.ratio_min}: {'met' if bar.met else 'NOT MET'}"
            lines.append(f"    against {bar.against}: ratio {bar.ratio:.2f} [{low:.2f}, {high:.2f}], {verdict}")
    return "\n".join(lines)


def _figure(figure: float) -> str:
    """Return a figure with three digits at least."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


if __name__ == "__main__":
    sys.exit(main())
