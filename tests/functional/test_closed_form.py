"""Intervals and tests against statsmodels, published values, plain enumeration and simulation."""

import itertools
import math
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from vlmrobust.functional import (
    average_interval,
    benjamini_hochberg,
    holm,
    mcnemar_exact,
    minimum_detectable_effect,
    newcombe_paired_interval,
    tango_interval,
    tango_p,
    wilson_interval,
)

NAN = math.nan
LEVELS = st.sampled_from([0.5, 0.9, 0.95, 0.99])


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


@given(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=12))
@settings(max_examples=20)
def test_benjamini_hochberg_agrees_with_statsmodels_beside_untested_rows(p_values):
    adjusted = benjamini_hochberg(p_values)
    tested = ~np.isnan(p_values)
    assert np.isnan(adjusted[~tested]).all()
    assert (adjusted[tested] <= holm(p_values)[tested] + 1e-12).all()
    if tested.any():
        expected = multipletests(np.array(p_values)[tested], method="fdr_bh")[1]
        assert adjusted[tested] == pytest.approx(expected)


def pairs_needed(effect, discordant, level, power):
    """Connor's sample size for McNemar's test."""
    z = norm.ppf((1 + level) / 2) * math.sqrt(discordant) + norm.ppf(power) * math.sqrt(discordant - effect**2)
    return (z / effect) ** 2


@given(
    effect=st.floats(0.01, 0.99),
    excess=st.floats(1.0, 5.0),
    level=LEVELS,
    power=st.floats(0.55, 0.99),
)
def test_the_detectable_effect_is_the_one_for_which_connor_asks_so_many_pairs(effect, excess, level, power):
    discordant = min(1.0, effect * excess)
    assert effect <= discordant
    n = pairs_needed(effect, discordant, level, power)
    found = minimum_detectable_effect(max(1, math.ceil(n)), discordant, level=level, power=power)
    if n < 2:
        return
    assert 0.7 * effect < found <= effect * (1 + 1e-9)
    assert pairs_needed(found, discordant, level, power) == pytest.approx(math.ceil(n), rel=1e-9)


@pytest.mark.parametrize(("n", "discordant"), [(100, 0.5), (200, 0.3), (1000, 0.1), (4000, 0.05)])
def test_the_detectable_effect_is_found_with_that_power(n, discordant):
    """The power of both McNemar tests, summed over every number of pairs that differ and every split of them."""
    effect = minimum_detectable_effect(n, discordant, power=0.8)
    differing = np.arange(1, n + 1)[binom.pmf(np.arange(1, n + 1), n, discordant) > 1e-9]
    asymptotic = exact = 0.0
    for count in differing:
        gained = np.arange(count + 1)
        weight = binom.pmf(gained, count, (1 + effect / discordant) / 2) * binom.pmf(count, n, discordant)
        asymptotic += weight[(2 * gained - count) ** 2 / count > norm.ppf(0.975) ** 2].sum()
        exact += weight[[mcnemar_exact(count - k, k) < 0.05 for k in gained.tolist()]].sum()
    assert asymptotic == pytest.approx(0.8, abs=0.02)
    assert 0.74 < exact < asymptotic


def test_an_effect_cannot_exceed_the_share_of_pairs_that_differ():
    # With six pairs that all differ in one direction McNemar's exact p is 0.03; with a tenth differing of 20, never.
    assert math.isnan(minimum_detectable_effect(20, 0.1))
    assert math.isnan(minimum_detectable_effect(2, 1.0))
    assert math.isnan(minimum_detectable_effect(1000, 0.0))
    assert minimum_detectable_effect(10, 1.0) < 1.0
    smaller = [minimum_detectable_effect(n, 0.2) for n in (100, 1000, 10_000)]
    assert smaller == sorted(smaller, reverse=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_interval(3, 2), "expected 'successes' between 0 and n = 2, got 3"),
        (lambda: wilson_interval(1, 2, level=1.0), "expected 'level' between 0 and 1, got 1.0"),
        (lambda: newcombe_paired_interval(1, -1, 0, 0), "expected counts of at least 0"),
        (lambda: mcnemar_exact(-1, 0), "expected counts of at least 0"),
        (lambda: holm([0.5, 1.5]), "expected p-values between 0 and 1, got 0.5 to 1.5"),
        (lambda: benjamini_hochberg([-0.5]), "expected p-values between 0 and 1, got -0.5 to -0.5"),
        (lambda: minimum_detectable_effect(0, 0.1), "expected at least one pair in 'n', got 0"),
        (lambda: minimum_detectable_effect(9, 1.1), "expected 'discordant' between 0 and 1, got 1.1"),
        (lambda: minimum_detectable_effect(9, 0.1, level=2), "expected 'level' between 0 and 1, got 2"),
        (
            lambda: minimum_detectable_effect(9, 0.1, power=0.05),
            "expected 'power' between 1 - level = 0.05 and 1, got 0.05",
        ),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_minimum_effect_is_found_after_the_correction_too():
    """One of seven conditions falls by it, the others differ by chance: Holm finds it in four of five cases."""
    n, discordant, generator = 400, 0.2, np.random.default_rng(0)
    effect = minimum_detectable_effect(n, discordant, comparisons=7)
    assert effect > minimum_detectable_effect(n, discordant)
    found = 0
    for _ in range(1000):
        fallen = [generator.multinomial(n, [(discordant + effect) / 2, (discordant - effect) / 2, 1 - discordant])]
        same = generator.multinomial(n, [discordant / 2, discordant / 2, 1 - discordant], size=6)
        found += holm([tango_p(int(b), int(c)) for b, c, _ in [*fallen, *same]])[0] < 0.05
    assert 0.77 < found / 1000 < 0.86
    with pytest.raises(ValueError, match="expected at least one of 'comparisons', got 0"):
        minimum_detectable_effect(n, discordant, comparisons=0)


def test_tangos_interval_ends_where_his_test_does():
    """Against the definition on a grid: the most likely q by brute force, and z at every δ."""
    for b, c, n in [(3, 9, 30), (0, 4, 20), (16, 6, 161), (0, 0, 25), (10, 0, 10)]:
        low, high = tango_interval(b, c, n)
        for delta in np.linspace(-0.99, 0.99, 199):
            q = np.linspace(max(0.0, -delta), min(1.0, (1 - delta) / 2), 4001)[1:-1]  # alone under base
            rest = 1 - 2 * q - delta
            chance = b * np.log(q) + (c * np.log(np.maximum(q + delta, 1e-300)) if c else 0)
            likely = q[np.argmax(chance + (n - b - c) * np.log(np.maximum(rest, 1e-300)))]
            variance = n * (2 * likely + delta * (1 - delta))
            z = abs(c - b - n * delta) / math.sqrt(max(variance, 1e-12))
            if abs(z - 1.96) > 0.05:
                assert (z < 1.96) == (low <= delta <= high), (b, c, n, delta)


@pytest.mark.parametrize("counts", [(-1, 2, 5), (3, 3, 5)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="expected counts of at least 0 that add up to at most n"):
        tango_interval(*counts)
    with pytest.raises(ValueError, match="expected counts of at least 0"):
        tango_p(-1, 2)


Z = norm.ppf(0.975)
ESTIMATES = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6)


def test_the_average_of_normal_estimates_has_the_usual_interval():
    values, errors = np.array([0.2, 0.5, 0.9]), np.array([0.1, 0.05, 0.2])
    low, high = average_interval(values, values - Z * errors, values + Z * errors)
    error = math.sqrt((errors**2).sum()) / 3
    assert (low, high) == pytest.approx((values.mean() - Z * error, values.mean() + Z * error))


@given(ESTIMATES, st.data())
def test_order_does_not_matter_and_dependence_only_widens(estimates, data):
    values, below, above = (np.array(side) for side in zip(*estimates, strict=True))
    alone = average_interval(values, values - below, values + above)
    order = list(data.draw(st.permutations(range(len(values)))))
    assert average_interval(*(side[order] for side in (values, values - below, values + above))) == pytest.approx(alone)
    blocks = data.draw(st.lists(st.sampled_from("ab"), min_size=len(values), max_size=len(values)))
    joined = average_interval(values, values - below, values + above, blocks)
    together = average_interval(values, values - below, values + above, ["all"] * len(values))
    assert together[0] <= joined[0] + 1e-12 <= alone[0] + 2e-12 <= values.mean() + 3e-12
    assert together == pytest.approx((values.mean() - below.mean(), values.mean() + above.mean()))


def test_one_estimate_keeps_its_own_interval():
    assert average_interval([0.3], [0.1], [0.4]) == pytest.approx((0.1, 0.4))
    assert average_interval([1.0], *[[limit] for limit in wilson_interval(5, 5)]) == pytest.approx(
        wilson_interval(5, 5)
    )


@pytest.mark.parametrize("rates", [(0.1, 0.5, 0.9), (0.95, 0.97), (0.3, 0.3, 0.3, 0.3)])
def test_it_covers_the_average_of_rates_of_unequal_samples(rates):
    rng = np.random.default_rng(0)
    sizes = np.array([40, 60, 100, 200])[: len(rates)]
    counts = rng.binomial(sizes, rates, size=(3000, len(rates)))
    low, high = proportion_confint(counts, sizes, method="wilson")
    limits = np.array([average_interval(*row) for row in zip(counts / sizes, low, high, strict=True)])
    covered = np.mean((limits[:, 0] <= np.mean(rates)) & (np.mean(rates) <= limits[:, 1]))
    assert 0.935 <= covered <= 0.965


def test_nan_propagates_and_lengths_are_checked():
    assert np.isnan(average_interval([], [], [])).all()
    assert np.isnan(average_interval([0.1, math.nan], [0, 0], [1, 1])).all()
    with pytest.raises(ValueError, match="'values', 'low', 'high' and 'blocks' of the same length, got 2, 2, 1, 2"):
        average_interval([0, 1], [0, 1], [1])
