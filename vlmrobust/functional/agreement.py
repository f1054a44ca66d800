"""Do several raters say the same: the share on which all agree, pairs, and Fleiss' κ.

`ratings` is `(N, R)`: what R raters say of N items; equal values are one category, NaN says nothing.
"""

import math

import torch
from torch import Tensor

__all__ = ["fleiss_kappa", "pairwise_agreement", "strict_agreement"]


def strict_agreement(ratings: Tensor) -> float:
    """Return the share of items of which all raters say the same, in [0, 1].

    Args:
        ratings: `(N, R)`; items that a rater says nothing of are left out.

    Returns:
        NaN if no item is rated by all.

    Raises:
        ValueError: not two-dimensional, or fewer than two raters.

    Example:
        >>> strict_agreement(torch.tensor([[1, 1, 1], [1, 0, 1]]))
        0.5
    """
    complete = _complete(ratings)
    return float((complete == complete[:, :1]).all(dim=1).double().mean())


def pairwise_agreement(ratings: Tensor) -> Tensor:
    """Return for every two raters the share of items of which they say the same.

    Args:
        ratings: `(N, R)`; for each pair the items count of which both say something.

    Returns:
        `(R, R)` float64 in [0, 1], symmetric; NaN for a pair without an item, on the diagonal as well.

    Raises:
        ValueError: as `strict_agreement`.

    Example:
        >>> pairwise_agreement(torch.tensor([[1, 1, 1], [1, 0, 1]]))[0]
        tensor([1.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    checked = _checked(ratings)
    one, other = checked[:, :, None], checked[:, None, :]
    both = (~one.isnan() & ~other.isnan()).double().sum(dim=0)
    return (one == other).double().sum(dim=0) / both


def fleiss_kappa(ratings: Tensor) -> float:
    r"""Return Fleiss' κ: agreement beyond what the raters' common preferences alone would give.

    With $n_{ij}$ raters who put item i into category j: $P_i = \sum_j n_{ij} (n_{ij} - 1) / (R (R - 1))$,
    $p_j = \sum_i n_{ij} / (N R)$, $\kappa = (\bar P - \sum_j p_j^2) / (1 - \sum_j p_j^2)$; at most 1, 0 = as by chance.

    Args:
        ratings: `(N, R)`; items that a rater says nothing of are left out.

    Returns:
        NaN if no item is rated by all, or if all ratings are the same: then chance alone agrees.

    Raises:
        ValueError: as `strict_agreement`.

    Example:
        >>> round(fleiss_kappa(torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0]])), 3)
        0.55

    Source:
        Fleiss (1971), Measuring nominal scale agreement among many raters.
    """
    complete = _complete(ratings)
    if not len(complete):
        return math.nan
    raters = complete.shape[1]
    categories, codes = complete.unique(return_inverse=True)
    counts = torch.nn.functional.one_hot(codes, len(categories)).sum(dim=1).double()
    observed = (counts * (counts - 1)).sum(dim=1).mean() / (raters * (raters - 1))
    chance = (counts.mean(dim=0) / raters).square().sum()
    return float((observed - chance) / (1 - chance)) if len(categories) > 1 else math.nan


def _complete(ratings: Tensor) -> Tensor:
    checked = _checked(ratings)
    return checked[~checked.isnan().any(dim=1)]


def _checked(ratings: Tensor) -> Tensor:
    if ratings.ndim != 2 or ratings.shape[1] < 2:
        raise ValueError(f"expected ratings (N, R) of at least two raters, got shape {tuple(ratings.shape)}")
    return ratings.double()
