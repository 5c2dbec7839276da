"""From the site's numbers to load plans: what each asks for, and that none shares a generator or an address with another."""

import ipaddress
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.native import NativeLab
from lbconfig.site import Site
from lbconfig.site_file import load_site
from scenarios.findings import failed, passed
from scenarios.kit import Kit, OwnSamples, WebAccess, pack
from scenarios.load.plan import LoadPlan
from scenarios.load_runs.plans import PEAK_FACTOR, STEPS, STORM_CLIENTS, Planner, as_asked, sources_needed, under_load
from scenarios.options import DEFAULT_SITE, LoadOptions, Options, UsageError, checked
from scenarios.run import Run

SITE = load_site(DEFAULT_SITE)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Begin a run on a lab that was never started: plans need its addresses only."""
    run = Run(NativeLab(SITE, tmp_path / "lab"), tmp_path / "run", 1, 7)
    yield run
    run.close()


@pytest.fixture
def kit() -> Kit:
    return pack(SITE, WebAccess("someone", "secret", Path("ca.pem"), "127.0.110.103", "2.25.1"), OwnSamples())


def planner(run: Run, kit: Kit, **options: object) -> Planner:
    return Planner(run, kit, DEFAULT_SITE, LoadOptions(**options))  # type: ignore[arg-type]


def rates(plan: LoadPlan) -> dict[str, float]:
    return {user.kind: user.rate for user in plan.users}


def test_the_peak_is_one_and_a_half_times_what_one_node_carries_alone(run: Run, kit: Kit) -> None:
    plans = planner(run, kit)
    peak, alone = rates(plans.peak()), rates(plans.one_node())
    assert peak.keys() == alone.keys() == {"modality", "engine", "worklist", "viewer"}
    assert {kind: rate / alone[kind] for kind, rate in peak.items()} == pytest.approx(dict.fromkeys(peak, PEAK_FACTOR))


def test_options_say_how_long_how_much_and_in_which_shape(run: Run, kit: Kit) -> None:
    usual = rates(planner(run, kit).peak())
    plan = planner(run, kit, duration_s=12.0, factor=3.0, shape="steps").peak()
    assert plan.duration_s == 12
    assert {user.shape.kind for user in plan.users} == {"steps"}
    assert {kind: rate / usual[kind] for kind, rate in rates(plan).items()} == pytest.approx(dict.fromkeys(usual, 2.0))


def test_no_two_plans_share_a_generator_a_workload_or_an_address(run: Run, kit: Kit) -> None:
    maker = planner(run, kit, processes=2)
    plans = [maker.peak(), maker.one_node(), maker.steps(), maker.storm(), maker.soak()]
    assert [plan.first_generator for plan in plans] == [1, 3, 5, 7, 9]
    assert len({plan.workload for plan in plans}) == len({plan.records for plan in plans}) == 5
    ranges = [tuple(int(ipaddress.IPv4Address(address)) for address in plan.sources) for plan in plans]
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(ranges))


def test_steps_climb_on_one_vip_after_the_other(run: Run, kit: Kit) -> None:
    users = sorted(planner(run, kit).steps().users, key=lambda user: user.starts_s)
    assert [user.kind for user in users] == ["modality", "worklist", "viewer", "engine"]  # worklists take in its orders
    assert all(later.starts_s >= earlier.starts_s + earlier.lasts_s for earlier, later in itertools.pairwise(users))
    assert all(user.lasts_s / user.shape.step_s == STEPS for user in users)


def test_what_steps_begin_with_is_what_the_site_requires(run: Run, kit: Kit) -> None:
    maker = planner(run, kit)
    assert [user.rate for user in maker.steps().users] == [maker.required_rate(vip.service) for vip in SITE.vip]
    peak = next(user for user in maker.peak().users if user.kind == "modality")
    sent = sum(peak.rate * study.share * study.images * study.image_bytes for study in peak.studies)
    assert maker.required_rate("dicom") * 10 * 512 * 1024 == pytest.approx(sent)


def test_a_storm_is_all_clients_at_once(run: Run, kit: Kit) -> None:
    assert sum(user.clients for user in planner(run, kit).storm().users) == STORM_CLIENTS


def test_a_soak_is_at_the_average_rate(run: Run, kit: Kit) -> None:
    maker = planner(run, kit)
    assert rates(maker.soak())["engine"] == pytest.approx(maker.demand.messages.average_per_s)


def test_under_load_nodes_are_played_by_the_engine_for_crowds() -> None:
    site: Site = under_load(SITE, LoadOptions(exams_per_year=123_456))
    assert (site.engines.storage, site.engines.worklist) == ("wire", "wire")
    assert site.load.exams_per_year == 123_456
    assert under_load(SITE, LoadOptions()).load == SITE.load


@pytest.mark.parametrize("exams", [0.3, -5, float("nan"), 1e30])
def test_a_number_of_exams_that_no_hospital_has_is_refused(exams: float) -> None:
    with pytest.raises(UsageError, match="--exams-per-year: expected 1 to 1000000000, found"):
        checked(Options(seed=1, load=LoadOptions(exams_per_year=exams)))


def test_a_pass_at_less_than_the_peak_and_a_half_is_none_and_says_so() -> None:
    less = as_asked(passed("carried"), SITE, LoadOptions(factor=0.1))
    assert (less.verdict, less.measured["load"]["factor"]) == ("unknown", 0.1)
    assert "at 0.1 times the peak hour, less than the 1.5" in less.reason
    assert as_asked(passed("carried"), SITE, LoadOptions()).verdict == "pass"
    assert as_asked(failed("node", "lost"), SITE, LoadOptions(factor=0.1)).verdict == "fail"


def test_the_addresses_that_a_profile_takes_are_known_before_it_begins(run: Run, kit: Kit) -> None:
    maker = planner(run, kit)
    taken = run.lab.source_addresses(1)[0]
    for plan in (maker.peak(), maker.storm()):
        last = plan.sources[1]
    gone = int(ipaddress.IPv4Address(last)) - int(ipaddress.IPv4Address(taken))
    needed = sources_needed(SITE, ("peak_load", "storm"), LoadOptions())
    assert 0 <= gone - needed < 2 * (gone // 254 + 1)  # addresses that end in .0 and .255 are left out
