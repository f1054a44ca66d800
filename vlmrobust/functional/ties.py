"""Rows of equal score belong together: what ranks and weights need so that neither order nor repetition matters."""

import math

import torch
from torch import Tensor

__all__ = ["block_sums", "dense_ranks", "kept_weights", "precise"]


def precise(values: Tensor) -> Tensor:
    """Return values in float64, in which sums over many rows keep their digits (float32 on devices without it)."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def kept_weights(weights: Tensor | None, *rows: Tensor) -> Tensor:
    """Return how often each row counts: its weight (1 without weights), and 0 where one of `rows` is NaN."""
    undefined = torch.stack(torch.broadcast_tensors(*(values.isnan() for values in rows))).any(0)
    drawn = torch.ones_like(undefined, dtype=precise(rows[0]).dtype) if weights is None else precise(weights)
    return torch.where(undefined, 0.0, drawn.to(undefined.device))


def dense_ranks(scores: Tensor) -> Tensor:
    """Return each score's number among the different scores of its row, from 0 for the smallest.

    Args:
        scores: `(..., N)`, infinities allowed; NaN ranks like a number, so give such rows the weight 0.

    Returns:
        `(..., N)` int64.

    Example:
        >>> dense_ranks(torch.tensor([0.5, 0.1, 0.5, math.inf]))
        tensor([1, 0, 1, 2])
    """
    known = scores.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
    order = known.argsort(dim=-1)
    ordered = known.gather(-1, order)
    steps = torch.zeros_like(order)
    steps[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    return torch.zeros_like(order).scatter(-1, order, steps.cumsum(-1))


def block_sums(blocks: Tensor, values: Tensor, count: int | None = None) -> Tensor:
    """Add up the values of each block of rows.

    Args:
        blocks: `(..., N)` int64, the block of each row.
        values: `(..., N)`; leading dimensions broadcast.
        count: how many blocks; None = N, which is enough for ranks.

    Returns:
        `(..., count)`, 0 for blocks without a row.

    Example:
        >>> block_sums(torch.tensor([1, 0, 1]), torch.tensor([1.0, 2.0, 4.0]))
        tensor([2., 5., 0.])
    """
    blocks, values = torch.broadcast_tensors(blocks, values)
    size = values.shape[-1] if count is None else count
    return values.new_zeros((*values.shape[:-1], size)).scatter_add(-1, blocks, values)
