"""The load runs of an acceptance, in the order in which they were played, and what the report draws of them."""

from __future__ import annotations

import msgspec
import polars as pl

from lbconfig.site import ServiceKind, Site, Vip
from reports.load_picture import Knee, LoadPicture
from scenarios.checkers.added import Pair
from scenarios.checkers.knee import judge_knee, steps_of
from scenarios.load.intended import intended_at_rates
from scenarios.load_runs.pictures import added_of, knee_of, load_picture, storm_of
from scenarios.load_runs.process import LoadRun
from scenarios.run import Run
from simulators.operations import Kind

PAIRED: dict[ServiceKind, str] = {
    "dicom": "images of 8 KiB", "hl7": "messages", "dmwl": "queries without a match", "https": "notes",
}  # fmt: skip
_TITLES = {
    "STORM-1": "A storm of reconnects", "LOAD-1": "The peak", "LOAD-2": "What the balancer adds",
    "LOAD-3": "One node carries the peak alone", "LOAD-4": "Steps to the knee", "SOAK-1": "One rate, for long",
}  # fmt: skip


class LoadPlayed:
    """What was played of load so far. `pairs` are LOAD-2's by VIP, `required` LOAD-4's rates by service."""

    def __init__(self) -> None:
        self.runs: dict[str, LoadRun] = {}  # by check
        self.pairs: dict[str, list[Pair]] = {}
        self.required: dict[ServiceKind, float] = {}

    def stories(self, run: Run) -> list[LoadPicture]:
        """Return what is drawn, one picture for each check that was played."""
        pictures = [self._story(run, check, played) for check, played in self.runs.items()]
        if self.pairs:
            pictures.append(_pairs(run.site, self.pairs))
        return sorted(pictures, key=lambda picture: list(_TITLES).index(picture.check))

    def _story(self, run: Run, check: str, played: LoadRun) -> LoadPicture:
        operations = run.scan_all_operations().filter(pl.col("workload") == played.workload)
        picture = load_picture(
            run.site, operations, played.arrivals(), played.parts, check=check, title=_TITLES[check], what=told(played),
            began_ns=played.started_ns, ended_ns=played.ended_ns, memory=check == "SOAK-1",
        )  # fmt: skip
        if check == "LOAD-4":
            return msgspec.structs.replace(picture, knees=[self._knee(run, played, vip) for vip in run.site.vip])
        if check == "STORM-1":
            storms = [
                storm_of(
                    vip, run.scan_operations(vip.service, [played.workload], kinds=tuple(Kind)),
                    clients=played.clients(vip.service), instant_ns=played.last_intended_ns(vip.service),
                )
                for vip in run.site.vip
            ]  # fmt: skip
            unbound = [msgspec.structs.replace(seen, p99_limit_s=None) for seen in picture.latencies]  # a storm has its own
            return msgspec.structs.replace(picture, storms=storms, latencies=unbound)
        return picture

    def _knee(self, run: Run, played: LoadRun, vip: Vip) -> Knee:
        operations = run.scan_operations(vip.service, [played.workload], kinds=tuple(Kind))
        intended = intended_at_rates(played.plan, vip.service)
        steps = steps_of(vip, operations, played.arrivals(), played.parts, intended=intended)
        return knee_of(vip, steps, judge_knee(vip, steps, required_per_s=self.required.get(vip.service, 0.0)))


def told(played: LoadRun) -> str:
    """Return what a load run offered, in words."""
    offered = [f"{user.rate:.3g} {user.kind}/s" for user in played.plan.users if user.rate]
    clients = sum({user.kind: user.clients for user in played.plan.users}.values())
    generators = f"{played.processes} generator{'s' if played.processes > 1 else ''}"
    return f"{played.name}: {clients} clients of {generators}{', ' + ', '.join(offered) if offered else ''}"


def _pairs(site: Site, pairs: dict[str, list[Pair]]) -> LoadPicture:
    added = [one for vip in site.vip for one in added_of(vip, {PAIRED[vip.service]: pairs.get(vip.name, [])})]
    what = "the same operations straight to a node and through the VIP, in pairs of random order"
    return LoadPicture(check="LOAD-2", title=_TITLES["LOAD-2"], what=what, duration_s=0.0, added=added)
