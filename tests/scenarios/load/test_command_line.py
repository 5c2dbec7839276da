from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import pytest

from compose.keeper_client import CHECKOUT
from lbconfig.site_file import load_site
from scenarios.load.card import LabCard, write_card
from scenarios.load.command_line import add_arguments, planned
from scenarios.load.model import demand_of, user_plans
from scenarios.load.plan import PLAN_VARIABLE, PlanError, Shape, read_plan, write_plan

SITE = CHECKOUT / "lbconfig" / "sites" / "loopback.toml"


def options(tmp_path: Path, *more: str) -> argparse.Namespace:
    write_card(
        LabCard(
            site=str(SITE), ca_file="ca.pem", web_user="preflight", web_password="secret", server_name="127.0.110.103",
            study_uids=("2.25.1",), worklist_stations=("PFLOAD1",), sources=("127.1.0.1", "127.1.9.1"),
        ),
        tmp_path / "card.json",
    )  # fmt: skip
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = parser.parse_args(["--lab-card", str(tmp_path / "card.json"), "--records", str(tmp_path / "records"), *more])
    return argparse.Namespace(**vars(given), processes=None, expect_workers=12)


@pytest.fixture(autouse=True)
def _no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLAN_VARIABLE, raising=False)


def test_without_a_plan_one_is_made_of_the_lab_and_written_down(tmp_path: Path) -> None:
    plan, path = planned(options(tmp_path, "--duration", "20", "--seed", "7"))
    assert path == tmp_path / "records" / "plan.json"
    assert read_plan(path) == plan
    expected = user_plans(demand_of(load_site(SITE).load), factor=1.5, duration_s=20.0, shape=Shape(step_s=20 / 6))
    assert plan.users == expected
    assert (plan.seed, plan.duration_s, plan.sources, plan.generators_at_most) == (7, 20.0, ("127.1.0.1", "127.1.9.1"), 12)
    assert plan.web is not None
    assert plan.web.study_uids == ("2.25.1",)


def test_exams_a_year_stand_in_for_those_of_the_site(tmp_path: Path) -> None:
    plan, _ = planned(options(tmp_path, "--exams-per-year", "1000000", "--load-factor", "2"))
    load = msgspec.structs.replace(load_site(SITE).load, exams_per_year=1_000_000)
    assert plan.users == user_plans(demand_of(load), factor=2.0, duration_s=60.0, shape=Shape(step_s=10.0))


def test_a_plan_that_is_named_is_played_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = planned(options(tmp_path))
    path = tmp_path / "other.json"
    write_plan(made, path)
    monkeypatch.setenv(PLAN_VARIABLE, str(path))
    assert planned(options(tmp_path, "--seed", "9")) == (made, path)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--duration", "0", "a number above 0, found 0"),
        ("--duration", "nan", "a number above 0, found nan"), ("--duration", "-4", "a number above 0, found -4"),
        ("--load-factor", "inf", "a number above 0, found inf"), ("--exams-per-year", "-5", "1 to 1000000000, found -5"),
        ("--exams-per-year", "0.3", "1 to 1000000000, found 0.3"), ("--exams-per-year", "nan", "1 to 1000000000, found nan"),
        ("--seed", "-1", "0 or more, found -1"),
    ],
)  # fmt: skip
def test_a_number_that_makes_no_plan_is_refused(tmp_path: Path, option: str, value: str, expected: str) -> None:
    with pytest.raises(PlanError, match=f"^{option}: expected {expected}"):
        planned(options(tmp_path, f"{option}={value}"))
