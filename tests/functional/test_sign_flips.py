"""Sign flips against every pattern one by one, against scipy, and against what a test that is inverted has to be."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from vlmrobust.functional.sign_flips import FEWEST_GROUPS, flip_intervals, subsets


def rng(seed=0):
    return np.random.default_rng(seed)


def flipped(values, groups=None, extremes=None, replicates=10_000):
    [found] = flip_intervals([values], [extremes], groups, weight=0.5, rng=rng(), replicates=replicates, level=0.95)
    return found


def p_by_patterns(values, groups, delta):
    """Return the two-sided p of "the mean is delta": every pattern of signs of the groups' sums, one after another."""
    labels = list(dict.fromkeys(groups))
    sums = np.array([sum(v - delta for v, g in zip(values, groups, strict=True) if g == label) for label in labels])
    totals = [float(np.dot(signs, sums)) for signs in product((1, -1), repeat=len(labels))]
    observed = float(sums.sum())
    tie = 1e-9
    side = min(
        sum(total >= observed - tie for total in totals) / len(totals),
        sum(total <= observed + tie for total in totals) / len(totals),
    )
    return min(1.0, 2 * side)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(-8, 8).map(lambda number: number / 8), min_size=9, max_size=9),
    groups=st.sampled_from(["abcdefghi", "aabcdefgg", "abcdefffg", "aabbccdef"]),
)
def test_p_and_interval_are_those_of_all_patterns(values, groups):
    found = flipped(np.array(values), list(groups))
    assert found.p == pytest.approx(p_by_patterns(values, groups, 0.0))
    for delta in (found.low, found.high):
        assert p_by_patterns(values, groups, delta) >= 0.05 - 1e-12
    assert p_by_patterns(values, groups, found.low - 1e-6) < 0.05
    assert p_by_patterns(values, groups, found.high + 1e-6) < 0.05
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


def test_without_groups_p_is_scipys():
    base, condition = rng(1).random(10), rng(2).random(10)
    expected = permutation_test(
        (base, condition), lambda first, second: np.mean(second - first), permutation_type="samples", n_resamples=np.inf
    )
    assert flipped(condition - base).p == pytest.approx(expected.pvalue)


def test_random_flips_are_near_all_of_them():
    values = rng(4).normal(0.3, 1, 13)
    every, some = flipped(values, replicates=2**13), flipped(values, replicates=8_000)
    assert some.p == pytest.approx(every.p, abs=0.02)
    assert (some.low, some.high) == pytest.approx((every.low, every.high), abs=0.06)


@pytest.mark.parametrize("count", range(1, 10))
def test_intervals_begin_where_the_rarest_pattern_is_rare_enough(count):
    found = flipped(rng(count).normal(size=count))
    assert math.isnan(found.low) == math.isnan(found.p) == (count < FEWEST_GROUPS)
    assert 2 / 2 ** (FEWEST_GROUPS - 1) > 0.05 > 2 / 2**FEWEST_GROUPS


def test_extremes_widen_and_do_not_move_the_value():
    values = np.zeros(10)
    plain, bounded = flipped(values), flipped(values, extremes=(-1.0, 1.0))
    assert (plain.value, plain.low, plain.high) == (0.0, 0.0, 0.0)
    assert bounded.value == 0.0
    assert bounded.low < 0 < bounded.high
    assert bounded.low == pytest.approx(-bounded.high)
    assert bounded.p == 1.0


def test_undefined_values_and_groups_without_any_are_left_out():
    values, groups = rng(5).normal(size=14), np.repeat(np.arange(7), 2)
    holed = values.copy()
    holed[[0, 1, 5]] = math.nan
    kept = ~np.isnan(holed)
    some, expected = flipped(holed, groups), flipped(values[kept], groups[kept])
    assert some.n == 11
    assert (some.value, some.low, some.high, some.p) == pytest.approx(
        (expected.value, expected.low, expected.high, expected.p)
    )


@given(count=st.integers(1, 70), replicates=st.integers(1, 300))
def test_subsets_are_all_of_them_or_random_halves(count, replicates):
    chosen = np.concatenate(list(subsets(count, replicates, rng())))
    if 2**count - 1 <= replicates:
        assert len({tuple(row) for row in chosen.tolist()}) == len(chosen) == 2**count - 1
        assert chosen.any(axis=1).all()
    else:
        assert chosen.shape == (replicates, count)
        assert set(np.unique(chosen)) <= {0.0, 1.0}


def test_a_million_values_are_as_quick_as_eight_thousand():
    values = rng().normal(0.01, 1, 200_000)
    found = flipped(values, replicates=2_000)
    error = values.std() / math.sqrt(len(values))
    assert (found.low, found.high) == pytest.approx(
        (found.value - 1.96 * error, found.value + 1.96 * error), abs=0.4 * error
    )
