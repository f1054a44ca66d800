"""Measure the calibration of confidences: calibration errors, proper scoring rules, reliability curves.

`confidence` and `correct` are `(..., N)`: the predicted probability in [0, 1] of a correct answer, and whether the
answer is correct (1 or 0). Rows with a NaN in either are left out. Sums are computed in float64.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .closed_form import wilson_interval
from .log_probabilities import correct_log_odds, letter_probabilities
from .ranking import block_sums, defined_weights, dense_ranks, precise

__all__ = [
    "ReliabilityCurve",
    "brier_score",
    "calibration_error_floor",
    "confidence_brier_score",
    "expected_calibration_error",
    "negative_log_likelihood",
    "reliability_curve",
]

# 32 MiB of residuals per chunk.
_CHUNK_ELEMENTS = 2**22


class ReliabilityCurve(NamedTuple):
    """Confidence against accuracy, bin by bin.

    Attributes:
        confidence: `(..., B)` float64, the bin's mean confidence, NaN in an empty bin.
        accuracy: `(..., B)` float64, the share of correct answers.
        n: `(..., B)` float64, the number of rows, or their weight.
        low, high: `(..., B)` float64, Wilson's interval of the accuracy.
    """

    confidence: Tensor
    accuracy: Tensor
    n: Tensor
    low: Tensor
    high: Tensor


def expected_calibration_error(
    confidence: Tensor, correct: Tensor, *, bins: int = 15, equal_mass: bool = False, weights: Tensor | None = None
) -> Tensor:
    r"""Return the expected calibration error: the mean gap between confidence and accuracy over bins.

    $\sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|$; probability, in [0, 1]. Bins of equal width are
    $((b - 1) / B, b / B]$, the first one including 0. With bins of equal mass, row i of n in order of confidence is in
    bin $\lfloor B (i - \frac12) / n \rfloor$, and tied rows are all in the bin of their midpoint.

    It is biased upwards for small n: compare it with `calibration_error_floor`.

    Args:
        confidence: `(..., N)` in [0, 1].
        correct: `(..., N)`, 1 or 0.
        bins: B.
        equal_mass: use bins with equal numbers of rows.
        weights: `(..., N)`, how often a resample drew each row; None = once each. Leading dimensions broadcast.

    Returns:
        `(...)` float64, NaN without a defined row.

    Raises:
        ValueError: a confidence is outside [0, 1], or `bins` below 1.

    Example:
        >>> expected_calibration_error(torch.tensor([0.9, 0.9, 0.9, 0.9]), torch.tensor([1.0, 1.0, 1.0, 0.0]))
        tensor(0.1500, dtype=torch.float64)

    Source:
        Guo et al., arXiv:1706.04599 (equal width); Nixon et al., arXiv:1904.01685 (equal mass).
    """
    drawn = defined_weights(weights, confidence, correct)
    binned = _bins(confidence, drawn, bins, equal_mass)
    residual = torch.where(drawn > 0, drawn * (precise(correct) - precise(confidence)), 0.0)
    return block_sums(binned, residual, bins).abs().sum(-1) / drawn.sum(-1)


def calibration_error_floor(
    confidence: Tensor,
    *,
    rng: np.random.Generator,
    bins: int = 15,
    equal_mass: bool = False,
    replicates: int = 1000,
) -> float:
    """Return the expected calibration error of a perfectly calibrated model with these confidences.

    Correctness is drawn with the confidence as its probability, and `expected_calibration_error` is averaged: the bias
    of n rows in B bins. An observed error of that size is not evidence of miscalibration.

    Args:
        confidence: `(N,)` in [0, 1], NaN = undefined, left out.
        rng: random generator of the replicates.
        bins: B.
        equal_mass: use bins with equal numbers of rows.
        replicates: number of simulated data sets.

    Returns:
        NaN without a defined row.

    Raises:
        ValueError: a confidence is outside [0, 1], or `bins` or `replicates` below 1.

    Example:
        >>> round(calibration_error_floor(torch.full((100,), 0.5), rng=np.random.default_rng(0)), 2)
        0.04
    """
    if replicates < 1:
        raise ValueError(f"expected at least one of 'replicates', got {replicates}")
    confidence = precise(confidence.detach().cpu())
    confidence = confidence[~confidence.isnan()]
    count = len(confidence)
    binned = _bins(confidence, torch.ones_like(confidence), bins, equal_mass)
    if not count:
        return math.nan
    total = 0.0
    chunk_rows = max(1, _CHUNK_ELEMENTS // count)
    for start in range(0, replicates, chunk_rows):
        drawn = torch.from_numpy(rng.random((min(chunk_rows, replicates - start), count)))
        residual = (drawn < confidence).to(confidence) - confidence
        total += float(block_sums(binned, residual, bins).abs().sum())
    return total / (replicates * count)


def reliability_curve(
    confidence: Tensor,
    correct: Tensor,
    *,
    bins: int = 15,
    equal_mass: bool = False,
    weights: Tensor | None = None,
    level: float = 0.95,
) -> ReliabilityCurve:
    """Return mean confidence, accuracy, count and Wilson's interval of every bin: the data of a reliability diagram.

    Args:
        confidence: `(..., N)` in [0, 1].
        correct: `(..., N)`, 1 or 0.
        bins: B, as in `expected_calibration_error`.
        equal_mass: use bins with equal numbers of rows.
        weights: `(..., N)`, how often a resample drew each row; None = once each.
        level: the intervals' coverage, in (0, 1).

    Raises:
        ValueError: a confidence is outside [0, 1], `bins` below 1, or `level` out of range.

    Example:
        >>> curve = reliability_curve(torch.tensor([0.4, 0.9, 0.8]), torch.tensor([0.0, 1.0, 0.0]), bins=2)
        >>> curve.confidence, curve.accuracy
        (tensor([0.4000, 0.8500], dtype=torch.float64), tensor([0.0000, 0.5000], dtype=torch.float64))
    """
    drawn = defined_weights(weights, confidence, correct)
    binned = _bins(confidence, drawn, bins, equal_mass)

    def total(values: Tensor) -> Tensor:
        return block_sums(binned, torch.where(drawn > 0, drawn * values, 0.0), bins)

    count, right = total(torch.ones_like(drawn)), total(precise(correct))
    pairs = zip(right.flatten().tolist(), count.flatten().tolist(), strict=True)
    intervals = count.new_tensor([wilson_interval(min(successes, n), n, level) for successes, n in pairs])
    low, high = intervals.reshape(*count.shape, 2).unbind(-1)
    return ReliabilityCurve(total(precise(confidence)) / count, right / count, count, low, high)


def confidence_brier_score(confidence: Tensor, correct: Tensor) -> Tensor:
    """Return the Brier score of each confidence, (confidence − correct)², in [0, 1].

    Args:
        confidence: `(...)` in [0, 1].
        correct: `(...)`, 1 or 0.

    Returns:
        `(...)` at least float32, NaN where either is NaN.

    Example:
        >>> confidence_brier_score(torch.tensor([0.75, 0.75]), torch.tensor([1.0, 0.0]))
        tensor([0.0625, 0.5625])

    Source:
        Brier, Monthly Weather Review 78 (1950).
    """
    dtype = torch.promote_types(confidence.dtype, torch.float32)
    return (confidence.to(dtype) - correct.to(dtype)).square()


def brier_score(option_logprobs: Tensor, target: Tensor) -> Tensor:
    r"""Return the Brier score of the renormalised letter distribution, over all options.

    $\sum_i (p_i - 1[i = t])^2$; in [0, 2], 0 if the correct letter has probability 1, and $1 - 1/k$ for a uniform
    distribution over k options.

    Args:
        option_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.
        target: `(...)`, index of the correct option.

    Returns:
        `(...)`, NaN in rows with a NaN or without any finite value, and where `target` is no index of the row.

    Example:
        >>> brier_score(torch.tensor([[-1.0, -1.0]]), torch.tensor([0]))
        tensor([0.5000])

    Source:
        Brier, Monthly Weather Review 78 (1950), in its multi-class form.
    """
    probabilities = letter_probabilities(option_logprobs)
    columns = torch.arange(probabilities.shape[-1], device=probabilities.device)
    hit = (columns == target.unsqueeze(-1)).to(probabilities)
    score = (probabilities - hit).square().sum(-1)
    return torch.where(hit.any(-1), score, math.nan)


def negative_log_likelihood(option_logprobs: Tensor, target: Tensor) -> Tensor:
    r"""Return the negative log-likelihood of the correct letter, $-\ln p_t$ with renormalised $p$.

    Nats, in [0, inf]; ln k for a uniform distribution over k options. Computed from log-odds, which stays accurate for
    probabilities close to 1.

    Args:
        option_logprobs: `(..., C)`, log-probabilities in nats, padded with -inf.
        target: `(...)`, index of the correct option.

    Returns:
        `(...)`, NaN in rows with a NaN or without any finite value, and where `target` is no index of the row.

    Example:
        >>> negative_log_likelihood(torch.tensor([[0.0, -20.0]]), torch.tensor([0]))
        tensor([2.0612e-09])
    """
    odds = correct_log_odds(option_logprobs, target)
    return torch.logaddexp(torch.zeros_like(odds), -odds)


def _bins(confidence: Tensor, drawn: Tensor, bins: int, equal_mass: bool) -> Tensor:
    """Return the bin of each row; the values of rows with weight 0 do not matter."""
    if bins < 1:
        raise ValueError(f"expected at least one of 'bins', got {bins}")
    confidence = precise(confidence).nan_to_num(nan=0.5)
    if bool(((confidence < 0) | (confidence > 1)).any()):
        raise ValueError(f"expected confidences between 0 and 1, got {confidence.min():g} to {confidence.max():g}")
    if not equal_mass:
        edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype, device=confidence.device)
        return torch.bucketize(confidence, edges[1:-1])
    ranks = dense_ranks(confidence)
    mass = block_sums(ranks, drawn)
    midpoints = (mass.cumsum(-1) - mass / 2) / drawn.sum(-1, keepdim=True)
    bin_of_rank = (bins * midpoints.nan_to_num(nan=0.0)).long().clamp(max=bins - 1)
    return bin_of_rank.gather(-1, ranks.expand_as(drawn))
