"""Whether a confidence says how often it is right: calibration errors, proper scores, reliability curves.

`confidence` and `correct` are `(..., N)`: a probability in [0, 1] that the answer is right, and whether it is (1 or 0).
A row with a NaN in either is left out. Sums are taken in float64 whatever the inputs are.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .log_probabilities import correct_log_odds, letter_probabilities
from .ranking import block_sums, dense_ranks, kept_weights, precise
from .statistics import wilson_interval

__all__ = [
    "ReliabilityCurve",
    "brier_score",
    "calibration_error_floor",
    "confidence_brier_score",
    "expected_calibration_error",
    "negative_log_likelihood",
    "reliability_curve",
]

# Residuals of 32 MiB at a time, whatever the number of replicates and rows.
_CHUNK_ELEMENTS = 2**22


class ReliabilityCurve(NamedTuple):
    """Confidence against accuracy, bin by bin.

    Attributes:
        confidence: `(..., B)` float64, the bin's mean confidence, NaN in an empty bin.
        accuracy: `(..., B)` float64, the share that is right.
        n: `(..., B)` float64, how many rows, or their weight.
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
    $((b - 1) / B, b / B]$, the first one with 0. With bins of equal mass, row i of n in the order of confidence is in
    bin $\lfloor B (i - \frac12) / n \rfloor$, and tied rows are together in the bin in which their middle falls.

    It is biased upwards at small n: read it beside `calibration_error_floor`.

    Args:
        confidence: `(..., N)` in [0, 1].
        correct: `(..., N)`, 1 or 0.
        bins: B.
        equal_mass: bins that hold equally many rows.
        weights: `(..., N)`, how often a resample drew each row; None = each once. Leading dimensions broadcast.

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
    drawn = kept_weights(weights, confidence, correct)
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
    """Return the calibration error that a perfectly calibrated model with these confidences would show on average.

    Answers are drawn as right with the probability that the confidence says, and `expected_calibration_error` is taken;
    what is left is the bias of n rows in B bins. An error of that size is no finding.

    Args:
        confidence: `(N,)` in [0, 1], NaN = undefined, left out.
        rng: where the replicates come from.
        bins: B.
        equal_mass: bins that hold equally many rows.
        replicates: how many data sets are drawn.

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
    sure = precise(confidence.detach().cpu())
    sure = sure[~sure.isnan()]
    count = len(sure)
    binned = _bins(sure, torch.ones_like(sure), bins, equal_mass)
    if not count:
        return math.nan
    total = 0.0
    most_rows = max(1, _CHUNK_ELEMENTS // count)
    for start in range(0, replicates, most_rows):
        drawn = torch.from_numpy(rng.random((min(most_rows, replicates - start), count)))
        total += float(block_sums(binned, (drawn < sure).to(sure) - sure, bins).abs().sum())
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
    """Return mean confidence, accuracy, count and Wilson's interval of every bin: a reliability diagram's data.

    Args:
        confidence: `(..., N)` in [0, 1].
        correct: `(..., N)`, 1 or 0.
        bins: B, as in `expected_calibration_error`.
        equal_mass: bins that hold equally many rows.
        weights: `(..., N)`, how often a resample drew each row; None = each once.
        level: the intervals' coverage, in (0, 1).

    Raises:
        ValueError: a confidence is outside [0, 1], `bins` below 1, or `level` out of range.

    Example:
        >>> curve = reliability_curve(torch.tensor([0.4, 0.9, 0.8]), torch.tensor([0.0, 1.0, 0.0]), bins=2)
        >>> curve.confidence, curve.accuracy
        (tensor([0.4000, 0.8500], dtype=torch.float64), tensor([0.0000, 0.5000], dtype=torch.float64))
    """
    drawn = kept_weights(weights, confidence, correct)
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
        `(...)` at least float32, NaN where one of the two is.

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

    $\sum_i (p_i - 1[i = t])^2$; in [0, 2], 0 where all probability is on the correct letter. Uniform over k options it
    is $1 - 1/k$.

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

    Nats, in [0, inf]; ln k for a uniform distribution over k options. Computed from log-odds, so that it keeps its
    digits where the probability is nearly 1.

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
    """Return the bin of each row; what stands in rows of weight 0 does not matter."""
    if bins < 1:
        raise ValueError(f"expected at least one of 'bins', got {bins}")
    sure = precise(confidence).nan_to_num(nan=0.5)
    if bool(((sure < 0) | (sure > 1)).any()):
        raise ValueError(f"expected confidences between 0 and 1, got {sure.min():g} to {sure.max():g}")
    if not equal_mass:
        edges = torch.linspace(0, 1, bins + 1, dtype=sure.dtype, device=sure.device)
        return torch.bucketize(sure, edges[1:-1])
    ranks = dense_ranks(sure)
    mass = block_sums(ranks, drawn)
    middle = (mass.cumsum(-1) - mass / 2) / drawn.sum(-1, keepdim=True)
    of_block = (bins * middle.nan_to_num(nan=0.0)).long().clamp(max=bins - 1)
    return of_block.gather(-1, ranks.expand_as(drawn))
