from __future__ import annotations

import pytest

from scenarios.load.numbering import Part, RefusedError, Roster, clients_by_kind, sources_of
from scenarios.load.plan import LoadPlan, PlanError, UserPlan


def plan(*, generators: int = 3, sources: tuple[str, str] = ("127.1.0.1", "127.1.0.240")) -> LoadPlan:
    return LoadPlan(
        site="site.toml", run=1, seed=1, workload=1, records="records", first_generator=5, generators_at_most=generators,
        sources=sources, duration_s=10.0,
        users=(
            UserPlan(kind="modality", clients=4, lasts_s=5.0),
            UserPlan(kind="modality", clients=7, starts_s=5.0, lasts_s=5.0),
            UserPlan(kind="engine", clients=2, lasts_s=5.0),
        ),
    )  # fmt: skip


def test_generators_are_numbered_from_the_first_on_and_keep_their_numbers() -> None:
    roster = Roster(plan())
    assert [roster.number(worker) for worker in ("a", "b", "a", "c", "b")] == [5, 6, 5, 7, 6]
    assert roster.knows("a")
    assert not roster.knows("d")


def test_a_generator_that_comes_when_all_slices_are_given_out_is_refused() -> None:
    roster = Roster(plan(generators=1))
    roster.number("a")
    with pytest.raises(RefusedError, match="worker b: expected at most 1 generators"):
        roster.number("b")


def test_a_kind_has_as_many_clients_as_its_largest_plan() -> None:
    assert clients_by_kind(plan()) == {"modality": 7, "worklist": 0, "engine": 2, "viewer": 0}


def test_every_client_belongs_to_one_generator() -> None:
    owned = [number for place in range(3) for number in Part(5 + place, place, 3).clients(7)]
    assert sorted(owned) == list(range(7))


def test_no_source_address_is_used_by_two_clients_of_any_generators() -> None:
    given = [
        address
        for place in range(3)
        for of_kind in sources_of(plan(), Part(5 + place, place, 3)).values()
        for address in of_kind
    ]
    assert len(given) == len(set(given)) == 9


def test_a_generator_keeps_to_its_slice_however_many_take_part() -> None:
    assert sources_of(plan(), Part(6, 0, 1))["modality"][0] == "127.1.0.81"
    assert sources_of(plan(), Part(6, 1, 2))["modality"][0] == "127.1.0.81"


def test_addresses_that_look_like_networks_or_broadcasts_are_left_out() -> None:
    sources = sources_of(plan(generators=1, sources=("127.1.0.254", "127.1.1.10")), Part(5, 0, 1))
    assert sources["modality"][:2] == ["127.1.0.254", "127.1.1.1"]


def test_a_slice_that_is_too_small_says_so() -> None:
    with pytest.raises(PlanError, match="expected 9 addresses for the clients of generator 5, found 2 in its slice"):
        sources_of(plan(sources=("127.1.0.1", "127.1.0.8")), Part(5, 0, 1))


def test_a_generator_with_a_network_of_its_own_takes_all_addresses_from_there() -> None:
    sources = sources_of(plan(), Part(6, 0, 1), "198.19.8.0/28")
    assert sources["modality"] == [f"198.19.8.{last}" for last in range(1, 8)]
    assert set(sources["engine"]) <= {f"198.19.8.{last}" for last in range(8, 16)}


def test_a_network_of_its_own_that_is_too_small_or_none_says_so() -> None:
    with pytest.raises(
        PlanError, match=r"^sources 198.19.8.0/30: expected 9 addresses for the clients of generator 6, found 3"
    ):
        sources_of(plan(), Part(6, 0, 1), "198.19.8.0/30")
    with pytest.raises(PlanError, match=r"^PREFLIGHT_LOAD_SOURCES: expected an IPv4 network, found anywhere "):
        sources_of(plan(), Part(6, 0, 1), "anywhere")
