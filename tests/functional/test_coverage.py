"""95 % intervals of 2,000 simulated data sets each hold the truth between 93.5 and 96.5 % of the time.

The data sets of one setting are columns of one bootstrap, in batches with resamples of their own. Two thousand leave a
coverage of 95 % a standard error of 0.5 %.
"""

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from vlmrobust.functional import (
    bootstrap_means,
    mean_interval,
    newcombe_paired_interval,
    paired_bootstraps,
    paired_interval,
    tango_interval,
    wilson_interval,
)

SETS, BATCH, REPLICATES = 2000, 250, 500
RATES = [0.1, 0.3, 0.5, 0.7, 0.9]
METHODS = ["percentile", "bca"]


def coverage(function, draw, groups=None, **settings):
    """The share of 2,000 data sets whose interval holds the truth; `draw(generator)` makes a data set and its truth."""
    covered = []
    for batch in range(SETS // BATCH):
        generator = np.random.default_rng(batch)
        data, truths = zip(*(draw(generator) for _ in range(BATCH)), strict=True)
        found = function(data, groups, rng=generator, replicates=REPLICATES, **settings)
        covered += [interval.low <= truth <= interval.high for interval, truth in zip(found, truths, strict=True)]
    return np.mean(covered)


@pytest.mark.parametrize("method", METHODS)
def test_paired_means_of_200_skewed_changes(method):
    def draw(generator):
        base = generator.random(200)
        return (base, base + generator.gamma(2.0, 0.15, size=200)), 0.3

    assert 0.935 <= coverage(paired_bootstraps, draw, method=method) <= 0.965


def in_groups_of_four(generator):
    """200 pairs in 50 groups that share an effect, some undefined."""
    base = generator.random(200)
    change = 0.3 + generator.normal(size=50).repeat(4) + generator.normal(size=200)
    return (np.where(generator.random(200) < 0.2, np.nan, base), base + change), 0.3


@pytest.mark.parametrize("method", METHODS)
def test_paired_means_in_50_groups(method):
    assert 0.935 <= coverage(paired_bootstraps, in_groups_of_four, np.arange(50).repeat(4), method=method) <= 0.965


def test_grouped_pairs_taken_for_independent_have_intervals_that_are_too_narrow():
    assert coverage(paired_bootstraps, in_groups_of_four) < 0.9


GROUPS = np.arange(60).repeat(np.tile([2, 3, 5], 20))


def alike_in_groups(generator, rate):
    """One base and one condition of 0/1 values that share each group's difficulty."""
    difficulty = generator.beta(6 * rate, 6 * (1 - rate), size=60)[GROUPS]
    base, condition = (generator.random(len(GROUPS)) < share * difficulty for share in (1.0, 0.7))
    return (base, condition), -0.3 * rate


@pytest.mark.parametrize("method", METHODS)
def test_paired_rates_in_60_groups(method):
    def draw(generator):
        return alike_in_groups(generator, generator.uniform(0.1, 0.9))

    assert 0.935 <= coverage(paired_bootstraps, draw, GROUPS, method=method) <= 0.965


@pytest.mark.parametrize(("method", "least", "most"), [("percentile", 0.93, 0.96), ("bca", 0.91, 0.935)])
def test_paired_rates_of_a_tenth_in_60_groups(method, least, most):
    """Where few groups hold anything, the bias and skewness that BCa corrects for are themselves ill known."""
    found = coverage(paired_bootstraps, lambda generator: alike_in_groups(generator, 0.1), GROUPS, method=method)
    assert least <= found <= most


@pytest.mark.parametrize("method", METHODS)
def test_rates_by_bootstrap(method):
    """Rates step by 1/n, and an interval's coverage with them: it is judged over a band of rates."""

    def draw(generator):
        rate = generator.uniform(0.1, 0.9)
        return generator.random(200) < rate, rate

    assert 0.935 <= coverage(bootstrap_means, draw, method=method) <= 0.965


def test_rates_by_wilson():
    """Not simulated but summed over every count; on average over rates from 0.1 to 0.9, and never far below."""
    for n in (50, 200):
        low, high = np.array([wilson_interval(k, n) for k in range(n + 1)]).T
        rates = np.linspace(0.1, 0.9, 801)[:, None]
        held = (binom.pmf(np.arange(n + 1), n, rates) * ((low <= rates) & (rates <= high))).sum(1)
        assert 0.945 <= held.mean() <= 0.955
        assert held.min() > 0.92


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_paired_rates_by_newcombe(correlation):
    """On average over pairs of rates from 0.1 to 0.9; each table is one of 2,000."""
    generator, covered = np.random.default_rng(0), []
    for base in RATES:
        for condition in RATES:
            both = base * condition + correlation * np.sqrt(base * (1 - base) * condition * (1 - condition))
            cells = np.array([both, base - both, condition - both, 1 - base - condition + both])
            if cells.min() < 0:
                continue  # no two such rates are so correlated
            tables, times = np.unique(generator.multinomial(200, cells, size=SETS), axis=0, return_counts=True)
            limits = np.array([newcombe_paired_interval(*table) for table in tables.tolist()])
            held = (limits[:, 0] <= condition - base) & (condition - base <= limits[:, 1])
            covered.append((held * times).sum() / SETS)
    assert len(covered) >= 5
    assert 0.935 <= np.mean(covered) <= 0.965
    assert min(covered) > 0.92


@pytest.mark.parametrize("n", [5, 12, 50, 200])
def test_paired_rates_by_tango(n):
    """Summed over every table: coverage, and the size of the test, where both sides are independent."""
    b, c = (counts.ravel() for counts in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    b, c = b[b + c <= n], c[b + c <= n]
    low, high = np.array([tango_interval(*table, n) for table in zip(b.tolist(), c.tolist(), strict=True)]).T
    for base in RATES:
        for condition in RATES:
            alone = base * (1 - condition), (1 - base) * condition
            chances = multinomial.pmf(np.stack([b, c, n - b - c], 1), n, [*alone, 1 - sum(alone)])
            held = (low <= condition - base) & (condition - base <= high)
            assert (chances * held).sum() / chances.sum() > 0.92
            if base == condition:
                assert (chances * ~held).sum() / chances.sum() < 0.06


@pytest.mark.parametrize("kind", ["shares", "groups"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_what_a_report_picks_for_draws_and_groups(kind, rate):
    """200 samples of 4 draws, and 60 groups of up to 6, uneven; null p-values below 0.05 in at most 5 %."""
    groups = None if kind == "shares" else np.repeat(np.arange(60), np.tile([1, 2, 3, 6], 15))
    count, small = 200 if groups is None else len(groups), []

    def shares(generator):
        chance = generator.beta(9 * rate, 9 * (1 - rate), size=count if groups is None else 60)
        chance = chance if groups is None else chance[groups]
        return generator.binomial(4, chance) / 4 if groups is None else (generator.random(count) < chance) * 1.0

    held = []
    for seed in range(600):
        generator = np.random.default_rng(seed)
        outcome = "share" if groups is None else "rate"
        base, condition = shares(generator), shares(generator)
        pair = paired_interval(base, condition, groups, outcome=outcome, rng=generator, replicates=400)
        mean = mean_interval(base, groups, outcome=outcome, rng=generator, replicates=400)
        held.append((pair.low <= 0 <= pair.high, mean.low <= rate <= mean.high))
        small.append(pair.p < 0.05)
        assert small[-1] != held[-1][0]
    assert (np.mean(held, axis=0) > 0.92).all()
    assert (np.mean(held, axis=0) < 0.985).all()
    assert np.mean(small) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
