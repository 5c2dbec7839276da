from __future__ import annotations

import math
from pathlib import Path

import pytest

from lbconfig.clinical import LineLoad, Load, ModalityLoad
from lbconfig.site_file import load_site
from scenarios.load.model import Demand, Rates, clients_for, demand_of, user_plans
from scenarios.load.plan import Shape, UserKind, UserPlan

LOOPBACK = Path(__file__).parents[3] / "lbconfig" / "sites" / "loopback.toml"

# A hospital to reckon with by head: 1,000 exams a working day, a tenth of them in the peak hour, so 100 exams an hour.
CT = ModalityLoad(name="CT", share=0.25, images=100, image_bytes=500_000)
DX = ModalityLoad(name="DX", share=0.75, images=2, image_bytes=8_000_000)
DOSE = ModalityLoad(name="DOSE", share=0.25, part_of="CT", images=1, image_bytes=10_000)
SMALL = Load(
    exams_per_year=250_000, working_days=250, peak_hour_share=0.1, modality=(CT, DX, DOSE), encounters_per_exam=3,
    adt_per_encounter=6, orders_per_exam=2, scheduling_per_exam=1, results_per_exam=1, ack_latency_s=0.1,
    exams_per_device=2_500, worklist_interval_s=50, views_per_exam=3, priors_per_exam=1, exams_per_web_user=500,
    sessions_per_web_user_day=3, pages_per_session=9, outage_min=30, flush_min=10, image_s=0.01, link_bytes_per_s=50e6,
    query_s=1, page_s=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def demand() -> Demand:
    return demand_of(SMALL)


def per_hour(rates: Rates) -> float:
    return rates.peak_per_s * 3600


def per_day(rates: Rates) -> float:
    return rates.average_per_s * 86400


def plan_of(plans: tuple[UserPlan, ...], kind: UserKind) -> UserPlan:
    (plan,) = [plan for plan in plans if plan.kind == kind]
    return plan


def test_the_peak_hour_has_its_share_of_a_working_days_exams(demand: Demand) -> None:
    assert per_hour(demand.exams) == pytest.approx(100)
    assert per_day(demand.exams) == pytest.approx(1000)


def test_studies_images_and_bytes_follow_the_shares(demand: Demand) -> None:
    studies, images, size_bytes = demand.ingest
    assert per_hour(studies) == pytest.approx(125)  # 25 CT, 75 DX, and 25 dose reports
    assert per_hour(images) == pytest.approx(2500 + 150 + 25)
    assert per_hour(size_bytes) == pytest.approx(1.25e9 + 1.2e9 + 250_000)


def test_a_study_takes_its_images_time_and_its_bytes_time(demand: Demand) -> None:
    assert [study.takes_s for study in demand.studies] == pytest.approx([2.0, 0.34, 0.0102])


def test_messages_are_those_of_the_whole_hospital(demand: Demand) -> None:
    adt, orders, results = demand.lines
    assert per_hour(adt.messages) == pytest.approx(1800)
    assert {kind: per_hour(rates) for kind, rates in orders.kinds} == pytest.approx({"orders": 200, "scheduling": 100})
    assert per_hour(results.messages) == pytest.approx(100)
    assert per_hour(demand.messages) == pytest.approx(2200)


def test_a_line_carries_its_connections_over_the_latency_of_an_ack(demand: Demand) -> None:
    adt = demand.lines[0]
    assert adt.bound_per_s == pytest.approx(10)
    assert not adt.exceeded_at(19.9)
    assert adt.exceeded_at(20.1)


def test_a_second_connection_doubles_what_a_line_carries() -> None:
    line = LineLoad(name="ALL", carries=("adt", "orders", "scheduling", "results"), connections=2)
    (all_of_it,) = demand_of(Load(line=(line,), ack_latency_s=0.1)).lines
    assert all_of_it.bound_per_s == pytest.approx(20)


def test_worklists_are_asked_for_at_all_hours_alike(demand: Demand) -> None:
    assert demand.devices == 100
    assert demand.queries == Rates(2.0, 2.0)


def test_retrieval_is_counted_in_studies_and_bytes(demand: Demand) -> None:
    assert per_hour(demand.retrievals) == pytest.approx(400)
    assert demand.retrieved_bytes.peak_per_s == pytest.approx(4 * demand.ingest[2].peak_per_s)


def test_a_session_has_a_login_and_its_pages(demand: Demand) -> None:
    assert demand.web_users == 500
    assert per_hour(demand.sessions) == pytest.approx(150)
    assert per_hour(demand.pages) == pytest.approx(1500)


def test_an_outage_keeps_back_what_the_peak_would_have_sent(demand: Demand) -> None:
    backlog = demand.backlog
    assert backlog.studies == pytest.approx(62.5)
    assert backlog.images == pytest.approx(1337.5)
    assert backlog.size_bytes == pytest.approx(1.225125e9)
    assert backlog.messages == pytest.approx(1100)


def test_what_was_kept_back_comes_on_top_of_what_goes_on_arriving(demand: Demand) -> None:
    assert demand.backlog.burst_factor == pytest.approx(4)  # 1 + 30 min / 10 min


def test_the_fullest_line_drains_beside_what_goes_on_arriving(demand: Demand) -> None:
    assert demand.backlog.hl7_drain_s == pytest.approx(900 / 9.5)  # 900 ADT kept back, 10 a second possible, 0.5 arriving


def test_a_line_whose_peak_is_above_its_bound_never_drains() -> None:
    assert demand_of(Load(exams_per_year=250_000, ack_latency_s=2)).backlog.hl7_drain_s == math.inf


def test_rates_of_the_plans_are_the_peaks_times_the_factor(demand: Demand) -> None:
    plans = user_plans(demand, factor=1.5, duration_s=60)
    rates = {plan.kind: plan.rate * 3600 for plan in plans}
    assert rates == pytest.approx({"modality": 187.5, "worklist": 10_800, "engine": 3300, "viewer": 225})
    assert {plan.lasts_s for plan in plans} == {60}


def test_the_shares_of_a_plans_studies_sum_to_one(demand: Demand) -> None:
    mix = plan_of(user_plans(demand, factor=1, duration_s=60), "modality").studies
    assert [(study.modality, study.images, study.image_bytes) for study in mix] == [
        ("CT", 100, 500_000), ("DX", 2, 8_000_000), ("DOSE", 1, 10_000),
    ]  # fmt: skip
    assert [study.share for study in mix] == pytest.approx([0.2, 0.6, 0.2])


def test_what_is_too_large_to_send_is_in_the_demand_and_not_in_the_plan() -> None:
    demand = demand_of(Load(modality=(CT, DX), largest_sent_image_bytes=1_000_000))
    plan = plan_of(user_plans(demand, factor=1, duration_s=60), "modality")
    assert [study.sent for study in demand.studies] == [True, False]
    assert [study.modality for study in plan.studies] == ["CT"]
    assert plan.rate == pytest.approx(0.25 * demand.exams.peak_per_s)


def test_a_plan_without_arrivals_is_left_out() -> None:
    demand = demand_of(Load(sessions_per_web_user_day=0, modality=(DX,), largest_sent_image_bytes=4096))
    assert [plan.kind for plan in user_plans(demand, factor=1, duration_s=60)] == ["worklist", "engine"]


def test_clients_are_those_at_work_and_four_deviations_more() -> None:
    assert clients_for(100) == 140
    assert clients_for(0.5) == 8
    assert clients_for(0.5, at_least=3) == 4


def test_the_clients_of_a_plan_follow_littles_law(demand: Demand) -> None:
    plans = user_plans(demand, factor=20, duration_s=60)
    clients = {plan.kind: plan.clients for plan in plans}
    # worklist: 40 a second of 1 s; viewers: 0.833 a second of 5 s; modalities: 20 x (25 x 2 s + 75 x 0.34 s + ...) an hour
    assert clients == {"modality": 8, "worklist": 66, "engine": 3, "viewer": 13}


def test_the_engine_has_its_lines_connections_however_great_the_rate(demand: Demand) -> None:
    assert plan_of(user_plans(demand, factor=100, duration_s=60), "engine").clients == 3


def test_steps_have_clients_enough_for_the_last_one(demand: Demand) -> None:
    shape = Shape(kind="steps", step_s=10, factor=2)
    plans = user_plans(demand, factor=1, duration_s=60, shape=shape)
    assert plan_of(plans, "worklist").clients == clients_for(2 * 32)  # the sixth step is 2**5 times the first
    assert plan_of(plans, "engine").clients == clients_for(2200 / 3600 * 0.1 * 32)
    assert plan_of(plans, "worklist").rate == pytest.approx(2)


def test_a_day_without_hours_gets_the_models(demand: Demand) -> None:
    plans = user_plans(demand, factor=1, duration_s=60, shape=Shape(kind="day"))
    assert {plan.shape.hours for plan in plans} == {Load().hourly_factors}


def test_a_day_with_hours_keeps_them(demand: Demand) -> None:
    shape = Shape(kind="day", hours=(1.0,) * 24)
    assert {plan.shape for plan in user_plans(demand, factor=1, duration_s=60, shape=shape)} == {shape}


def test_the_rehearsal_on_one_machine_makes_a_thousand_operations_of_each_class_a_minute() -> None:
    demand = demand_of(load_site(LOOPBACK).load)
    sent = [study for study in demand.studies if study.sent]
    images = 1.5 * sum(study.images.peak_per_s for study in sent)
    megabytes = 1.5 * sum(study.size_bytes.peak_per_s for study in sent) / 1e6
    assert 150 <= images <= 300
    assert megabytes <= 80
    assert 1.5 * demand.messages.peak_per_s >= 30
    assert 1.5 * demand.queries.peak_per_s >= 20
    assert 1.5 * demand.pages.peak_per_s >= 30


def test_the_rehearsal_exceeds_no_lines_bound() -> None:
    assert not any(line.exceeded_at(1.5) for line in demand_of(load_site(LOOPBACK).load).lines)
