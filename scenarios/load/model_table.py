"""The clinical load model as one table: every number with its source or why it is assumed, then what follows from them.

A row says where its value comes from: the source of a default, why a number is assumed, that the site set it, or a formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from lbconfig.clinical import LineLoad, Load
from lbconfig.clinical_sources import BASES, REFERENCES, Basis

from .model import SECONDS_PER_HOUR, Demand, LineDemand, Rates, StudyDemand, demand_of

Origin = Literal["source", "assumption", "site", "derived"]
NOT_SENT = "in the model, not in the traffic"
LOAD_FACTOR = 1.5  # of LOAD-1, at which a line's bound is looked at too
_MEGA, _GIGA = 1e6, 1e9
_BY_MODALITY = "Images by modality"
_PARTS = {
    "modality": "Images", "compression": "Images", "largest_sent_image_bytes": "Images", "encounters_per_exam": "HL7",
    "adt_per_encounter": "HL7", "orders_per_exam": "HL7", "scheduling_per_exam": "HL7", "results_per_exam": "HL7",
    "line": "HL7", "ack_latency_s": "HL7", "exams_per_device": "Worklist", "worklist_interval_s": "Worklist",
    "views_per_exam": "Retrieval", "priors_per_exam": "Retrieval", "exams_per_web_user": "Web",
    "sessions_per_web_user_day": "Web", "pages_per_session": "Web", "outage_min": "Backlog", "flush_min": "Backlog",
    "image_s": "Clients", "link_bytes_per_s": "Clients", "query_s": "Clients", "page_s": "Clients",
}  # fmt: skip


class Row(NamedTuple):
    """One number of the model.

    `part` is what it is about, `value` the number itself or, for what is no number, its spelling. `why` is the source, the
    reasoning, or the formula in words, as `origin` tells. `sent` is whether load runs make it.
    """

    part: str
    name: str
    value: float | str
    unit: str
    origin: Origin
    why: str
    sent: bool = True


def model_table(load: Load) -> tuple[Row, ...]:
    """Return the whole model: the inputs first, in the order of the site file, then the derived figures."""
    return (*_inputs(load), *_figures(demand_of(load)))


def print_model(load: Load, console: Console) -> None:
    """Write the model to a console: what is put in, the modalities, what follows, and the sources that are named."""
    rows, demand = model_table(load), demand_of(load)
    inputs = _table("Clinical load model: what is put in", "number", "#value", "unit", "source, or why it is assumed")
    figures = _table("What follows from it", "figure", "#value", "unit", "how")
    for row in rows:
        cells = (row.name, number_text(row.value), row.unit, row.why if row.sent else f"{row.why} ({NOT_SENT})")
        if row.origin != "derived":
            inputs.add_row(*cells)
        elif row.part != _BY_MODALITY:
            figures.add_row(*cells)
    console.print(inputs, _modalities(demand), figures)
    console.print(*(f"{name}: {reference}" for name, reference in REFERENCES.items()), sep="\n", highlight=False)


def number_text(value: float | str) -> str:
    """Return a number as people write it: three digits that count, thousands apart, no exponent."""
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "never"
    if value == 0 or abs(value) >= 1000 or float(value).is_integer():
        return f"{value:,.0f}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def _table(title: str, *headings: str) -> Table:
    """Return an empty table; a heading that begins with # stands over numbers."""
    table = Table(title=title, title_justify="left", pad_edge=False)
    for heading in headings:
        table.add_column(heading.removeprefix("#"), justify="right" if heading.startswith("#") else "left", overflow="fold")
    return table


def _modalities(demand: Demand) -> Table:
    table = _table("The peak hour by modality", "study", "#studies/h", "#images/s", "#MB a study", "#MB/s", "load runs")
    for study in demand.studies:
        numbers = (
            study.studies.peak_per_s * SECONDS_PER_HOUR, study.images.peak_per_s, _study_bytes(study) / _MEGA,
            study.size_bytes.peak_per_s / _MEGA,
        )  # fmt: skip
        table.add_row(study.modality.name, *map(number_text, numbers), "send it" if study.sent else NOT_SENT)
    return table


def _inputs(load: Load) -> Iterator[Row]:
    bases = {basis.key: basis for basis in BASES}
    default = Load()
    for name in load.__struct_fields__:
        value, usual = getattr(load, name), getattr(default, name)
        if name == "modality":
            yield from _modality_inputs(load, default, bases)
        elif name == "line":
            usual_lines = {line.name: line for line in default.line}
            for line in load.line:
                yield _input(f"line.{line.name}", _line_text(line), _line_text(usual_lines.get(line.name)), bases)
        elif name == "hourly_factors":
            yield _input(name, _hours_text(value), _hours_text(usual), bases)
        else:
            yield _input(name, value, usual, bases)


def _modality_inputs(load: Load, default: Load, bases: dict[str, Basis]) -> Iterator[Row]:
    usual = {entry.name: entry for entry in default.modality}
    for entry in load.modality:
        for number in ("share", "images", "image_bytes"):
            theirs = getattr(usual[entry.name], number) if entry.name in usual else None
            row = _input(f"modality.{entry.name}.{number}", getattr(entry, number), theirs, bases)
            yield row._replace(sent=number != "image_bytes" or load.is_sent(entry))


def _input(key: str, value: float | str, usual: float | str | None, bases: dict[str, Basis]) -> Row:
    part = _PARTS.get(key.partition(".")[0], "Exams")
    name = key.replace("modality.", "").replace(".", " ").replace("_", " ")
    basis = bases.get(key)
    if basis is None:
        unit = next((known.unit for known in BASES if known.key.rpartition(".")[2] == key.rpartition(".")[2]), "")
        return Row(part, name, value, unit, "site", "the site: the model has no such entry of its own")
    if value != usual:
        why = f"the site, or an option of this run; by default {number_text(usual if usual is not None else 'not there')}"
        return Row(part, name, value, basis.unit, "site", why)
    return Row(part, name, value, basis.unit, "source" if basis.source else "assumption", basis.why)


def _line_text(line: LineLoad | None) -> str:
    return f"{' + '.join(line.carries)}, {line.connections}" if line else "nothing"


def _hours_text(hours: tuple[float, ...]) -> str:
    return f"24 from {min(hours):g} to {max(hours):g}, sum {sum(hours):.4g}"


def _figures(demand: Demand) -> Iterator[Row]:
    yield from _exam_figures(demand)
    yield from _image_figures(demand)
    yield from _message_figures(demand)
    yield from _query_figures(demand)
    yield from _retrieval_figures(demand)
    yield from _web_figures(demand)
    yield from _backlog_figures(demand)


def _exam_figures(demand: Demand) -> Iterator[Row]:
    load = demand.load
    a_day = load.exams_per_year / load.working_days
    yield _figure("Exams", "exams a working day", a_day, "1/day", "exams a year / working days")
    yield _figure("Exams", "exams in the peak hour", a_day * load.peak_hour_share, "1/h", "exams a day x peak hour's share")
    yield from _both("Exams", "exams", demand.exams, "1/s", "exams in the peak hour / 3,600")
    by_hours = 1 / sum(load.hourly_factors)
    yield _figure("Exams", "peak hour's share by the hourly factors", by_hours, "", "1 / their sum; of the shape `day`")


def _image_figures(demand: Demand) -> Iterator[Row]:
    for study in demand.studies:
        yield from _study_figures(study)
    studies, images, size_bytes = demand.ingest
    yield from _both("Images", "studies", studies, "1/s", "sum over all modalities, with what accompanies an exam")
    yield from _both("Images", "images", images, "1/s", "sum over all modalities")
    yield from _both("Images", "ingest", _scaled(size_bytes, 1 / _MEGA), "MB/s", "sum over all modalities")
    sent = [study for study in demand.studies if study.sent]
    unsent = [study.modality.name for study in demand.studies if not study.sent]
    without = f"the same without {', '.join(unsent)}" if unsent else "all of it"
    sent_images, sent_bytes = sum(s.images.peak_per_s for s in sent), sum(s.size_bytes.peak_per_s for s in sent)
    yield _figure("Images", "images that load runs send, peak", sent_images, "1/s", without)
    yield _figure("Images", "ingest that load runs send, peak", sent_bytes / _MEGA, "MB/s", without)
    a_year = sum(_study_bytes(s) * s.modality.share for s in demand.studies) * demand.load.exams_per_year
    yield _figure("Images", "archive growth", a_year / _GIGA / 1000, "TB/year", "exams a year x bytes an exam")


def _study_figures(study: StudyDemand) -> Iterator[Row]:
    name, sent = study.modality.name, study.sent
    a_study = _study_bytes(study) / _MEGA
    yield _figure(_BY_MODALITY, f"{name}: a study", a_study, "MB", "images x bytes of one / compression", sent)
    yield _figure(_BY_MODALITY, f"{name}: studies, peak", study.studies.peak_per_s, "1/s", "exams x share", sent)
    yield _figure(_BY_MODALITY, f"{name}: images, peak", study.images.peak_per_s, "1/s", "studies x images", sent)
    yield _figure(_BY_MODALITY, f"{name}: ingest, peak", study.size_bytes.peak_per_s / _MEGA, "MB/s", "studies x MB", sent)


def _message_figures(demand: Demand) -> Iterator[Row]:
    for line in demand.lines:
        for kind, rates in line.kinds:
            how = "exams x encounters an exam x ADT an encounter" if kind == "adt" else f"exams x {kind} an exam"
            yield _figure("HL7", f"{kind} messages, peak", rates.peak_per_s, "1/s", how)
        yield _figure("HL7", f"line {line.name}, peak", line.messages.peak_per_s, "1/s", "sum over what it carries")
        yield _figure("HL7", f"line {line.name}, at most", line.bound_per_s, "1/s", _bound_text(line))
    yield from _both("HL7", "messages", demand.messages, "1/s", "sum over all lines")


def _bound_text(line: LineDemand) -> str:
    verdict = "holds"
    if line.exceeded_at(1):
        verdict = "is exceeded by the peak itself: messages queue in the engine"
    elif line.exceeded_at(LOAD_FACTOR):
        verdict = f"is exceeded at {LOAD_FACTOR:g} x peak: messages queue in the engine"
    return f"connections / ACK latency; {verdict}"


def _query_figures(demand: Demand) -> Iterator[Row]:
    yield _figure("Worklist", "devices that poll", demand.devices, "devices", "exams a year / exams a device, rounded up")
    yield from _both("Worklist", "C-FIND", demand.queries, "1/s", "devices / polling interval, at all hours alike")


def _retrieval_figures(demand: Demand) -> Iterator[Row]:
    how = "exams x (views + priors an exam); no C-MOVE here yet, and viewers in a load run ask for pages, not pixels"
    for row in _both("Retrieval", "studies retrieved", demand.retrievals, "1/s", how):
        yield row._replace(sent=False)
    how = "studies retrieved x bytes an exam; at most, since clinicians look at fewer images of a study than radiologists"
    for row in _both("Retrieval", "retrieval", _scaled(demand.retrieved_bytes, 1 / _MEGA), "MB/s", how):
        yield row._replace(sent=False)
    ingest = demand.ingest[2].peak_per_s
    ratio = demand.retrieved_bytes.peak_per_s / ingest
    yield _figure("Retrieval", "retrieval / ingest", ratio, "", "bytes retrieved / bytes stored", sent=False)


def _web_figures(demand: Demand) -> Iterator[Row]:
    yield _figure("Web", "web users", demand.web_users, "users", "exams a year / exams a user, rounded up")
    yield from _both("Web", "sessions", demand.sessions, "1/s", "users x sessions a day x peak hour's share / 3,600")
    yield from _both("Web", "pages", demand.pages, "1/s", "sessions x (1 login + pages a session)")


def _backlog_figures(demand: Demand) -> Iterator[Row]:
    backlog = demand.backlog
    kept = "peak rate x minutes of outage"
    yield _figure("Backlog", "studies kept back", backlog.studies, "studies", kept, sent=False)
    yield _figure("Backlog", "images kept back", backlog.images, "images", kept, sent=False)
    yield _figure("Backlog", "bytes kept back", backlog.size_bytes / _GIGA, "GB", kept, sent=False)
    yield _figure("Backlog", "HL7 messages kept back", backlog.messages, "messages", kept, sent=False)
    how = "1 + outage / flush: what goes on arriving, and what was kept back"
    yield _figure("Backlog", "burst", backlog.burst_factor, "x peak", how, sent=False)
    burst = demand.ingest[2].peak_per_s * backlog.burst_factor / _MEGA
    yield _figure("Backlog", "ingest in the burst", burst, "MB/s", "ingest at the peak x burst", sent=False)
    how = "of the fullest line: kept back / (bound - peak); never, where the peak is above the bound"
    yield _figure("Backlog", "HL7 queue is empty after", backlog.hl7_drain_s, "s", how, sent=False)


def _both(part: str, name: str, rates: Rates, unit: str, how: str) -> Iterator[Row]:
    yield _figure(part, f"{name}, peak", rates.peak_per_s, unit, how)
    yield _figure(part, f"{name}, average", rates.average_per_s, unit, "over the 24 hours of a working day")


def _figure(part: str, name: str, value: float, unit: str, how: str, sent: bool = True) -> Row:
    return Row(part, name, value, unit, "derived", how, sent)


def _study_bytes(study: StudyDemand) -> int:
    return study.modality.images * study.image_bytes


def _scaled(rates: Rates, number: float) -> Rates:
    return Rates(rates.peak_per_s * number, rates.average_per_s * number)
