"""Compute closed forms for rates and paired rates (intervals, tests, power), and correct p-values for their number."""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import checked
from .resampling import Floats

__all__ = [
    "average_interval",
    "benjamini_hochberg",
    "holm",
    "mcnemar_exact",
    "minimum_detectable_effect",
    "newcombe_paired_interval",
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
    z = normal_quantile(level)
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
    return recovered_limits((p2, low2, high2), (p1, low1, high1), phi)


def tango_interval(base_only: int, condition_only: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Tango's score interval of the difference of two paired rates, condition − base, in [-1, 1].

    The differences δ that the score test does not reject: |c − b − nδ| ≤ z √(n (2q̂ + δ(1 − δ))), with q̂ the most likely
    share of pairs that are 1 under base alone if the difference is δ. Unlike a bootstrap it does not shrink to [0, 0]
    where no pair differs, and one more failure raises neither end.

    Args:
        base_only: b, how many pairs are 1 under base alone.
        condition_only: c, how many are 1 under the condition alone.
        n: number of pairs.
        level: the interval's coverage, in (0, 1).

    Returns:
        (low, high), NaN without a pair.

    Raises:
        ValueError: a count is negative, there are fewer pairs than differ, or `level` is out of range.

    Example:
        >>> [round(end, 4) for end in tango_interval(16, 6, 161)]
        [-0.124, -0.0054]

    Source:
        Tango, Statistics in Medicine 17 (1998) 891–908.
    """
    from scipy.optimize import brentq

    if min(base_only, condition_only, n - base_only - condition_only) < 0:
        raise ValueError(f"expected counts of at least 0 that n pairs hold, got {(base_only, condition_only, n)}")
    z, change = normal_quantile(level), condition_only - base_only
    if n == 0:
        return math.nan, math.nan

    def score(delta: float, sign: int) -> float:
        linear = (2 * n - change) * delta - base_only - condition_only
        constant = -base_only * delta * (1 - delta)
        alone = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        return sign * (change - n * delta) - z * math.sqrt(max(0.0, n * (2 * alone + delta * (1 - delta))))

    # Where all pairs are alike the score is 0 at the difference itself, which is no end.
    below, above = change / n - 1e-9, change / n + 1e-9
    low = -1.0 if score(-1.0, 1) <= 0 else float(brentq(score, -1.0, below, args=(1,), xtol=1e-12))
    high = 1.0 if score(1.0, -1) <= 0 else float(brentq(score, above, 1.0, args=(-1,), xtol=1e-12))
    return low, high


def tango_p(base_only: int, condition_only: int) -> float:
    """Return the two-sided p-value of the score test that base and condition have the same rate.

    It is McNemar's test without correction for continuity: z = (c − b) / √(b + c). The interval of `tango_interval`
    excludes 0 exactly where p < 1 − level.

    Args:
        base_only: b, how many pairs are 1 under base alone.
        condition_only: c, how many are 1 under the condition alone.

    Returns:
        p in (0, 1], 1 where no pair differs.

    Raises:
        ValueError: a count is negative.

    Example:
        >>> round(tango_p(16, 6), 4)
        0.033

    Source:
        McNemar, Psychometrika 12 (1947); Tango, Statistics in Medicine 17 (1998).
    """
    from scipy.special import ndtr

    if min(base_only, condition_only) < 0:
        raise ValueError(f"expected counts of at least 0, got {(base_only, condition_only)}")
    differing = base_only + condition_only
    return 2 * float(ndtr(-abs(condition_only - base_only) / math.sqrt(differing))) if differing else 1.0


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
    return _step_adjusted(p_values, lambda ordered: np.maximum.accumulate(np.arange(len(ordered), 0, -1) * ordered))


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted so that, of what is called a finding, the expected share of false ones is at the level.

    The i-th smallest of m becomes min over j ≥ i of (m / j) · p_(j). A weaker promise than that of `holm`, under which
    more is found; it holds for independent and for positively dependent tests, as those against one base are.

    Args:
        p_values: `(m,)`, in [0, 1]; NaN = no test, stays NaN and is not counted.

    Returns:
        `(m,)` float64.

    Raises:
        ValueError: a value is outside [0, 1].

    Example:
        >>> benjamini_hochberg([0.01, 0.04, float("nan"), 0.03]).tolist()
        [0.03, 0.04, nan, 0.04]

    Source:
        Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995); Benjamini and Yekutieli, Annals of
        Statistics 29 (2001) (positive dependence).
    """

    def least_from_here_on(ordered: Floats) -> Floats:
        factors = len(ordered) / np.arange(1, len(ordered) + 1)
        return np.minimum.accumulate((factors * ordered)[::-1])[::-1]

    return _step_adjusted(p_values, least_from_here_on)


def minimum_detectable_effect(
    n: int, discordant: float, *, level: float = 0.95, power: float = 0.8, comparisons: int = 1
) -> float:
    """Return the smallest difference of two paired rates that the score test of n pairs finds with the given power.

    It is the δ > 0 of √n · δ = z(1−α/2) · √ψ + z(power) · √(ψ − δ²), with the share ψ of pairs that differ, α = 1 −
    level and z the normal quantile; with several comparisons α is divided by their number, since Holm's correction asks
    at most that of each. δ cannot exceed ψ, where all pairs that differ do so in one direction.

    Args:
        n: number of pairs.
        discordant: ψ, the share of pairs that are 1 on one side alone, in [0, 1], from a pilot or an earlier run.
        level: 1 − α of the two-sided test, in (0, 1).
        power: the chance to find the difference, in (1 − level, 1).
        comparisons: how many conditions are compared with base, whose p-values are corrected together.

    Returns:
        A difference of rates in (0, 1]; NaN where n pairs with such a ψ are too few for any.

    Raises:
        ValueError: `n` or `comparisons` is less than 1, or a share is out of range.

    Example:
        >>> [round(minimum_detectable_effect(1000, 0.2, comparisons=count), 4) for count in (1, 7)]
        [0.0396, 0.0499]

    Source:
        Connor, Biometrics 43 (1987) 207–211, solved for the difference; Miettinen, Biometrics 24 (1968) 339–352.
    """
    from scipy.special import ndtri

    if n < 1:
        raise ValueError(f"expected at least one pair in 'n', got {n}")
    if comparisons < 1:
        raise ValueError(f"expected at least one of 'comparisons', got {comparisons}")
    if not 0 <= discordant <= 1:
        raise ValueError(f"expected 'discordant' between 0 and 1, got {discordant}")
    needed = normal_quantile(1 - (1 - level) / comparisons) if 0 < level < 1 else normal_quantile(level)
    if not 1 - level < power < 1:
        raise ValueError(f"expected 'power' between 1 - level = {1 - level:.4g} and 1, got {power}")
    found = float(ndtri(power))
    under_root = n - needed**2 + found**2
    if discordant == 0 or under_root < 0:
        return math.nan
    # Of the equation squared, the root that solves it unsquared as well.
    effect = math.sqrt(discordant) * (math.sqrt(n) * needed + found * math.sqrt(under_root)) / (n + found**2)
    return effect if effect <= discordant else math.nan


def recovered_limits(
    base: tuple[float, float, float], condition: tuple[float, float, float], correlation: float
) -> tuple[float, float]:
    """Return the limits of a difference of two rates, from each one's (value, low, high) and their correlation."""
    (base_value, base_low, base_high), (value, low, high) = base, condition

    def added(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first**2 - 2 * correlation * first * second + second**2))

    difference = value - base_value
    below = difference - added(value - low, base_high - base_value)
    above = difference + added(high - value, base_value - base_low)
    return max(below, -1.0), min(above, 1.0)  # NaN stays NaN


def _step_adjusted(p_values: ArrayLike, adjust: Callable[[Floats], Floats]) -> Floats:
    """Apply a correction to the p-values there are, in ascending order; none becomes larger than 1."""
    values = checked("p_values", p_values)
    tested = np.flatnonzero(~np.isnan(values))
    given = values[tested]
    if len(given) and not 0 <= given.min() <= given.max() <= 1:
        raise ValueError(f"expected p-values between 0 and 1, got {given.min()} to {given.max()}")
    order = np.argsort(given, kind="stable")
    adjusted = np.full(len(values), math.nan)
    adjusted[tested[order]] = np.minimum(1.0, adjust(given[order]))
    return adjusted


def normal_quantile(level: float) -> float:
    """Return z with P(−z ≤ Z ≤ z) = level."""
    from scipy.special import ndtri

    if not 0 < level < 1:
        raise ValueError(f"expected 'level' between 0 and 1, got {level}")
    return float(ndtri((1 + level) / 2))


def average_interval(
    values: ArrayLike, low: ArrayLike, high: ArrayLike, blocks: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    r"""Return the interval of the plain average of k estimates from each one's own interval.

    The method of variance estimates recovery: with $m = \frac1k \sum v_i$, the lower limit is
    $m - \frac1k \sqrt{\sum_b (\sum_{i \in b} (v_i - l_i))^2}$ and the upper one likewise, over blocks b of estimates.
    Blocks are independent of each other; within one, any dependence is allowed for by adding the widths up. With one
    estimate per block it is Newcombe's square-and-add, so an interval does not shrink to a point at rates of 0 and 1.

    Args:
        values: `(k,)`, the estimates.
        low: `(k,)`, their lower limits.
        high: `(k,)`, their upper limits, all of the level that is wanted.
        blocks: k labels; estimates of one label may depend on each other. None = all are independent.

    Returns:
        (low, high), NaN without an estimate, or if one of them or of its limits is NaN.

    Raises:
        ValueError: the lengths differ.

    Example:
        >>> [round(limit, 3) for limit in average_interval([0.5, 0.7], [0.4, 0.6], [0.6, 0.8])]
        [0.529, 0.671]
        >>> [round(limit, 3) for limit in average_interval([0.5, 0.7], [0.4, 0.6], [0.6, 0.8], ["same", "same"])]
        [0.5, 0.7]

    Source:
        Zou and Donner, Statistics in Medicine 27 (2008) 1693–1702.
    """
    given = [checked(name, side) for name, side in (("values", values), ("low", low), ("high", high))]
    labels: list[Hashable] = [*range(len(given[0]))] if blocks is None else [*blocks]
    lengths = [*map(len, given), len(labels)]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"expected 'values', 'low', 'high' and 'blocks' of one length, got {', '.join(map(str, lengths))}"
        )
    if not labels:
        return math.nan, math.nan
    estimates, lower, upper = given
    codes = [labels.index(label) for label in labels]
    below, above = (
        float(np.sqrt((np.bincount(codes, weights=widths) ** 2).sum())) / len(labels)
        for widths in (estimates - lower, upper - estimates)
    )
    average = float(estimates.mean())
    return average - below, average + above
