"""The section of load runs: it is there when one was played, and its numbers are right to the last digit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import pytest

from reports.html import html_report
from reports.load_picture import Added, ArrivalTally, Knee, LatencyClass, LoadPicture, NodeShare, PartSeries, Step, VipRates
from reports.load_section import load_stories
from reports.verdict import Pictures

if TYPE_CHECKING:
    from .conftest import CheckFactory, ReportFactory

LATENCY = LatencyClass(
    vip="HL7", name="HL7 message", n=12_543, p50_s=0.0021, p90_s=0.004, p95_s=0.0099964, p99_s=0.1234567,
    p99_interval_s=(0.11949, 0.1281), p999_s=1.99951, max_s=12.3456, p99_limit_s=0.015, curve=[(0.0, 0.001), (0.99, 0.12)],
)  # fmt: skip
KNEE = Knee(
    vip="DICOM", unit="studies", knee_per_s=40.0, bent=True, required_per_s=25.0, p99_limit_s=None, saturated="balancer",
    evidence=["idle 3 %", "1.9 of 2 threads"], steps=[Step(offered_per_s=40.0, achieved_per_s=40.0, p99_s=0.01, errors=0)],
)  # fmt: skip
PICTURE = LoadPicture(
    check="LOAD-1",
    title="the peak times 1.5",
    what="For a minute.",
    duration_s=60.0,
    rates=[
        VipRates(vip="HL7", step_s=1.0, offered_per_s=[1.0], done_per_s=[1.0], operations_per_s=[1.0], errors_per_s=[0.0],
                 mb_per_s=[0.1])
    ],
    latencies=[LATENCY],
    shares=[NodeShare(vip="HL7", node="mach7-1", step_s=1.0, share=[1.0], whole_share=1.0)],
    parts=[PartSeries(kind="balancer", name="", at_s=[0.5], cpu_share=[0.5])],
    arrivals=[ArrivalTally(vip="HL7", due=12_543, in_time=12_500, late_for_clients=23, late_for_generator=11,
                           dropped_for_clients=5, dropped_for_generator=4, cut=2)],
)  # fmt: skip


def test_a_load_run_has_a_place_its_verdicts_and_its_pictures(make_check: CheckFactory, make_report: ReportFactory) -> None:
    document = html_report(make_report(make_check("LOAD-1/HL7", "fail")), Pictures(load=[PICTURE]))
    assert "<h3>LOAD-1: the peak times 1.5</h3>" in document
    assert '<article class="load" id="load-1">' in document
    assert document.count('href="#LOAD-1-HL7"') == 3  # in the matrix, with the load run, and from the row to its finding
    assert document.count("<svg") == 4


def test_without_load_runs_there_is_no_section_for_them(make_report: ReportFactory) -> None:
    document = html_report(make_report(), Pictures())
    assert 'id="load"' not in document
    assert "<svg" not in document


def test_several_load_runs_are_listed_at_the_head(make_report: ReportFactory) -> None:
    storm = msgspec.structs.replace(PICTURE, check="STORM-1", title="2000 clients")
    document = html_report(make_report(), Pictures(load=[PICTURE, storm]))
    assert '<a href="#load-1">LOAD-1: the peak times 1.5</a>, <a href="#load-2">STORM-1: 2000 clients</a>' in document


def test_what_is_empty_is_not_drawn() -> None:
    bare = LoadPicture(check="LOAD-2", title="pairs", what="", duration_s=1.0, latencies=[LATENCY])
    assert [plate.title for plate in load_stories([bare], [])[0].plates] == ["Latency"]


def test_only_the_verdicts_of_its_own_check_stand_with_a_load_run(make_check: CheckFactory) -> None:
    checks = [make_check("LOAD-1/HL7"), make_check("LOAD-3/HL7"), make_check("LOAD-1/DICOM")]
    assert [check.id for check in load_stories([PICTURE], checks)[0].checks] == ["LOAD-1/HL7", "LOAD-1/DICOM"]


def test_latencies_have_three_digits_in_milliseconds() -> None:
    table = load_stories([PICTURE], [])[0].plates[1].table
    assert table is not None
    assert table.rows == (
        ("HL7", "HL7 message", "12\u202f543", "2.10", "4.00", "10.0", "123", "119 to 128", "2000", "12\u202f300", "15"),
    )


def test_what_was_not_measured_is_a_dash() -> None:
    rare = msgspec.structs.replace(LATENCY, p99_interval_s=(math.nan, math.nan), p999_s=math.nan, p99_limit_s=None)
    table = load_stories([msgspec.structs.replace(PICTURE, latencies=[rare])], [])[0].plates[1].table
    assert table is not None
    assert [table.rows[0][place] for place in (7, 8, 10)] == ["—", "—", "—"]


@pytest.mark.parametrize(
    ("interval_s", "told"),
    [((0.1, math.nan), "from 100"), ((math.nan, 0.1), "up to 100"), ((math.nan, math.nan), "—"), ((0.1, 0.2), "100 to 200")],
)
def test_an_interval_that_is_open_says_at_which_end(interval_s: tuple[float, float], told: str) -> None:
    open_ended = msgspec.structs.replace(LATENCY, p99_interval_s=interval_s)
    table = load_stories([msgspec.structs.replace(PICTURE, latencies=[open_ended])], [])[0].plates[1].table
    assert table is not None
    assert table.rows[0][7] == told


def test_every_arrival_is_accounted_for() -> None:
    table = load_stories([PICTURE], [])[0].plates[0].table
    assert table is not None
    assert table.columns[1:] == ("arrivals due", "in time", "late: clients busy", "late: generator",
                                 "dropped: clients busy", "dropped: generator", "cut at the end")  # fmt: skip
    assert table.rows == (("HL7", "12\u202f543", "12\u202f500", "23", "11", "5", "4", "2"),)


def test_what_the_balancer_adds_stands_with_its_intervals() -> None:
    added = Added(vip="HL7", name="HL7 message", n=60, ratios=[1.2], ratio=1.2345, ratio_interval=(1.2, 1.2671),
                  added_s=0.00041239, added_interval_s=(0.0003, 0.0005), added_limit_s=0.005)  # fmt: skip
    plate = load_stories([LoadPicture(check="LOAD-2", title="", what="", duration_s=1.0, added=[added])], [])[0].plates[0]
    assert plate.table is not None
    assert plate.table.rows == (("HL7", "HL7 message", "60", "1.23", "1.2 to 1.27", "0.412\u202fms",
                                 "0.3\u202fms to 0.5\u202fms", "5\u202fms"),)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "DICOM: carried 40 studies a second, and no more; the site needs 25. At its limit: balancer."),
        ({"bent": False, "saturated": ""}, "DICOM: carried at least 40 studies a second; the site needs 25."),
        ({"knee_per_s": None, "required_per_s": None, "saturated": "node"},
         "DICOM: not even the lowest rate was carried. At its limit: node."),
    ],
)  # fmt: skip
def test_the_knee_is_told_in_a_sentence(changes: dict[str, object], told: str) -> None:
    knee = msgspec.structs.replace(KNEE, **changes)
    picture = LoadPicture(check="LOAD-4", title="steps", what="", duration_s=1.0, knees=[knee])
    assert load_stories([picture], [])[0].plates[0].sayings[0].sentence == told


def test_of_the_evidence_the_first_signs_are_shown_and_the_others_counted(make_report: ReportFactory) -> None:
    knee = msgspec.structs.replace(KNEE, evidence=["idle 3 %", "1.9 of 2 threads", "queue 4", "lag 60 ms", "lag 70 ms"])
    picture = LoadPicture(check="LOAD-4", title="steps", what="", duration_s=1.0, knees=[knee])
    document = html_report(make_report(), Pictures(load=[picture]))
    signs = ["idle 3 %", "1.9 of 2 threads", "queue 4", "and 2 more signs, listed with the check"]
    assert "".join(f"<li>{sign}</li>" for sign in signs) + "</ul>" in document


def test_nodes_that_are_not_drawn_are_counted() -> None:
    parts = [
        PartSeries(kind="node", name="hl7", node=f"node-{number}", at_s=[0.5], cpu_share=[number / 10])
        for number in range(1, 8)
    ]
    picture = LoadPicture(check="LOAD-1", title="", what="", duration_s=1.0, parts=parts)
    caption = load_stories([picture], [])[0].plates[0].caption
    assert caption.endswith("Not drawn: 3 less busy nodes, none of whose services used more than 0.3 cores.")


@pytest.mark.parametrize("text", ["</text><script>x</script>", 'id="a" href="#b"', "$x$", "\x00\ud800", ""])
def test_no_name_can_change_the_page_around_it(make_report: ReportFactory, text: str) -> None:
    def tags(word: str) -> int:
        latency = msgspec.structs.replace(LATENCY, vip=word, name=word)
        knee = msgspec.structs.replace(KNEE, vip=word, unit=word, saturated=word, evidence=[word])
        picture = LoadPicture(check=word, title=word, what=word, duration_s=1.0, latencies=[latency], knees=[knee])
        return html_report(make_report(), Pictures(load=[picture])).count("<script")

    assert tags(text) == 0
