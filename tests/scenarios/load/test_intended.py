from pathlib import Path

import pytest

from lbconfig.site import ServiceKind
from scenarios.load.arrivals import schedule_of
from scenarios.load.intended import intended_arrivals, intended_at_rates
from scenarios.load.plan import LoadPlan, Shape, UserKind, UserPlan

STEPS = Shape(kind="steps", step_s=2, factor=2)


def plan_of(*users: UserPlan, duration_s: float = 60) -> LoadPlan:
    return LoadPlan(
        site="hospital.toml", run=1, seed=7, workload=1, records=str(Path("records")), sources=("127.1.0.1", "127.1.9.9"),
        duration_s=duration_s, users=users,
    )  # fmt: skip


def user(kind: UserKind = "engine", **fields: object) -> UserPlan:
    return UserPlan(**{"kind": kind, "clients": 4, "rate": 20.0, "lasts_s": 60.0, **fields})  # type: ignore[arg-type]


def test_what_is_intended_is_the_sum_of_what_all_generators_are_given() -> None:
    plan = plan_of(user("modality", rate=1), user(), user(starts_s=10, lasts_s=20))
    given = sum(
        len(schedule_of(plan.users[place], plan.seed, place, index=index, generators=3).due_s)
        for place in (1, 2)
        for index in range(3)
    )
    assert intended_arrivals(plan, "hl7") == given
    assert given == pytest.approx(1600, rel=0.1)


def test_clocks_ask_as_often_as_their_rate_says() -> None:
    assert intended_at_rates(plan_of(user("worklist")), "dmwl") == {20_000: 1200}


def test_what_would_be_due_after_the_end_is_not_intended() -> None:
    assert intended_arrivals(plan_of(user("worklist"), duration_s=30), "dmwl") == pytest.approx(600, abs=4)


def test_steps_are_counted_by_their_rates_in_the_order_of_time() -> None:
    assert intended_at_rates(plan_of(user("worklist", lasts_s=6, shape=STEPS)), "dmwl") == {
        20_000: 40, 40_000: 80, 80_000: 160,
    }  # fmt: skip


def test_a_storm_intends_two_arrivals_of_each_client() -> None:
    assert intended_at_rates(plan_of(user(shape=Shape(kind="storm"))), "hl7") == {0: 8}


@pytest.mark.parametrize(
    ("users", "service"), [((), "hl7"), ((user(shape=Shape(kind="closed")),), "hl7"), ((user(),), "dicom")]
)
def test_no_arrivals_are_intended_where_none_are_asked_for(users: tuple[UserPlan, ...], service: ServiceKind) -> None:
    assert intended_arrivals(plan_of(*users), service) == 0
