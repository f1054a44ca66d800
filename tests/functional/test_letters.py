"""Letters against scipy in float64, on ragged rows of 2 to 26 options."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp
from scipy.special import softmax as scipy_softmax
from scipy.stats import entropy as scipy_entropy

from vlmrobust import functional

NAN, INF = math.nan, math.inf
LOGPROB = st.floats(-60, 0, width=32)


@st.composite
def ragged(draw):
    """Rows of 2 to 26 log-probabilities, or None where no letter was read."""
    row = st.lists(LOGPROB, min_size=2, max_size=26)
    return draw(st.lists(st.one_of(row, st.none()), min_size=1, max_size=8))


def padded(rows, dtype=torch.float32, width=None):
    width = width or max((len(row) for row in rows if row is not None), default=2)
    filled = [[NAN] * width if row is None else row + [-INF] * (width - len(row)) for row in rows]
    return torch.tensor(filled, dtype=dtype)


def exact(tensor_row, count):
    """The row as it is stored, in float64, without its padding."""
    return tensor_row[:count].double().numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@given(rows=ragged(), data=st.data())
def test_letters_agree_with_scipy(rows, data, dtype):
    logprobs = padded(rows, dtype)
    counts = [2 if row is None else len(row) for row in rows]
    targets = [data.draw(st.integers(0, count - 1)) for count in counts]
    target, count_tensor = torch.tensor(targets), torch.tensor(counts)
    values = {
        "probability": functional.correct_probability(logprobs, target),
        "odds": functional.correct_log_odds(logprobs, target),
        "entropy": functional.letter_entropy(logprobs),
        "relative": functional.relative_letter_entropy(logprobs, count_tensor),
        "mass": functional.letter_mass(logprobs),
    }
    probabilities = functional.letter_probabilities(logprobs)
    at_least = torch.float64 if dtype == torch.float64 else torch.float32
    assert {value.dtype for value in (*values.values(), probabilities)} == {at_least}
    for i, row in enumerate(rows):
        if row is None:
            assert all(math.isnan(value[i]) for value in values.values())
            assert probabilities[i].isnan().all()
            continue
        given_row = exact(logprobs[i], counts[i])
        p = scipy_softmax(given_row)
        others = logsumexp(np.delete(given_row, targets[i]))
        expected = {
            "probability": p[targets[i]],
            "odds": given_row[targets[i]] - others,
            "entropy": scipy_entropy(p),
            "relative": scipy_entropy(p) / math.log(counts[i]),
            "mass": min(1.0, np.exp(given_row).sum()),
        }
        for name, value in values.items():
            assert float(value[i]) == pytest.approx(expected[name], rel=2e-5, abs=2e-6), name
        assert probabilities[i, : counts[i]].numpy() == pytest.approx(p, abs=2e-6)
        assert (probabilities[i, counts[i] :] == 0).all()
        assert 0 <= values["relative"][i] <= 1


@given(rows=ragged(), data=st.data())
def test_rows_do_not_depend_on_their_batch(rows, data):
    cut = data.draw(st.integers(0, len(rows)))
    target = torch.zeros(len(rows), dtype=torch.long)
    whole = padded(rows, width=26)
    for function in (
        functional.letter_entropy,
        lambda x: functional.correct_log_odds(x, target[: len(x)]),
        functional.letter_mass,
    ):
        parts = [function(padded(part)) for part in (rows[:cut], rows[cut:]) if part]
        torch.testing.assert_close(torch.cat(parts), function(whole), equal_nan=True, rtol=1e-5, atol=1e-6)


def test_a_uniform_row_has_all_the_entropy_there_is():
    for count in range(2, 27):
        row = torch.full((1, count), -3.3)
        assert functional.letter_entropy(row).item() == pytest.approx(math.log(count), rel=1e-6)
        assert functional.relative_letter_entropy(row, torch.tensor([count])).item() == pytest.approx(1.0, rel=1e-6)


def test_log_odds_rank_where_probabilities_tie():
    logprobs = torch.tensor([[-1e-9, -30.0], [-1e-9, -40.0]])
    target = torch.tensor([0, 0])
    assert functional.correct_probability(logprobs, target).tolist() == [1.0, 1.0]
    assert functional.correct_log_odds(logprobs, target).tolist() == [30.0, 40.0]
    assert functional.correct_log_odds(torch.tensor([[-1.0, -INF]]), torch.tensor([0])).tolist() == [INF]
    assert functional.correct_log_odds(torch.tensor([[-1.0, -INF]]), torch.tensor([1])).tolist() == [-INF]


@pytest.mark.parametrize("target", [-1, 2, 25])
def test_a_target_outside_the_row_is_undefined(target):
    logprobs, index = torch.tensor([[-1.0, -2.0]]), torch.tensor([target])
    assert functional.correct_probability(logprobs, index).isnan().all()
    assert functional.correct_log_odds(logprobs, index).isnan().all()


def test_no_letter_at_all_is_undefined_not_zero():
    for logprobs in (torch.empty(2, 0), torch.full((2, 3), NAN)):
        target = torch.tensor([0, 1])
        for value in (
            functional.letter_entropy(logprobs),
            functional.relative_letter_entropy(logprobs, torch.tensor([2, 2])),
            functional.letter_mass(logprobs, torch.full((2, 1), -INF)),
            functional.correct_probability(logprobs, target),
            functional.correct_log_odds(logprobs, target),
        ):
            assert value.shape == (2,)
            assert value.isnan().all()


def test_letters_of_no_probability_have_mass_zero_and_nothing_else():
    nothing = torch.full((1, 2), -INF)
    assert functional.letter_mass(nothing).item() == 0
    assert functional.letter_entropy(nothing).isnan().all()
    assert functional.correct_probability(nothing, torch.tensor([0])).isnan().all()
    assert functional.correct_log_odds(nothing, torch.tensor([0])).isnan().all()


def test_added_letters_count_in_the_mass_alone():
    logprobs, added = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -INF]])
    expected = math.exp(-1) + math.exp(-2) + math.exp(-1.5)
    assert functional.letter_mass(logprobs, added).item() == pytest.approx(expected)
    assert functional.letter_mass(torch.tensor([[-0.1, -0.1]])).item() == 1.0


def test_fewer_than_two_options_have_no_relative_entropy():
    assert functional.relative_letter_entropy(torch.tensor([[-1.0]]), torch.tensor([1])).isnan().all()


def test_letters_are_differentiable_beside_padding():
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -2.0, -INF]], requires_grad=True)
    functional.correct_probability(logprobs, torch.tensor([0, 1])).sum().backward()
    assert logprobs.grad.isfinite().all()


@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_divergence_agrees_with_scipy_either_way_round(data, dtype):
    logprob = st.one_of(st.floats(-30, 0, width=32), st.just(-INF))
    count = data.draw(st.integers(2, 26))
    sides = [torch.tensor(data.draw(st.lists(logprob, min_size=count, max_size=count))).to(dtype) for _ in range(2)]
    found = functional.letter_divergence(*sides)
    assert found.dtype == torch.float32
    torch.testing.assert_close(functional.letter_divergence(*reversed(sides)), found, equal_nan=True)
    if any(side.max() == -INF for side in sides):
        assert found.isnan()
        return
    # scipy returns the square root.
    expected = jensenshannon(*(scipy_softmax(side.double().numpy()) for side in sides)) ** 2
    assert found.item() == pytest.approx(expected, abs=1e-6)
    assert 0 <= found.item() <= math.log(2) * (1 + 1e-6)
    assert functional.letter_divergence(sides[0], sides[0]).item() == 0
    assert functional.letter_divergence(sides[0], torch.full_like(sides[0], NAN)).isnan()
    assert functional.letter_divergence(torch.empty(3, 0), torch.empty(3, 0)).isnan().tolist() == [True] * 3
