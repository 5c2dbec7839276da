"""PAIR-1 to PAIR-4: both units alike, entries that travel, the active unit that fails, paths that are cut."""

import pytest

from lbconfig.site import Vip
from scenarios.checkers.holders import judge_holders
from scenarios.checkers.replicated import judge_replicated
from scenarios.checkers.same_units import judge_same_units
from scenarios.checkers.takeover import judge_takeover
from scenarios.episodes import LAG_LIMIT_S
from scenarios.pair_pictures import limits_of, taken_over
from scenarios.pair_play import ENTRIES, UnitFailures, cut_paths
from scenarios.pair_watch import look_at_pair, pair_of, settings_of
from scenarios.run import Run
from scenarios.suite.session import Judge
from scenarios.takeovers import WAYS, Replicated

LOOKS_S = 2.0
LOOKS_AT_LEAST = 5
SOURCES_AT_LEAST = 100
WATCHED_AT_LEAST_S = 3.0


@pytest.mark.check("PAIR-1")
def test_both_units_see_each_other_and_are_set_up_alike(run: Run, judge: Judge) -> None:
    """Compare what both units run, ask each for its peers, and look who has the VIPs."""
    pair = pair_of(run.lab)
    judge(judge_same_units(pair.units, look_at_pair(run.lab, pair, LOOKS_S), samples_at_least=LOOKS_AT_LEAST))


@pytest.mark.check("PAIR-2")
def test_an_entry_reaches_the_passive_unit_in_time(
    run: Run, followed_entries: dict[str, list[Replicated]], vip: Vip, judge: Judge
) -> None:
    """Let new sources come, and read both units' tables meanwhile."""
    pair, active = pair_of(run.lab), pair_of(run.lab).active_unit()
    passive = next(name for name in pair.units if name != active)
    bound_s = settings_of(run.lab).replication_s
    entries = followed_entries[vip.name]
    judge(judge_replicated(entries, active=active, passive=passive, bound_s=bound_s, at_least=ENTRIES))


@pytest.mark.check("PAIR-3")
def test_the_vip_answers_again_in_time_when_the_active_unit_fails(
    run: Run, unit_failures: UnitFailures, vip: Vip, judge: Judge
) -> None:
    """Let the active unit fail in every way under traffic on all VIPs, from their own subnet and from beyond a router."""
    failures = unit_failures.failures
    lag_s = max((episode.generator_lag_s for episode in failures), default=0.0)
    judge(
        judge_takeover(
            vip.name, [taken_over(run, vip, episode) for episode in failures], limits_of(settings_of(run.lab)), WAYS,
            sources_at_least=SOURCES_AT_LEAST, generator_lag_s=lag_s, lag_limit_s=LAG_LIMIT_S,
        )
    )  # fmt: skip


@pytest.mark.check("PAIR-4")
def test_nobody_takes_the_vips_back_and_two_holders_are_detected(run: Run, unit_failures: UnitFailures, judge: Judge) -> None:
    """Watch who has the VIPs after a unit came back, while replication is cut, and while all paths are cut."""
    cuts = [cut_paths(run, which) for which in ("replication", "all")]
    judge(
        judge_holders(
            pair_of(run.lab).units[0], unit_failures.failures, cuts, heals_within_s=settings_of(run.lab).takeover_s,
            watched_at_least_s=WATCHED_AT_LEAST_S,
        )
    )  # fmt: skip
