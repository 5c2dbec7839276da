"""Steady rates on a lab that is up, by Locust, and what every part used meanwhile: the points that prices are made of.

A *piece* is one run of Locust; it goes through *stretches*, each some seconds at steady rates. Of every stretch the first
and the last second are left out (a pulse comes once a second, and would mix it with its neighbour). What happened is counted
in the histories, not taken from the plan: where a rate was not reached, the point is none the worse.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from compose.native import NativeLab
from lbconfig.site_file import load_site
from scenarios.frames import columns, scan_operations
from scenarios.load.arrivals import schedule_of
from scenarios.load.card import LabCard
from scenarios.load.model import demand_of, user_plans
from scenarios.load.plan import LoadPlan, StudyMix, UserPlan, Web
from scenarios.load_runs.parts_seen import GENERATOR, NODE
from scenarios.load_runs.process import LoadRun, play_load
from simulators.operations import Kind, Outcome, Service

from .fitting import Point

STRETCH_S = 6.0
MIXED_S = 18.0
EDGE_S = 1.0  # at either end of a stretch
_NS = 1e9
_IDLE = UserPlan(kind="engine", clients=8, rate=0.2, lasts_s=STRETCH_S)
_NO_STATION = ("NOBODY",)


class PointError(Exception):
    """A point cannot be measured; the message says why."""


class Stretch(NamedTuple):
    """Some seconds at steady rates: who does what, all of them from its begin to its end."""

    name: str
    users: tuple[UserPlan, ...]
    held_out: bool = False

    @property
    def lasts_s(self) -> float:
        """How long it takes, in seconds."""
        return max(user.lasts_s for user in self.users)


class Piece(NamedTuple):
    """One run of Locust: its stretches, one after the other; `empty` asks for worklists that hold nothing."""

    name: str
    stretches: tuple[Stretch, ...]
    empty: bool = False


def pieces_of(site_file: Path) -> tuple[Piece, ...]:
    """Return everything that is measured; the mixed load is that of the site's own model."""
    small, tiny, medium, large = (
        _studies("8 KB x 50", 50, 8192), _studies("8 KB x 1", 1, 8192), _studies("512 KB x 10", 10, 512 * 1024),
        _studies("7.5 MB x 2", 2, 7_532_800),
    )  # fmt: skip
    demand = demand_of(load_site(site_file).load)
    mixed = (
        Stretch(f"mixed, peak x {factor:g}", user_plans(demand, factor=factor, duration_s=MIXED_S), held_out=True)
        for factor in (1.5, 4.0)
    )
    others = (
        _study_stretch(_studies("64 KB x 20", 20, 65536), 20.0, held_out=True),
        _study_stretch(_studies("2 MB x 4", 4, 2 << 20), 10.0, held_out=True),
        _stretch("engine", 450.0, held_out=True),
        _stretch("worklist", 90.0, held_out=True),
        _viewer_stretch(15.0, 5, held_out=True),
    )
    return (
        Piece("small images", (_idle(), *(_study_stretch(small, rate) for rate in (1.0, 4.0, 8.0, 16.0)),
                               *(_study_stretch(tiny, rate) for rate in (20.0, 60.0, 120.0)))),
        Piece("large images", (_idle(), *(_study_stretch(medium, rate) for rate in (2.0, 4.0, 8.0, 16.0)),
                               *(_study_stretch(large, rate) for rate in (1.0, 2.0, 4.0, 7.0)))),
        Piece("worklists of 20", (_idle(), *(_stretch("worklist", rate) for rate in (10.0, 30.0, 60.0, 120.0)))),
        Piece("empty worklists", (_idle(), *(_stretch("worklist", rate) for rate in (30.0, 120.0))), empty=True),
        Piece("messages", (_idle(), *(_stretch("engine", rate) for rate in (25.0, 100.0, 300.0, 700.0)))),
        Piece("sessions", (_idle(), *(_viewer_stretch(rate, 1) for rate in (3.0, 10.0, 25.0)),
                           *(_viewer_stretch(rate, 25) for rate in (1.0, 3.0, 6.0)))),
        Piece("other rates", others),
        Piece("mixed", tuple(mixed)),
    )  # fmt: skip


def measure(lab: NativeLab, card: LabCard, piece: Piece, records: Path) -> list[Point]:
    """Play a piece and return a point for each of its stretches.

    Parameters
    ----------
    lab : NativeLab
        Up, furnished, its storage keeping receipts only.
    card : LabCard
        Its own.
    piece : Piece
        What is played.
    records : Path
        A new folder for what the generator writes.

    Raises
    ------
    PointError
        When nothing happened, or an operation was not acknowledged.
    LoadError
        When Locust fails.
    """
    plan = plan_of(card, piece, records)
    return points_of(piece, play_load(lab, plan, piece.name))


def plan_of(card: LabCard, piece: Piece, records: Path) -> LoadPlan:
    """Return a piece as a plan, with a number of its own: several pieces share a lab, and none of their identities."""
    starts_s, users = 0.0, []
    for stretch in piece.stretches:
        users += [msgspec.structs.replace(user, starts_s=starts_s) for user in stretch.users]
        starts_s += stretch.lasts_s
    return LoadPlan(
        site=card.site, run=secrets.randbits(32), seed=1, workload=1, records=str(records), generators_at_most=1,
        sources=card.sources, duration_s=starts_s, users=tuple(users),
        web=Web(
            user=card.web_user, password=card.web_password, ca_file=card.ca_file, server_name=card.server_name,
            study_uids=card.study_uids,
        ),
        worklist_stations=_NO_STATION if piece.empty else card.worklist_stations,
    )  # fmt: skip


def points_of(piece: Piece, run: LoadRun) -> list[Point]:
    """Return a point for each stretch of a piece that was played."""
    operations = columns(
        scan_operations(sorted(run.records.glob("generator-*.operations"))),
        "service",
        "kind",
        "outcome",
        "ended_ns",
        "size_bytes",
    )
    arrivals = run.arrivals()
    _check(piece, operations)
    points = []
    begins_ns = zero_ns(run)
    for stretch in piece.stretches:
        ends_ns = begins_ns + round(stretch.lasts_s * _NS)
        points.append(_point(piece, stretch, run, operations, arrivals, begins_ns, ends_ns))
        begins_ns = ends_ns
    return points


def zero_ns(run: LoadRun) -> int:
    """Return when a run of one generator began: the first arrival of its first user was due so long after it."""
    arrivals = run.arrivals().sort("intended_ns")
    dues = [schedule_of(user, run.plan.seed, place).due_s for place, user in enumerate(run.plan.users)]
    first_s = min((float(due[0]) for due in dues if len(due)), default=None)
    if first_s is None or arrivals.is_empty():
        raise PointError(f"{run.name}: expected arrivals, found none")
    return int(arrivals["intended_ns"][0]) - round(first_s * _NS)


def _point(
    piece: Piece, stretch: Stretch, run: LoadRun, operations: pl.DataFrame, arrivals: pl.DataFrame, begins_ns: int,
    ends_ns: int,
) -> Point:  # fmt: skip
    first_ns, last_ns = begins_ns + round(EDGE_S * _NS), ends_ns - round(EDGE_S * _NS)
    over_s = (last_ns - first_ns) / _NS
    parts = run.parts.during(first_ns, last_ns)
    done = operations.filter(pl.col("ended_ns").is_between(first_ns, last_ns, closed="left"))
    begun = arrivals.filter(pl.col("begun_ns").is_between(first_ns, last_ns, closed="left"))
    counts = _counts(done, begun, holds_items=not piece.empty)
    cores: dict[str, float] = {}
    for part, used in parts.mean_cores().items():
        name = priced_as(part)
        cores[name] = cores.get(name, 0.0) + used
    return Point(
        name=f"{piece.name}: {stretch.name}", over_s=over_s, cores=cores, strange_cores=parts.strange_cores() or 0.0,
        happened={unit: count / over_s for unit, count in counts.items() if count}, held_out=stretch.held_out,
    )  # fmt: skip


def _counts(done: pl.DataFrame, begun: pl.DataFrame, *, holds_items: bool) -> dict[str, float]:
    """Count what happened, by the unit that it is priced in."""

    def ended(service: Service, kind: Kind) -> pl.DataFrame:
        return done.filter((pl.col("service") == int(service)) & (pl.col("kind") == int(kind)))

    images = ended(Service.DICOM, Kind.INSTANCE)
    polls = ended(Service.DMWL, Kind.QUERY).height
    return {
        "association": begun.filter(pl.col("service") == int(Service.DICOM)).height, "image": images.height,
        "byte": float(images["size_bytes"].sum()), "message": ended(Service.HL7, Kind.MESSAGE).height, "poll": polls,
        "item": 20 * polls * holds_items, "session": ended(Service.HTTPS, Kind.ECHO).height,
        "page": ended(Service.HTTPS, Kind.QUERY).height,
    }  # fmt: skip


def priced_as(part: str) -> str:
    """Return what a part is priced as: all generators together, a service of all nodes together."""
    if part.startswith(GENERATOR):
        return "generator"
    return f"{NODE}{part.rpartition('/')[2]}" if part.startswith(NODE) else part


def _check(piece: Piece, operations: pl.DataFrame) -> None:
    missed = operations.filter(pl.col("outcome") != int(Outcome.ACKNOWLEDGED)).height
    if missed or operations.is_empty():
        raise PointError(
            f"{piece.name}: expected operations that are all acknowledged, found {operations.height}, {missed} of them not"
        )


def _idle() -> Stretch:
    return Stretch("idle", (_IDLE,))


def _studies(name: str, images: int, image_bytes: int) -> tuple[str, StudyMix]:
    return name, StudyMix(modality="CT", share=1.0, images=images, image_bytes=image_bytes)


def _study_stretch(study: tuple[str, StudyMix], rate: float, *, held_out: bool = False) -> Stretch:
    name, mix = study
    user = UserPlan(kind="modality", clients=48, rate=rate, lasts_s=STRETCH_S, studies=(mix,))
    return Stretch(f"{name}, {rate:g} studies/s", (user,), held_out)


def _stretch(kind: str, rate: float, *, held_out: bool = False) -> Stretch:
    if kind == "engine":
        return Stretch(f"{rate:g} messages/s", (UserPlan(kind="engine", clients=8, rate=rate, lasts_s=STRETCH_S),), held_out)
    return Stretch(f"{rate:g} polls/s", (UserPlan(kind="worklist", clients=48, rate=rate, lasts_s=STRETCH_S),), held_out)


def _viewer_stretch(rate: float, requests: int, *, held_out: bool = False) -> Stretch:
    user = UserPlan(kind="viewer", clients=48, rate=rate, lasts_s=STRETCH_S, requests_a_session=requests)
    return Stretch(f"{rate:g} sessions/s of {requests} requests", (user,), held_out)


def seconds_of(pieces: Iterable[Piece]) -> float:
    """Return how long pieces are played, in seconds, start-up excluded."""
    return sum(stretch.lasts_s for piece in pieces for stretch in piece.stretches)


def named(pieces: Sequence[Piece], names: Sequence[str]) -> list[Piece]:
    """Return the pieces with these names; all of them when none is named."""
    return [piece for piece in pieces if not names or piece.name in names]
