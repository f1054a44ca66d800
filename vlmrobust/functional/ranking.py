"""Measure how well scores rank right answers above wrong ones: ROC curves, and risk at each coverage.

`scores` and `correct` or `positive` are `(..., N)`: any number that is larger where the model is surer, and 1 or 0. A
row with a NaN in either is left out. Only the order of the scores counts; over the order of tied rows a mean is taken,
so the order in which they come changes nothing.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .statistics import normal_quantile

__all__ = [
    "RiskCoverage",
    "area_under_risk_coverage",
    "auroc",
    "auroc_interval",
    "block_sums",
    "dense_ranks",
    "excess_area_under_risk_coverage",
    "kept_weights",
    "precise",
    "risk_coverage_curve",
]


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


def auroc(scores: Tensor, positive: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the area under the ROC curve: the chance that a positive row scores above a negative one.

    $P(s^+ > s^-) + \tfrac12 P(s^+ = s^-)$, the Mann–Whitney statistic over its maximum; in [0, 1]. Only the order of
    the scores counts, so give log-odds rather than probabilities, which saturate and tie in float32.

    Args:
        scores: `(..., N)`, any floating dtype, infinities allowed; NaN = undefined, left out.
        positive: `(..., N)`, 1 = positive, 0 = negative, NaN = undefined, left out.
        weights: `(..., N)`, how often a resample drew each row; None = each once. Leading dimensions broadcast, so that
            all resamples of one table are one call.

    Returns:
        `(...)` float64, NaN where one class is empty.

    Example:
        >>> auroc(torch.tensor([3.0, 2.0, 2.0, 1.0]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
        tensor(0.8750, dtype=torch.float64)

    Source:
        Hanley and McNeil, Radiology 143 (1982).
    """
    drawn = kept_weights(weights, scores, positive)
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
    $N^* = (m + n) / 2 - 1$. Unlike DeLong's it does not shrink to a point where the two classes are separated. Rows are
    taken to be independent.

    Args:
        value: the area.
        positives: number m of positive rows; need not be whole (effective sizes).
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

    # Zero at 0 and 1 as well, where nothing can vary: these are not the roots that are looked for.
    low = 0.0 if value == 0 else float(brentq(excess, 0.0, min(value, 1 - 1e-12)))
    high = 1.0 if value == 1 else float(brentq(excess, max(value, 1e-12), 1.0))
    return low, high


class RiskCoverage(NamedTuple):
    """Error rate against the share of questions that are answered.

    Attributes:
        coverage: `(K,)` float64, increasing to 1.
        risk: `(K,)` float64, the share of wrong answers among those that are given.
        threshold: `(K,)` float64, answers with at least this score are given.
    """

    coverage: Tensor
    risk: Tensor
    threshold: Tensor


def risk_coverage_curve(scores: Tensor, correct: Tensor) -> RiskCoverage:
    """Return the risk at every coverage that a threshold on the scores can reach, one point per different score.

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
    kept = kept_weights(None, scores, correct) > 0
    threshold, block = precise(scores[kept]).neg().unique(return_inverse=True)
    given = block_sums(block, torch.ones_like(block, dtype=threshold.dtype), len(threshold)).cumsum(-1)
    wrong = block_sums(block, 1 - precise(correct[kept]), len(threshold)).cumsum(-1)
    return RiskCoverage(given / len(block), wrong / given, -threshold)


def area_under_risk_coverage(scores: Tensor, correct: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the area under the risk–coverage curve (AURC): the mean risk over the coverages 1/n, 2/n, … 1.

    $\frac1n \sum_{k=1}^n \frac1k \sum_{i \le k} (1 - \mathrm{correct}_{(i)})$, the surest first; probability, in
    [0, 1], smaller is better. It holds the error rate itself: a random order gives about that, so two conditions of
    different accuracy differ in it however alike their scores rank.

    Args:
        scores: `(..., N)`, infinities allowed.
        correct: `(..., N)`, 1 or 0.
        weights: `(..., N)`, how often a resample drew each row; None = each once. Leading dimensions broadcast.

    Returns:
        `(...)` float64, NaN without a defined row.

    Example:
        >>> area_under_risk_coverage(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1.0, 0.0, 1.0]))
        tensor(0.2778, dtype=torch.float64)

    Source:
        Geifman, Uziel and El-Yaniv, arXiv:1805.08206; the mean over the order of tied rows is in closed form here.
    """
    drawn = kept_weights(weights, scores, correct)
    ranks = dense_ranks(-scores)
    wrong = torch.where(precise(correct) == 1, 0.0, drawn)
    return _mean_risk(block_sums(ranks, drawn), block_sums(ranks, wrong))


def excess_area_under_risk_coverage(scores: Tensor, correct: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the AURC above that of the best possible order, in which all right answers come first (E-AURC).

    In [0, 1]; 0 where every right answer scores above every wrong one, and where all answers are right or all wrong.

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
    drawn = kept_weights(weights, scores, correct)
    wrong = torch.where(precise(correct) == 1, 0.0, drawn).sum(-1)
    right = drawn.sum(-1) - wrong
    best = _mean_risk(torch.stack([right, wrong], -1), torch.stack([torch.zeros_like(wrong), wrong], -1))
    return area_under_risk_coverage(scores, correct, weights) - best


def _mean_risk(size: Tensor, wrong: Tensor) -> Tensor:
    r"""Return the mean risk over all coverages, from blocks of tied rows, the surest first.

    After K rows with E errors, the j-th of a block of m rows with e errors has the mean risk (E + j e/m) / (K + j);
    over j = 1 … m these add up to e + (E − K e/m) (ψ(K + m + 1) − ψ(K + 1)), ψ being the digamma function.
    """
    before, errors = size.cumsum(-1) - size, wrong.cumsum(-1) - wrong
    share = torch.where(size > 0, wrong / size, 0.0)
    harmonic = torch.digamma(before + size + 1) - torch.digamma(before + 1)
    return (wrong + (errors - before * share) * harmonic).sum(-1) / size.sum(-1)
