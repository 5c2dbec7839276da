"""From the numbers of a hospital (`lbconfig/clinical.py`) to what load runs must make: rates, bytes, clients. Pure.

`demand_of` gives the rates of the peak hour and of the average, `user_plans` the clients that make them. A load run at factor
1.5 is the busiest hour with the reserve of half a load that Wilson and Smith ask for (SPIE 2165, 1994); so is LOAD-1.

Retrieval is in the model, not in the traffic: these nodes offer no C-MOVE yet, and what viewers ask for over HTTPS in a load
run are pages, not pixels. Its bytes are counted all the same, because on a real site they share the network with ingest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from lbconfig.clinical import Load, MessageKind, ModalityLoad

from .plan import Shape, StudyMix, UserPlan

SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86400
CLIENTS_AT_LEAST = 8  # fewer sources would not show how persistence spreads them over the nodes
BUSY_DEVIATIONS = 4  # of a Poisson number of busy clients: fewer than 1 arrival in 10,000 meets none free


class Rates(NamedTuple):
    """How often something happens: a second of the peak hour, and a second of an average day; in events or in bytes."""

    peak_per_s: float
    average_per_s: float


class StudyDemand(NamedTuple):
    """What one entry of the modalities asks for.

    `image_bytes` are those of one object on the wire; `studies`, `images` and `size_bytes` are rates; `takes_s` is how long
    one study keeps its modality busy; `sent` is whether load runs send it.
    """

    modality: ModalityLoad
    image_bytes: int
    sent: bool
    studies: Rates
    images: Rates
    size_bytes: Rates
    takes_s: float


class LineDemand(NamedTuple):
    """What one HL7 line carries, and what it can carry at most: connections / ACK latency."""

    name: str
    messages: Rates
    kinds: tuple[tuple[MessageKind, Rates], ...]
    connections: int
    ack_latency_s: float

    @property
    def bound_per_s(self) -> float:
        """The messages a second that the line carries at most: its connections over the latency of an ACK."""
        return self.connections / self.ack_latency_s

    def exceeded_at(self, factor: float) -> bool:
        """Whether this many times the peak is more than the line can carry."""
        return self.messages.peak_per_s * factor > self.bound_per_s


class Backlog(NamedTuple):
    """What has piled up after an outage at the peak hour, and what flushes it.

    `burst_factor` is how many times the peak comes in while modalities send it within `flush_min`; `hl7_drain_s` is how long
    the fullest HL7 line needs at its bound, beside what goes on arriving (infinite where the peak alone is above the bound).
    """

    studies: float
    images: float
    size_bytes: float
    messages: float
    burst_factor: float
    hl7_drain_s: float


class Demand(NamedTuple):
    """What a hospital asks of its balancer."""

    load: Load
    exams: Rates
    studies: tuple[StudyDemand, ...]
    lines: tuple[LineDemand, ...]
    devices: int
    queries: Rates
    retrievals: Rates
    retrieved_bytes: Rates
    web_users: int
    sessions: Rates
    backlog: Backlog

    @property
    def ingest(self) -> tuple[Rates, Rates, Rates]:
        """Studies, images and bytes of all modalities, whether load runs send them or not."""
        return (
            _sum([study.studies for study in self.studies]), _sum([study.images for study in self.studies]),
            _sum([study.size_bytes for study in self.studies]),
        )  # fmt: skip

    @property
    def messages(self) -> Rates:
        """HL7 messages of all lines."""
        return _sum([line.messages for line in self.lines])

    @property
    def pages(self) -> Rates:
        """Web pages: each session's, and the login that begins it."""
        return _times(self.sessions, 1 + self.load.pages_per_session)


def demand_of(load: Load) -> Demand:
    """Return what a hospital asks of its balancer.

    All exams are done on working days, and the busiest hour has `peak_hour_share` of a day's. What follows an exam or an
    encounter (messages, retrievals, sessions) has the same busiest hour; worklists are asked for at all hours alike.
    """
    exams = _over_the_year(load, load.exams_per_year)
    studies = tuple(_study_demand(load, modality, exams) for modality in load.modality)
    lines = _line_demands(load, exams)
    devices = math.ceil(load.exams_per_year / load.exams_per_device)
    queries = devices / load.worklist_interval_s
    retrievals = _times(exams, load.views_per_exam + load.priors_per_exam)
    exam_bytes = sum(modality.share * modality.images * load.wire_bytes(modality) for modality in load.modality)
    web_users = math.ceil(load.exams_per_year / load.exams_per_web_user)
    return Demand(
        load=load, exams=exams, studies=studies, lines=lines, devices=devices, queries=Rates(queries, queries),
        retrievals=retrievals, retrieved_bytes=_times(retrievals, exam_bytes), web_users=web_users,
        sessions=_over_a_day(load, web_users * load.sessions_per_web_user_day), backlog=_backlog(load, studies, lines),
    )  # fmt: skip


def user_plans(demand: Demand, *, factor: float, duration_s: float, shape: Shape | None = None) -> tuple[UserPlan, ...]:
    """Return who sends what, to make a demand's peak hour `factor` times over.

    Parameters
    ----------
    demand : Demand
        Of the site.
    factor : float
        Times the peak hour; 1.5 in LOAD-1. Above 0.
    duration_s : float
        How long arrivals go on, in seconds.
    shape : Shape
        How they are spread; steady by default. A `day` without hours gets the model's.

    Returns
    -------
    tuple of UserPlan
        One of each kind that has anything to send. Modalities, worklists and viewers are as many as are busy at the greatest
        rate of the shape (Little's law: rate x seconds that one arrival takes), four standard deviations of a Poisson number
        above, and at least `CLIENTS_AT_LEAST`. The interface engine has its lines' connections and no more, because beyond
        their bound a real engine waits too; only steps, which look for the balancer's own limit, give it more.
    """
    shape = shape or Shape()
    if shape.kind == "day" and not shape.hours:
        shape = msgspec.structs.replace(shape, hours=demand.load.hourly_factors)
    greatest = factor * _greatest_factor(shape, duration_s)
    load, sent = demand.load, [study for study in demand.studies if study.sent]
    study_rate = sum(study.studies.peak_per_s for study in sent)
    study_s = sum(study.studies.peak_per_s * study.takes_s for study in sent)
    connections = sum(line.connections for line in demand.lines)
    acks_s = sum(line.messages.peak_per_s * line.ack_latency_s for line in demand.lines)
    session_s = (1 + load.pages_per_session) * load.page_s
    plans = (
        UserPlan(
            kind="modality", clients=clients_for(study_s * greatest), rate=study_rate * factor, lasts_s=duration_s,
            shape=shape, studies=_mix(sent, study_rate),
        ),
        UserPlan(
            kind="worklist", clients=clients_for(demand.queries.peak_per_s * load.query_s * greatest),
            rate=demand.queries.peak_per_s * factor, lasts_s=duration_s, shape=shape,
        ),
        UserPlan(
            kind="engine",
            clients=clients_for(acks_s * greatest, at_least=connections) if shape.kind == "steps" else connections,
            rate=demand.messages.peak_per_s * factor, lasts_s=duration_s, shape=shape,
        ),
        UserPlan(
            kind="viewer", clients=clients_for(demand.sessions.peak_per_s * session_s * greatest),
            rate=demand.sessions.peak_per_s * factor, lasts_s=duration_s, shape=shape,
            requests_a_session=load.pages_per_session,
        ),
    )  # fmt: skip
    return tuple(plan for plan in plans if plan.rate > 0)


def clients_for(busy: float, *, at_least: int = CLIENTS_AT_LEAST) -> int:
    """Return how many clients are enough where `busy` of them (Little's law) are at work on average.

    Arrivals are Poisson, so is the number of those at work when none has to wait; its standard deviation is the root.
    """
    return max(at_least, math.ceil(busy + BUSY_DEVIATIONS * math.sqrt(busy)))


def _greatest_factor(shape: Shape, duration_s: float) -> float:
    if shape.kind != "steps":
        return 1.0
    steps = max(1, math.ceil(duration_s / shape.step_s))
    return max(1.0, shape.factor ** (steps - 1))


def _mix(sent: list[StudyDemand], study_rate: float) -> tuple[StudyMix, ...]:
    return tuple(
        StudyMix(
            modality=study.modality.name, share=study.studies.peak_per_s / study_rate, images=study.modality.images,
            image_bytes=study.image_bytes,
        )
        for study in sent
    )  # fmt: skip


def _study_demand(load: Load, modality: ModalityLoad, exams: Rates) -> StudyDemand:
    studies = _times(exams, modality.share)
    image_bytes = load.wire_bytes(modality)
    study_bytes = modality.images * image_bytes
    return StudyDemand(
        modality=modality, image_bytes=image_bytes, sent=load.is_sent(modality), studies=studies,
        images=_times(studies, modality.images), size_bytes=_times(studies, study_bytes),
        takes_s=modality.images * load.image_s + study_bytes / load.link_bytes_per_s,
    )  # fmt: skip


def _line_demands(load: Load, exams: Rates) -> tuple[LineDemand, ...]:
    per_exam: dict[MessageKind, float] = {
        "adt": load.encounters_per_exam * load.adt_per_encounter, "orders": load.orders_per_exam,
        "scheduling": load.scheduling_per_exam, "results": load.results_per_exam,
    }  # fmt: skip
    demands = []
    for line in load.line:
        kinds = tuple((kind, _times(exams, per_exam[kind])) for kind in line.carries)
        messages = _sum([rates for _, rates in kinds])
        demands.append(LineDemand(line.name, messages, kinds, line.connections, load.ack_latency_s))
    return tuple(demands)


def _backlog(load: Load, studies: tuple[StudyDemand, ...], lines: tuple[LineDemand, ...]) -> Backlog:
    outage_s = load.outage_min * 60
    messages = sum(line.messages.peak_per_s for line in lines)
    return Backlog(
        studies=sum(study.studies.peak_per_s for study in studies) * outage_s,
        images=sum(study.images.peak_per_s for study in studies) * outage_s,
        size_bytes=sum(study.size_bytes.peak_per_s for study in studies) * outage_s,
        messages=messages * outage_s,
        burst_factor=1 + load.outage_min / load.flush_min,
        hl7_drain_s=max(_drain_s(line, outage_s) for line in lines),
    )


def _drain_s(line: LineDemand, outage_s: float) -> float:
    reserve = line.bound_per_s - line.messages.peak_per_s
    return line.messages.peak_per_s * outage_s / reserve if reserve > 0 else math.inf


def _over_the_year(load: Load, events: float) -> Rates:
    return _over_a_day(load, events / load.working_days)


def _over_a_day(load: Load, events: float) -> Rates:
    return Rates(events * load.peak_hour_share / SECONDS_PER_HOUR, events / SECONDS_PER_DAY)


def _times(rates: Rates, number: float) -> Rates:
    return Rates(rates.peak_per_s * number, rates.average_per_s * number)


def _sum(rates: list[Rates]) -> Rates:
    return Rates(sum(rate.peak_per_s for rate in rates), sum(rate.average_per_s for rate in rates))
