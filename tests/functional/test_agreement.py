"""Agreement of raters against statsmodels, of draws against enumeration, counting and scipy, choices against a loop."""

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, entropy
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as reference

from vlmrobust.functional import (
    QUADRANTS,
    accuracy,
    answer_entropy,
    draw_agreement,
    fleiss_kappa,
    follow,
    majority_correct,
    majority_share,
    pairwise_agreement,
    pass_at_k,
    poisson_binomial_tail,
    quadrants,
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
        for outcome in product((0, 1), repeat=3):
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
