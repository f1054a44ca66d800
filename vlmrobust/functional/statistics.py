"""Intervals and tests for rates and paired differences: closed forms, and the choice between them and the bootstrap."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bootstrap import (
    Difference,
    Estimate,
    Floats,
    Groups,
    bootstrap_mean,
    checked,
    checked_pair,
    group_codes,
    paired_bootstrap,
)

__all__ = [
    "holm",
    "mcnemar_exact",
    "mean_interval",
    "newcombe_paired_interval",
    "paired_interval",
    "wilson_interval",
]


def wilson_interval(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a rate, in [0, 1].

    Args:
        successes: how many of n.
        n: how many in all; need not be whole (effective sizes).
        level: the interval's coverage, in (0, 1).

    Returns:
        (low, high), NaN for n = 0.

    Raises:
        ValueError: `successes` is not in 0 … n, or `level` out of range.

    Example:
        >>> [round(bound, 4) for bound in wilson_interval(8, 10)]
        [0.4902, 0.9433]

    Source:
        Wilson, Journal of the American Statistical Association 22 (1927).
    """
    if not 0 <= successes <= n:
        raise ValueError(f"expected 'successes' between 0 and n = {n}, got {successes}")
    z = _normal_quantile(level)
    if n == 0:
        return math.nan, math.nan
    rate = successes / n
    center = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At a rate of 0 or 1 the bound is the rate itself; rounding must not carry it outside.
    low = 0.0 if successes == 0 else max(0.0, center - half)
    return low, 1.0 if successes == n else min(1.0, center + half)


def newcombe_paired_interval(
    both: float, base_only: float, condition_only: float, neither: float, level: float = 0.95
) -> tuple[float, float]:
    """Return Newcombe's score interval of the difference of two paired rates, condition − base, in [-1, 1].

    Wilson's intervals of both rates, squared and added with the correlation φ of the pairs (method 10, with Newcombe's
    correction of φ). Unlike a bootstrap it does not shrink to [0, 0] where no pair differs.

    Args:
        both: how many pairs are 1 on both sides.
        base_only: how many are 1 under base alone.
        condition_only: how many are 1 under the condition alone.
        neither: how many are 1 on no side.
        level: the interval's coverage, in (0, 1).

    Returns:
        (low, high), NaN without a pair.

    Raises:
        ValueError: a count is negative, or `level` out of range.

    Example:
        >>> [round(bound, 4) for bound in newcombe_paired_interval(59, 16, 6, 80)]
        [-0.1186, -0.0046]

    Source:
        Newcombe, Statistics in Medicine 17 (1998) 2635–2650, method 10. The example is Cavo et al. (2012) as given in
        Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables (2017), chapter 8.
    """
    a, b, c, d = both, condition_only, base_only, neither
    if min(a, b, c, d) < 0:
        raise ValueError(f"expected counts of at least 0, got {(both, base_only, condition_only, neither)}")
    n = a + b + c + d
    if n == 0:
        return math.nan, math.nan
    p1, p2 = (a + b) / n, (a + c) / n
    low1, high1 = wilson_interval(a + b, n, level)
    low2, high2 = wilson_interval(a + c, n, level)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    excess = a * d - b * c
    corrected = max(excess - n / 2, 0.0) if excess > 0 else excess
    phi = corrected / math.sqrt(margins) if margins > 0 else 0.0

    def added(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))

    difference = p1 - p2
    low = difference - added(p1 - low1, high2 - p2)
    high = difference + added(high1 - p1, p2 - low2)
    return max(-1.0, low), min(1.0, high)


def mcnemar_exact(base_only: int, condition_only: int) -> float:
    """Return the two-sided p-value of McNemar's exact test that base and condition have the same rate.

    The pairs that differ are coin throws: p = min(1, 2 · P(X ≤ min(b, c))) with X ~ Binomial(b + c, 1/2).

    Args:
        base_only: how many pairs are 1 under base alone.
        condition_only: how many are 1 under the condition alone.

    Returns:
        p in (0, 1], 1 where no pair differs.

    Raises:
        ValueError: a count is negative.

    Example:
        >>> mcnemar_exact(0, 6)
        0.03125

    Source:
        McNemar, Psychometrika 12 (1947); the exact form is the sign test.
    """
    from scipy.special import bdtr

    if min(base_only, condition_only) < 0:
        raise ValueError(f"expected counts of at least 0, got {(base_only, condition_only)}")
    differing = base_only + condition_only
    if differing == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(base_only, condition_only), differing, 0.5)))


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted for their number, which keeps the chance of any false rejection at the level.

    The i-th smallest of m becomes max over j ≤ i of min(1, (m − j + 1) · p_(j)).

    Args:
        p_values: `(m,)`, in [0, 1]; NaN = no test, stays NaN and is not counted.

    Returns:
        `(m,)` float64.

    Raises:
        ValueError: a value is outside [0, 1].

    Example:
        >>> holm([0.01, 0.04, float("nan")]).tolist()
        [0.02, 0.04, nan]

    Source:
        Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    values = checked("p_values", p_values)
    tested = np.flatnonzero(~np.isnan(values))
    given = values[tested]
    if len(given) and not 0 <= given.min() <= given.max() <= 1:
        raise ValueError(f"expected p-values between 0 and 1, got {given.min()} to {given.max()}")
    order = np.argsort(given, kind="stable")
    adjusted = np.full(len(values), math.nan)
    steps = np.arange(len(given), 0, -1)
    adjusted[tested[order]] = np.minimum(1.0, np.maximum.accumulate(steps * given[order]))
    return adjusted


def mean_interval(
    values: ArrayLike,
    groups: Groups | None = None,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> Estimate:
    """Return a mean with the interval that fits: Wilson's for 0/1 values without groups, else a bootstrap.

    Where groups are given and all values are the same 0 or 1, a bootstrap would collapse to a point; the interval is
    then Wilson's with one observation per group, which is wide enough however alike a group's members are.

    Args:
        values: `(n,)`, NaN = undefined; undefined values are left out.
        groups: n labels; values of one label are resampled together. None, or all different = no groups.
        rng: where a bootstrap's replicates come from.
        replicates: how many resamples.
        level: the interval's coverage, in (0, 1).

    Example:
        >>> mean_interval([1.0, 1.0, 1.0, float("nan")], rng=np.random.default_rng(0)).high
        1.0
    """
    array = checked("values", values)
    defined = ~np.isnan(array)
    kept, count = array[defined], _group_count(groups, defined)
    if len(kept) and _binary(kept) and (count == len(kept) or np.ptp(kept) == 0):
        rate = float(kept.mean())
        successes = float(kept.sum()) if count == len(kept) else rate * count
        return Estimate(rate, *wilson_interval(successes, count, level), len(kept))
    return bootstrap_mean(array, groups, rng=rng, replicates=replicates, level=level)


def paired_interval(
    base: ArrayLike,
    condition: ArrayLike,
    groups: Groups | None = None,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> Difference:
    """Return the mean paired difference condition − base with the interval and the test that fit.

    For 0/1 values without groups: Newcombe's score interval and McNemar's exact p. Otherwise `paired_bootstrap`, with
    its own p. Where groups are given and all 0/1 pairs differ by the same, a bootstrap would collapse to a point; it is
    then Newcombe and McNemar with one observation per group.

    Args:
        base: `(n,)`, NaN = undefined; a pair with a NaN is left out.
        condition: `(n,)`, position i is the sample at position i of `base`.
        groups: n labels; pairs of one label are resampled together. None, or all different = no groups.
        rng: where a bootstrap's replicates come from.
        replicates: how many resamples.
        level: the interval's coverage, in (0, 1).

    Returns:
        NaN everywhere without a defined pair.

    Raises:
        ValueError: a shape does not fit, a value is infinite, or `level` or `replicates` is out of range.

    Example:
        >>> paired_interval([1, 1, 1, 0], [0, 0, 1, 0], rng=np.random.default_rng(0)).value
        -0.5
    """
    first, second = checked_pair(base, condition)
    defined = ~np.isnan(first) & ~np.isnan(second)
    kept, n = (first[defined], second[defined]), int(np.count_nonzero(defined))
    count = _group_count(groups, defined)
    if n and _binary(*kept) and (count == n or np.ptp(kept[1] - kept[0]) == 0):
        return _paired_rates(*kept, count, level)
    return paired_bootstrap(first, second, groups, rng=rng, replicates=replicates, level=level)


def _paired_rates(base: Floats, condition: Floats, count: int, level: float) -> Difference:
    n = len(base)
    both = int(np.count_nonzero((base == 1) & (condition == 1)))
    base_only = int(np.count_nonzero(base > condition))
    condition_only = int(np.count_nonzero(condition > base))
    neither = n - both - base_only - condition_only
    share = count / n
    cells = (both * share, base_only * share, condition_only * share, neither * share)
    low, high = newcombe_paired_interval(cells[0], cells[1], cells[2], cells[3], level)
    # With groups, either no pair differs or all differ the same way: these two counts are whole.
    p = mcnemar_exact(round(cells[1]), round(cells[2]))
    return Difference((condition_only - base_only) / n, low, high, n, p)


def _group_count(groups: Groups | None, defined: NDArray[np.bool_]) -> int:
    codes = group_codes(groups, defined)
    return int(codes.max()) + 1 if len(codes) else 0


def _binary(*arrays: Floats) -> bool:
    return all(bool(np.isin(array, (0.0, 1.0)).all()) for array in arrays)


def _normal_quantile(level: float) -> float:
    from scipy.special import ndtri

    if not 0 < level < 1:
        raise ValueError(f"expected 'level' between 0 and 1, got {level}")
    return float(ndtri((1 + level) / 2))
