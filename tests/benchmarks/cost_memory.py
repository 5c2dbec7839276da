"""What it costs to hold clients: memory and CPU of idle associations, and of the clients of one Locust process.

Idle associations go through the balancer, each from an address of its own, and do nothing. The clients of a generator have
each had one turn before they are looked at. Memory is resident memory, from the pulses and from /proc; the kernel's socket
buffers are not in it.
"""

from __future__ import annotations

import select
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from compose.native import NativeLab
from scenarios.load.card import LabCard
from scenarios.load.plan import StudyMix, UserKind, UserPlan
from scenarios.load_runs.parts import PartsWatch
from scenarios.load_runs.parts_seen import BALANCER, GENERATOR, PartsSeen
from scenarios.load_runs.process import play_load
from simulators.client import Timeouts
from simulators.dicom.association import Association
from simulators.dicom.dimse import VERIFICATION
from simulators.dicom.negotiation import ProposedContext

from .cost_points import Piece, Stretch, plan_of, zero_ns

ASSOCIATIONS = 3000
CLIENTS: dict[UserKind, tuple[int, float]] = {
    "modality": (2000, 250.0), "worklist": (2000, 250.0), "engine": (1000, 250.0), "viewer": (800, 50.0),
}  # fmt: skip
_FEW = 8
_QUIET_S = 4.0
_NS = 1e9
_TIMEOUTS = Timeouts(connect_s=10, negotiate_s=20, send_s=10, response_s=10)
_CONTEXTS = (ProposedContext(VERIFICATION, ("1.2.840.10008.1.2",)),)
_STUDY = StudyMix(modality="CT", share=1.0, images=1, image_bytes=8192)


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What holding `count` connections or clients takes of a part: bytes for each, cores for all of them together."""

    part: str
    what: str
    count: int
    bytes_each: float
    cores: float


def idle_associations(lab: NativeLab) -> list[Holding]:
    """Hold associations through the balancer, and return what that takes of it and of the nodes."""
    vip, dicom = lab.site.vip_of("dicom"), lab.site.dicom
    with PartsWatch(lab) as watch, ExitStack() as stack:
        empty = _quiet()
        for source in lab.source_addresses(ASSOCIATIONS):
            association = Association(
                lab.vip_target(vip.service), source, calling_ae=dicom.calling_ae_titles[0], called_ae=dicom.ae_title,
                contexts=_CONTEXTS, timeouts=_TIMEOUTS,
            )  # fmt: skip
            stack.callback(association.close)
        full = _quiet()
    seen = watch.seen()
    before, after = seen.during(*empty), seen.during(*full)
    nodes = [f"node/{server.node}/dicom" for server in vip.real_server]
    return [
        Holding(
            part=part, what="idle associations", count=ASSOCIATIONS,
            bytes_each=(_bytes(after, of) - _bytes(before, of)) / ASSOCIATIONS, cores=_cores(after, of) - _cores(before, of),
        )
        for part, of in (("balancer", [BALANCER]), ("node/dicom", nodes))
    ]  # fmt: skip


def clients_of_a_generator(lab: NativeLab, card: LabCard, kind: UserKind, records: Path) -> Holding:
    """Give each of many clients a turn, then let them rest, and return what they take of their generator beyond a few."""
    few, many = (_rested(lab, card, kind, count, records / str(count)) for count in (_FEW, CLIENTS[kind][0]))
    count = CLIENTS[kind][0] - _FEW
    return Holding(
        part="generator", what=f"{kind} clients", count=count, bytes_each=(many[0] - few[0]) / count, cores=many[1] - few[1]
    )


def _rested(lab: NativeLab, card: LabCard, kind: UserKind, count: int, records: Path) -> tuple[float, float]:
    """Return the memory of a generator of so many clients, and its cores while they rest."""
    rate = min(CLIENTS[kind][1], float(count))
    busy_s = count / rate + 1.0
    studies = (_STUDY,) if kind == "modality" else ()
    piece = Piece(f"{count} {kind} clients", tuple(
        Stretch(name, (UserPlan(kind=kind, clients=count, rate=at, lasts_s=lasts_s, studies=studies, requests_a_session=1),))
        for name, at, lasts_s in (("turns", rate, busy_s), ("rest", 1.0, _QUIET_S))
    ))  # fmt: skip
    run = play_load(lab, plan_of(card, piece, records), piece.name)
    rests_ns = zero_ns(run) + round((busy_s + 1.0) * _NS)
    seen = run.parts.during(rests_ns, rests_ns + round((_QUIET_S - 1.0) * _NS))
    generators = [part for part in seen.parts if part.startswith(GENERATOR)]
    return _bytes(seen, generators), _cores(seen, generators)


def _quiet() -> tuple[int, int]:
    """Let some time go by in which nothing is done, and return when it began and when it ended."""
    begun_ns = time.monotonic_ns()
    select.select([], [], [], _QUIET_S)  # the window that is measured: nothing is awaited
    return begun_ns + round(_NS), time.monotonic_ns()


def _bytes(seen: PartsSeen, parts: list[str]) -> float:
    """Return the memory of some parts at the end of what was seen."""
    if parts == [BALANCER]:
        return float(seen.balancer[-1].rss_bytes or 0)
    return float(sum(process.moments[-1].rss_bytes for part in parts for process in seen.of(part)))


def _cores(seen: PartsSeen, parts: list[str]) -> float:
    used = seen.mean_cores()
    return sum(used.get(part, 0.0) for part in parts)
