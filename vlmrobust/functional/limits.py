"""From replicates to an interval and a p-value: percentiles, with or without correction for bias and skewness."""

import math
from typing import Literal

import numpy as np

from .resampling import Floats, GroupedColumn

__all__ = ["Method", "bca_limits", "expanded_p", "percentile_limits", "two_sided_p"]

Method = Literal["percentile", "bca"]


def percentile_limits(replicates: Floats, groups: int, level: float) -> tuple[float, float]:
    """Return expanded percentiles of a bootstrap's replicates.

    Plain percentiles are too narrow for few groups, by √((G−1)/G) and by the normal in place of the t distribution;
    expanded from α/2 to Φ(−√(G/(G−1)) · t(1−α/2; G−1)) they are not.

    Args:
        replicates: `(r,)`, NaN = undefined in this resample; left out.
        groups: number of groups that were resampled, G.
        level: the interval's coverage, in (0, 1).

    Returns:
        (low, high), NaN with fewer than two groups, which cannot be resampled, and without a replicate.

    Example:
        >>> [round(float(limit), 2) for limit in percentile_limits(np.linspace(0, 1, 1001), 50, 0.9)]
        [0.05, 0.95]

    Source:
        Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015), section 3.3.
    """
    from scipy.special import ndtr

    known = replicates[~np.isnan(replicates)]
    if groups < 2 or not len(known):
        return math.nan, math.nan
    tail = float(ndtr(_expanded_quantile(groups, level)))
    low, high = np.quantile(known, [tail, 1 - tail]).tolist()
    return low, high


def bca_limits(replicates: Floats, column: GroupedColumn, level: float) -> tuple[float, float]:
    """Return bias-corrected and accelerated percentiles of a column's replicates.

    The percentiles are Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z))) at the lower and upper normal quantile z, expanded for few
    groups as in `percentile_limits`: z₀ is the normal quantile of the share of replicates below the mean (half of those
    equal to it), a = Σ dᵢ³ / (6 (Σ dᵢ²)^1.5) the skewness of the mean without each group i, dᵢ = mean of these − i-th.

    Args:
        replicates: `(r,)`, NaN = undefined in this resample; left out.
        column: what was resampled.
        level: the interval's coverage, in (0, 1).

    Returns:
        (low, high), NaN with fewer than two groups, where all replicates are on one side of the mean, and where the
        skewness is too large for the formula, which at usual levels it can be with few groups alone.

    Source:
        Efron, Journal of the American Statistical Association 82 (1987); Efron and Tibshirani, An Introduction to the
        Bootstrap (1993), section 14.3.
    """
    from scipy.special import ndtr, ndtri

    known = replicates[~np.isnan(replicates)]
    if column.groups < 2 or not len(known):
        return math.nan, math.nan
    below, up_to = np.count_nonzero(known < column.ratio), np.count_nonzero(known <= column.ratio)
    bias = float(ndtri((below + up_to) / (2 * len(known))))
    if math.isinf(bias):
        return math.nan, math.nan
    quantile = _expanded_quantile(column.groups, level)
    shifted = np.array([bias + quantile, bias - quantile])
    room = 1 - _skewness(column.jackknife()) / 6 * shifted
    if (room <= 0).any():
        return math.nan, math.nan
    low, high = np.quantile(known, ndtr(bias + shifted / room)).tolist()
    return low, high


def expanded_p(replicates: Floats, groups: int) -> float:
    """Return the p-value whose interval is that of `percentile_limits`: the level at which it ends at 0.

    Args:
        replicates: `(r,)`, NaN = undefined in this resample; left out.
        groups: number of groups that were resampled, G.

    Returns:
        2 · P(t(G − 1) > z / √(G / (G − 1))), with Φ(−z) the smaller share of replicates on either side of 0; NaN with
        fewer than two groups, and without a replicate.
    """
    from scipy.special import ndtri, stdtr

    share = two_sided_p(replicates) / 2
    if groups < 2 or math.isnan(share):
        return math.nan
    return min(1.0, 2 * float(stdtr(groups - 1, float(ndtri(share)) / math.sqrt(groups / (groups - 1)))))


def two_sided_p(replicates: Floats) -> float:
    """Return p = 2 · min(1 + #{θ* ≤ 0}, 1 + #{θ* ≥ 0}) / (r + 1) over r defined replicates θ*, at most 1.

    Example:
        >>> two_sided_p(np.array([0.1, 0.2, 0.3]))
        0.5

    Source:
        Davison and Hinkley, Bootstrap Methods and their Application (1997), section 4.4.
    """
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return math.nan
    extreme = int(min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0)))
    return min(1.0, 2 * (1 + extreme) / (len(known) + 1))


def _skewness(jackknife: Floats) -> float:
    """Return Σ d³ / (Σ d²)^1.5, 0 where leaving out a group changes nothing."""
    influence = jackknife.mean() - jackknife
    largest = float(np.abs(influence).max())
    if largest == 0:
        return 0.0
    influence /= largest
    return float((influence**3).sum() / (influence**2).sum() ** 1.5)


def _expanded_quantile(groups: int, level: float) -> float:
    """Return the lower one of the two quantiles that enclose the level, in standard errors without √(G/(G−1))."""
    from scipy.special import stdtrit

    return -math.sqrt(groups / (groups - 1)) * float(stdtrit(groups - 1, (1 + level) / 2))
