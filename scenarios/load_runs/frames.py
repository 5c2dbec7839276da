"""What load runs leave beside their operations, as data frames: arrivals of generators, pulses of processes.

The files are `scenarios.load.records` and `simulators.pulse`; both are small beside the operations and are read whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from scenarios.load.records import ARRIVAL_FIELDS, ARRIVAL_MAGIC
from simulators.operations import HEADER_BYTES, check_header
from simulators.pulse import PULSE_FIELDS, PULSE_MAGIC

_NUMPY = {"B": "u1", "H": "<u2", "I": "<u4", "Q": "<u8", "q": "<i8"}
_ARRIVAL_DTYPE = np.dtype([(name, _NUMPY[code]) for name, code in ARRIVAL_FIELDS])
_PULSE_DTYPE = np.dtype([(name, _NUMPY[code]) for name, code in PULSE_FIELDS])
_GENERATOR = "generator-"


def arrivals_frame(paths: Iterable[Path]) -> pl.DataFrame:
    """Return the arrivals of any number of generators (`scenarios.load.records.Arrival`), one row each, in file order.

    A record torn at the end is left out. Raises RecordError for another kind of file.
    """
    return pl.concat(
        [_frame(np.empty(0, _ARRIVAL_DTYPE)), *(_frame(_records(path, ARRIVAL_MAGIC, _ARRIVAL_DTYPE)) for path in paths)]
    )


def pulses_frame(paths: Iterable[Path]) -> pl.DataFrame:
    """Return the pulses of any number of processes (`simulators.pulse.Pulse`), one row each, in file order.

    The column `part` says whose: `generator/3`, or `node/mach7-1/hl7`, as `part_of_pulse` names it. A record torn at the end
    is left out. Raises RecordError for another kind of file.
    """
    frames = [_frame(np.empty(0, _PULSE_DTYPE)).with_columns(pl.lit("").alias("part"))]
    for path in paths:
        pulses = _frame(_records(path, PULSE_MAGIC, _PULSE_DTYPE))
        frames.append(pulses.with_columns(pl.lit(part_of_pulse(path)).alias("part")))
    return pl.concat(frames)


def part_of_pulse(path: Path) -> str:
    """Return which part a pulse is of, from its path.

    `<records>/pulses/generator-<n>-<pid>.pulse` is `generator/<n>`; `<folder of a node>/pulses/<service>-<pid>.pulse` is
    `node/<name of the folder>/<service>`.
    """
    name = path.stem.rpartition("-")[0]
    if name.startswith(_GENERATOR):
        return f"generator/{name.removeprefix(_GENERATOR)}"
    return f"node/{path.parent.parent.name}/{name}"


def pulse_paths(directory: Path) -> list[Path]:
    """Return the pulses under the folder of a node, or of a load run's records; those not begun yet are left out."""
    return [path for path in sorted(directory.glob("pulses/*.pulse")) if path.stat().st_size >= HEADER_BYTES]


def _records(path: Path, magic: bytes, dtype: np.dtype[np.void]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    content = path.read_bytes()
    check_header(path, content[:HEADER_BYTES], magic)
    return np.frombuffer(content, dtype, (len(content) - HEADER_BYTES) // dtype.itemsize, HEADER_BYTES)


def _frame(records: np.ndarray[tuple[int], np.dtype[np.void]]) -> pl.DataFrame:
    return pl.DataFrame({name: np.ascontiguousarray(records[name]) for name in records.dtype.names or ()})
