"""The pictures of load over time: every line has its points and its word."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from reports.load_figures import parts_svg, rates_svg, shares_svg, shown_nodes
from reports.load_picture import NodeShare, PartSeries, VipRates


def _parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314  our own output


def _texts(picture: str) -> list[str]:
    return ["".join(text.itertext()).strip() for text in _parsed(picture).iter("text")]


def _points_of_lines(picture: str, colour: str) -> list[int]:
    """Return how many points each line of a colour has; what stands outside of panels (the legend) aside."""
    lines = [path for path in _parsed(picture).iter("path") if path.get("clip-path")]
    own = [line for line in lines if f"stroke: {colour.lower()}" in (line.get("style") or "")]
    return [len(re.findall("[ML]", line.get("d") or "")) for line in own]


def _rates(vip: str, errors: float = 0.0) -> VipRates:
    return VipRates(
        vip=vip, step_s=0.5, offered_per_s=[2.0, 3.0, 4.0], done_per_s=[2.0, 3.0, 3.0], operations_per_s=[20.0, 30.0, 30.0],
        errors_per_s=[0.0, errors, 0.0], mb_per_s=[1.5, 2.5, 2.5],
    )  # fmt: skip


def _part(name: str, cpu: float, *, node: str = "mach7-1") -> PartSeries:
    return PartSeries(kind="node", name=name, node=node, at_s=[0.5, 1.5], cpu_share=[cpu, cpu], lag_s=[0.002, 0.0415])


def test_each_vip_has_a_row_and_each_rate_a_column() -> None:
    texts = _texts(rates_svg("one", [_rates("DICOM"), _rates("HL7")]))
    wanted = ["DICOM", "HL7", "arrivals a second", "operations a second", "MB a second", "offered", "failed"]
    assert [text for text in wanted if text not in texts] == []
    assert texts.count("seconds from the run's begin") == 3


def test_a_rate_is_drawn_with_all_its_points() -> None:
    assert _points_of_lines(rates_svg("one", [_rates("DICOM")]), "#0072B2") == [3, 3, 3]


def test_failures_have_a_line_only_where_something_failed() -> None:
    lines = [_points_of_lines(rates_svg("one", [_rates("DICOM", errors)]), "#D55E00") for errors in (0.0, 4.0)]
    assert lines == [[], [3]]


def test_rates_are_told_to_who_cannot_see_them() -> None:
    told = _parsed(rates_svg("one", [_rates("DICOM", 4.0)])).findtext("desc")
    assert told == (
        "DICOM: 3 arrivals a second offered on average, 2.67 carried out; 26.7 operations and 2.17 MB a second acknowledged; "
        "2 operations failed."
    )


def test_the_shares_of_nodes_are_named_where_they_lie() -> None:
    shares = [
        NodeShare(vip="HL7", node=node, step_s=1.0, share=[share, share], whole_share=share)
        for node, share in (("mach7-1", 0.25), ("mach7-2", 0.75))
    ]
    picture = shares_svg("one", shares)
    assert {"HL7", "mach7-1 25\u202f%", "mach7-2 75\u202f%"} <= set(_texts(picture))
    assert _parsed(picture).findtext("desc") == (
        "HL7: mach7-1 gave 25\u202f% of the answers. HL7: mach7-2 gave 75\u202f% of the answers."
    )


def test_of_many_nodes_the_busiest_and_the_least_busy_are_named() -> None:
    shares = [
        NodeShare(vip="HL7", node=f"node-{number}", step_s=1.0, share=[number / 21] * 2, whole_share=number / 21)
        for number in range(1, 7)
    ]
    texts = _texts(shares_svg("one", shares))
    assert {"node-6 29\u202f%", "node-1 5\u202f%"} <= set(texts)
    assert "node-3 14\u202f%" not in texts


def test_each_part_has_a_row_and_each_service_a_word() -> None:
    parts = [
        PartSeries(kind="machine", name="", capacity_cores=2.0, at_s=[0.5, 1.5], cpu_share=[1.0, 1.5]),
        PartSeries(kind="balancer", name="", capacity_cores=2.0, at_s=[0.5, 1.5], cpu_share=[0.2, 0.4]),
        PartSeries(kind="generator", name="1", at_s=[0.5, 1.5], cpu_share=[0.3, 0.5], lag_s=[0.001, 0.003]),
        _part("dicom", 0.4),
        _part("hl7", 0.1),
    ]
    texts = _texts(parts_svg("one", parts))
    wanted = ["machine", "balancer", "generators", "mach7-1", "dicom", "hl7", "CPU, in cores", "latest wake-up, ms"]
    assert [text for text in wanted if text not in texts] == []
    assert "memory, MB" not in texts
    assert {"on average 1.25 of 2 cores,", "at most 1.5"} <= set(texts)


def test_what_a_part_did_is_told_to_who_cannot_see_it() -> None:
    assert _parsed(parts_svg("one", [_part("dicom", 0.4)])).findtext("desc") == (
        "node mach7-1 dicom: on average 0.4 cores, at most 0.4; latest wake-up 41.5\u202fms."
    )


def test_memory_has_a_column_where_it_was_measured() -> None:
    part = PartSeries(kind="node", name="hl7", node="mach7-1", at_s=[0.5], cpu_share=[0.1], lag_s=[0.1], memory_mb=[80.0])
    assert "memory, MB" in _texts(parts_svg("one", [part]))


def test_only_the_busiest_of_many_nodes_are_drawn() -> None:
    parts = [_part("dicom", cpu, node=f"node-{number}") for number, cpu in enumerate((0.1, 0.9, 0.2, 0.8, 0.7, 0.6), 1)]
    assert shown_nodes(parts) == (["node-2", "node-4", "node-5", "node-6"], ["node-1", "node-3"])


@pytest.mark.parametrize("values", [[], [math.nan], [0.0], [math.nan, 1.0]])
def test_a_series_of_little_or_nothing_is_drawn_all_the_same(values: list[float]) -> None:
    rates = VipRates(vip="HL7", step_s=1.0, offered_per_s=values, done_per_s=values, operations_per_s=values,
                     errors_per_s=values, mb_per_s=values)  # fmt: skip
    shares = [NodeShare(vip="HL7", node="mach7-1", step_s=1.0, share=values, whole_share=0.0)]
    part = PartSeries(kind="generator", name="1", at_s=values, cpu_share=values, lag_s=values, memory_mb=values)
    for picture in (rates_svg("one", [rates]), shares_svg("two", shares), parts_svg("three", [part])):
        assert _parsed(picture).tag == "svg"
