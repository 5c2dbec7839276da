"""`python -m tests.benchmarks.costs --out FILE`: what each part costs, measured, fitted, and checked at points held out.

A native lab comes up (`--site`), Locust plays steady rates of every protocol on it, one piece after the other, and the CPU of
generator, balancer and the nodes' services is read from their pulses and from the kernel. Of that are made prices (`fitting`)
for an association, an image, a byte, a message, a poll of a worklist and each of its items, a web session and each of its
pages; the mixed load of the site's own model and some other rates check them. Beside it: what idle associations and resting
clients take, and the bytes of every record. The node keeps receipts, no images, as in every load run.

Others on the same machine change what a part costs. So `--rounds 2` measures every piece twice, and of each stretch the
round is taken in which others used less; `--lock FILE` (flock) keeps others out who heed it, piece by piece. What was
measured before and stands in FILE counts as rounds too, so that a run can be cut short and gone on with, piece by piece
(`--only`). By what stands in FILE, measuring nothing, `--size EXAMS` prints what a hospital of so many exams a year needs,
and `--check REPORT` compares the steps of LOAD-4 in a report with what the prices make of them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from compose.native import NativeLab
from lbconfig.site_file import load_site
from lbconfig.traffic_log import read_log
from scenarios.frames import scan_operations
from scenarios.load.card import LabCard, read_card
from scenarios.load.model import demand_of
from scenarios.load.records import ARRIVAL_FIELDS
from scenarios.load_runs.plans import under_load
from scenarios.options import DEFAULT_SITE, LoadOptions
from scenarios.stock import furnish
from simulators.journal import RECEIPT_FIELDS
from simulators.operations import OPERATION_FIELDS, record_struct

from .cost_memory import CLIENTS, Holding, clients_of_a_generator, idle_associations
from .cost_points import measure, named, pieces_of
from .cost_steps import read_steps
from .fitting import STANDING, Checked, Point, Tariff, check, tariff_of
from .sizing import happens

_OF_ALL = ("association", "image", "byte", "message", "poll", "item", "session", "page")
UNITS: dict[str, tuple[str, ...]] = {
    "generator": _OF_ALL, "balancer": _OF_ALL, "node/dicom": ("association", "image", "byte"), "node/hl7": ("message",),
    "node/dmwl": ("poll", "item"), "node/https": ("session", "page"),
}  # fmt: skip
PEAK_FACTOR = 1.5
IDLE = "idle associations"


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured, and what follows from it. `rounds` holds every point of every round, by piece."""

    measured: str
    machine: str
    rounds: dict[str, list[list[Point]]] = {}
    holdings: list[Holding] = []
    record_bytes: dict[str, float] = {}
    tariffs: list[Tariff] = []
    checked: list[Checked] = []

    @property
    def points(self) -> list[Point]:
        """Of each stretch the point at which others used least of the machine."""
        calmest: dict[str, Point] = {}
        for point in (point for rounds in self.rounds.values() for points in rounds for point in points):
            if point.name not in calmest or point.strange_cores < calmest[point.name].strange_cores:
                calmest[point.name] = point
        return list(calmest.values())


def main() -> int:
    """Do what the command line asks for; return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.costs", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write, or to go on with")
    parser.add_argument("--site", type=Path, default=DEFAULT_SITE, help="the site file (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each piece is measured (default: %(default)s)")
    parser.add_argument("--only", action="append", default=[], help="this piece, or these clients, alone (may be repeated)")
    parser.add_argument("--lock", type=Path, help="a file to lock (flock) during each piece")
    parser.add_argument("--size", type=float, help="exams a year: print what they need, and measure nothing")
    parser.add_argument(
        "--check", type=Path, action="append", default=[], help="a report.json: check the prices by its LOAD-4"
    )
    options = parser.parse_args()
    lines = sized(read_costs(options.out), options.site, options.size) if options.size else []
    for report in options.check:
        lines += checks(check(read_costs(options.out).tariffs, read_steps(report, load_site(options.site))))
    if not options.size and not options.check:
        measured(options)
        lines = table(read_costs(options.out))
    print("\n".join(lines))  # noqa: T201  the command's output
    return 0


def measured(options: argparse.Namespace) -> None:
    """Measure what was asked for, writing the file anew after each piece: whatever ends the run, the rest is kept."""
    pieces = named(pieces_of(options.site), options.only)
    holdings = [what for what in (IDLE, *CLIENTS) if not options.only or what in options.only]
    costs = read_costs(options.out) if options.out.exists() else Costs(measured="", machine=machine())
    with _lab(options.site) as (lab, card, records):
        for number in range(options.rounds):
            for piece in pieces:
                with _alone(options.lock):
                    points = measure(lab, card, piece, records / f"{piece.name}-{number}".replace(" ", "-"))
                costs = _with(costs, rounds={**costs.rounds, piece.name: [*costs.rounds.get(piece.name, []), points]})
                write_costs(costs, options.out)
        for what in holdings:
            with _alone(options.lock):
                found = _held(lab, card, what, records)
            costs = _with(costs, holdings=[old for old in costs.holdings if _what(old) != what] + found)
            write_costs(costs, options.out)
        if pieces:
            costs = _with(costs, record_bytes=record_bytes(lab, records))
    is_whole = {piece.name for piece in pieces_of(options.site)} <= costs.rounds.keys()
    write_costs(fitted(costs) if is_whole else costs, options.out)


def fitted(costs: Costs) -> Costs:
    """Return the same with the prices that follow from its points, and their check."""
    points = costs.points
    own = {
        part: [point for point in points if not point.happened or any(unit in point.happened for unit in units)]
        for part, units in UNITS.items()
    }
    tariffs = [tariff_of(part, own[part], (STANDING, *units)) for part, units in UNITS.items()]
    checked = [one for tariff in tariffs for one in check([tariff], own[tariff.part])]
    return _with(costs, tariffs=tariffs, checked=checked)


def record_bytes(lab: NativeLab, records: Path) -> dict[str, float]:
    """Return the bytes of each record, of a row in Parquet, and of a connection in the balancer's log."""
    operations = scan_operations(sorted(records.glob("**/generator-*.operations")))
    parquet = records / "operations.parquet"
    operations.sink_parquet(parquet)
    rows = max(
        1, sum(path.stat().st_size for path in records.glob("**/*.operations")) // record_struct(OPERATION_FIELDS).size
    )
    connections = max(1, len(read_log(lab.log_file).connections))
    return {
        "operation": record_struct(OPERATION_FIELDS).size, "arrival": record_struct(ARRIVAL_FIELDS).size,
        "receipt": record_struct(RECEIPT_FIELDS).size, "operation in Parquet": parquet.stat().st_size / rows,
        "connection in the log": lab.log_file.stat().st_size / connections,
    }  # fmt: skip


def table(costs: Costs) -> list[str]:
    """Return prices, checks and holdings as lines of text."""
    lines = [f"{costs.measured}, {costs.machine}", ""]
    for tariff in costs.tariffs:
        lines.append(f"{tariff.part}: {tariff.points} points, relative error {tariff.relative_error:.0%}")
        for unit, price in tariff.prices.items():
            lines.append(f"    {unit:<12} {_time(price.cpu_s):>10} [{_time(price.low_s)}, {_time(price.high_s)}]")
        lines += [f"    {unit:<12} not told from 0" for unit in tariff.untold]
    lines += ["", "held out: predicted and measured cores", *checks(costs.checked)]
    lines += ["", "held: KB each, and cores of all"]
    lines += [
        f"    {one.count:>5} {one.what:<20} {one.part:<12} {one.bytes_each / 1024:.1f} {one.cores:.4f}"
        for one in costs.holdings
    ]
    return [*lines, *(f"    {name:<24} {size:.1f} bytes" for name, size in costs.record_bytes.items())]


def checks(checked: Sequence[Checked]) -> list[str]:
    """Return predicted and measured cores side by side, as lines of text."""
    return [f"    {one.point:<48} {one.part:<12} {one.predicted:.3f} {one.measured:.3f} {one.error:+.0%}" for one in checked]


def sized(costs: Costs, site_file: Path, exams_per_year: float) -> list[str]:
    """Return what happens a second at 1.5 x peak of a hospital, and the cores that each part needs for it, as lines."""
    load = under_load(load_site(site_file), LoadOptions(exams_per_year=exams_per_year)).load
    often = happens(demand_of(load), PEAK_FACTOR)
    lines = [f"{unit:<12} {rate:,.2f} /s" for unit, rate in often.items()]
    for tariff in costs.tariffs:
        shares = {unit: price.cpu_s * often.get(unit, 1.0) for unit, price in tariff.prices.items()}
        largest = ", ".join(f"{unit} {cores:.2f}" for unit, cores in sorted(shares.items(), key=lambda one: -one[1])[:4])
        lines.append(f"{tariff.part:<12} {tariff.cores(often):.2f} cores: {largest}")
    return lines


def read_costs(path: Path) -> Costs:
    """Read what was measured before."""
    return msgspec.json.decode(path.read_bytes(), type=Costs)


def write_costs(costs: Costs, path: Path) -> None:
    """Write everything, in the place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stamped = _with(costs, measured=time.strftime("%Y-%m-%d"), machine=machine())
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(stamped)))
    new.replace(path)


def machine() -> str:
    """Say what this machine is."""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({platform.machine()}), Linux {platform.release()}, Python {platform.python_version()}"


def _held(lab: NativeLab, card: LabCard, what: str, records: Path) -> list[Holding]:
    if what == IDLE:
        return idle_associations(lab)
    return [clients_of_a_generator(lab, card, kind, records / f"resting-{kind}") for kind in CLIENTS if kind == what]


def _what(holding: Holding) -> str:
    return holding.what.removesuffix(" clients")


def _with(costs: Costs, **changes: object) -> Costs:
    return msgspec.structs.replace(costs, **changes)


def _time(seconds: float) -> str:
    """Return CPU time with a unit of a fitting size."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


@contextlib.contextmanager
def _lab(site_file: Path) -> Iterator[tuple[NativeLab, LabCard, Path]]:
    """Bring a lab up as load runs have it; yield it, its card, and a folder for records."""
    site = under_load(load_site(site_file), LoadOptions())
    with tempfile.TemporaryDirectory(prefix="preflight-costs-") as directory, NativeLab(site, Path(directory) / "lab") as lab:
        card = read_card(furnish(lab, site_file))
        lab.keep_receipts_only()
        yield lab, card, Path(directory) / "records"


@contextlib.contextmanager
def _alone(lock: Path | None) -> Iterator[None]:
    """Keep others out who heed the same lock."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the file
        yield


if __name__ == "__main__":
    sys.exit(main())
