"""How well a score ranks: the area under the ROC curve, ties counted half, with a score interval."""

import math

import torch
from torch import Tensor

from .statistics import normal_quantile
from .ties import block_sums, dense_ranks, kept_weights, precise

__all__ = ["auroc", "auroc_interval"]


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
