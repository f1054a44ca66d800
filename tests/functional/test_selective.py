"""Risk and coverage against enumeration of all orders of tied rows."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrobust.functional import area_under_risk_coverage, excess_area_under_risk_coverage, risk_coverage_curve


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


def test_a_hundred_thousand_rows_keep_their_digits():
    scores = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    correct = (torch.rand(100_000, generator=torch.Generator().manual_seed(1)) < scores).float()
    wrong = 1 - correct[scores.argsort(descending=True)].double()
    expected = (wrong.cumsum(0) / torch.arange(1, 100_001)).mean()
    torch.testing.assert_close(area_under_risk_coverage(scores, correct), expected, atol=1e-7, rtol=0)
