"""Choices against a plain loop."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from vlmrobust.functional import QUADRANTS, accuracy, follow, poisson_binomial_tail, quadrants

INDEX = st.integers(-1, 25)
ROWS = st.lists(st.tuples(INDEX, INDEX, st.booleans()), max_size=12)


@pytest.mark.parametrize("function", [accuracy, follow])
@given(rows=ROWS)
def test_a_choice_is_scored_where_it_is_defined(rows, function):
    choice, option, defined = (torch.tensor([row[i] for row in rows], dtype=torch.long) for i in range(3))
    scores = function(choice, option, defined.bool())
    expected = [float(chosen == right) if scored and right >= 0 else math.nan for chosen, right, scored in rows]
    assert scores.tolist() == pytest.approx(expected, nan_ok=True)
    assert scores.dtype == torch.float32


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, math.nan])] * 2), max_size=12))
def test_quadrants_cross_consistency_with_correctness(rows):
    consistent, correct = (torch.tensor([row[i] for row in rows]) for i in range(2))
    for code, (agrees, right) in zip(quadrants(consistent, correct).tolist(), rows, strict=True):
        if math.isnan(agrees) or math.isnan(right):
            assert code == -1
        else:
            first = "consistent" if agrees else "inconsistent"
            assert QUADRANTS[code] == f"{first}_{'correct' if right else 'incorrect'}"


CHANCE = st.floats(0, 1)


@given(st.lists(st.lists(CHANCE, min_size=3, max_size=3), max_size=4))
def test_a_poisson_binomial_tail_is_the_sum_over_all_outcomes(rows):
    found = poisson_binomial_tail(torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 3))
    assert found.shape == (len(rows), 4)
    for tail, chances in zip(found.tolist(), rows, strict=True):
        expected = [0.0] * 4
        for outcome in itertools.product((0, 1), repeat=3):
            share = math.prod(p if happened else 1 - p for happened, p in zip(outcome, chances, strict=True))
            for k in range(sum(outcome) + 1):
                expected[k] += share
        assert tail == pytest.approx(expected, abs=1e-12)


@given(CHANCE, st.integers(0, 30))
def test_with_equal_chances_it_is_a_binomial_tail(chance, count):
    found = poisson_binomial_tail(torch.full((count,), chance, dtype=torch.float64))
    assert found.numpy() == pytest.approx(binom.sf(np.arange(count + 1) - 1, count, chance), rel=1e-9, abs=1e-300)


def test_small_tails_are_kept_and_invalid_probabilities_are_refused():
    assert poisson_binomial_tail(torch.full((20,), 1e-3, dtype=torch.float64))[-1].item() == pytest.approx(1e-60)
    assert poisson_binomial_tail(torch.tensor([0.5, math.nan])).isnan().all()
    assert poisson_binomial_tail(torch.empty(2, 0)).tolist() == [[1.0], [1.0]]
    with pytest.raises(ValueError, match=r"expected probabilities between 0 and 1, got -0\.5 to 0\.5"):
        poisson_binomial_tail(torch.tensor([0.5, -0.5]))
