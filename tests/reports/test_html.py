"""index.html: what a hospital reads and signs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.html import anchor, duration, html_report
from reports.verdict import Pictures, Report, ReportVerdict

if TYPE_CHECKING:
    from .conftest import CheckFactory, ReportFactory


class Page(HTMLParser):
    """The page as a reader gets it: its tags in order, its ids, its links, its words."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self._words: list[str] = []
        self.feed(document)
        self.close()
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag, its id and where it links to."""
        self.tags.append(tag)
        for key, value in attrs:
            self.attributes.append((key, value or ""))
            if key == "id":
                self.ids.append(value or "")
            elif key == "href":
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        """Note the words, those of the style sheet aside."""
        if self.tags and self.tags[-1] != "style":
            self._words.append(data)


def _page(report: Report, pictures: Pictures | None = None) -> Page:
    return Page(html_report(report, pictures or Pictures()))


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("pass", "Pass"), ("pass_with_waivers", "Pass with waivers"), ("fail", "Fail"), ("incomplete", "Incomplete")],
)
def test_the_verdict_stands_in_plain_words(
    verdict: ReportVerdict, words: str, make_check: CheckFactory, make_report: ReportFactory
) -> None:
    document = html_report(make_report(make_check("PERSIST-1/DICOM"), verdict=verdict), Pictures())
    assert f'<p class="verdict-word">{words}</p>' in document


def test_a_lab_run_is_a_rehearsal_and_says_that_it_is_no_acceptance(make_report: ReportFactory) -> None:
    page = _page(make_report())
    assert "Rehearsal report" in page.text
    assert page.text.count("A rehearsal is not an acceptance") == 2


def test_a_run_against_real_nodes_is_an_acceptance(make_report: ReportFactory) -> None:
    page = _page(make_report(kind="acceptance", target="real", nodes="real"))
    assert "Acceptance report" in page.text
    assert "rehearsal" not in page.text.lower()


def test_a_planted_run_says_so_and_cannot_be_signed(make_check: CheckFactory, make_report: ReportFactory) -> None:
    page = _page(make_report(make_check("PERSIST-1/DICOM", "fail"), verdict="fail", plant="stick-removed"))
    assert "A defect was put here on purpose Plant: stick-removed" in page.text
    assert "PACS administration" not in page.text


def test_an_honest_run_is_to_be_signed_by_three_parties(make_report: ReportFactory) -> None:
    page = _page(make_report())
    assert "on purpose" not in page.text
    assert all(party in page.text for party in ("Hospital IT", "PACS administration", "Vendor"))


def test_a_partial_run_names_what_was_run(make_check: CheckFactory, make_report: ReportFactory) -> None:
    page = _page(make_report(make_check("PERSIST-1/DICOM"), only=["PERSIST-1"], verdict="incomplete"))
    assert "Partial run Only PERSIST-1 was run ( --only )" in page.text


def test_what_was_tested_can_be_told_from_the_page(make_report: ReportFactory) -> None:
    page = _page(make_report())
    facts = ["St. Elsewhere", "sites/loopback.toml", "b1" * 32, "HAProxy 2.6.12", "59" * 32, "2 min 23 s", "9f3a61c2", "42"]
    assert [fact for fact in facts if fact not in page.text] == []
    assert "2026-11-23 19:06:20 UTC" in page.text


def test_every_link_inside_the_page_leads_somewhere_and_no_id_is_given_twice(
    pictures: Pictures, make_check: CheckFactory, make_report: ReportFactory
) -> None:
    checks = [
        make_check("PERSIST-1/DICOM", "fail"),
        make_check("PERSIST-1/HL7", "unknown"),
        make_check("PERSIST-1/DMWL", "waived"),
        make_check("PERSIST-1/HTTPS", "skipped"),
        make_check("JOURNEY-1"),
    ]
    page = _page(make_report(*checks), pictures)
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert {"PERSIST-1-DICOM", "PERSIST-1-HL7", "PERSIST-1-DMWL", "PERSIST-1-HTTPS", "JOURNEY-1"} <= inner
    assert inner <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_failures_stand_before_what_is_unknown_whatever_their_order(
    make_check: CheckFactory, make_report: ReportFactory
) -> None:
    checks = [
        make_check("CONFIG-1/HL7", "unknown"),
        make_check("OPS-1", "fail", required=False),
        make_check("SOAK-1/HL7", "fail"),
    ]
    document = html_report(make_report(*checks), Pictures())
    assert re.findall(r'<article class="finding finding-\w+" id="([^"]+)"', document) == [
        "SOAK-1-HL7",
        "OPS-1",
        "CONFIG-1-HL7",
    ]


def test_a_waiver_names_who_accepted_what_and_until_when(make_check: CheckFactory, make_report: ReportFactory) -> None:
    page = _page(make_report(make_check("HEALTH-1/HL7", "waived", reason="DOWN after 31 s")))
    assert "HEALTH-1/HL7 DOWN after 31 s J. Okafor until the upgrade 2027-03-31" in page.text


def test_what_was_not_tested_is_listed_with_what_was_skipped(make_check: CheckFactory, make_report: ReportFactory) -> None:
    checks = [
        make_check(check_id, "skipped", reason="no appliance") for check_id in ("CONFIG-1/HL7", "CONFIG-1/DMWL", "OPS-1")
    ]
    page = _page(make_report(*checks))
    assert "PAIR-1 (brief 7.5) this lab has one balancer" in page.text
    assert "CONFIG-1: HL7 , DMWL skipped: no appliance OPS-1 skipped: no appliance" in page.text


def test_a_time_line_is_drawn_and_told_in_numbers(
    pictures: Pictures, make_check: CheckFactory, make_report: ReportFactory
) -> None:
    page = _page(make_report(make_check("FAILOVER-1/DICOM")), pictures)
    assert page.tags.count("svg") == 2
    assert "first error 0.20 s 0.20 s DOWN 1.60 s 1.60 s first success elsewhere 2.00 s 2.00 s" in page.text


def test_without_pictures_there_is_no_section_for_them(make_report: ReportFactory) -> None:
    assert "Faults and traffic" not in _page(make_report()).text


def test_the_page_loads_nothing_and_runs_nothing(
    pictures: Pictures, make_check: CheckFactory, make_report: ReportFactory
) -> None:
    document = html_report(make_report(make_check("PERSIST-1/DICOM", "fail")), pictures)
    page = Page(document)
    assert "://" not in document
    assert "@import" not in document
    assert {"script", "img", "iframe", "object", "embed"}.isdisjoint(page.tags)
    assert [value for key, value in page.attributes if key in ("src", "srcset", "action") or key.startswith("on")] == []
    assert sorted({link for link in page.links if not link.startswith(("#", "./"))}) == ["data:,", "junit.xml", "report.json"]


def test_an_evidence_path_stays_beside_the_page(make_check: CheckFactory, make_report: ReportFactory) -> None:
    page = _page(make_report(make_check("OPS-1", evidence=["javascript:alert(1)", "logs/a b.log"])))
    assert "./javascript%3Aalert%281%29" in page.links
    assert "./logs/a%20b.log" in page.links


@settings(deadline=None, max_examples=40)
@given(text=st.text(alphabet=st.sampled_from("<>\"'&;/=!-$\\{}%# \n\x00\x1b\ud800\u202eaé中")) | st.text())
def test_no_text_can_change_the_page_around_it(make_check: CheckFactory, make_report: ReportFactory, text: str) -> None:
    def tags(word: str) -> list[str]:
        checks = [
            make_check(
                f"PERSIST-1/{word}", "fail", title=word, reason=word, measured={"a": word, "b": [word]}, evidence=[word]
            ),
            make_check("OPS-1", "waived", requirement=word),
        ]
        return _page(make_report(*checks, profile=word, plant=word, only=[word])).tags

    assert tags("<script>x</script>" + text) == tags("word")


@pytest.mark.parametrize(
    ("started", "ended", "expected"),
    [
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z", "0 s"),
        ("2026-11-23T10:00:00+00:00", "2026-11-23T12:03:04.4+00:00", "2 h 3 min 4 s"),
        ("2026-11-23T10:00:00+00:00", "2026-11-23T12:00:00+01:00", "1 h"),
        ("yesterday", "2026-11-23T12:00:00+01:00", "—"),
        ("2026-11-23T10:00:00", "2026-11-23T12:00:00+01:00", "—"),
    ],
)
def test_a_duration_is_told_in_hours_minutes_and_seconds(started: str, ended: str, expected: str) -> None:
    assert duration(started, ended) == expected


def test_an_anchor_is_the_id_with_what_an_address_cannot_carry_replaced() -> None:
    assert [anchor("PERSIST-1/DICOM"), anchor("JOURNEY-1"), anchor('A "b"')] == ["PERSIST-1-DICOM", "JOURNEY-1", "A--b-"]
