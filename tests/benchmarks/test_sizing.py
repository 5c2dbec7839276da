from __future__ import annotations

import re
from pathlib import Path

import pytest

from lbconfig.clinical import Load, ModalityLoad
from scenarios.load.model import demand_of

from .sizing import happens, retrieved_bytes

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
PAGE_ROW = re.compile(r"^\| `(?P<unit>[a-z]+)` \|[^|]*\| (?P<rate>[0-9.,]+) \|", re.MULTILINE)
EXAMS_PER_YEAR = 10_000_000

# 3.6 million exams on 100 days: 36,000 a day, of which a tenth in the busiest hour: one a second
HOSPITAL = Load(
    exams_per_year=3_600_000, working_days=100, peak_hour_share=0.1,
    modality=(ModalityLoad(name="CT", share=1, images=100, image_bytes=500_000),),
    exams_per_device=3_600, worklist_interval_s=50, exams_per_web_user=360, sessions_per_web_user_day=3.6,
    pages_per_session=10, views_per_exam=2, priors_per_exam=1,
)  # fmt: skip


def test_what_happens_a_second_follows_from_the_model() -> None:
    often = happens(demand_of(HOSPITAL), 2.0)
    assert often["association"] == pytest.approx(2)
    assert often["image"] == pytest.approx(200)
    assert often["byte"] == pytest.approx(1e8)
    assert often["poll"] == pytest.approx(40)
    assert often["item"] == pytest.approx(800)
    assert often["session"] == pytest.approx(2)
    assert often["page"] == pytest.approx(18)


def test_messages_are_those_of_all_lines() -> None:
    assert happens(demand_of(HOSPITAL), 1.0)["message"] == pytest.approx(3.1 * 8 + 2 + 1.2 + 1.5)


def test_what_is_looked_at_again_counts_every_view_and_prior() -> None:
    assert retrieved_bytes(demand_of(HOSPITAL), 2.0) == pytest.approx(3e8)


def test_the_page_on_scaling_has_the_rates_of_the_model() -> None:
    often = happens(demand_of(Load(exams_per_year=EXAMS_PER_YEAR)), 1.5)
    shown = {row["unit"]: float(row["rate"].replace(",", "")) for row in PAGE_ROW.finditer(PAGE.read_text())}
    assert shown == {unit: pytest.approx(rate, rel=0.01) for unit, rate in often.items()}
