"""The steps of LOAD-4 in a report, as points that check prices: they go on to the limit, where steady rates do not. Pure.

Only steps that kept up with what was offered are taken: beyond, what was counted is not what was worked on.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from lbconfig.site import ServiceKind, Site

from .cost_points import priced_as
from .fitting import Point
from .sizing import ITEMS_A_POLL

KEPT_UP = 0.95  # of what was offered
_IMAGES, _IMAGE_BYTES, _PAGES = 10, 512 * 1024, 7  # of a study, of a session: as `scenarios.load_runs.plans` has the steps
_EACH: dict[ServiceKind, dict[str, float]] = {
    "dicom": {"association": 1, "image": _IMAGES, "byte": _IMAGES * _IMAGE_BYTES}, "hl7": {"message": 1},
    "dmwl": {"poll": 1, "item": ITEMS_A_POLL}, "https": {"session": 1, "page": _PAGES},
}  # fmt: skip


class _Step(msgspec.Struct, frozen=True):
    """What a report tells of a step."""

    offered_per_s: float
    achieved_per_s: float
    cpu_cores: dict[str, float]


class _Measured(msgspec.Struct, frozen=True):
    steps: list[_Step] = []


class _Check(msgspec.Struct, frozen=True):
    check: str
    vip: str | None
    measured: msgspec.Raw


class _Report(msgspec.Struct, frozen=True):
    checks: list[_Check]


def steps_of(report: bytes, site: Site) -> list[Point]:
    """Return a held-out point for each step of LOAD-4 that kept up, of generator, balancer and the service's own nodes.

    Parameters
    ----------
    report : bytes
        A `report.json`.
    site : Site
        Which service each VIP is.
    """
    points = []
    for check in msgspec.json.decode(report, type=_Report).checks:
        if check.check != "LOAD-4" or check.vip is None:
            continue
        service = site.vip_named(check.vip).service
        steps = msgspec.json.decode(check.measured, type=_Measured).steps
        points += [_point(service, step) for step in steps if step.achieved_per_s >= KEPT_UP * step.offered_per_s]
    return points


def read_steps(path: Path, site: Site) -> list[Point]:
    """Return the steps of a report's file, as `steps_of` does."""
    return steps_of(path.read_bytes(), site)


def _point(service: ServiceKind, step: _Step) -> Point:
    cores: dict[str, float] = {}
    for part, used in step.cpu_cores.items():
        name = priced_as(part)
        if name in ("generator", "balancer", f"node/{service}"):
            cores[name] = cores.get(name, 0.0) + used
    return Point(
        name=f"LOAD-4, {service}, {step.achieved_per_s:,.0f}/s", over_s=0.0, cores=cores, strange_cores=0.0, held_out=True,
        happened={unit: number * step.achieved_per_s for unit, number in _EACH[service].items()},
    )  # fmt: skip
