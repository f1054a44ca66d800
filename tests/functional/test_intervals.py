"""The interval that fits: closed forms for rates, the bootstrap for the rest, and each column on its own."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrobust.functional import (
    Difference,
    Estimate,
    bootstrap_mean,
    mcnemar_exact,
    mean_interval,
    mean_intervals,
    newcombe_paired_interval,
    paired_bootstrap,
    paired_interval,
    paired_intervals,
    wilson_interval,
)

NAN = math.nan


def rng(seed=0):
    return np.random.default_rng(seed)


def pairs_of(table):
    """The base and condition values of a table (both, base_only, condition_only, neither)."""
    rows = [(1, 1), (1, 0), (0, 1), (0, 0)]
    pairs = [row for row, count in zip(rows, table, strict=True) for _ in range(count)]
    return np.array(pairs, dtype=float).reshape(-1, 2).T


@given(st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any))
def test_paired_rates_get_the_score_interval_and_the_exact_test(table):
    base, condition = pairs_of(table)
    _, b, c, _ = table
    low, high = newcombe_paired_interval(*table)
    expected = Difference((c - b) / sum(table), low, high, sum(table), mcnemar_exact(b, c))
    assert paired_interval(base, condition, rng=rng()) == expected
    # Labels that all differ are no groups; undefined pairs are left out, on whichever side.
    labels = [f"q{i}" for i in range(len(base) + 2)]
    base, condition = np.append(base, [NAN, 1.0]), np.append(condition, [1.0, NAN])
    assert paired_interval(base, condition, labels, rng=rng()) == expected


@given(n=st.integers(1, 50), data=st.data())
def test_a_rate_gets_wilsons_interval(n, data):
    k = data.draw(st.integers(0, n))
    values = np.array([1.0] * k + [0.0] * (n - k) + [NAN])
    assert mean_interval(values, rng=rng()) == Estimate(k / n, *wilson_interval(k, n), n)


def test_anything_else_gets_the_bootstrap():
    base, condition = np.array([0.5, 0.2, 0.9, 1.0]), np.array([0.5, 0.1, 0.0, 1.0])
    assert paired_interval(base, condition, rng=rng()) == paired_bootstrap(base, condition, rng=rng())
    assert mean_interval(base, rng=rng()) == bootstrap_mean(base, rng=rng())
    rates, groups = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0]), list("aabbcc")
    assert mean_interval(rates, groups, rng=rng()) == bootstrap_mean(rates, groups, rng=rng())
    assert paired_interval(rates, 1 - rates, groups, rng=rng()) == paired_bootstrap(rates, 1 - rates, groups, rng=rng())


def test_groups_that_all_say_the_same_do_not_collapse_to_a_point():
    ones, groups = np.ones(12), np.repeat([0, 1, 2, 3], 3)
    assert bootstrap_mean(ones, groups, rng=rng()).low == 1.0
    assert mean_interval(ones, groups, rng=rng()) == Estimate(1.0, *wilson_interval(4, 4), 12)
    same = paired_interval(ones, ones, groups, rng=rng())
    assert same == Difference(0.0, *newcombe_paired_interval(4, 0, 0, 0), 12, 1.0)
    lost = paired_interval(ones, 0 * ones, groups, rng=rng())
    assert lost == Difference(-1.0, *newcombe_paired_interval(0, 4, 0, 0), 12, mcnemar_exact(4, 0))


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


def test_a_single_pair_has_a_wide_interval_or_none():
    assert paired_interval([1.0], [0.0], rng=rng()) == Difference(-1.0, *newcombe_paired_interval(0, 1, 0, 0), 1, 1.0)
    result = paired_interval([0.3], [0.1], rng=rng())
    assert (result.value, result.n) == (pytest.approx(-0.2), 1)
    assert all(math.isnan(value) for value in (result.low, result.high, result.p))


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
    groups = labels if grouped else None
    alone = [mean_interval(column, groups, rng=rng(), replicates=40) for column in columns]
    together = mean_intervals((columns[index] for index in order), groups, rng=rng(), replicates=40)
    assert printed(together) == printed(alone[index] for index in order)
    pairs = [(columns[first], columns[second]) for first, second in zip(order, order[1:] + order[:1], strict=True)]
    alone = [paired_interval(*pair, groups, rng=rng(), replicates=40) for pair in pairs]
    assert printed(paired_intervals(iter(pairs), groups, rng=rng(), replicates=40)) == printed(alone)


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
        (lambda: mean_interval([1.0, 0.0], rng=rng(), level=1), "expected 'level' between 0 and 1, got 1"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
