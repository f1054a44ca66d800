"""Letters and tokens against scipy in float64, on ragged rows and tiles of any size."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp, softmax
from scipy.special import softmax as scipy_softmax
from scipy.stats import entropy as scipy_entropy
from torch import Tensor

from vlmrobust import functional
from vlmrobust.functional import log_probabilities as module
from vlmrobust.functional import mean_token_entropy, score_tokens, token_entropy
from vlmrobust.functional.log_probabilities import _VOCABULARY_TILE

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@given(
    values=arrays(np.float32, array_shapes(max_dims=3, max_side=9), elements=st.floats(-300, 300, width=32)),
    offset=st.sampled_from([0.0, 20_000.0]),
)
def test_entropy_agrees_with_scipy(values, offset, dtype):
    logits = (torch.from_numpy(values) + offset).to(dtype)
    expected = scipy_entropy(softmax(logits.double().numpy(), axis=-1), axis=-1)
    entropies = token_entropy(logits)
    assert entropies.shape == logits.shape[:-1]
    assert entropies.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert entropies.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert (entropies >= 0).all()


def test_a_large_vocabulary_keeps_precision():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 151_936, generator=generator) * torch.tensor([[0.0], [1.0], [8.0]])
    expected = scipy_entropy(softmax(logits.double().numpy(), axis=-1), axis=-1)
    assert token_entropy(logits).numpy() == pytest.approx(expected, rel=1e-5)
    assert token_entropy(logits)[0].item() == pytest.approx(math.log(151_936), rel=1e-6)


def test_a_token_that_is_ruled_out_adds_nothing():
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    ruled_out = torch.tensor([[1.0, -INF, 2.0, -INF, 3.0]])
    torch.testing.assert_close(token_entropy(ruled_out), token_entropy(logits))
    assert token_entropy(torch.tensor([[-INF, 0.0]])).item() == 0


@pytest.mark.parametrize("row", [[NAN, 1.0], [INF, 1.0], [-INF, -INF]])
def test_invalid_logits_affect_only_their_row(row):
    entropies = token_entropy(torch.tensor([row, [0.0, 0.0]]))
    assert entropies[0].isnan()
    assert entropies[1].item() == pytest.approx(math.log(2))


def test_results_do_not_depend_on_chunks(monkeypatch):
    logits = torch.randn(2, 7, 11, generator=torch.Generator().manual_seed(0))
    whole = token_entropy(logits)
    monkeypatch.setattr(module, "_CPU_CHUNK_ELEMENTS", 23)
    assert torch.equal(token_entropy(logits), whole)


def test_gradients_agree_with_finite_differences_and_survive_ruled_out_tokens():
    logits = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(token_entropy, (logits,))
    peaked = torch.tensor([[-INF, 2.0, 300.0, 1.0]], requires_grad=True)
    token_entropy(peaked).sum().backward()
    assert peaked.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_no_vocabulary_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected logits of shape \(\.\.\., V\) with V >= 1, got \("):
        token_entropy(torch.empty(shape))


def test_no_rows_give_no_entropies():
    assert token_entropy(torch.empty(0, 5)).shape == (0,)


@given(
    values=arrays(np.float32, (3, 6), elements=st.floats(0, 12, width=32)),
    mask=arrays(np.bool_, (3, 6)),
)
def test_the_mean_is_over_generated_tokens(values, mask):
    entropies = torch.from_numpy(np.where(mask, values, np.float32(NAN)))
    means = mean_token_entropy(entropies, torch.from_numpy(mask))
    for mean, row, kept in zip(means.tolist(), values, mask, strict=True):
        expected = row[kept].astype(float).mean() if kept.any() else NAN
        assert mean == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_a_mean_of_half_precision_is_taken_in_float32():
    entropies = torch.full((1, 3000), 1.0, dtype=torch.bfloat16)
    assert mean_token_entropy(entropies, torch.ones(1, 3000)).item() == 1.0


def from_full_logits(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, scale: float, cap: float | None
) -> tuple[Tensor, Tensor]:
    """The plain way, in float64: all logits at once."""
    logits = hidden.double() @ weight.double().T
    if bias is not None:
        logits = logits + bias.double()
    logits = logits * scale
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    distribution = torch.distributions.Categorical(logits=logits)
    return distribution.log_prob(targets), distribution.entropy()


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    vocabulary=st.integers(1, 40),
    spread=st.sampled_from([0.01, 1.0, 30.0]),
    with_bias=st.booleans(),
    scale=st.sampled_from([1.0, 0.0625]),
    cap=st.sampled_from([None, 30.0]),
    tile_elements=st.sampled_from([1, 64, 2**22]),
)
def test_equals_the_softmax_of_all_logits(
    seed: int,
    shape: list[int],
    vocabulary: int,
    spread: float,
    with_bias: bool,
    scale: float,
    cap: float | None,
    tile_elements: int,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(*shape, 8, generator=draw) * spread
    weight = torch.randn(vocabulary, 8, generator=draw)
    bias = torch.randn(vocabulary, generator=draw) if with_bias else None
    targets = torch.randint(vocabulary, shape, generator=draw)
    scores = score_tokens(hidden, weight, targets, bias=bias, scale=scale, cap=cap, tile_elements=tile_elements)
    logprobs, entropies = from_full_logits(hidden, weight, targets, bias, scale, cap)
    assert scores.logprobs.shape == scores.entropies.shape == tuple(shape)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(scores.entropies.double(), entropies, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("extra", [-1, 0, 1, 100])
def test_a_vocabulary_of_several_tiles(extra: int) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 4), torch.randn(_VOCABULARY_TILE + extra, 4)
    targets = torch.tensor([0, len(weight) - 1, _VOCABULARY_TILE - 2, 17, len(weight) // 2])
    scores = score_tokens(hidden, weight, targets, tile_elements=3 * _VOCABULARY_TILE)
    logprobs, entropies = from_full_logits(hidden, weight, targets, None, 1.0, None)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores.entropies.double(), entropies, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden, weight = (torch.randn(64, 256) * 4).to(dtype), (torch.randn(3000, 256) / 8).to(dtype)
    targets = torch.randint(3000, (64,))
    scores = score_tokens(hidden, weight, targets)
    logprobs, _ = from_full_logits(hidden, weight, targets, None, 1.0, None)
    assert scores.logprobs.dtype == torch.float32
    torch.testing.assert_close(scores.logprobs.double(), logprobs, atol=1e-4, rtol=0)
    coarse = torch.log_softmax((hidden @ weight.T).float(), -1).gather(1, targets[:, None])[:, 0]
    assert (coarse.double() - logprobs).abs().max() > 1e-3


def test_a_scored_token_that_is_ruled_out_adds_nothing() -> None:
    bias = torch.tensor([0.0, -math.inf, 0.0])
    scores = score_tokens(torch.zeros(2, 4), torch.ones(3, 4), torch.tensor([0, 1]), bias=bias)
    assert scores.logprobs.tolist() == pytest.approx([-math.log(2), -math.inf])
    assert scores.entropies.tolist() == pytest.approx([math.log(2)] * 2)


def test_a_negative_target_has_no_logprob_and_no_tokens_no_scores() -> None:
    scores = score_tokens(torch.zeros(1, 2), torch.eye(2), torch.tensor([-100]))
    assert math.isnan(scores.logprobs.item())
    assert scores.entropies.item() == pytest.approx(math.log(2))
    assert score_tokens(torch.zeros(0, 2), torch.eye(2), torch.zeros(0, dtype=torch.long)).logprobs.shape == (0,)


def test_mismatched_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected hidden .* got \(2, 4\), \(5, 3\) and \(2,\)"):
        score_tokens(torch.zeros(2, 4), torch.zeros(5, 3), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"targets \(…\), got \(2, 4\), \(5, 4\) and \(3,\)"):
        score_tokens(torch.zeros(2, 4), torch.zeros(5, 4), torch.zeros(3, dtype=torch.long))
