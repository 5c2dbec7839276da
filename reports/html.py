"""index.html: the report for people, one file that opens offline and prints on A4; templates/report.html.j2 is the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from .figures import timeline_svg, traffic_svg
from .load_section import load_stories
from .pair_section import COLUMNS as PAIR_COLUMNS
from .pair_section import pair_story
from .text import legible, shortened
from .values import THIN, compared, scalar
from .verdict import CheckResult, Pictures, Report, Timeline
from .words import MARKS, MEANINGS, REPORT_MARKS, REPORT_WORDS, WORDS, kind_sentence, stand_in_sentence, verdict_sentence

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the matrix: one check, its verdict on each VIP, or on the whole site."""

    check: str
    title: str
    cells: tuple[CheckResult | None, ...]
    whole: CheckResult | None


@dataclass(frozen=True, slots=True)
class Story:
    """One fault: its picture, and the same moments as a table (a row each moment, a column each VIP)."""

    fault: str
    picture: Markup
    vips: tuple[str, ...]
    moments: tuple[tuple[str, tuple[str, ...]], ...]


def html_report(report: Report, pictures: Pictures) -> str:
    """Return index.html. All styles and pictures are inside; there is no script, and nothing is loaded from elsewhere.

    Parameters
    ----------
    report : Report
        What was found; every string in it is escaped.
    pictures : Pictures
        What to draw; what is empty is left out.
    """
    vips = list(dict.fromkeys(check.vip for check in report.checks if check.vip is not None))
    order = {check.id: place for place, check in enumerate(report.checks)}
    findings = [check for check in report.checks if check.verdict in ("fail", "unknown")]
    findings.sort(key=lambda check: (check.verdict != "fail", not check.required, order[check.id]))
    return _environment().get_template("report.html.j2").render(
        report=report,
        kind_sentence=kind_sentence(report),
        stand_in_sentence=stand_in_sentence(report),
        verdict_sentence=verdict_sentence(report),
        duration=duration(report.run.started, report.run.ended),
        tally=_tally(report.checks),
        vips=vips,
        matrix=_matrix(report.checks, vips),
        findings=findings,
        waived=[check for check in report.checks if check.waiver is not None],
        catalogue=_catalogue(report.checks),
        skipped=_skipped(report.checks),
        stories=_stories(pictures.timelines),
        traffic=_traffic(pictures),
        faults=pictures.faults,
        pair=pair_story(pictures.takeovers),
        pair_columns=PAIR_COLUMNS,
        loads=load_stories(pictures.load, report.checks),
    )  # fmt: skip


def anchor(check_id: str) -> str:
    """Return the id of a check's place on the page: `PERSIST-1-DICOM` for `PERSIST-1/DICOM`."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in check_id)


def duration(started: str, ended: str) -> str:
    """Return the time between two ISO 8601 moments as `2 min 23 s`; a dash when either is none, or they do not compare."""
    try:
        seconds = round((datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds())
    except (ValueError, TypeError):
        return "—"
    hours, rest = divmod(max(0, seconds), 3600)
    parts = [(hours, "h"), (rest // 60, "min"), (rest % 60, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else legible(value),
    )
    environment.filters |= {"anchor": anchor, "moment": _moment, "link": _link, "shortened": shortened}
    environment.globals |= {
        "marks": MARKS, "words": WORDS, "meanings": MEANINGS, "report_marks": REPORT_MARKS, "report_words": REPORT_WORDS,
        "compared": compared, "seconds": lambda value: scalar(value, unit="s"),
    }  # fmt: skip
    return environment


def _moment(text: str) -> str:
    """Return an ISO 8601 moment to the second, as people read it: 2026-11-23 19:06:20 UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.strftime("%Y-%m-%d %H:%M:%S ") + (moment.tzname() or "(no time zone)")


def _link(path: str) -> str:
    """Return the address of an evidence file beside the page; a colon in it must not make it look like a scheme."""
    return "./" + quote(legible(path), safe="/#=.-_~")


def _tally(checks: Sequence[CheckResult]) -> list[tuple[str, int, int]]:
    """Count, for each verdict: its word, how many required checks have it, and how many others."""
    required = Counter(check.verdict for check in checks if check.required)
    others = Counter(check.verdict for check in checks if not check.required)
    return [(verdict, required[verdict], others[verdict]) for verdict in WORDS]


def _catalogue(checks: Sequence[CheckResult]) -> list[list[CheckResult]]:
    """Gather the verdicts of each check of the catalogue, in the order in which the checks first appear."""
    by_check: dict[str, list[CheckResult]] = {}
    for check in checks:
        by_check.setdefault(check.check, []).append(check)
    return list(by_check.values())


def _skipped(checks: Sequence[CheckResult]) -> list[list[CheckResult]]:
    """Gather the skipped verdicts that belong to one check and have one reason: they make one line."""
    alike: dict[tuple[str, str], list[CheckResult]] = {}
    for check in checks:
        if check.verdict == "skipped":
            alike.setdefault((check.check, check.reason), []).append(check)
    return list(alike.values())


def _matrix(checks: Sequence[CheckResult], vips: Sequence[str]) -> list[Row]:
    return [
        Row(
            check=results[0].check,
            title=results[0].title,
            cells=tuple(next((result for result in results if result.vip == vip), None) for vip in vips),
            whole=next((result for result in results if result.vip is None), None),
        )
        for results in _catalogue(checks)
    ]


def _stories(timelines: Sequence[Timeline]) -> list[Story]:
    by_fault: dict[str, list[Timeline]] = {}
    for timeline in timelines:
        by_fault.setdefault(timeline.fault, []).append(timeline)
    return [_story(f"timeline-{number}", fault, lanes) for number, (fault, lanes) in enumerate(by_fault.items(), 1)]


def _story(name: str, fault: str, lanes: Sequence[Timeline]) -> Story:
    earliest: dict[str, float] = {}
    for event in (event for lane in lanes for event in lane.events):
        earliest[event.what] = min(event.at_s, earliest.get(event.what, event.at_s))
    moments = []
    for what in sorted(earliest, key=lambda what: earliest[what]):
        at_s = [next((event.at_s for event in lane.events if event.what == what), None) for lane in lanes]
        moments.append((what, tuple("—" if value is None else f"{value:.2f}{THIN}s" for value in at_s)))
    return Story(fault, Markup(timeline_svg(name, lanes)), tuple(lane.vip for lane in lanes), tuple(moments))  # noqa: S704  escaped by the XML writer


def _traffic(pictures: Pictures) -> Markup | None:
    if not pictures.traffic:
        return None
    return Markup(traffic_svg("traffic", pictures.traffic, pictures.faults))  # noqa: S704  escaped by the XML writer
