from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lbconfig.site_file import load_site

from .cost_steps import steps_of

SITE = load_site(Path(__file__).parents[2] / "lbconfig" / "sites" / "loopback.toml")
CORES = {
    "generator/4": 0.2, "balancer": 0.1, "node/mach7-1/dicom": 0.05, "node/mach7-2/dicom": 0.06, "node/mach7-1/hl7": 0.01,
    "harness": 0.02,
}  # fmt: skip


def _report(*steps: tuple[float, float], check: str = "LOAD-4", vip: str = "DICOM") -> bytes:
    told = [{"offered_per_s": offered, "achieved_per_s": achieved, "cpu_cores": CORES} for offered, achieved in steps]
    other = {"check": "PERSIST-1", "vip": "HL7", "measured": {"sources": 20}}
    return msgspec.json.encode({"checks": [other, {"check": check, "vip": vip, "measured": {"steps": told}}]})


def test_a_step_of_studies_is_ten_images_of_half_a_megabyte_each() -> None:
    (point,) = steps_of(_report((25.0, 25.0)), SITE)
    assert point.happened == {"association": 25, "image": 250, "byte": 250 * 524_288}
    assert point.held_out


def test_the_services_of_all_nodes_are_one_part_and_other_services_are_left_out() -> None:
    (point,) = steps_of(_report((25.0, 25.0)), SITE)
    assert point.cores == {"generator": 0.2, "balancer": 0.1, "node/dicom": pytest.approx(0.11)}


def test_a_step_that_fell_behind_is_no_point() -> None:
    assert [point.name for point in steps_of(_report((25.0, 24.9), (50.0, 40.0)), SITE)] == ["LOAD-4, dicom, 25/s"]


def test_a_session_is_its_login_its_note_and_seven_pages_between() -> None:
    (point,) = steps_of(_report((3.0, 3.0), vip="HTTPS"), SITE)
    assert point.happened == {"session": 3, "page": 21}


def test_other_checks_are_no_steps() -> None:
    assert steps_of(_report((25.0, 25.0), check="LOAD-1"), SITE) == []
