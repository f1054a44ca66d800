"""Score intervals for rates, sign flips (against every pattern, and scipy) for the rest, each column on its own."""

import math
from dataclasses import astuple
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from vlmrobust.functional import (
    Difference,
    Estimate,
    mean_interval,
    mean_intervals,
    paired_bootstrap,
    paired_interval,
    paired_intervals,
    tango_interval,
    tango_p,
    wilson_interval,
)
from vlmrobust.functional.intervals import FEWEST_GROUPS, flip_intervals
from vlmrobust.functional.resampling import subsets

NAN = math.nan


def rng(seed=0):
    return np.random.default_rng(seed)


def pairs_of(table):
    """The base and condition values of a table (both, base_only, condition_only, neither)."""
    rows = [(1, 1), (1, 0), (0, 1), (0, 0)]
    pairs = [row for row, count in zip(rows, table, strict=True) for _ in range(count)]
    return np.array(pairs, dtype=float).reshape(-1, 2).T


@given(st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(lambda table: sum(table) >= 5))
def test_paired_rates_get_the_score_test_and_its_interval(table):
    base, condition = pairs_of(table)
    _, b, c, _ = table
    expected = Difference((c - b) / sum(table), *tango_interval(b, c, sum(table)), sum(table), tango_p(b, c))
    assert paired_interval(base, condition, outcome="rate", rng=rng()) == expected
    # Labels that all differ are no groups; undefined pairs are left out, on whichever side.
    labels = [f"q{i}" for i in range(len(base) + 2)]
    base, condition = np.append(base, [NAN, 1.0]), np.append(condition, [1.0, NAN])
    assert paired_interval(base, condition, labels, outcome="rate", rng=rng()) == expected


@given(n=st.integers(5, 50), data=st.data())
def test_a_rate_gets_wilsons_interval(n, data):
    k = data.draw(st.integers(0, n))
    values = np.array([1.0] * k + [0.0] * (n - k) + [NAN])
    assert mean_interval(values, outcome="rate", rng=rng()) == Estimate(k / n, *wilson_interval(k, n), n)


def test_zeros_and_ones_are_not_assumed_to_be_rates():
    entropies = np.zeros(20)
    assert mean_interval(entropies, rng=rng()).high == 0.0
    assert mean_interval(entropies, outcome="rate", rng=rng()).high == pytest.approx(0.161, abs=1e-3)


def test_other_values_get_the_randomisation_test():
    generator = rng(3)
    base, condition = generator.random(9), generator.random(9)
    changes, groups = condition - base, np.repeat([0, 1, 2, 3, 4, 5], [1, 1, 1, 2, 2, 2])
    for labels in (None, groups):
        [flipped] = flip_intervals([changes], [None], labels, weight=0.5, rng=rng(), replicates=10_000, level=0.95)
        assert paired_interval(base, condition, labels, rng=rng()) == flipped
        [flipped] = flip_intervals([base], [None], labels, weight=0.5, rng=rng(), replicates=10_000, level=0.95)
        assert astuple(mean_interval(base, labels, rng=rng())) == astuple(flipped)[:4]


def test_rates_in_groups_and_shares_are_never_a_point():
    ones, groups = np.ones(24), np.repeat(np.arange(8), 3)
    for outcome in ("rate", "share"):
        found = mean_interval(ones, groups, outcome=outcome, rng=rng())
        assert found.low < found.high == 1.0
        same = paired_interval(ones, ones, groups, outcome=outcome, rng=rng())
        assert same.low < 0 < same.high
        assert same.p == 1.0
        lost = paired_interval(ones, 0 * ones, groups, outcome=outcome, rng=rng())
        assert lost.low == -1.0 < lost.high < 0
        assert lost.p < 0.05


@pytest.mark.parametrize(("groups", "count"), [(None, 5), ("aabbccddee", 10)])
def test_too_few_values_give_no_interval(groups, count):
    labels = None if groups is None else list(groups)
    values = rng(1).random(count)
    for found in (mean_interval(values, labels, rng=rng()), paired_interval(values, values[::-1], labels, rng=rng())):
        assert found.n == count
        assert not math.isnan(found.value)
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    assert math.isnan(paired_interval(values, values, labels, rng=rng()).p)
    four = paired_interval([1, 1, 1, 0], [0, 0, 1, 0], outcome="rate", rng=rng())
    assert (four.value, four.n) == (-0.5, 4)
    assert math.isnan(four.low)
    assert math.isnan(four.p)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_additional_failure_raises_no_limit(data):
    """Of rates without groups, of rates in groups and of shares; as values and as differences."""
    count = data.draw(st.integers(6, 18))
    before = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=count, max_size=count)))
    after = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=count, max_size=count)))
    groups = data.draw(st.sampled_from([None, np.arange(count) % 6]))
    place = data.draw(st.integers(0, count - 1))
    outcome = data.draw(st.sampled_from(["rate", "share"]))
    worse = after.copy()
    worse[place] = 0.0

    def ends(values):
        pair = paired_interval(before, values, groups, outcome=outcome, rng=rng(), replicates=500)
        mean = mean_interval(values, groups, outcome=outcome, rng=rng(), replicates=500)
        return np.array([pair.low, pair.high, mean.low, mean.high])

    assert (ends(worse) <= ends(after) + 1e-9).all()


@pytest.mark.parametrize(("base", "condition"), [([], []), ([NAN, 1.0], [0.0, NAN])])
def test_without_pairs_everything_is_nan(base, condition):
    for function in (paired_interval, paired_bootstrap):
        result = function(base, condition, rng=rng())
        assert result.n == 0
        assert all(math.isnan(value) for value in (result.value, result.low, result.high, result.p))
    single = mean_interval([NAN] * len(base), rng=rng())
    assert single.n == 0
    assert math.isnan(single.value)
    assert math.isnan(single.low)


def mixed_columns(seed):
    """Columns of every kind: rates, numbers, constants, undefined throughout; and groups of their rows."""
    generator = rng(seed)
    columns = [
        generator.random(30).round(),
        generator.normal(size=30),
        np.ones(30),
        np.full(30, NAN),
        generator.random(30).round() / 2,
        np.zeros(30),
    ]
    for column in columns:
        column[generator.random(30) < 0.2] = NAN
    return columns, generator.integers(8, size=30)


def printed(results):
    return [str(result) for result in results]  # as NaN is not equal to itself


@pytest.mark.parametrize("grouped", [False, True])
@given(seed=st.integers(0, 999), order=st.permutations(range(6)))
@settings(max_examples=15, deadline=None)
def test_a_columns_interval_does_not_depend_on_other_columns(grouped, seed, order):
    columns, labels = mixed_columns(seed)
    settings = {"groups": labels if grouped else None, "replicates": 90}
    kinds = ["rate", "mean", "rate", "rate", "share", "mean"]
    alone = [
        mean_interval(column, outcome=kind, rng=rng(), **settings) for column, kind in zip(columns, kinds, strict=True)
    ]
    outcomes = [kinds[index] for index in order]
    together = mean_intervals((columns[index] for index in order), outcomes=outcomes, rng=rng(), **settings)
    assert printed(together) == printed(alone[index] for index in order)
    pairs = [(columns[first], columns[second]) for first, second in zip(order, order[1:] + order[:1], strict=True)]
    alone = [paired_interval(*pair, rng=rng(), **settings) for pair in pairs]
    assert printed(paired_intervals(iter(pairs), rng=rng(), **settings)) == printed(alone)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_interval([1.0], [1.0, 0.0], rng=rng()), "of the same length, got 1 and 2"),
        (
            lambda: paired_interval([0.1, math.inf], [0, 0], rng=rng()),
            "expected finite values or NaN in 'base', got inf",
        ),
        (
            lambda: paired_interval([1.0, 0.0], [1, 0], ["a"], rng=rng()),
            r"expected 'groups' of shape \(2,\), got \(1,\)",
        ),
        (lambda: mean_interval([[1.0]], rng=rng()), r"expected 'values' of shape \(n,\), got \(1, 1\)"),
        (lambda: mean_intervals([[1.0], [[1.0]]], rng=rng()), r"expected 'columns\[1\]' of shape \(n,\), got \(1, 1\)"),
        (lambda: paired_intervals([([1.0], [])], rng=rng()), r"of pairs\[0\] of the same length, got 1 and 0"),
        (lambda: mean_interval([0.5, 0.2], rng=rng(), level=1), "expected 'level' between 0 and 1, got 1"),
        (
            lambda: mean_interval([1.0] * 5, outcome="rate", rng=rng(), level=1),
            "expected 'level' between 0 and 1, got 1",
        ),
        (lambda: mean_interval([1.0], rng=rng(), replicates=0), "expected at least one of 'replicates', got 0"),
        (lambda: mean_interval([1.0], outcome="odds", rng=rng()), "expected 'outcome' to be one of mean, rate, share"),
        (
            lambda: mean_interval([0.5], outcome="rate", rng=rng()),
            r"0, 1 or NaN in columns\[0\], a rate; got 0\.5",
        ),
        (
            lambda: paired_interval([0.5], [1.5], outcome="share", rng=rng()),
            r"expected values from 0 to 1, or NaN in pairs\[0\], a share; got 1.5",
        ),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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


def test_random_flips_approximate_all_of_them():
    values = rng(4).normal(0.3, 1, 13)
    every, some = flipped(values, replicates=2**13), flipped(values, replicates=8_000)
    assert some.p == pytest.approx(every.p, abs=0.02)
    assert (some.low, some.high) == pytest.approx((every.low, every.high), abs=0.06)


@pytest.mark.parametrize("count", range(1, 10))
def test_intervals_need_enough_groups_for_the_level(count):
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
