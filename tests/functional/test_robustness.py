"""Choices against a plain loop."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.functional import QUADRANTS, accuracy, follow, quadrants

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
