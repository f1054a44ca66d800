"""Entropy of next-token distributions."""

import torch
from torch import Tensor

__all__ = ["mean_token_entropy", "token_entropy"]

# float32 temporaries stay at a few times this many elements (64 MiB each), whatever the shape of the logits.
_CHUNK_ELEMENTS = 2**24


def token_entropy(logits: Tensor) -> Tensor:
    r"""Return the entropy of next-token distributions.

    $H = -\sum_v p_v \ln p_v$ with $p = \mathrm{softmax}(\mathrm{logits})$; nats, in [0, ln V]. A logit of -inf (a token
    that is ruled out) adds nothing. Computed in float32 (float64 if given) a chunk of rows at a time; differentiable.

    Args:
        logits: `(..., V)`, any floating dtype.

    Returns:
        `(...)`, NaN in rows with a NaN or a +inf, or without any finite value.

    Raises:
        ValueError: there is no vocabulary (`V = 0`, or no dimension at all).

    Example:
        >>> token_entropy(torch.tensor([[0.0, 0.0], [5.0, -float("inf")]]))
        tensor([0.6931, 0.0000])
    """
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"expected logits of shape (..., V) with V >= 1, got {tuple(logits.shape)}")
    rows = logits.reshape(-1, logits.shape[-1])
    pieces = [_row_entropy(piece) for piece in rows.split(max(1, _CHUNK_ELEMENTS // rows.shape[-1]))]
    return torch.cat(pieces).reshape(logits.shape[:-1])


def mean_token_entropy(entropies: Tensor, mask: Tensor) -> Tensor:
    """Return the mean entropy over the generated tokens of each sequence.

    Args:
        entropies: `(..., T)`, nats.
        mask: `(..., T)`, true at generated tokens; what stands elsewhere does not matter, NaN included.

    Returns:
        `(...)` in nats, NaN where nothing was generated.

    Example:
        >>> mean_token_entropy(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]]))
        tensor([2.])
    """
    kept = mask.bool()
    values = entropies.to(torch.promote_types(entropies.dtype, torch.float32))
    total = torch.where(kept, values, 0.0).sum(dim=-1)
    return total / kept.sum(dim=-1)


def _row_entropy(logits: Tensor) -> Tensor:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_p = torch.log_softmax(logits, dim=-1, dtype=dtype)
    # 0 · -inf would be NaN; the lowest finite number gives 0, and a gradient of 0.
    surprise = log_p.clamp(min=torch.finfo(dtype).min).neg()
    return (log_p.exp() * surprise).sum(dim=-1)
