"""What the report tells of failures of the active unit."""

from __future__ import annotations

import msgspec

from reports.html import html_report
from reports.pair_picture import TakeoverSeen
from reports.pair_section import outages_svg, pair_story
from reports.verdict import Pictures
from tests.reports.conftest import ReportFactory

SEEN = TakeoverSeen(
    how="killed", unit="lb-1", vip="HL7", local_s=0.81, routed_s=0.92, limit_s=1.5, entries=137, entries_kept=136,
    sources=104, sources_kept=104, lost=0, duplicated=0, indeterminate=4, waiting=1,
)  # fmt: skip
NEVER = msgspec.structs.replace(SEEN, vip="<DMWL>", routed_s=None)


def test_each_failure_on_each_vip_is_a_row() -> None:
    story = pair_story([SEEN, NEVER])
    assert story is not None
    assert story.rows[0][:3] == ("killed", "lb-1", "HL7")
    assert story.rows[0][6:] == ("136 of 137", "104 of 104", "0", "0", "4", "1", "0")
    assert story.rows[1][4] == "no answer"


def test_the_picture_says_the_same_in_words_and_escapes_names() -> None:
    picture = outages_svg("takeovers", [SEEN, NEVER])
    assert picture.startswith("<svg")
    assert "killed, HL7: 0.81" in picture
    assert "&lt;DMWL&gt;: 0.81" in picture
    assert "no answer" in picture


def test_the_page_says_that_vrrp_stands_in_and_has_no_such_part_without_a_pair(make_report: ReportFactory) -> None:
    report = make_report()
    page = html_report(report, Pictures(takeovers=[SEEN]))
    assert "When the active balancer fails" in page
    assert "VRRP stands in for the appliance's own heartbeat" in page
    assert "When the active balancer fails" not in html_report(report, Pictures())


def test_without_failures_nothing_is_told() -> None:
    assert pair_story([]) is None
