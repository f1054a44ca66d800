"""AUROC against scikit-learn, risk and coverage against all orders of tied rows, intervals against simulated data."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from vlmrobust.functional import (
    area_under_risk_coverage,
    auroc,
    auroc_interval,
    excess_area_under_risk_coverage,
    risk_coverage_curve,
)

NAN, INF = math.nan, math.inf


@given(data=st.data())
def test_the_area_agrees_with_sklearn_whatever_ties_and_is_missing(data, scored, repeated):
    scores, positive, weights = data.draw(scored)
    rows = repeated(scores, positive, weights)
    found = auroc(scores, positive, weights)
    assert found.dtype == torch.float64
    if len({right for _, right in rows}) < 2:
        assert found.isnan()
    else:
        assert found.item() == pytest.approx(roc_auc_score([right for _, right in rows], [score for score, _ in rows]))
    order = data.draw(st.permutations(range(len(scores))))
    torch.testing.assert_close(auroc(scores[order], positive[order], weights[order]), found, equal_nan=True)


def test_many_resamples_are_one_call():
    scores, positive = torch.tensor([0.1, 0.4, 0.4, 0.9, NAN]), torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0])
    weights = torch.tensor([[1.0, 1, 1, 1, 1], [0, 2, 3, 1, 5], [1, 0, 1, 0, 1]])
    together = auroc(scores, positive, weights)
    assert together.shape == (3,)
    alone = torch.stack([auroc(scores, positive, row) for row in weights])
    torch.testing.assert_close(together, alone, equal_nan=True)
    stacked = auroc(torch.stack([scores, -scores]), torch.stack([positive, positive]))
    torch.testing.assert_close(stacked, torch.stack([auroc(scores, positive), auroc(-scores, positive)]))
    assert stacked.sum().item() == pytest.approx(1)


def test_infinite_log_odds_rank_at_the_ends():
    assert auroc(torch.tensor([-INF, 0.0, INF, INF]), torch.tensor([0.0, 0.0, 1.0, 1.0])).item() == 1
    assert auroc(torch.tensor([INF, INF]), torch.tensor([0.0, 1.0])).item() == 0.5


@given(
    value=st.floats(0, 1),
    positives=st.integers(1, 300),
    negatives=st.integers(1, 300),
    level=st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_the_interval_solves_newcombes_equation(value, positives, negatives, level):
    low, high = auroc_interval(value, positives, negatives, level)
    assert 0 <= low <= value <= high <= 1
    assert low < high
    z = norm.ppf((1 + level) / 2)
    for bound, end in ((low, 0), (high, 1)):
        # Hanley and McNeil's variance as they wrote it, with both of their sizes at their mean.
        q1, q2, each = bound / (2 - bound), 2 * bound**2 / (1 + bound), (positives + negatives) / 2 - 1
        variance = (bound * (1 - bound) + each * (q1 - bound**2) + each * (q2 - bound**2)) / (positives * negatives)
        assert bound == value == end or (bound - value) ** 2 == pytest.approx(z**2 * variance, abs=1e-9)
    assert auroc_interval(1 - value, negatives, positives, level) == pytest.approx((1 - high, 1 - low), abs=1e-7)


@pytest.mark.parametrize("true_area", [0.5, 0.75, 0.95])
def test_the_interval_covers_the_truth(true_area):
    rng = np.random.default_rng(0)
    shift = math.sqrt(2) * norm.ppf(true_area)
    positive = torch.cat([torch.ones(40), torch.zeros(60)])
    scores = torch.from_numpy(rng.normal(size=(2000, 100)) + shift * positive.numpy())
    areas = auroc(scores, positive.expand(2000, 100)).tolist()
    covered = [low <= true_area <= high for low, high in (auroc_interval(area, 40, 60) for area in areas)]
    # 95 % would be 0.95 ± 0.005 here; it errs on the safe side for normal scores far apart.
    assert 0.935 <= np.mean(covered) <= 0.985


def test_separated_classes_keep_an_interval():
    low, high = auroc_interval(1.0, 20, 10)
    assert low < 0.9
    assert high == 1.0
    assert auroc_interval(0.0, 20, 10) == pytest.approx((0.0, 1 - low))


@pytest.mark.parametrize("counts", [(0, 5), (5, 0)])
def test_a_single_class_has_no_interval(counts):
    assert all(math.isnan(bound) for bound in auroc_interval(NAN, *counts))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 3, 3), "expected 'value' between 0 and 1, got 1.5"),
        ((0.5, -1, 3), r"expected counts of at least 0, got \(-1, 3\)"),
        ((0.5, 3, 3, 1.0), "expected 'level' between 0 and 1, got 1.0"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        auroc_interval(*arguments)


def area_of(correct):
    """AURC of answers in this order, the surest first."""
    risks = [correct[:count].count(0.0) / count for count in range(1, len(correct) + 1)]
    return sum(risks) / len(risks)


def mean_over_orders(rows):
    """Mean AURC over every order that ties allow."""
    blocks = [list(block) for _, block in itertools.groupby(sorted(rows, reverse=True), key=lambda row: row[0])]
    # Only how many of a block are right so far matters: its distinct arrangements are equally likely.
    choices = []
    for block in blocks:
        size, right = len(block), sum(int(correct) for _, correct in block)
        places = itertools.combinations(range(size), right)
        choices.append([[float(i in chosen) for i in range(size)] for chosen in places])
    areas = [area_of(list(itertools.chain(*order))) for order in itertools.product(*choices)]
    return sum(areas) / len(areas)


@st.composite
def tied_rows(draw):
    row = st.tuples(st.integers(0, 3).map(lambda n: n / 4), st.sampled_from([0.0, 1.0]), st.integers(0, 2))
    return draw(st.lists(row, max_size=6))


@given(rows=tied_rows())
@settings(max_examples=60)
def test_the_area_is_the_mean_over_all_orders_of_tied_rows(rows):
    scores, correct, weights = (torch.tensor([row[i] for row in rows]) for i in range(3))
    drawn = [(score, right) for score, right, weight in rows for _ in range(weight)]
    found = area_under_risk_coverage(scores, correct, weights)
    expected = mean_over_orders(drawn) if drawn else math.nan
    assert found.item() == pytest.approx(expected, nan_ok=True)
    best = area_of(sorted((right for _, right in drawn), reverse=True)) if drawn else math.nan
    excess = excess_area_under_risk_coverage(scores, correct, weights)
    assert excess.item() == pytest.approx(expected - best, abs=1e-12, nan_ok=True)


@given(data=st.data())
def test_neither_order_nor_missing_rows_matter_and_weights_are_repetitions(data, scored, repeated):
    scores, correct, weights = data.draw(scored)
    order = data.draw(st.permutations(range(len(scores))))
    rows = repeated(scores, correct, weights)
    plain = [torch.tensor([row[i] for row in rows], dtype=torch.float64) for i in range(2)]
    for function in (area_under_risk_coverage, excess_area_under_risk_coverage):
        found = function(scores, correct, weights)
        torch.testing.assert_close(function(scores[order], correct[order], weights[order]), found, equal_nan=True)
        torch.testing.assert_close(function(*plain), found, equal_nan=True)
        assert not rows or -1e-12 <= found.item() <= 1
        batch = function(scores.expand(2, -1), correct.expand(2, -1), torch.stack([weights, torch.ones_like(weights)]))
        torch.testing.assert_close(batch, torch.stack([found, function(scores, correct)]), equal_nan=True)


@given(data=st.data())
def test_the_curve_counts_what_each_threshold_lets_through(data, scored, repeated):
    scores, correct, _ = data.draw(scored)
    rows = repeated(scores, correct, torch.ones(len(scores)))
    curve = risk_coverage_curve(scores, correct)
    assert curve.threshold.tolist() == sorted({score for score, _ in rows}, reverse=True)
    for coverage, risk, threshold in zip(*(column.tolist() for column in curve), strict=True):
        given_answers = [right for score, right in rows if score >= threshold]
        assert coverage == pytest.approx(len(given_answers) / len(rows))
        assert risk == pytest.approx(given_answers.count(0.0) / len(given_answers))


def test_constant_scores_have_the_error_rate_as_their_area():
    correct = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])
    assert area_under_risk_coverage(torch.zeros(5), correct).item() == pytest.approx(0.4)
    assert area_under_risk_coverage(torch.tensor([math.inf, -math.inf]), torch.tensor([1.0, 0.0])).item() == 0.25


def test_a_hundred_thousand_rows_keep_precision():
    scores = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    correct = (torch.rand(100_000, generator=torch.Generator().manual_seed(1)) < scores).float()
    wrong = 1 - correct[scores.argsort(descending=True)].double()
    expected = (wrong.cumsum(0) / torch.arange(1, 100_001)).mean()
    torch.testing.assert_close(area_under_risk_coverage(scores, correct), expected, atol=1e-7, rtol=0)
