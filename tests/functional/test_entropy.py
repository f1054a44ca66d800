"""Token entropy against scipy in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from vlmrobust.functional import entropy as module
from vlmrobust.functional import mean_token_entropy, token_entropy

NAN, INF = math.nan, math.inf


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


def test_a_large_vocabulary_keeps_its_digits():
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
def test_broken_logits_stay_broken_in_their_row_alone(row):
    entropies = token_entropy(torch.tensor([row, [0.0, 0.0]]))
    assert entropies[0].isnan()
    assert entropies[1].item() == pytest.approx(math.log(2))


def test_chunks_change_nothing(monkeypatch):
    logits = torch.randn(2, 7, 11, generator=torch.Generator().manual_seed(0))
    whole = token_entropy(logits)
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 23)
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
