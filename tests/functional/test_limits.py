"""Percentiles and p-values of given replicates against counting, and where there are none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from vlmrobust.functional.limits import bca_limits, expanded_p, percentile_limits, two_sided_p
from vlmrobust.functional.resampling import GroupedColumn

NAN = math.nan


@given(st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(NAN)), max_size=20))
def test_p_is_counted(replicates):
    known = [value for value in replicates if not math.isnan(value)]
    found = two_sided_p(np.array(replicates))
    if not known:
        assert math.isnan(found)
        return
    sides = [sum(value <= 0 for value in known), sum(value >= 0 for value in known)]
    assert found == min(1.0, 2 * (1 + min(sides)) / (len(known) + 1))


@pytest.mark.parametrize("groups", [2, 5, 50, 5000])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_percentiles_of_few_groups_are_those_of_students_t(groups, level):
    """Replicates of a normal mean have the spread √((G−1)/G) · s; expanded, the interval is mean ± t · s."""
    replicates = norm.ppf((np.arange(200_001) + 0.5) / 200_001) * math.sqrt((groups - 1) / groups)
    low, high = percentile_limits(replicates, groups, level)
    t = student.ppf((1 + level) / 2, groups - 1)
    if t < 4:
        assert (low, high) == pytest.approx((-t, t), rel=2e-3)
    assert low == pytest.approx(-high)


def test_without_replicates_or_with_one_group_there_is_no_interval():
    column = GroupedColumn.of(np.array([1.0, 2.0]), np.array([0, 0]), 1)
    for found in (
        percentile_limits(np.empty(0), 5, 0.95),
        percentile_limits(np.full(3, NAN), 5, 0.95),
        percentile_limits(np.ones(3), 1, 0.95),
        bca_limits(np.ones(3), column, 0.95),
        bca_limits(np.empty(0), GroupedColumn.of(np.array([1.0, 2.0]), np.array([0, 1]), 2), 0.95),
    ):
        assert all(map(math.isnan, found))


def test_skewness_that_is_too_much_for_the_formula_is_no_interval():
    # At so high a level with two groups, or with all the spread in one of four, the accelerated percentile turns back.
    column = GroupedColumn.of(np.array([0.0, 0.0, 0.0, 9.0]), np.arange(4), 4)
    replicates = np.repeat([0.0, 2.25, 4.5, 6.75], [30, 42, 21, 7])
    assert all(map(math.isnan, bca_limits(replicates, column, 0.999)))
    assert not any(map(math.isnan, bca_limits(replicates, column, 0.5)))


@pytest.mark.parametrize("groups", [6, 12, 80])
def test_the_expanded_p_is_small_where_the_expanded_interval_excludes_zero(groups):
    """By a grid of shifts: p crosses 0.05 where an end of the interval crosses 0, but for the replicates' steps."""
    replicates = np.random.default_rng(groups).normal(size=4000)
    for shift in np.linspace(-4, 4, 161):
        low, high = percentile_limits(replicates + shift, groups, 0.95)
        p = expanded_p(replicates + shift, groups)
        if min(abs(low), abs(high)) > 0.05:
            assert (p < 0.05) == (not low <= 0 <= high), (shift, p, low, high)
    assert math.isnan(expanded_p(replicates, 1))
    assert math.isnan(expanded_p(np.array([math.nan]), 9))
