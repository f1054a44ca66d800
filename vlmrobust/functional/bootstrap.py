"""Bootstrap means and paired differences, by groups, of many columns at once: intervals and p-values."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from .resampling import Floats, GroupedColumn, Groups, columns_by_group, replicate_means

__all__ = [
    "Difference",
    "Estimate",
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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: the mean over the n defined values, NaN if there is none.
        low, high: the interval, NaN where it cannot be had.
        n: number of defined values.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean paired difference, condition − base, with its interval.

    Attributes:
        value: the mean over the n pairs that are defined on both sides, NaN if there is none.
        low, high: the interval, NaN where it cannot be had.
        n: number of pairs defined on both sides.
        p: two-sided p-value of "no difference", NaN where it cannot be had.
    """

    value: float
    low: float
    high: float
    n: int
    p: float


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

    Whole groups are resampled; a replicate is the ratio Σ values / Σ counts over the drawn groups, so that groups of
    unequal size weigh what they hold. Groups without a defined value are drawn from as well: how many values are
    defined is chance too, and a replicate without any is left out. The percentiles are expanded for few groups, from
    α/2 to Φ(−√(G/(G−1)) · t(1−α/2; G−1)) with G groups that have a defined value, without which the interval is too
    narrow. More groups than 8,192 are merged at random, which keeps the standard error in expectation.

    Args:
        values: `(n,)`, NaN = undefined.
        groups: n labels; values of one label are resampled together. None = each is its own group.
        rng: where the replicates come from.
        replicates: how many resamples.
        level: the interval's coverage, in (0, 1).
        method: `percentile`, or `bca`, which corrects for the replicates' bias and for skewness, from the means without
            each group: for skewed values, at the cost of needing many replicates.

    Returns:
        NaN everywhere without a defined value, and a NaN interval with a single group, which cannot be resampled.

    Raises:
        ValueError: a shape does not fit, a value is infinite, or `level`, `replicates` or `method` is none that can be.

    Example:
        >>> bootstrap_mean([1.0, 2.0, 3.0, float("nan")], rng=np.random.default_rng(0)).value
        2.0

    Source:
        Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015), section 3.3
        (expanded percentiles); Cameron, Gelbach and Miller, Review of Economics and Statistics 90 (2008) (clusters);
        Efron, Journal of the American Statistical Association 82 (1987) (BCa).
    """
    column = checked("values", values)
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

    A column's result is the one it would have alone, to the last bit: it does not depend on the other columns. They are
    taken one at a time, so that an iterator of a thousand columns needs the memory of one, and of as many numbers as
    there are groups and replicates for each.

    Raises:
        ValueError: as `bootstrap_mean`; the message says which column.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> [estimate.n for estimate in bootstrap_means([[1.0, 2.0], [3.0, float("nan")]], rng=rng)]
        [2, 1]
    """
    named = (checked(f"columns[{index}]", column) for index, column in enumerate(columns))
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

    As `bootstrap_mean`, over the pairs that are defined on both sides; position i of either is the same sample. The
    p-value is p = 2 · min(1 + #{θ* ≤ 0}, 1 + #{θ* ≥ 0}) / (replicates + 1), at most 1, over the replicates θ*, whatever
    the method: never below 2 / (replicates + 1), which is all that so many replicates can say.

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
    pair = checked_pair(base, condition)
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
        ValueError: as `paired_bootstrap`; the message says which pair.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = paired_bootstraps([([0.9, 0.8], [0.5, 0.6]), ([0.9, 0.8], [0.9, float("nan")])], rng=rng)
        >>> [difference.n for difference in found]
        [2, 1]
    """
    checked_pairs = (checked_pair(*pair, where=f" of pairs[{index}]") for index, pair in enumerate(pairs))
    changes = (condition - base for base, condition in checked_pairs)
    return [
        Difference(found.value, found.low, found.high, found.n, two_sided_p(means))
        for found, means in _estimates_and_replicates(changes, groups, rng, replicates, level, method)
    ]


def checked(name: str, values: ArrayLike, where: str = "") -> Floats:
    """Return values as a float64 vector, refusing another shape and infinities."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected {name!r}{where} of shape (n,), got {array.shape}")
    if len(infinite := np.flatnonzero(np.isinf(array))):
        raise ValueError(f"expected finite values or NaN in {name!r}{where}, got {array[infinite[0]]} at {infinite[0]}")
    return array


def checked_pair(base: ArrayLike, condition: ArrayLike, where: str = "") -> tuple[Floats, Floats]:
    """Return two vectors of one length."""
    first, second = checked("base", base, where), checked("condition", condition, where)
    if first.shape != second.shape:
        raise ValueError(f"expected 'base' and 'condition'{where} of one length, got {len(first)} and {len(second)}")
    return first, second


def _estimates_and_replicates(
    columns: Iterable[Floats],
    groups: Groups | None,
    rng: np.random.Generator,
    replicates: int,
    level: float,
    method: Method,
) -> list[tuple[Estimate, Floats]]:
    """Return each column's mean with its interval, and the replicates behind it (none where there is no interval)."""
    if not 0 < level < 1:
        raise ValueError(f"expected 'level' between 0 and 1, got {level}")
    if replicates < 1:
        raise ValueError(f"expected at least one of 'replicates', got {replicates}")
    if method not in get_args(Method):
        raise ValueError(f"expected 'method' to be one of {', '.join(get_args(Method))}; got {method!r}")
    grouped = columns_by_group(columns, groups, rng)
    resampled = iter(replicate_means([column for column in grouped if column.groups > 1], replicates, rng))
    found = []
    for column in grouped:
        means = next(resampled) if column.groups > 1 else np.empty(0)
        if method == "bca":
            low, high = bca_limits(means, column, level)
        else:
            low, high = percentile_limits(means, column.groups, level)
        found.append((Estimate(column.value, low, high, column.n), means))
    return found


def percentile_limits(replicates: Floats, groups: int, level: float) -> tuple[float, float]:
    """Return (low, high), the percentiles of replicates, expanded for few groups as in `bootstrap_mean`.

    NaN with fewer than two groups, which cannot be resampled, and without a replicate that is no NaN.

    Example:
        >>> [round(float(limit), 2) for limit in percentile_limits(np.linspace(0, 1, 1001), 50, 0.9)]
        [0.05, 0.95]
    """
    from scipy.special import ndtr

    known = replicates[~np.isnan(replicates)]
    if groups < 2 or not len(known):
        return math.nan, math.nan
    tail = float(ndtr(_expanded_quantile(groups, level)))
    low, high = np.quantile(known, [tail, 1 - tail]).tolist()
    return low, high


def bca_limits(replicates: Floats, column: GroupedColumn, level: float) -> tuple[float, float]:
    """Return (low, high), the bias-corrected and accelerated percentiles of a column's replicates.

    The percentiles are Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z))) at the lower and upper normal quantile z, expanded for few
    groups as in `percentile_limits`: z₀ is the normal quantile of the share of replicates below the mean (half of those
    equal to it), a = Σ dᵢ³ / (6 (Σ dᵢ²)^1.5) the skewness of the mean without each group i, dᵢ = mean of these − i-th.

    NaN with fewer than two groups, where all replicates are on one side of the mean, and where the skewness is too
    large for the formula, which at usual levels it can be with few groups alone.

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
    """Return the p-value whose interval is that of `percentile_limits`: 1 − the level at which it ends at 0.

    That is 2 · P(t(G − 1) > z / √(G / (G − 1))), with Φ(−z) the smaller share of replicates on either side of 0; NaN
    with fewer than two groups, and without a replicate.
    """
    from scipy.special import ndtri, stdtr

    share = two_sided_p(replicates) / 2
    if groups < 2 or math.isnan(share):
        return math.nan
    return min(1.0, 2 * float(stdtr(groups - 1, float(ndtri(share)) / math.sqrt(groups / (groups - 1)))))


def two_sided_p(replicates: Floats) -> float:
    """Return the p-value of `paired_bootstrap`, over the replicates that are defined.

    Example:
        >>> two_sided_p(np.array([0.1, 0.2, 0.3]))
        0.5
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
