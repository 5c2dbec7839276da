from __future__ import annotations

import pytest

from tests.benchmarks.rows import Bar, BarError, median_interval, row_of_maximum, row_of_rounds


def test_a_row_holds_medians_and_the_median_of_the_paired_ratios() -> None:
    row = row_of_rounds("r", "x/s", [2.0, 6.0, 4.0], {"peer": [1.0, 2.0, 4.0]}, ratio_min={"peer": 1.5})
    assert (row.ours, row.peers, row.limit, row.met) == (4.0, {"peer": 2.0}, None, False)
    assert row.bars == [Bar(against="peer", ratio_min=1.5, ratio=2.0, interval=(1.0, 3.0), met=False)]


def test_the_lower_end_of_the_interval_meets_the_bar_not_the_median() -> None:
    ours = [2.0] * 7 + [1.0] * 2
    met = row_of_rounds("r", "x/s", ours, {"peer": [1.0] * 9}, ratio_min={"peer": 1.5})
    assert (met.bars[0].interval, met.met) == ((1.0, 2.0), False)
    assert row_of_rounds("r", "x/s", [2.0] * 8 + [1.0], {"peer": [1.0] * 9}, ratio_min={"peer": 1.5}).met is True


def test_a_cost_is_better_the_less_it_is() -> None:
    row = row_of_rounds("r", "KB", [2.0], {"peer": [6.0]}, ratio_min={"peer": 2.5}, less_is_better=True)
    assert (row.bars[0].ratio, row.met, row.less_is_better) == (3.0, True, True)


def test_a_cost_below_its_maximum_is_met_and_one_above_it_is_not() -> None:
    below = row_of_maximum("r", "KB", [30.0, 20.0, 10.0], 40.0, peers={"peer": [400.0] * 3})
    assert (below.ours, below.limit, below.peers, below.met) == (20.0, 40.0, {"peer": 400.0}, True)
    assert row_of_maximum("r", "KB", [41.0, 20.0, 10.0], 40.0).met is False


def test_a_bar_that_is_not_reached_is_not_met() -> None:
    row = row_of_rounds("r", "x/s", [1.0], {}, limit=[4.0], ratio_min={"limit": 0.5})
    assert row.met is False
    assert row.bars[0].ratio == 0.25


def test_a_row_without_a_bar_is_neither_met_nor_missed() -> None:
    assert row_of_rounds("r", "x/s", [1.0], {}).met is None


def test_the_interval_of_nine_rounds_leaves_out_one_at_each_end() -> None:
    assert median_interval([9, 1, 2, 3, 4, 5, 6, 7, 8]) == (2, 8)


def test_the_interval_of_five_rounds_is_their_range() -> None:
    assert median_interval([5, 1, 4, 2, 3]) == (1, 5)


def test_rounds_that_are_not_paired_are_refused() -> None:
    with pytest.raises(BarError, match="expected as many rounds of peer as of ours, found 1 and 2"):
        row_of_rounds("r", "x/s", [1.0, 2.0], {"peer": [1.0]})


def test_a_bar_against_nothing_measured_is_refused() -> None:
    with pytest.raises(BarError, match="expected a bar against one of"):
        row_of_rounds("r", "x/s", [1.0], {"peer": [1.0]}, ratio_min={"other": 1.0})


def test_a_figure_of_nothing_is_refused() -> None:
    with pytest.raises(BarError, match=r"expected figures above 0, found 0\.0 of ours"):
        row_of_rounds("r", "x/s", [0.0], {"peer": [1.0]})
