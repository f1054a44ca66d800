"""Repeated draws against their definitions: enumeration of subsets, counting, and scipy."""

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from vlmrobust.functional import answer_entropy, draw_agreement, majority_correct, majority_share, pass_at_k

ANSWERS = st.lists(st.integers(-1, 3), min_size=1, max_size=8)


def padded(rows, width=8):
    return torch.tensor([[*map(float, row), *[math.nan] * (width - len(row))] for row in rows])


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 10))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_draw(right, k):
    found = float(pass_at_k(torch.tensor(sum(right)), torch.tensor(len(right)), k))
    subsets = list(combinations(right, k))
    expected = sum(map(any, subsets)) / len(subsets) if subsets else math.nan
    assert found == pytest.approx(expected, abs=1e-14, nan_ok=True)


@given(st.integers(1, 3000), st.data())
def test_pass_at_k_keeps_its_precision_where_binomials_overflow(draws, data):
    correct, k = data.draw(st.integers(0, draws)), data.draw(st.integers(1, min(draws, 300)))
    exact = 1 - Fraction(math.comb(draws - correct, k), math.comb(draws, k))
    assert float(pass_at_k(torch.tensor(correct), torch.tensor(draws), k)) == pytest.approx(float(exact), rel=1e-12)


def test_pass_at_one_is_accuracy_and_more_draws_never_pass_less():
    correct, draws = torch.arange(9), torch.full((9,), 8)
    values = torch.stack([pass_at_k(correct, draws, k) for k in range(1, 9)])
    torch.testing.assert_close(values[0], correct / draws.double())
    assert (values.diff(dim=0) >= 0).all()
    assert values[-1].tolist() == [0.0, *[1.0] * 8]


def test_pass_at_k_says_what_it_expects():
    with pytest.raises(ValueError, match="expected 'k' of at least 1, got 0"):
        pass_at_k(torch.tensor(1), torch.tensor(2), 0)
    with pytest.raises(ValueError, match="expected 'correct' between 0 and 'draws'"):
        pass_at_k(torch.tensor(3), torch.tensor(2), 1)


@given(st.lists(ANSWERS, min_size=1, max_size=5), st.data())
def test_votes_agree_with_counting(rows, data):
    targets = [data.draw(st.integers(0, 3)) for _ in rows]
    order = data.draw(st.permutations(range(8)))
    answers = padded(rows)[:, order]
    for row, target, right, share, same, spread in zip(
        rows,
        targets,
        majority_correct(answers, torch.tensor(targets)).tolist(),
        majority_share(answers).tolist(),
        draw_agreement(answers).tolist(),
        answer_entropy(answers).tolist(),
        strict=True,
    ):
        counts = Counter(row)
        most = max(counts.values())
        leading = [answer for answer, count in counts.items() if count == most]
        assert right == pytest.approx((target in leading) / len(leading))
        assert share == pytest.approx(most / len(row))
        pairs = list(combinations(row, 2))
        expected = sum(first == second for first, second in pairs) / len(pairs) if pairs else math.nan
        assert same == pytest.approx(expected, nan_ok=True)
        assert spread == pytest.approx(entropy(list(counts.values())), abs=1e-12)


@pytest.mark.parametrize("shape", [(2, 0), (2, 3)])
def test_without_a_draw_nothing_is_defined(shape):
    none = torch.full(shape, math.nan)
    for found in (majority_correct(none, torch.zeros(2)), majority_share(none), draw_agreement(none)):
        assert found.shape == (2,)
        assert found.isnan().all()
    assert answer_entropy(none).isnan().all()


def test_answers_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected answers \(N, D\) of D draws, got shape \(3,\)"):
        majority_share(torch.tensor([1.0, 2.0, 3.0]))
