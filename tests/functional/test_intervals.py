"""The interval that fits: score intervals for rates, sign flips for the rest, and each column on its own."""

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from vlmrobust.functional.sign_flips import flip_intervals

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


def test_zeros_and_ones_are_no_rate_by_chance():
    entropies = np.zeros(20)
    assert mean_interval(entropies, rng=rng()).high == 0.0
    assert mean_interval(entropies, outcome="rate", rng=rng()).high == pytest.approx(0.161, abs=1e-3)


def test_what_is_no_rate_is_flipped():
    generator = rng(3)
    base, condition = generator.random(9), generator.random(9)
    changes, groups = condition - base, np.repeat([0, 1, 2, 3, 4, 5], [1, 1, 1, 2, 2, 2])
    for labels in (None, groups):
        [flipped] = flip_intervals([changes], [None], labels, weight=0.5, rng=rng(), replicates=10_000, level=0.95)
        assert tuple(vars_of(paired_interval(base, condition, labels, rng=rng()))) == tuple(flipped)
        [flipped] = flip_intervals([base], [None], labels, weight=0.5, rng=rng(), replicates=10_000, level=0.95)
        assert tuple(vars_of(mean_interval(base, labels, rng=rng()))) == tuple(flipped)[:4]


def vars_of(found):
    return [getattr(found, field.name) for field in fields(found)]


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
def test_of_too_few_there_is_no_interval(groups, count):
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
def test_one_more_failure_raises_neither_end(data):
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
def test_no_pair_is_nan_everywhere(base, condition):
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
def test_a_column_has_the_interval_that_it_has_alone(grouped, seed, order):
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
        (lambda: paired_interval([1.0], [1.0, 0.0], rng=rng()), "of one length, got 1 and 2"),
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
        (lambda: paired_intervals([([1.0], [])], rng=rng()), r"of pairs\[0\] of one length, got 1 and 0"),
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
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
