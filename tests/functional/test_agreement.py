import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as reference

from vlmrobust.functional import fleiss_kappa, pairwise_agreement, strict_agreement

NAN = math.nan


@st.composite
def tables(draw, missing=False):
    raters = draw(st.integers(2, 6))
    values = [0.0, 1.0, 2.0, -1.0] + [NAN] * missing
    rows = st.lists(st.sampled_from(values), min_size=raters, max_size=raters)
    return torch.tensor(draw(st.lists(rows, min_size=1, max_size=30)), dtype=torch.float32)


@given(tables())
def test_kappa_is_that_of_statsmodels(ratings):
    if len(ratings.unique()) == 1:
        assert math.isnan(fleiss_kappa(ratings))
    else:
        counts, _ = aggregate_raters(ratings.numpy())
        assert fleiss_kappa(ratings) == pytest.approx(reference(counts), abs=1e-12)


@given(tables(missing=True))
def test_what_is_not_rated_by_all_is_left_out(ratings):
    rated = ratings[~ratings.isnan().any(dim=1)]
    assert fleiss_kappa(ratings) == pytest.approx(fleiss_kappa(rated), nan_ok=True)
    same = [len(set(row)) == 1 for row in rated.tolist()]
    expected = sum(same) / len(same) if same else NAN
    assert strict_agreement(ratings) == pytest.approx(expected, nan_ok=True)


@given(tables(missing=True))
def test_pairs_are_those_of_a_slow_loop(ratings):
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
def test_shapes_that_do_not_fit_are_refused(function, shape):
    with pytest.raises(ValueError, match=r"expected ratings \(N, R\) of at least two raters, got shape \("):
        function(torch.zeros(shape))
