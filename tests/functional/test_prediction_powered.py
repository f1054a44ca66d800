"""Rates from verdicts everywhere and labels somewhere, against loops, other intervals, and simulated truths."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from vlmrobust.functional import (
    newcombe_paired_interval,
    post_stratified_difference,
    post_stratified_rate,
)

LABEL = st.sampled_from([0.0, 1.0, math.nan])
ROWS = st.lists(st.tuples(LABEL, LABEL, st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


def rng():
    return np.random.default_rng(0)


def by_loop(labels, verdicts):
    """Return the estimate, one stratum after another."""
    known = [label for label in labels if not math.isnan(label)]
    total = 0.0
    for verdict in set(verdicts):
        here = [label for label, other in zip(labels, verdicts, strict=True) if other == verdict]
        read = [label for label in here if not math.isnan(label)]
        total += len(here) / len(labels) * (sum(read) / len(read) if read else sum(known) / len(known))
    return total


@settings(deadline=None)
@given(rows=ROWS)
def test_the_estimate_is_that_of_a_loop_and_inside_its_interval(rows):
    labels, _, verdicts, _ = (list(column) for column in zip(*rows, strict=True))
    found = post_stratified_rate(labels, verdicts, rng=rng(), replicates=200)
    assert found.n == sum(not math.isnan(label) for label in labels)
    if not found.n:
        assert math.isnan(found.value)
        return
    assert found.value == pytest.approx(by_loop(labels, verdicts))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_it_is_the_prediction_powered_estimate_of_the_fitted_verdicts():
    """Σ f / N + Σ (y − f) / n: where f is the labels' mean by verdict, the second sum is 0 and the first is ours."""
    random = np.random.default_rng(3)
    verdicts = random.integers(0, 3, 500)
    truth = random.random(500) < np.array([0.2, 0.7, 0.95])[verdicts]
    labels = np.where(np.arange(500) < 120, truth, math.nan)
    fitted = np.array([truth[:120][verdicts[:120] == verdict].mean() for verdict in range(3)])[verdicts]
    powered = fitted.mean() + (truth[:120] - fitted[:120]).mean()
    assert post_stratified_rate(labels, verdicts, rng=rng()).value == pytest.approx(powered)


@pytest.mark.parametrize(("ones", "count"), [(0, 30), (1, 40), (20, 50), (97, 100), (100, 100)])
def test_without_verdicts_it_is_near_jeffreys(ones, count):
    labels = [1.0] * ones + [0.0] * (count - ones)
    found = post_stratified_rate(labels, [0] * count, rng=rng(), replicates=200_000)
    low, high = proportion_confint(ones, count, method="jeffreys")
    assert found.low == pytest.approx(0.0 if ones == 0 else low, abs=2e-3)
    assert found.high == pytest.approx(1.0 if ones == count else high, abs=2e-3)


@settings(deadline=None)
@given(rows=ROWS)
def test_a_difference_is_of_the_pairs_with_both_labels(rows):
    before, after, before_verdicts, verdicts = (np.array(column) for column in zip(*rows, strict=True))
    both = ~np.isnan(before) & ~np.isnan(after)
    found = post_stratified_difference(before, after, before_verdicts, verdicts, rng=rng(), replicates=200)
    assert found.n == both.sum()
    if not found.n:
        assert math.isnan(found.low)
        return
    candidates = [
        (by_loop(np.where(both, before, math.nan), one), by_loop(np.where(both, after, math.nan), other))
        for one, other in ((before_verdicts, verdicts), ([0] * len(rows), [0] * len(rows)))
    ]
    assert any((found.base_value, found.value) == pytest.approx(pair) for pair in candidates)
    assert -1 <= found.low <= found.value - found.base_value <= found.high <= 1


def test_without_verdicts_a_difference_is_near_newcombes():
    random = np.random.default_rng(1)
    before = random.random(200) < 0.7
    after = np.where(random.random(200) < 0.6, before, random.random(200) < 0.5)
    nothing = np.zeros(200)
    found = post_stratified_difference(before, after, nothing, nothing, rng=rng(), replicates=100_000)
    counts = [int((first & second).sum()) for first in (before, ~before) for second in (after, ~after)]
    assert (found.low, found.high) == pytest.approx(newcombe_paired_interval(*counts), abs=0.01)


def _simulated(rate, false_alarms, random, *, correlation=0.0, before=None):
    """Return 1,000 truths and a judge's verdicts (1, 0) on them, misses 20 %."""
    truth = random.random(1000) < rate
    if before is not None:
        truth = np.where(random.random(1000) < correlation, before, truth)
    verdict = np.where(truth, random.random(1000) >= false_alarms, random.random(1000) < 0.2)
    return truth, verdict.astype(int)


@pytest.mark.parametrize("rate", [0.8, 0.93, 0.975])
@pytest.mark.parametrize("false_alarms", [0.05, 0.12])
def test_intervals_cover_the_truth(rate, false_alarms):
    """2,000 sets of 1,000 responses with 100 labels, of the population and of the responses at hand."""
    random = np.random.default_rng(int(rate * 1000) + int(false_alarms * 100))
    held = held_at_hand = held_pairs = 0
    lengths, wilson = [], []
    labelled = np.arange(1000) < 100
    for _ in range(2000):
        before, before_verdicts = _simulated(rate, false_alarms, random)
        truth, verdicts = _simulated(rate, false_alarms, random, correlation=0.3, before=before)
        labels, before_labels = (np.where(labelled, side, math.nan) for side in (truth, before))
        found = post_stratified_rate(labels, verdicts, rng=random, replicates=400)
        held += found.low <= rate <= found.high
        held_at_hand += found.low <= truth.mean() <= found.high
        pair = post_stratified_difference(before_labels, labels, before_verdicts, verdicts, rng=random, replicates=400)
        held_pairs += pair.low <= truth.mean() - before.mean() <= pair.high
        lengths.append(found.high - found.low)
        low, high = proportion_confint(truth[:100].sum(), 100, method="wilson")
        wilson.append(high - low)
    assert min(held, held_at_hand, held_pairs) >= 0.93 * 2000
    if rate == 0.8:
        assert np.mean(lengths) < 0.9 * np.mean(wilson)


@pytest.mark.parametrize("function", [post_stratified_rate, post_stratified_difference])
def test_invalid_arguments_are_refused(function):
    sides = 1 if function is post_stratified_rate else 2
    with pytest.raises(ValueError, match=r"expected one verdict per label, got shapes \(2,\) and \(3,\)"):
        function(*[[1, 0]] * sides, *[[1, 0, 1]] * sides, rng=rng())
    with pytest.raises(ValueError, match=r"field 'labels': expected 1, 0 or NaN, got 0\.5"):
        function(*[[1, 0.5]] * sides, *[[1, 0]] * sides, rng=rng())


def test_sides_of_different_length_are_refused():
    with pytest.raises(ValueError, match="expected pairs, got 3 cases on one side and 2 on the other"):
        post_stratified_difference([1, 0, 1], [1, 0], [1, 0, 1], [1, 0], rng=rng())
