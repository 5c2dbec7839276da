"""The pictures of latency, knee, pairs and storm: every number that stands in them is the one that was handed in."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import msgspec
import pytest

from reports.latency_figures import added_svg, knee_svg, latency_svg, milliseconds, storm_svg
from reports.load_picture import Added, Knee, LatencyClass, Step, Storm

C_STORE = LatencyClass(
    vip="DICOM", name="C-STORE up to 1 MiB", n=4000, p50_s=0.002, p90_s=0.004, p95_s=0.005, p99_s=0.0123,
    p99_interval_s=(0.0117, 0.0131), p999_s=0.04, max_s=0.0815, p99_limit_s=0.015,
    curve=[(0.0, 0.001), (0.5, 0.002), (0.9, 0.004), (0.99, 0.0123), (0.999, 0.04), (0.99975, 0.0815)],
)  # fmt: skip
KNEE = Knee(
    vip="DICOM", unit="studies", knee_per_s=40.0, bent=True, required_per_s=25.0, p99_limit_s=0.015, saturated="balancer",
    evidence=["idle 3 %"],
    steps=[
        Step(offered_per_s=20.0, achieved_per_s=20.0, p99_s=0.004, errors=0),
        Step(offered_per_s=40.0, achieved_per_s=39.5, p99_s=0.009, errors=0),
        Step(offered_per_s=80.0, achieved_per_s=52.0, p99_s=0.8, errors=3),
    ],
)  # fmt: skip
ADDED = Added(
    vip="HL7", name="HL7 message", n=5, ratios=[1.1, 1.2, 1.2, 1.3, 1.6], ratio=1.2, ratio_interval=(1.1, 1.6),
    added_s=0.0004, added_interval_s=(0.0003, 0.0006), added_limit_s=0.005,
)  # fmt: skip


def _parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314  our own output


def _texts(picture: str) -> list[str]:
    return ["".join(text.itertext()).strip().replace("\n", " ") for text in _parsed(picture).iter("text")]


def _longest_line(picture: str) -> list[tuple[float, float]]:
    """Return the points of the blue line with the most of them."""
    lines = [path.get("d") or "" for path in _parsed(picture).iter("path") if "stroke: #0072b2" in (path.get("style") or "")]
    words = max(lines, key=len).replace("M", " ").replace("L", " ").split()
    numbers = [float(word) for word in words]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_latency_has_a_panel_for_each_vip_with_its_classes_and_its_limit() -> None:
    message = msgspec.structs.replace(C_STORE, vip="HL7", name="HL7 message", p99_limit_s=0.25)
    texts = " ".join(_texts(latency_svg("one", [C_STORE, message])))
    wanted = ["DICOM", "C-STORE up to 1 MiB", "HL7 message", "p99 limit 15\u202fms", "p99 limit 250\u202fms", "99.9\u202f%"]
    assert [text for text in wanted if text not in texts] == []


def test_every_further_nine_has_the_same_width_and_every_tenfold_latency_the_same_height() -> None:
    curve = [(0.9, 0.001), (0.99, 0.01), (0.999, 0.1)]
    points = _longest_line(latency_svg("one", [msgspec.structs.replace(C_STORE, curve=curve, p99_limit_s=None)]))
    (x_90, y_1), (x_99, y_10), (x_999, y_100) = points
    assert x_99 - x_90 == pytest.approx(x_999 - x_99, abs=0.03)
    assert y_1 - y_10 == pytest.approx(y_10 - y_100, abs=0.03)
    assert x_99 > x_90


def test_latency_is_told_to_who_cannot_see_it() -> None:
    assert _parsed(latency_svg("one", [C_STORE])).findtext("desc") == (
        "DICOM, C-STORE up to 1 MiB, 4000 operations: p50 2\u202fms, p99 12.3\u202fms, limit 15\u202fms, "
        "at most 81.5\u202fms."
    )


def test_the_knee_and_what_is_needed_are_marked() -> None:
    texts = _texts(knee_svg("one", [KNEE]))
    wanted = [
        "DICOM: studies a second achieved",
        "p99",
        "knee 40",
        "needed 25",
        "limit 15\u202fms",
        "studies a second offered",
    ]
    assert [text for text in wanted if text not in texts] == []


def test_where_nothing_bent_the_mark_says_at_least() -> None:
    texts = _texts(knee_svg("one", [msgspec.structs.replace(KNEE, bent=False, knee_per_s=80.0)]))
    assert "at least 80" in texts
    assert "knee 80" not in texts


def test_the_steps_are_told_to_who_cannot_see_them() -> None:
    assert _parsed(knee_svg("one", [KNEE])).findtext("desc") == (
        "DICOM, studies a second: 20 offered 20 achieved, 40 offered 39.5 achieved, 80 offered 52 achieved. Knee at 40."
    )


def test_every_pair_is_a_dot_and_the_median_has_its_interval() -> None:
    picture = added_svg("one", [ADDED])
    dots = [use for use in _parsed(picture).iter("use") if "fill: #0072b2" in (use.get("style") or "")]
    assert len(dots) == 5
    assert "1.2 (1.1 to 1.6)" in " ".join(_texts(picture))
    assert "5 pairs" in " ".join(_texts(picture))


def test_pairs_of_the_same_ratio_lie_on_top_of_each_other() -> None:
    picture = added_svg("one", [ADDED])
    dots = [use for use in _parsed(picture).iter("use") if "fill: #0072b2" in (use.get("style") or "")]
    places = [(use.get("x"), use.get("y")) for use in dots]
    assert len({x for x, _ in places}) == 4
    assert len(set(places)) == 5


def test_a_storm_says_how_many_were_served_and_when_the_last_was() -> None:
    storms = [
        Storm(vip="DICOM", clients=500, served=[(0.5, 250), (2.25, 500)], limit_s=3.0),
        Storm(vip="HL7", clients=500, served=[], limit_s=3.0),
    ]
    texts = _texts(storm_svg("one", storms))
    wanted = ["DICOM: 500 of 500 in 2.25\u202fs", "HL7: none of 500 served", "limit 3\u202fs"]
    assert [text for text in wanted if text not in texts] == []


@pytest.mark.parametrize(
    ("value_s", "text"),
    [(0.0123, "12.3\u202fms"), (1.5, "1500\u202fms"), (0.00004, "0.04\u202fms"), (math.nan, "—")],
)
def test_latencies_are_told_in_milliseconds(value_s: float, text: str) -> None:
    assert milliseconds(value_s) == text


def test_what_was_hardly_measured_is_drawn_all_the_same() -> None:
    latency = msgspec.structs.replace(
        C_STORE, n=0, curve=[], p99_interval_s=(math.nan, math.nan), p99_limit_s=None, p50_s=math.nan
    )
    knee = msgspec.structs.replace(KNEE, steps=[], knee_per_s=None, required_per_s=None, p99_limit_s=None)
    added = msgspec.structs.replace(ADDED, ratios=[])
    pictures = (
        latency_svg("one", [latency]),
        knee_svg("two", [knee]),
        added_svg("three", [added]),
        storm_svg("four", [Storm(vip="HL7", clients=0, served=[], limit_s=None)]),
    )
    assert [_parsed(picture).tag for picture in pictures] == ["svg"] * 4
