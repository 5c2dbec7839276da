"""Whether the records of a load run tell of the whole load, and whether its operations can be believed.

Nothing passes on records that are torn: arrivals that were intended and never written down, operations that no arrival
names or that an arrival names and nobody wrote, times that run backwards.
"""

from __future__ import annotations

import polars as pl

from scenarios.load.records import Fate
from simulators.operations import Outcome, Phase


def damage(operations: pl.DataFrame, own: pl.DataFrame, intended: int) -> list[str]:
    """Return why the records of one service are not those of the load that was asked for, in words; nothing when they are.

    Parameters
    ----------
    operations : frame
        Of the service in this load run, all of them: `intended_ns`, `begun_ns`, `ended_ns`.
    own : frame of arrivals
        Of the service, of all generators.
    intended : int
        How many arrivals the plan asks for (`scenarios.load.intended`).
    """
    return missing(own, intended) + torn(operations, own)


def missing(own: pl.DataFrame, intended: int) -> list[str]:
    """Return in words that not all arrivals, or more, were recorded than were intended; nothing when just those were."""
    return [] if own.height == intended else [f"{own.height} arrivals were recorded, of {intended} that were intended"]


def torn(operations: pl.DataFrame, own: pl.DataFrame) -> list[str]:
    """Return in words where operations and arrivals of a service belie each other, or a clock; nothing where they do not."""
    found = []
    named = int(own["operations"].sum())
    if named != operations.height:
        found.append(f"{operations.height} operations were recorded, where the arrivals count {named}")
    idle = own.filter((pl.col("fate") == int(Fate.DONE)) & (pl.col("operations") == 0)).height
    if idle:
        found.append(f"{idle} arrivals were done without an operation")
    is_backwards = (pl.col("ended_ns") < pl.col("begun_ns")) | (pl.col("begun_ns") < pl.col("intended_ns"))
    if backwards := operations.filter(is_backwards).height:
        found.append(f"{backwards} operations ended before they began, or began before they were due: a clock is broken")
    return found


def not_cut(operations: pl.DataFrame, own: pl.DataFrame, patience_s: float) -> pl.DataFrame:
    """Leave out what failed because the run ended while it was under way, unless it had been under way for too long."""
    cut_ns = own.filter(pl.col("fate") == int(Fate.CUT))["ended_ns"].min()
    if cut_ns is None:
        return operations
    was_cut = (pl.col("outcome") != int(Outcome.ACKNOWLEDGED)) & (pl.col("ended_ns") >= cut_ns)
    return operations.filter(~(was_cut & (pl.col("ended_ns") - pl.col("begun_ns") < patience_s * 1e9)))


def failed_of(operations: pl.DataFrame) -> pl.DataFrame:
    """Return the operations that were not acknowledged."""
    return operations.filter(pl.col("outcome") != int(Outcome.ACKNOWLEDGED))


def refused_of(operations: pl.DataFrame) -> pl.DataFrame:
    """Return the operations that were certainly not taken: no weakness of a generator excuses them."""
    return operations.filter(pl.col("outcome") == int(Outcome.REFUSED))


def failures(operations: pl.DataFrame) -> list[str]:
    """Return what failed, by how and in which phase, the most frequent first."""
    bad = failed_of(operations).group_by("outcome", "phase").len()
    return [
        f"{count} operations {Outcome(outcome).name.lower()} ({Phase(phase).name.lower()})"
        for outcome, phase, count in bad.sort("len", "outcome", "phase", descending=[True, False, False]).rows()
    ]
