"""Agreement of raters against statsmodels, and of draws against enumeration, counting and scipy."""

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as reference

from vlmrobust.functional import (
    answer_entropy,
    draw_agreement,
    fleiss_kappa,
    majority_correct,
    majority_share,
    pairwise_agreement,
    pass_at_k,
    strict_agreement,
)

NAN = math.nan


@st.composite
def tables(draw, missing=False):
    raters = draw(st.integers(2, 6))
    values = [0.0, 1.0, 2.0, -1.0] + [NAN] * missing
    rows = st.lists(st.sampled_from(values), min_size=raters, max_size=raters)
    return torch.tensor(draw(st.lists(rows, min_size=1, max_size=30)), dtype=torch.float32)


@given(tables())
def test_kappa_agrees_with_statsmodels(ratings):
    if len(ratings.unique()) == 1:
        assert math.isnan(fleiss_kappa(ratings))
    else:
        counts, _ = aggregate_raters(ratings.numpy())
        assert fleiss_kappa(ratings) == pytest.approx(reference(counts), abs=1e-12)


@given(tables(missing=True))
def test_items_with_missing_ratings_are_left_out(ratings):
    rated = ratings[~ratings.isnan().any(dim=1)]
    assert fleiss_kappa(ratings) == pytest.approx(fleiss_kappa(rated), nan_ok=True)
    same = [len(set(row)) == 1 for row in rated.tolist()]
    expected = sum(same) / len(same) if same else NAN
    assert strict_agreement(ratings) == pytest.approx(expected, nan_ok=True)


@given(tables(missing=True))
def test_pairwise_agreement_equals_a_slow_loop(ratings):
    shares = pairwise_agreement(ratings)
    for one, other in combinations(range(ratings.shape[1]), 2):
        both = [(a, b) for a, b in ratings[:, [one, other]].tolist() if not math.isnan(a) and not math.isnan(b)]
        expected = sum(a == b for a, b in both) / len(both) if both else NAN
        assert shares[one, other].item() == pytest.approx(expected, nan_ok=True)
        assert shares[other, one].item() == pytest.approx(expected, nan_ok=True)


@given(tables(), st.randoms(use_true_random=False))
def test_neither_order_nor_names_of_categories_matter(ratings, random):
    order = random.sample(range(len(ratings)), len(ratings))
    raters = random.sample(range(ratings.shape[1]), ratings.shape[1])
    renamed = 5 - ratings[order][:, raters]
    assert fleiss_kappa(renamed) == pytest.approx(fleiss_kappa(ratings), nan_ok=True)
    assert strict_agreement(renamed) == pytest.approx(strict_agreement(ratings))


def test_extremes():
    assert fleiss_kappa(torch.tensor([[0, 0, 0], [1, 1, 1]])) == pytest.approx(1)
    assert fleiss_kappa(torch.tensor([[0, 1], [1, 0]])) == pytest.approx(-1)
    empty = torch.empty(0, 3)
    assert math.isnan(fleiss_kappa(empty))
    assert math.isnan(strict_agreement(empty))
    assert pairwise_agreement(empty).isnan().all()


@pytest.mark.parametrize("function", [fleiss_kappa, strict_agreement, pairwise_agreement])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 2, 2)])
def test_mismatched_shapes_are_refused(function, shape):
    with pytest.raises(ValueError, match=r"expected ratings \(N, R\) of at least two raters, got shape \("):
        function(torch.zeros(shape))


ANSWERS = st.lists(st.integers(-1, 3), min_size=1, max_size=8)


def padded(rows, width=8):
    return torch.tensor([[*map(float, row), *[math.nan] * (width - len(row))] for row in rows])


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 10))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_draw(right, k):
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


def test_pass_at_k_refuses_invalid_arguments():
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
