"""From the site's own numbers to load plans: its peak, one node alone, steps to the knee, a storm, hours at the average."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from lbconfig.site import ServiceKind, Site
from scenarios.findings import Finding
from scenarios.kit import Kit
from scenarios.load.model import Demand, demand_of, user_plans
from scenarios.load.plan import LoadPlan, Shape, StudyMix, UserKind, UserPlan, Web
from scenarios.options import LoadOptions
from scenarios.run import Run
from scenarios.stock import LOAD_STATIONS

PEAK_FACTOR = 1.5  # LOAD-1: the site's peak times this
PEAK_S = 60.0
ONE_NODE_S = 55.0
STEP_S = 2.0
STEPS = 8
STEP_FACTOR = 2.0
STORM_CLIENTS = 2000
STORM_S = 20.0
SOAK_S = 3600.0
_BETWEEN_S = 2.0  # what is under way on one VIP ends before the next one's steps begin
_STEP_CLIENTS: dict[UserKind, int] = {"modality": 32, "engine": 16, "worklist": 24, "viewer": 24}
STEP_STUDY = StudyMix(modality="CT", share=1.0, images=10, image_bytes=512 * 1024)
_USER_OF: dict[ServiceKind, UserKind] = {"dicom": "modality", "hl7": "engine", "dmwl": "worklist", "https": "viewer"}


class Planner:
    """Makes the load plans of one run: each with a workload, generators and source addresses of its own.

    Parameters
    ----------
    run : Run
        Whose history they write.
    kit : Kit
        The access to the web page.
    site_file : Path
        Which site, for Locust's processes to read.
    options : LoadOptions
        Of the whole run.
    """

    def __init__(self, run: Run, kit: Kit, site_file: Path, options: LoadOptions) -> None:
        self._run = run
        self._site_file = site_file.resolve()
        self._kit = kit
        self._options = options
        self._next_generator = 1
        self.demand: Demand = demand_of(run.site.load)

    def peak(self) -> LoadPlan:
        """Return the site's peak times 1.5, or what the options ask for."""
        return self._plan("peak", _peak(self.demand, self._options))

    def one_node(self) -> LoadPlan:
        """Return the site's peak, as it is."""
        return self._plan("one node", _one_node(self.demand))

    def steps(self) -> LoadPlan:
        """Return, one VIP after the other, rates that double from step to step, beginning with the site's peak times 1.5."""
        return self._plan("steps", _steps(self._run.site, self.demand))

    def storm(self) -> LoadPlan:
        """Return a storm: every client connects, then all hang up and come back at once."""
        return self._plan("storm", _storm(self._run.site))

    def soak(self) -> LoadPlan:
        """Return hours at the average rate, or at what the options ask for."""
        return self._plan("soak", _soak(self.demand, self._options))

    def required_rate(self, service: ServiceKind) -> float:
        """Return the arrivals a second of one VIP at the site's peak times 1.5, in the units of `steps`."""
        return required_rate(self.demand, service)

    def _plan(self, name: str, users: Sequence[UserPlan]) -> LoadPlan:
        run, processes = self._run, self._options.generators
        addresses = run.lab.source_addresses(_sources(users, processes))
        first, self._next_generator = self._next_generator, self._next_generator + processes
        web = self._kit.web
        return LoadPlan(
            site=str(self._site_file), run=run.number, seed=run.random(f"load {name}").getrandbits(32),
            workload=run.workload(name), records=str(run.directory / "load" / name.replace(" ", "-")), first_generator=first,
            generators_at_most=processes, sources=(addresses[0], addresses[-1]),
            duration_s=max(user.starts_s + user.lasts_s for user in users), users=tuple(users),
            web=Web(
                user=web.user, password=web.password, ca_file=str(web.ca_file), server_name=web.server_name,
                study_uids=(web.study_uid,),
            ),
            worklist_stations=LOAD_STATIONS,
        )  # fmt: skip


def required_rate(demand: Demand, service: ServiceKind) -> float:
    """Return the arrivals a second of one VIP at the site's peak times 1.5, in the units of the steps.

    For DICOM: studies of ten images of 512 KiB that amount to the same bytes; for HTTPS: sessions.
    """
    users = user_plans(demand, factor=PEAK_FACTOR, duration_s=PEAK_S, shape=Shape())
    plans = [user for user in users if user.kind == _USER_OF[service]]
    if service != "dicom":
        return sum(user.rate for user in plans)
    bytes_a_second = sum(
        user.rate * study.share * study.images * study.image_bytes for user in plans for study in user.studies
    )
    return bytes_a_second / (STEP_STUDY.images * STEP_STUDY.image_bytes)


def sources_needed(site: Site, trials: Sequence[str], options: LoadOptions) -> int:
    """Return how many source addresses the load runs of a profile take; `trials` are those that it plays."""
    demand = demand_of(site.load)
    users = {
        "peak_load": _peak(demand, options), "one_node_load": _one_node(demand), "steps": _steps(site, demand),
        "storm": _storm(site), "soak": _soak(demand, options),
    }  # fmt: skip
    return sum(_sources(users[trial], options.generators) for trial in trials)


def as_asked(finding: Finding, site: Site, options: LoadOptions) -> Finding:
    """Return a finding on the main load run with what it was asked for; a pass at less than the peak times 1.5 is none.

    Exams a year in the options take the place of the site's own, and are told.
    """
    factor = options.factor or PEAK_FACTOR
    told = _told_load(finding, site, options, factor, options.duration_s or PEAK_S)
    told = msgspec.structs.replace(told, limit={**finding.limit, "factor_at_least": PEAK_FACTOR})
    if finding.verdict != "pass" or factor >= PEAK_FACTOR:
        return told
    reason = f"at {factor:g} times the peak hour, less than the {PEAK_FACTOR:g} that this check asks for: {finding.reason}"
    return msgspec.structs.replace(told, verdict="unknown", subject="harness", reason=reason)


def soaked_as_asked(finding: Finding, site: Site, options: LoadOptions) -> Finding:
    """Return a finding on a soak with what it was asked for: `factor` is times the peak hour's rate."""
    return _told_load(finding, site, options, _soak_factor(demand_of(site.load), options), options.duration_s or SOAK_S)


def _told_load(finding: Finding, site: Site, options: LoadOptions, factor: float, duration_s: float) -> Finding:
    asked: dict[str, object] = {
        "exams_per_year": site.load.exams_per_year, "factor": factor, "duration_s": duration_s, "shape": options.shape,
        "generators": options.generators,
    }  # fmt: skip
    return msgspec.structs.replace(finding, measured={**finding.measured, "load": asked})


def _peak(demand: Demand, options: LoadOptions) -> Sequence[UserPlan]:
    duration_s = options.duration_s or PEAK_S
    shape = Shape(kind=options.shape, step_s=duration_s / 6)
    return user_plans(demand, factor=options.factor or PEAK_FACTOR, duration_s=duration_s, shape=shape)


def _one_node(demand: Demand) -> Sequence[UserPlan]:
    return user_plans(demand, factor=1.0, duration_s=ONE_NODE_S, shape=Shape())


def _steps(site: Site, demand: Demand) -> Sequence[UserPlan]:
    shape = Shape(kind="steps", step_s=STEP_S, factor=STEP_FACTOR)
    users = []
    services = [vip.service for vip in site.vip]
    in_turn = sorted(services, key="hl7".__eq__)  # last: worklists have to take in all their orders
    for service in services:
        kind, place = _USER_OF[service], in_turn.index(service)
        users.append(
            UserPlan(
                kind=kind, clients=_STEP_CLIENTS[kind], rate=required_rate(demand, service),
                starts_s=place * (STEPS * STEP_S + _BETWEEN_S), lasts_s=STEPS * STEP_S, shape=shape,
                studies=(STEP_STUDY,) if kind == "modality" else (),
            )
        )  # fmt: skip
    return users


def _storm(site: Site) -> Sequence[UserPlan]:
    clients = STORM_CLIENTS // len(site.vip)
    shape = Shape(kind="storm")
    return [UserPlan(kind=_USER_OF[vip.service], clients=clients, lasts_s=STORM_S, shape=shape) for vip in site.vip]


def _soak(demand: Demand, options: LoadOptions) -> Sequence[UserPlan]:
    factor = _soak_factor(demand, options)
    return user_plans(demand, factor=factor, duration_s=options.duration_s or SOAK_S, shape=Shape())


def _soak_factor(demand: Demand, options: LoadOptions) -> float:
    return options.factor or demand.exams.average_per_s / demand.exams.peak_per_s


def _sources(users: Sequence[UserPlan], processes: int) -> int:
    """Return how many addresses these users take: each generator has a slice, and none runs short."""
    return sum(user.clients for user in users) + 256 * processes


def under_load(site: Site, options: LoadOptions) -> Site:
    """Return the site as load runs see it: nodes are played by the engine for crowds."""
    engine = site.engines.under_load
    load = site.load
    if options.exams_per_year is not None:
        load = msgspec.structs.replace(load, exams_per_year=round(options.exams_per_year))
    return msgspec.structs.replace(
        site,
        engines=msgspec.structs.replace(site.engines, storage=engine, worklist=engine),
        load=load,
    )
