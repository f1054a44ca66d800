"""Intervals and tests against statsmodels, published values and plain enumeration."""

import itertools
import math
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from vlmrobust.functional import (
    Difference,
    Estimate,
    bootstrap_mean,
    holm,
    mcnemar_exact,
    mean_interval,
    newcombe_paired_interval,
    paired_bootstrap,
    paired_interval,
    wilson_interval,
)

NAN = math.nan
LEVELS = st.sampled_from([0.5, 0.9, 0.95, 0.99])


def rng(seed=0):
    return np.random.default_rng(seed)


@given(n=st.integers(1, 2000), data=st.data(), level=LEVELS)
def test_wilson_agrees_with_statsmodels(n, data, level):
    successes = data.draw(st.integers(0, n))
    expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    low, high = wilson_interval(successes, n, level)
    assert (low, high) == pytest.approx(expected, abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


@given(b=st.integers(0, 300), c=st.integers(0, 300))
def test_mcnemar_agrees_with_statsmodels(b, c):
    assert mcnemar_exact(b, c) == pytest.approx(mcnemar([[5, b], [c, 7]], exact=True).pvalue, rel=1e-9)


@given(b=st.integers(0, 12), c=st.integers(0, 12))
def test_mcnemar_agrees_with_counting(b, c):
    tail = sum(comb(b + c, k) for k in range(min(b, c) + 1))
    assert mcnemar_exact(b, c) == pytest.approx(min(1.0, 2 * tail / 2 ** (b + c)))


def test_newcombe_agrees_with_a_published_table():
    # Cavo et al. (2012) in Fagerland, Lydersen and Laake, chapter 8, as R's contingencytables computes it.
    low, high = newcombe_paired_interval(both=59, base_only=16, condition_only=6, neither=80)
    assert (round(low, 4), round(high, 4)) == (-0.1186, -0.0046)


@given(both=st.integers(0, 40), changed=st.integers(1, 40), factor=st.integers(1, 4), level=LEVELS)
def test_newcombe_of_uncorrelated_pairs_is_that_of_independent_rates(both, changed, factor, level):
    # A table of rank one (ad = bc) has φ = 0, and method 10 is then Newcombe's interval for independent rates.
    a, b, c, d = both, changed, factor * both, factor * changed
    n = a + b + c + d
    expected = confint_proportions_2indep(a + b, n, a + c, n, method="newcomb", compare="diff", alpha=1 - level)
    assert newcombe_paired_interval(a, c, b, d, level) == pytest.approx(expected, abs=1e-9)


@given(cells=st.lists(st.integers(0, 60), min_size=4, max_size=4).filter(any))
def test_newcombe_turns_with_its_sides_and_holds_the_difference(cells):
    both, base_only, condition_only, neither = cells
    low, high = newcombe_paired_interval(both, base_only, condition_only, neither)
    turned = newcombe_paired_interval(both, condition_only, base_only, neither)
    assert turned == pytest.approx((-high, -low), abs=1e-12)
    assert -1 <= low <= (condition_only - base_only) / sum(cells) + 1e-12
    assert low < high <= 1


@pytest.mark.parametrize(
    ("rate_base", "rate_condition", "overlap"), [(0.9, 0.8, 0.5), (0.5, 0.5, 0.3), (0.95, 0.9, 0.0)]
)
def test_newcombe_covers_the_truth_95_times_in_100(rate_base, rate_condition, overlap):
    """Exact coverage at n = 40: summed over every table, weighted by its multinomial probability."""
    n = 40
    p11 = rate_base * rate_condition + overlap * math.sqrt(
        rate_base * (1 - rate_base) * rate_condition * (1 - rate_condition)
    )
    cells = np.array([p11, rate_base - p11, rate_condition - p11, 1 - rate_base - rate_condition + p11])
    assert (cells >= 0).all()
    logs, lgamma = np.log(cells), [math.lgamma(k + 1) for k in range(n + 1)]
    covered = total = 0.0
    for a, b in itertools.product(range(n + 1), repeat=2):
        for c in range(n + 1 - a - b):
            d = n - a - b - c
            weight = math.exp(
                lgamma[n] - sum(lgamma[k] for k in (a, b, c, d)) + a * logs[0] + b * logs[1] + c * logs[2] + d * logs[3]
            )
            if weight < 1e-7:
                continue
            low, high = newcombe_paired_interval(a, b, c, d)
            covered += weight * (low <= rate_condition - rate_base <= high)
            total += weight
    assert total > 0.99
    assert 0.935 <= covered / total <= 0.98


@given(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=12))
@settings(max_examples=20)
def test_holm_agrees_with_statsmodels_beside_untested_rows(p_values):
    adjusted = holm(p_values)
    tested = ~np.isnan(p_values)
    assert np.isnan(adjusted[~tested]).all()
    if tested.any():
        expected = multipletests(np.array(p_values)[tested], method="holm")[1]
        assert adjusted[tested] == pytest.approx(expected)


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_interval(3, 2), "expected 'successes' between 0 and n = 2, got 3"),
        (lambda: wilson_interval(1, 2, level=1.0), "expected 'level' between 0 and 1, got 1.0"),
        (lambda: newcombe_paired_interval(1, -1, 0, 0), "expected counts of at least 0"),
        (lambda: mcnemar_exact(-1, 0), "expected counts of at least 0"),
        (lambda: holm([0.5, 1.5]), "expected p-values between 0 and 1, got 0.5 to 1.5"),
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
        (lambda: bootstrap_mean([1.0, 2.0], rng=rng(), replicates=0), "expected at least one of 'replicates', got 0"),
        (lambda: bootstrap_mean([1.0, 2.0], rng=rng(), level=0), "expected 'level' between 0 and 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
