"""Bootstrap intervals of means and of paired differences, by groups, of many columns at once, in bounded memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from .limits import Method, bca_limits, percentile_limits, two_sided_p
from .resampling import Floats, Groups, columns_by_group, replicate_means

__all__ = [
    "Difference",
    "Estimate",
    "bootstrap_mean",
    "bootstrap_means",
    "paired_bootstrap",
    "paired_bootstraps",
]


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

    A column's result is the one it would have alone, to the last bit: it does not depend on the other columns.

    Args:
        columns: each `(n,)`, NaN = undefined. They are taken one at a time, so that an iterator of a thousand columns
            needs the memory of one, and of `groups` and `replicates` numbers for each.
        groups: n labels, for all columns.
        rng: where the replicates come from.
        replicates: how many resamples.
        level: the intervals' coverage, in (0, 1).
        method: `percentile` or `bca`.

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

    As `bootstrap_mean`, over the pairs that are defined on both sides. The p-value is
    p = 2 · min(1 + #{θ* ≤ 0}, 1 + #{θ* ≥ 0}) / (replicates + 1), at most 1, over the replicates θ*: never below
    2 / (replicates + 1), which is all that so many replicates can say.

    Args:
        base: `(n,)`, NaN = undefined.
        condition: `(n,)`, position i is the sample at position i of `base`.
        groups: n labels; pairs of one label are resampled together. None = each pair is its own group.
        rng: where the replicates come from.
        replicates: how many resamples.
        level: the interval's coverage, in (0, 1).
        method: of the interval, `percentile` or `bca`; p is the percentiles' in both cases.

    Returns:
        NaN everywhere without a defined pair, and a NaN interval and p with a single group.

    Raises:
        ValueError: a shape does not fit, a value is infinite, or `level`, `replicates` or `method` is none that can be.

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
    """Return `paired_bootstrap` of every pair of columns, all from the same resamples, which are drawn once.

    Args:
        pairs: base and condition, each `(n,)`, NaN = undefined; taken one at a time, as in `bootstrap_means`.
        groups: n labels, for all pairs.
        rng: where the replicates come from.
        replicates: how many resamples.
        level: the intervals' coverage, in (0, 1).
        method: `percentile` or `bca`.

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
