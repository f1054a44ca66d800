import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vlmrobust.functional import score_tokens
from vlmrobust.functional.scoring import _VOCABULARY_TILE


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


def test_a_token_that_is_ruled_out_adds_nothing() -> None:
    bias = torch.tensor([0.0, -math.inf, 0.0])
    scores = score_tokens(torch.zeros(2, 4), torch.ones(3, 4), torch.tensor([0, 1]), bias=bias)
    assert scores.logprobs.tolist() == pytest.approx([-math.log(2), -math.inf])
    assert scores.entropies.tolist() == pytest.approx([math.log(2)] * 2)


def test_a_negative_target_has_no_logprob_and_no_tokens_no_scores() -> None:
    scores = score_tokens(torch.zeros(1, 2), torch.eye(2), torch.tensor([-100]))
    assert math.isnan(scores.logprobs.item())
    assert scores.entropies.item() == pytest.approx(math.log(2))
    assert score_tokens(torch.zeros(0, 2), torch.eye(2), torch.zeros(0, dtype=torch.long)).logprobs.shape == (0,)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected hidden .* got \(2, 4\), \(5, 3\) and \(2,\)"):
        score_tokens(torch.zeros(2, 4), torch.zeros(5, 3), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"targets \(…\), got \(2, 4\), \(5, 4\) and \(3,\)"):
        score_tokens(torch.zeros(2, 4), torch.zeros(5, 4), torch.zeros(3, dtype=torch.long))
