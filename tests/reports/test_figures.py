"""The pictures: parts of a page, readable without seeing them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from reports.figures import timeline_svg, traffic_svg
from reports.verdict import Pictures, Timeline, TimelineEvent, TrafficSeries


def _parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314  our own output


def _texts(picture: ET.Element) -> list[str]:
    return ["".join(text.itertext()).strip() for text in picture.iter("text")]


def test_a_time_line_has_a_lane_for_each_vip_and_a_legend_of_its_moments(pictures: Pictures) -> None:
    texts = _texts(_parsed(timeline_svg("one", pictures.timelines)))
    wanted = ["DICOM", "HL7", "fault", "first error", "DOWN", "first success elsewhere", "fault ends"]
    assert [text for text in wanted if text not in texts] == []
    assert "UP" not in texts


def test_a_picture_tells_its_story_to_who_cannot_see_it(pictures: Pictures) -> None:
    picture = _parsed(timeline_svg("one", pictures.timelines))
    assert picture.get("role") == "img"
    assert picture.get("aria-labelledby") == "one-title one-desc"
    assert picture.findtext("title") == "Time line of: node1 killed"
    assert (picture.findtext("desc") or "").startswith("DICOM: fault at 0.00 s, first error at 0.20 s, DOWN at 1.60 s")


def test_pictures_of_one_page_share_no_id(pictures: Pictures) -> None:
    first, second = (
        {element.get("id") for element in _parsed(timeline_svg(name, pictures.timelines)).iter()} - {None}
        for name in ("one", "two")
    )
    assert first
    assert first.isdisjoint(second)


def test_a_picture_rules_no_style_but_its_own(pictures: Pictures) -> None:
    picture = timeline_svg("one", pictures.timelines) + traffic_svg("two", pictures.traffic, pictures.faults)
    assert "<style" not in picture
    assert "://" not in picture


def test_every_reference_inside_a_picture_is_met(pictures: Pictures) -> None:
    picture = _parsed(traffic_svg("one", pictures.traffic, pictures.faults))
    ids = {element.get("id") for element in picture.iter()}
    links = {value[1:] for element in picture.iter() if (value := element.get("href")) is not None}
    clips = {value[5:-1] for element in picture.iter() if (value := element.get("clip-path")) is not None}
    assert clips
    assert links | clips <= ids


def test_the_same_data_makes_the_same_picture(pictures: Pictures) -> None:
    assert traffic_svg("one", pictures.traffic, pictures.faults) == traffic_svg("one", pictures.traffic, pictures.faults)


def test_traffic_has_a_panel_for_each_vip_and_names_nodes_and_faults(pictures: Pictures) -> None:
    texts = _texts(_parsed(traffic_svg("one", pictures.traffic, pictures.faults)))
    assert [text for text in ("DICOM", "HL7", "node1", "node2", "1") if text not in texts] == []


def test_a_dollar_in_a_name_is_a_dollar() -> None:
    lanes = [Timeline(vip="$x$ <b>", fault="$", events=[TimelineEvent(at_s=0, what="$y")])]
    assert {"$x$ <b>", "$y"} <= set(_texts(_parsed(timeline_svg("one", lanes))))


@pytest.mark.parametrize(
    "text", ["</text><script>x</script>", "中文", 'id="a" href="#b" url(#c)', "\x00\x1b[2J\ud800", "\n", ""]
)
def test_no_text_can_break_a_picture(text: str) -> None:
    lanes = [Timeline(vip=text, fault=text, events=[TimelineEvent(at_s=0, what=text), TimelineEvent(at_s=1, what="UP")])]
    series = [TrafficSeries(vip=text, node=text, start_s=0, rate_per_s=[1.0])]
    for picture in (timeline_svg("one", lanes), traffic_svg("two", series, [(text, 0.0, 1.0)])):
        assert "script" not in [element.tag for element in _parsed(picture).iter()]


@pytest.mark.parametrize("rates", [[], [0.0], [float("nan"), 2.0]])
def test_a_line_of_little_or_nothing_is_drawn_all_the_same(rates: list[float]) -> None:
    assert _parsed(traffic_svg("one", [TrafficSeries(vip="HL7", node="node1", start_s=0, rate_per_s=rates)], [])).tag == "svg"


def test_a_story_without_moments_is_drawn_all_the_same() -> None:
    assert _parsed(timeline_svg("one", [Timeline(vip="HL7", fault="nothing", events=[])])).tag == "svg"


def test_a_soak_of_a_day_makes_no_page_of_megabytes() -> None:
    day = TrafficSeries(vip="HL7", node="node1", start_s=0, rate_per_s=[float(second % 7) for second in range(86_400)])
    assert len(traffic_svg("one", [day], [])) < 100_000
