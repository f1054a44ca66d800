"""The bootstrap against enumeration of every resample, a slow loop, and simulated truth."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from vlmrobust.functional import bootstrap_mean, paired_bootstrap, paired_interval, resample_counts, resampling

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


@given(
    values=st.lists(st.one_of(st.floats(-5, 5), st.just(NAN)), min_size=2, max_size=12),
    data=st.data(),
)
@settings(max_examples=30)
def test_replicates_agree_with_a_slow_loop_over_the_same_counts(values, data):
    base = data.draw(st.lists(st.floats(-5, 5), min_size=len(values), max_size=len(values)))
    groups = data.draw(st.lists(st.sampled_from("abcd"), min_size=len(values), max_size=len(values)))
    kept = [(c - b, g) for b, c, g in zip(base, values, groups, strict=True) if not math.isnan(c)]
    labels = sorted({label for _, label in kept})
    result = paired_bootstrap(base, values, groups, rng=rng(), replicates=50)
    assert result.n == len(kept)
    if len(labels) < 2:
        assert math.isnan(result.low)
        return
    sums = {g: (sum(d for d, label in kept if label == g), sum(label == g for _, label in kept)) for g in labels}
    kinds, frequency = np.unique(np.array(list(sums.values())), axis=0, return_counts=True)
    means = []
    for counts in np.concatenate(list(resample_counts(frequency, 50, rng()))):
        total = size = 0.0
        for (group_sum, group_size), times in zip(kinds, counts, strict=True):
            total += times * group_sum
            size += times * group_size
        means.append(total / size)
    tail = expanded(len(labels))
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(means, [tail, 1 - tail])), abs=1e-9)
    assert result.value == pytest.approx(np.mean([d for d, _ in kept]))


def test_the_interval_covers_the_truth():
    """300 data sets of 200 pairs in groups of 1 to 5 that share an effect; ± 4 standard errors of 95 % is 0.90 to 1."""
    covered = covered_ungrouped = 0
    generator = rng(7)
    for _ in range(300):
        groups = np.repeat(np.arange(70), generator.integers(1, 6, size=70))
        shared = generator.normal(size=70)[groups]
        base = generator.random(len(groups))
        condition = base + 0.3 + shared + generator.normal(size=len(groups))
        result = paired_bootstrap(base, condition, groups, rng=generator, replicates=500)
        covered += result.low <= 0.3 <= result.high
        ungrouped = paired_bootstrap(base, condition, rng=generator, replicates=500)
        covered_ungrouped += ungrouped.low <= 0.3 <= ungrouped.high
    assert 0.90 <= covered / 300 <= 0.985
    # The same data, taken for independent: the interval is too narrow, which is why groups are there.
    assert covered_ungrouped / 300 < 0.88


def test_a_grouped_rate_covers_the_truth():
    generator = rng(8)
    covered = 0
    for _ in range(300):
        groups = np.repeat(np.arange(60), 4)
        difficulty = generator.beta(4, 2, size=60)[groups]
        base = (generator.random(240) < difficulty).astype(float)
        condition = (generator.random(240) < 0.6 * difficulty).astype(float)
        result = paired_interval(base, condition, groups, rng=generator, replicates=500)
        covered += result.low <= -0.4 * 4 / 6 <= result.high
    assert 0.90 <= covered / 300 <= 0.985


def test_few_values_are_not_taken_for_many():
    """At n = 8 plain percentiles cover about 88 %; expanded ones do better."""
    generator = rng(9)
    intervals = [bootstrap_mean(generator.normal(size=8), rng=generator, replicates=400) for _ in range(300)]
    assert np.mean([result.low <= 0 <= result.high for result in intervals]) >= 0.91


def test_p_says_what_the_interval_says():
    generator = rng(3)
    for shift in (0.0, 0.1, 0.2, 0.3):
        condition = generator.normal(shift, 1, size=200)
        result = paired_bootstrap(np.zeros(200), condition, rng=generator)
        if abs(result.p - 0.05) > 0.01:
            assert (result.p < 0.05) == (result.low > 0 or result.high < 0)
    assert paired_bootstrap(np.zeros(9), np.zeros(9), rng=rng()).p == 1.0
    assert paired_bootstrap(np.zeros(9), np.ones(9), rng=rng(), replicates=999).p == 2 / 1000


@pytest.mark.parametrize("frequency", [[1] * 9, [5, 1, 30], [400], [1, 2] * 20])
def test_counts_are_a_multinomial_draw(frequency):
    counts = np.concatenate(list(resample_counts(frequency, 20_000, rng())))
    total = sum(frequency)
    assert counts.shape == (20_000, len(frequency))
    assert (counts.sum(axis=1) == total).all()
    assert counts.mean(axis=0) == pytest.approx(np.array(frequency, dtype=float), rel=0.05)
    variance = np.array(frequency) * (1 - np.array(frequency) / total)
    assert counts.var(axis=0) == pytest.approx(variance, rel=0.08, abs=1e-9)


@pytest.mark.parametrize("frequency", [[1] * 9, [50, 10, 3]])
def test_chunks_change_nothing(frequency, monkeypatch):
    whole = np.concatenate(list(resample_counts(frequency, 100, rng())))
    monkeypatch.setattr(resampling, "_CHUNK_ELEMENTS", 64)
    parts = list(resample_counts(frequency, 100, rng()))
    assert len(parts) > 1
    assert np.array_equal(np.concatenate(parts), whole)


def test_merging_many_groups_keeps_the_width(monkeypatch):
    values = rng(4).exponential(size=6000)
    exact = bootstrap_mean(values, rng=rng(), replicates=4000)
    monkeypatch.setattr(resampling, "_MOST_GROUPS", 1000)
    merged = bootstrap_mean(values, rng=rng(), replicates=4000)
    assert merged.value == exact.value
    assert merged.high - merged.low == pytest.approx(exact.high - exact.low, rel=0.12)


def test_memory_does_not_grow_with_replicates():
    values = rng(5).normal(size=20_000)
    tracemalloc.start()
    bootstrap_mean(values, rng=rng(), replicates=1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The counts of 1,000 replicates of 8,192 merged groups would be 65 MB at float64, of 20,000 values 160 MB.
    assert peak < 160e6


def test_the_seed_decides():
    values = rng(6).normal(size=50)
    assert bootstrap_mean(values, rng=rng(1)) == bootstrap_mean(values, rng=rng(1))
    assert bootstrap_mean(values, rng=rng(1)) != bootstrap_mean(values, rng=rng(2))
    # A group's name does not matter, nor does the order of the values.
    groups = np.arange(50) // 5
    named = [f"image {label:03d}" for label in groups]
    assert bootstrap_mean(values, groups, rng=rng(1)) == bootstrap_mean(values, named, rng=rng(1))
