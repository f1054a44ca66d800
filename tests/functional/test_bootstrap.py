"""The bootstrap against enumeration of every resample, a slow loop, scipy's, and each column on its own."""

import itertools
import math
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from vlmrobust.functional import bootstrap_mean, bootstrap_means, paired_bootstrap, paired_bootstraps, resample_counts
from vlmrobust.functional.bootstrap import bca_limits, expanded_p, percentile_limits, two_sided_p
from vlmrobust.functional.resampling import GroupedColumn

NAN = math.nan


def rng(seed=0):
    return np.random.default_rng(seed)


def expanded(count, level=0.95):
    return norm.cdf(-math.sqrt(count / (count - 1)) * student.ppf((1 + level) / 2, count - 1))


def all_resamples(values, groups):
    """The mean of every possible resample of groups, by a plain loop."""
    members = {label: [v for v, g in zip(values, groups, strict=True) if g == label] for label in sorted(set(groups))}
    means = []
    for drawn in itertools.product(members.values(), repeat=len(members)):
        flat = [value for group in drawn for value in group]
        means.append(sum(flat) / len(flat))
    return np.array(means)


@pytest.mark.parametrize("groups", [list("abcde"), list("aabcc") + ["d"] * 2])
def test_percentiles_agree_with_every_possible_resample(groups):
    values = rng(1).normal(size=len(groups))
    means = all_resamples(values, groups)
    count = len(set(groups))
    tail = expanded(count)
    result = bootstrap_mean(values, groups, rng=rng(), replicates=200_000)
    assert result.value == pytest.approx(values.mean())
    scale = means.std()
    assert result.low == pytest.approx(np.quantile(means, tail), abs=0.05 * scale)
    assert result.high == pytest.approx(np.quantile(means, 1 - tail), abs=0.05 * scale)
    paired = paired_bootstrap(np.zeros(len(values)), values, groups, rng=rng(), replicates=200_000)
    expected_p = 2 * min((means <= 0).mean(), (means >= 0).mean())
    assert paired.p == pytest.approx(expected_p, rel=0.05)


VALUES = st.one_of(st.integers(-5000, 5000).map(lambda number: number / 1000), st.just(NAN))


@given(values=st.lists(VALUES, min_size=2, max_size=12), data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_difference_agrees_with_a_slow_loop_over_the_same_counts(values, data):
    base = data.draw(st.lists(st.floats(-5, 5), min_size=len(values), max_size=len(values)))
    groups = data.draw(st.lists(st.sampled_from("abcd"), min_size=len(values), max_size=len(values)))
    kept = [(c - b, g) for b, c, g in zip(base, values, groups, strict=True) if not math.isnan(c)]
    labels, defined = sorted(set(groups)), {label for _, label in kept}
    result = paired_bootstrap(base, values, groups, rng=rng(), replicates=50)
    assert result.n == len(kept)
    if len(defined) < 2:
        assert math.isnan(result.low)
        return
    means = []
    for counts in np.concatenate(list(resample_counts(len(labels), 50, rng()))):
        times = [counts[labels.index(group)] for _, group in kept]
        if sum(times):
            means.append(sum(often * change for often, (change, _) in zip(times, kept, strict=True)) / sum(times))
    tail = expanded(len(defined))
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(means, [tail, 1 - tail])), abs=1e-9)
    assert result.value == pytest.approx(np.mean([change for change, _ in kept]))


def in_clusters(seed, kind):
    """Values and the groups that they are in, sizes unequal and some values undefined."""
    generator = rng(seed)
    groups = np.repeat(np.arange(12), generator.integers(1, 4, size=12))
    values = {
        "normal": generator.normal(size=len(groups)),
        "exponential": generator.exponential(size=len(groups)),
        "rate": (generator.random(len(groups)) < 0.6).astype(float),
    }[kind]
    values[generator.random(len(groups)) < 0.1] = NAN
    return values, groups


CLUSTERED = st.builds(in_clusters, st.integers(0, 999), st.sampled_from(["normal", "exponential", "rate"]))


@pytest.mark.parametrize("method", ["percentile", "bca"])
@given(CLUSTERED, st.sampled_from([0.8, 0.95, 0.99]))
@example(data=in_clusters(297, "exponential"), level=0.8)  # a replicate equals the mean but for rounding
@settings(max_examples=15, deadline=None)
def test_intervals_agree_with_scipy_on_the_same_replicates(method, data, level):
    """Groups are scipy's paired samples of sums and sizes; its percentiles are not expanded, so it is given ours."""
    values, groups = data
    found = bootstrap_mean(values, groups, rng=rng(), replicates=400, level=level, method=method)
    sums = np.bincount(groups, weights=np.nan_to_num(values))
    sizes = np.bincount(groups, weights=~np.isnan(values))
    replicates = [counts @ sums / (counts @ sizes) for counts in np.concatenate(list(resample_counts(12, 400, rng())))]
    mean = sums.sum() / sizes.sum()
    replicates = [mean if abs(replicate - mean) < 1e-12 else replicate for replicate in replicates]
    expected = scipy.stats.bootstrap(
        (sums, sizes),
        lambda of, over, axis: of.sum(axis) / over.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=0,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=np.array(replicates)),
        confidence_level=1 - 2 * expanded(np.count_nonzero(sizes), level),
        method=method,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_agree_with_those_that_scipy_draws_itself(method):
    values = rng(2).exponential(size=300)
    found = bootstrap_mean(values, rng=rng(), replicates=20_000, method=method)
    level = 1 - 2 * expanded(300)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=level, method=method, rng=rng(1)
    ).confidence_interval
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03 * width)


def test_bca_shifts_towards_the_long_tail():
    values = rng(3).exponential(size=60)
    percentile, bca = (bootstrap_mean(values, rng=rng(), method=method) for method in ("percentile", "bca"))
    assert bca.low > percentile.low
    assert bca.high > percentile.high
    turned = bootstrap_mean(-values, rng=rng(), method="bca")
    assert (turned.low, turned.high) == pytest.approx((-bca.high, -bca.low), abs=1e-9)


def test_bca_is_undefined_where_every_replicate_is_on_one_side():
    # One replicate is on one side, or at the mean itself: then the interval is that point.
    found = [bootstrap_mean([0.0, 1.0], rng=rng(seed), replicates=1, method="bca") for seed in range(20)]
    assert {(result.low, result.high) for result in found if not math.isnan(result.low)} == {(0.5, 0.5)}
    assert any(math.isnan(result.low) and math.isnan(result.high) for result in found)
    constant = bootstrap_mean([0.25] * 9, rng=rng(), method="bca")
    assert (constant.low, constant.high) == (0.25, 0.25)


def columns_and_groups(seed):
    generator = rng(seed)
    columns = [generator.normal(size=40), generator.random(40).round(), generator.exponential(size=40), np.ones(40)]
    for column in columns:
        column[generator.random(40) < 0.2] = NAN
    return columns, generator.integers(12, size=40)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@given(seed=st.integers(0, 999), order=st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_a_columns_result_does_not_depend_on_other_columns(method, seed, order):
    columns, groups = columns_and_groups(seed)
    settings = {"replicates": 50, "method": method}
    alone = [bootstrap_mean(column, groups, rng=rng(), **settings) for column in columns]
    together = bootstrap_means([columns[index] for index in order], groups, rng=rng(), **settings)
    assert together == [alone[index] for index in order]
    pairs = [(columns[0], columns[index]) for index in order]
    alone = [paired_bootstrap(*pair, groups, rng=rng(), **settings) for pair in pairs]
    assert str(paired_bootstraps(pairs, groups, rng=rng(), **settings)) == str(alone)  # as NaN is not equal to itself
    assert paired_bootstraps(iter([]), groups, rng=rng()) == bootstrap_means([], rng=rng()) == []


def test_intervals_of_few_values_are_wide():
    """At n = 8 plain percentiles cover about 88 %; expanded ones do better."""
    generator = rng(9)
    intervals = [bootstrap_mean(generator.normal(size=8), rng=generator, replicates=400) for _ in range(300)]
    assert np.mean([result.low <= 0 <= result.high for result in intervals]) >= 0.91


def test_p_and_interval_agree():
    generator = rng(3)
    for shift in (0.0, 0.1, 0.2, 0.3):
        condition = generator.normal(shift, 1, size=200)
        result = paired_bootstrap(np.zeros(200), condition, rng=generator)
        if abs(result.p - 0.05) > 0.01:
            assert (result.p < 0.05) == (result.low > 0 or result.high < 0)
    assert paired_bootstrap(np.zeros(9), np.zeros(9), rng=rng()).p == 1.0
    assert paired_bootstrap(np.zeros(9), np.ones(9), rng=rng(), replicates=999).p == 2 / 1000


def test_memory_does_not_grow_with_replicates():
    values = rng(5).normal(size=20_000)
    tracemalloc.start()
    bootstrap_mean(values, rng=rng(), replicates=3000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The counts of 3,000 replicates of 8,192 merged groups would be 200 MB at once.
    assert peak < 60e6


def test_results_depend_on_the_seed():
    values = rng(6).normal(size=50)
    assert bootstrap_mean(values, rng=rng(1)) == bootstrap_mean(values, rng=rng(1))
    assert bootstrap_mean(values, rng=rng(1)) != bootstrap_mean(values, rng=rng(2))
    # A group's name does not matter, nor does the order of the values.
    groups = np.arange(50) // 5
    named = [f"image {label:03d}" for label in groups]
    assert bootstrap_mean(values, groups, rng=rng(1)) == bootstrap_mean(values, named, rng=rng(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean([[1.0]], rng=rng()), r"expected 'values' of shape \(n,\), got \(1, 1\)"),
        (lambda: bootstrap_mean([1.0, 2.0], rng=rng(), replicates=0), "expected at least one of 'replicates', got 0"),
        (lambda: bootstrap_mean([1.0, 2.0], rng=rng(), level=0), "expected 'level' between 0 and 1, got 0"),
        (
            lambda: bootstrap_mean([1.0, 2.0], rng=rng(), method="basic"),
            "expected 'method' to be one of percentile, bca; got 'basic'",
        ),
        (lambda: bootstrap_means([[1.0], [math.inf]], rng=rng()), r"in 'columns\[1\]', got inf at 0"),
        (lambda: bootstrap_means([[1.0], [1.0, 2.0]], rng=rng()), "expected columns of the same length, got 1 and 2"),
        (
            lambda: paired_bootstraps([([1.0], [1.0]), ([1.0], [1.0, 2.0])], rng=rng()),
            r"expected 'base' and 'condition' of pairs\[1\] of the same length, got 1 and 2",
        ),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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


def test_excessive_skewness_gives_no_interval():
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
