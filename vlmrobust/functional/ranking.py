"""Measure how well scores rank correct answers above wrong ones: ROC curves and risk–coverage curves.

`scores` and `correct` or `positive` are `(..., N)`: any numbers that increase with confidence, and 1 or 0. Rows with a
NaN in either are left out. Only the order of the scores matters; results are averaged over the orders of tied rows, so
they do not depend on the order of rows.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .closed_form import normal_quantile

__all__ = [
    "RiskCoverage",
    "area_under_risk_coverage",
    "auroc",
    "auroc_interval",
    "block_sums",
    "defined_weights",
    "dense_ranks",
    "excess_area_under_risk_coverage",
    "precise",
    "risk_coverage_curve",
]


def precise(values: Tensor) -> Tensor:
    """Return values in float64 for accurate sums over many rows (float32 on devices without it)."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def defined_weights(weights: Tensor | None, *rows: Tensor) -> Tensor:
    """Return the weight of each row (1 without weights), and 0 where one of `rows` is NaN."""
    undefined = torch.stack(torch.broadcast_tensors(*(values.isnan() for values in rows))).any(0)
    drawn = torch.ones_like(undefined, dtype=precise(rows[0]).dtype) if weights is None else precise(weights)
    return torch.where(undefined, 0.0, drawn.to(undefined.device))


def dense_ranks(scores: Tensor) -> Tensor:
    """Return the ranks `(..., N)` of scores among the distinct ones of their row, from 0 for the smallest, as int64.

    A NaN has a rank too, so give such rows weight 0.
    """
    scores = scores.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
    order = scores.argsort(dim=-1)
    ordered = scores.gather(-1, order)
    steps = torch.zeros_like(order)
    steps[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    return torch.zeros_like(order).scatter(-1, order, steps.cumsum(-1))


def block_sums(blocks: Tensor, values: Tensor, count: int | None = None) -> Tensor:
    """Return the sums `(..., count)` of the values `(..., N)` in each block of rows, 0 for blocks without a row.

    Without `count` there are N sums, which is enough for ranks. Leading dimensions broadcast.
    """
    blocks, values = torch.broadcast_tensors(blocks, values)
    size = values.shape[-1] if count is None else count
    return values.new_zeros((*values.shape[:-1], size)).scatter_add(-1, blocks, values)


def auroc(scores: Tensor, positive: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the area under the ROC curve: the probability that a positive row scores above a negative one.

    $P(s^+ > s^-) + \tfrac12 P(s^+ = s^-)$, the Mann–Whitney statistic over its maximum; in [0, 1]. Only the order of
    the scores matters, so prefer log-odds to probabilities, which saturate and tie in float32.

    Args:
        scores: `(..., N)`, any floating dtype, infinities allowed; NaN = undefined, left out.
        positive: `(..., N)`, 1 = positive, 0 = negative, NaN = undefined, left out.
        weights: `(..., N)`, how often a resample drew each row; None = once each. Leading dimensions broadcast, so that
            a single call handles all resamples.

    Returns:
        `(...)` float64, NaN where one class is empty.

    Example:
        >>> auroc(torch.tensor([3.0, 2.0, 2.0, 1.0]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
        tensor(0.8750, dtype=torch.float64)

    Source:
        Hanley and McNeil, Radiology 143 (1982).
    """
    drawn = defined_weights(weights, scores, positive)
    ranks = dense_ranks(scores)
    is_positive = precise(positive) == 1
    above = block_sums(ranks, torch.where(is_positive, drawn, 0.0))
    below = block_sums(ranks, torch.where(is_positive, 0.0, drawn))
    lower = below.cumsum(-1) - below / 2
    area: Tensor = (above * lower).sum(-1) / (above.sum(-1) * below.sum(-1))
    return area


def auroc_interval(value: float, positives: float, negatives: float, level: float = 0.95) -> tuple[float, float]:
    r"""Return Newcombe's score interval of an AUROC, in [0, 1].

    Hanley and McNeil's variance, taken at the bound instead of at the estimate, as Wilson's interval does for a rate:
    the bounds solve $(\theta - \hat\theta)^2 = z^2 V(\theta)$ with
    $V = \theta (1 - \theta) [1 + N^* (\frac{1 - \theta}{2 - \theta} + \frac{\theta}{1 + \theta})] / (mn)$ and
    $N^* = (m + n) / 2 - 1$. Unlike DeLong's it does not shrink to a point if the two classes are separated. Rows are
    assumed to be independent.

    Args:
        value: the area.
        positives: number m of positive rows; may be fractional (effective sizes).
        negatives: number n of negative rows.
        level: the interval's coverage, in (0, 1).

    Returns:
        (low, high), NaN where one class is empty.

    Raises:
        ValueError: `value` is not in [0, 1], a count is negative, or `level` out of range.

    Example:
        >>> [round(bound, 3) for bound in auroc_interval(1.0, 20, 10)]
        [0.849, 1.0]

    Source:
        Newcombe, Statistics in Medicine 25 (2006) 559–573, method 5.
    """
    from scipy.optimize import brentq

    z = normal_quantile(level)
    if min(positives, negatives) < 0:
        raise ValueError(f"expected counts of at least 0, got {(positives, negatives)}")
    if min(positives, negatives) == 0:
        return math.nan, math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"expected 'value' between 0 and 1, got {value}")
    size = max(0.0, (positives + negatives) / 2 - 1)

    def excess(theta: float) -> float:
        spread = theta * (1 - theta) * (1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
        return (theta - value) ** 2 * positives * negatives - z * z * spread

    # The roots at 0 and 1, where the variance is 0, are spurious.
    low = 0.0 if value == 0 else float(brentq(excess, 0.0, min(value, 1 - 1e-12)))
    high = 1.0 if value == 1 else float(brentq(excess, max(value, 1e-12), 1.0))
    return low, high


class RiskCoverage(NamedTuple):
    """Error rate against the share of questions answered.

    Attributes:
        coverage: `(K,)` float64, increasing to 1.
        risk: `(K,)` float64, the share of wrong answers among those given.
        threshold: `(K,)` float64, the minimum score of answers given.
    """

    coverage: Tensor
    risk: Tensor
    threshold: Tensor


def risk_coverage_curve(scores: Tensor, correct: Tensor) -> RiskCoverage:
    """Return the risk at every coverage that a threshold on the scores can reach, one point per distinct score.

    Args:
        scores: `(N,)`, infinities allowed.
        correct: `(N,)`, 1 or 0.

    Returns:
        Empty without a defined row.

    Example:
        >>> curve = risk_coverage_curve(torch.tensor([0.9, 0.8, 0.8, 0.1]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
        >>> curve.coverage.tolist(), curve.risk.tolist()
        ([0.25, 0.75, 1.0], [0.0, 0.3333333333333333, 0.5])

    Source:
        El-Yaniv and Wiener, Journal of Machine Learning Research 11 (2010).
    """
    defined = defined_weights(None, scores, correct) > 0
    threshold, block = precise(scores[defined]).neg().unique(return_inverse=True)
    answered = block_sums(block, torch.ones_like(block, dtype=threshold.dtype), len(threshold)).cumsum(-1)
    wrong = block_sums(block, 1 - precise(correct[defined]), len(threshold)).cumsum(-1)
    return RiskCoverage(answered / len(block), wrong / answered, -threshold)


def area_under_risk_coverage(scores: Tensor, correct: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the area under the risk–coverage curve (AURC): the mean risk over the coverages 1/n, 2/n, … 1.

    $\frac1n \sum_{k=1}^n \frac1k \sum_{i \le k} (1 - \mathrm{correct}_{(i)})$, in descending order of score;
    probability, in [0, 1], smaller is better. It includes the error rate, which a random order gives on average, so
    conditions with different accuracies differ in it even if their scores rank equally well.

    Args:
        scores: `(..., N)`, infinities allowed.
        correct: `(..., N)`, 1 or 0.
        weights: `(..., N)`, how often a resample drew each row; None = once each. Leading dimensions broadcast.

    Returns:
        `(...)` float64, NaN without a defined row.

    Example:
        >>> area_under_risk_coverage(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1.0, 0.0, 1.0]))
        tensor(0.2778, dtype=torch.float64)

    Source:
        Geifman, Uziel and El-Yaniv, arXiv:1805.08206; the mean over the orders of tied rows is computed in closed form.
    """
    drawn = defined_weights(weights, scores, correct)
    ranks = dense_ranks(-scores)
    wrong = torch.where(precise(correct) == 1, 0.0, drawn)
    return _mean_risk(block_sums(ranks, drawn), block_sums(ranks, wrong))


def excess_area_under_risk_coverage(scores: Tensor, correct: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the AURC less that of the best possible order, with all correct answers first (E-AURC).

    In [0, 1]; 0 if every correct answer scores above every wrong one, and if all answers are correct or all are wrong.

    Args:
        scores: `(..., N)`, infinities allowed.
        correct: `(..., N)`, 1 or 0.
        weights: as in `area_under_risk_coverage`.

    Returns:
        `(...)` float64, NaN without a defined row.

    Example:
        >>> excess_area_under_risk_coverage(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1.0, 0.0, 1.0]))
        tensor(0.1667, dtype=torch.float64)

    Source:
        Geifman, Uziel and El-Yaniv, arXiv:1805.08206.
    """
    drawn = defined_weights(weights, scores, correct)
    wrong = torch.where(precise(correct) == 1, 0.0, drawn).sum(-1)
    right = drawn.sum(-1) - wrong
    best = _mean_risk(torch.stack([right, wrong], -1), torch.stack([torch.zeros_like(wrong), wrong], -1))
    return area_under_risk_coverage(scores, correct, weights) - best


def _mean_risk(size: Tensor, wrong: Tensor) -> Tensor:
    r"""Return the mean risk over all coverages, from blocks of tied rows in descending order of score.

    After K rows with E errors, the j-th of a block of m rows with e errors has the mean risk (E + j e/m) / (K + j);
    the sum over j = 1 … m is e + (E − K e/m) (ψ(K + m + 1) − ψ(K + 1)), where ψ is the digamma function.
    """
    before, errors = size.cumsum(-1) - size, wrong.cumsum(-1) - wrong
    share = torch.where(size > 0, wrong / size, 0.0)
    harmonic = torch.digamma(before + size + 1) - torch.digamma(before + 1)
    return (wrong + (errors - before * share) * harmonic).sum(-1) / size.sum(-1)
