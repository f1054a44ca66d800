"""Selective prediction: how often the answers are wrong when only the surest are given.

`scores` and `correct` are `(..., N)`: any number that is larger where the model is surer, and whether the answer is
right (1 or 0). A row with a NaN in either is left out. Only the order of the scores counts; over the order of tied rows
a mean is taken, so the order in which they come changes nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .ties import block_sums, dense_ranks, kept_weights, precise

__all__ = [
    "RiskCoverage",
    "area_under_risk_coverage",
    "excess_area_under_risk_coverage",
    "risk_coverage_curve",
]


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
