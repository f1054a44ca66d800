"""Compute bootstrap intervals and p-values of means and paired differences, by group, for many columns at once."""

import math
from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from .resampling import (
    Difference,
    Estimate,
    Floats,
    GroupedColumn,
    Groups,
    as_vector,
    as_vectors,
    check_settings,
    columns_by_group,
    replicate_means,
)

__all__ = [
    "Method",
    "bca_limits",
    "bootstrap_mean",
    "bootstrap_means",
    "expanded_p",
    "paired_bootstrap",
    "paired_bootstraps",
    "percentile_limits",
    "two_sided_p",
]

Method = Literal["percentile", "bca"]


def bootstrap_mean(
    values: ArrayLike,
    groups: Groups | None = None,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
    method: Method = "percentile",
) -> Estimate:
    """Return a mean and its percentile bootstrap interval.

    Whole groups are resampled; a replicate is the ratio Σ values / Σ counts over the drawn groups, which weights groups
    by their number of values. Groups without a defined value are drawn too, as the number of defined values is random;
    a replicate without any is left out. The percentiles are expanded for few groups, from α/2 to
    Φ(−√(G/(G−1)) · t(1−α/2; G−1)) with G groups that have a defined value; otherwise the interval would be too narrow.
    More than 8,192 groups are merged at random, which keeps the standard error in expectation.

    Args:
        values: `(n,)`, NaN = undefined.
        groups: n labels; values with the same label are resampled together. None = each is its own group.
        rng: random generator of the replicates.
        replicates: number of resamples.
        level: the interval's coverage, in (0, 1).
        method: `percentile`, or `bca`, which corrects for the replicates' bias and for skewness with the jackknife over
            groups: for skewed values, at the cost of needing many replicates.

    Returns:
        NaN everywhere without a defined value, and a NaN interval with a single group, which cannot be resampled.

    Raises:
        ValueError: a shape does not fit, a value is infinite, or `level`, `replicates` or `method` is invalid.

    Example:
        >>> bootstrap_mean([1.0, 2.0, 3.0, float("nan")], rng=np.random.default_rng(0)).value
        2.0

    Source:
        Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015), section 3.3
        (expanded percentiles); Cameron, Gelbach and Miller, Review of Economics and Statistics 90 (2008) (clusters);
        Efron, Journal of the American Statistical Association 82 (1987) (BCa).
    """
    column = as_vector("values", values)
    return bootstrap_means([column], groups, rng=rng, replicates=replicates, level=level, method=method)[0]


def bootstrap_means(
    columns: Iterable[ArrayLike],
    groups: Groups | None = None,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
    method: Method = "percentile",
) -> list[Estimate]:
    """Return `bootstrap_mean` of every column, all from the same resamples, which are drawn once.

    A column's result does not depend on the other columns, to the last bit. Columns are consumed one at a time, so that
    an iterator of a thousand columns needs the memory of one, plus as many numbers as there are groups and replicates
    for each.

    Raises:
        ValueError: as `bootstrap_mean`; the message names the column.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> [estimate.n for estimate in bootstrap_means([[1.0, 2.0], [3.0, float("nan")]], rng=rng)]
        [2, 1]
    """
    named = (as_vector(f"columns[{index}]", column) for index, column in enumerate(columns))
    return [estimate for estimate, _ in _estimates_and_replicates(named, groups, rng, replicates, level, method)]


def paired_bootstrap(
    base: ArrayLike,
    condition: ArrayLike,
    groups: Groups | None = None,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
    method: Method = "percentile",
) -> Difference:
    """Return the mean paired difference condition − base and its percentile bootstrap interval.

    As `bootstrap_mean`, over the pairs that are defined on both sides; position i of both is the same sample. For
    either method the p-value is p = 2 · min(1 + #{θ* ≤ 0}, 1 + #{θ* ≥ 0}) / (replicates + 1), at most 1, over the
    replicates θ*; it cannot be below 2 / (replicates + 1).

    Returns:
        NaN everywhere without a defined pair, and a NaN interval and p with a single group.

    Raises:
        ValueError: as `bootstrap_mean`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> paired_bootstrap([0.9, 0.8, 0.7], [0.5, 0.6, float("nan")], rng=rng).n
        2

    Source:
        Davison and Hinkley, Bootstrap Methods and their Application (1997), sections 4.4 (p-value) and 5.3.
    """
    pair = as_vectors(base, condition)
    return paired_bootstraps([pair], groups, rng=rng, replicates=replicates, level=level, method=method)[0]


def paired_bootstraps(
    pairs: Iterable[tuple[ArrayLike, ArrayLike]],
    groups: Groups | None = None,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
    method: Method = "percentile",
) -> list[Difference]:
    """Return `paired_bootstrap` of every pair (base, condition), all from the same resamples, which are drawn once.

    Raises:
        ValueError: as `paired_bootstrap`; the message names the pair.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> differences = paired_bootstraps([([0.9, 0.8], [0.5, 0.6]), ([0.9, 0.8], [0.9, float("nan")])], rng=rng)
        >>> [difference.n for difference in differences]
        [2, 1]
    """
    checked_pairs = (as_vectors(*pair, where=f" of pairs[{index}]") for index, pair in enumerate(pairs))
    changes = (condition - base for base, condition in checked_pairs)
    return [
        Difference(mean.value, mean.low, mean.high, mean.n, two_sided_p(means))
        for mean, means in _estimates_and_replicates(changes, groups, rng, replicates, level, method)
    ]


def _estimates_and_replicates(
    columns: Iterable[Floats],
    groups: Groups | None,
    rng: np.random.Generator,
    replicates: int,
    level: float,
    method: Method,
) -> list[tuple[Estimate, Floats]]:
    """Return each column's mean with its interval, and its replicates (none without an interval)."""
    check_settings(level, replicates)
    if method not in get_args(Method):
        raise ValueError(f"expected 'method' to be one of {', '.join(get_args(Method))}; got {method!r}")
    grouped = columns_by_group(columns, groups, rng)
    resampled = iter(replicate_means([column for column in grouped if column.groups > 1], replicates, rng))
    estimates = []
    for column in grouped:
        means = next(resampled) if column.groups > 1 else np.empty(0)
        if method == "bca":
            low, high = bca_limits(means, column, level)
        else:
            low, high = percentile_limits(means, column.groups, level)
        estimates.append((Estimate(column.value, low, high, column.n), means))
    return estimates


def percentile_limits(replicates: Floats, groups: int, level: float) -> tuple[float, float]:
    """Return (low, high), the percentiles of replicates, expanded for few groups as in `bootstrap_mean`.

    NaN with fewer than two groups, which cannot be resampled, and without a defined replicate.

    Example:
        >>> [round(float(limit), 2) for limit in percentile_limits(np.linspace(0, 1, 1001), 50, 0.9)]
        [0.05, 0.95]
    """
    from scipy.special import ndtr

    defined = replicates[~np.isnan(replicates)]
    if groups < 2 or not len(defined):
        return math.nan, math.nan
    tail = float(ndtr(_expanded_quantile(groups, level)))
    low, high = np.quantile(defined, [tail, 1 - tail]).tolist()
    return low, high


def bca_limits(replicates: Floats, column: GroupedColumn, level: float) -> tuple[float, float]:
    """Return (low, high), the bias-corrected and accelerated percentiles of a column's replicates.

    The percentiles are Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z))) at the lower and upper normal quantile z, expanded for few
    groups as in `percentile_limits`. z₀ is the normal quantile of the share of replicates below the mean (plus half of
    those equal to it), and a = Σ dᵢ³ / (6 (Σ dᵢ²)^1.5) the acceleration, where dᵢ is the mean of all jackknife means
    less the one without group i.

    NaN with fewer than two groups, if all replicates are on one side of the mean, and if the skewness is too large for
    the formula, which at usual levels happens only with few groups.

    Source:
        Efron, Journal of the American Statistical Association 82 (1987); Efron and Tibshirani, An Introduction to the
        Bootstrap (1993), section 14.3.
    """
    from scipy.special import ndtr, ndtri

    defined = replicates[~np.isnan(replicates)]
    if column.groups < 2 or not len(defined):
        return math.nan, math.nan
    equal = np.isclose(defined, column.ratio, rtol=1e-12, atol=0.0)  # but for the order of summation
    below = np.count_nonzero((defined < column.ratio) & ~equal)
    bias = float(ndtri((below + np.count_nonzero(equal) / 2) / len(defined)))
    if math.isinf(bias):
        return math.nan, math.nan
    quantile = _expanded_quantile(column.groups, level)
    shifted = np.array([bias + quantile, bias - quantile])
    denominator = 1 - _skewness(column.jackknife()) / 6 * shifted
    if (denominator <= 0).any():
        return math.nan, math.nan
    low, high = np.quantile(defined, ndtr(bias + shifted / denominator)).tolist()
    return low, high


def expanded_p(replicates: Floats, groups: int) -> float:
    """Return the p-value that matches `percentile_limits`: 1 − the level at which the interval ends at 0.

    It is 2 · P(t(G − 1) > z / √(G / (G − 1))), with Φ(−z) the smaller share of replicates on either side of 0; NaN with
    fewer than two groups, and without a replicate.
    """
    from scipy.special import ndtri, stdtr

    share = two_sided_p(replicates) / 2
    if groups < 2 or math.isnan(share):
        return math.nan
    return min(1.0, 2 * float(stdtr(groups - 1, float(ndtri(share)) / math.sqrt(groups / (groups - 1)))))


def two_sided_p(replicates: Floats) -> float:
    """Return the p-value of `paired_bootstrap`, over the defined replicates.

    Example:
        >>> two_sided_p(np.array([0.1, 0.2, 0.3]))
        0.5
    """
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return math.nan
    extreme = int(min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0)))
    return min(1.0, 2 * (1 + extreme) / (len(defined) + 1))


def _skewness(jackknife: Floats) -> float:
    """Return Σ d³ / (Σ d²)^1.5, 0 if no group changes the mean."""
    influence = jackknife.mean() - jackknife
    largest = float(np.abs(influence).max())
    if largest == 0:
        return 0.0
    influence /= largest
    return float((influence**3).sum() / (influence**2).sum() ** 1.5)


def _expanded_quantile(groups: int, level: float) -> float:
    """Return the lower quantile of the interval, in standard errors without √(G/(G−1))."""
    from scipy.special import stdtrit

    return -math.sqrt(groups / (groups - 1)) * float(stdtrit(groups - 1, (1 + level) / 2))
