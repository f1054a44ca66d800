"""Compute intervals, tests and power for rates and paired rates in closed form, and adjust p-values."""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .resampling import Floats, as_vector

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
        successes: number of successes.
        n: number of trials; may be fractional (effective sizes).
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
    # At a rate of 0 or 1 the bound is exactly the rate, which rounding must not exceed.
    low = 0.0 if successes == 0 else max(0.0, center - half)
    return low, 1.0 if successes == n else min(1.0, center + half)


def newcombe_paired_interval(
    both: float, base_only: float, condition_only: float, neither: float, level: float = 0.95
) -> tuple[float, float]:
    """Return Newcombe's score interval of the difference of two paired rates, condition − base, in [-1, 1].

    Combines Wilson's intervals of both rates by square-and-add with the correlation φ of the pairs (method 10, with
    Newcombe's correction of φ). Unlike a bootstrap interval it does not shrink to [0, 0] if no pair differs.

    Args:
        both: number of pairs that are 1 on both sides.
        base_only: number of pairs that are 1 only under base.
        condition_only: number of pairs that are 1 only under the condition.
        neither: number of pairs that are 0 on both sides.
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

    The differences δ that the score test does not reject: |c − b − nδ| ≤ z √(n (2q̂ + δ(1 − δ))), with q̂ the maximum
    likelihood estimate, given δ, of the share of pairs that are 1 only under base. Unlike a bootstrap interval it does
    not shrink to [0, 0] if no pair differs, and an additional failure never raises a limit.

    Args:
        base_only: b, number of pairs that are 1 only under base.
        condition_only: c, number of pairs that are 1 only under the condition.
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
        raise ValueError(
            f"expected counts of at least 0 that add up to at most n, got {(base_only, condition_only, n)}"
        )
    z, change = normal_quantile(level), condition_only - base_only
    if n == 0:
        return math.nan, math.nan

    def score(delta: float, sign: int) -> float:
        linear = (2 * n - change) * delta - base_only - condition_only
        constant = -base_only * delta * (1 - delta)
        alone = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        return sign * (change - n * delta) - z * math.sqrt(max(0.0, n * (2 * alone + delta * (1 - delta))))

    # If all pairs are equal, the score is 0 at the difference itself, which is not a limit.
    below, above = change / n - 1e-9, change / n + 1e-9
    low = -1.0 if score(-1.0, 1) <= 0 else float(brentq(score, -1.0, below, args=(1,), xtol=1e-12))
    high = 1.0 if score(1.0, -1) <= 0 else float(brentq(score, above, 1.0, args=(-1,), xtol=1e-12))
    return low, high


def tango_p(base_only: int, condition_only: int) -> float:
    """Return the two-sided p-value of the score test that base and condition have the same rate.

    It is McNemar's test without continuity correction: z = (c − b) / √(b + c). The interval of `tango_interval`
    excludes 0 exactly if p < 1 − level.

    Args:
        base_only: b, number of pairs that are 1 only under base.
        condition_only: c, number of pairs that are 1 only under the condition.

    Returns:
        p in (0, 1], 1 if no pair differs.

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
    discordant = base_only + condition_only
    return 2 * float(ndtr(-abs(condition_only - base_only) / math.sqrt(discordant))) if discordant else 1.0


def mcnemar_exact(base_only: int, condition_only: int) -> float:
    """Return the two-sided p-value of McNemar's exact test that base and condition have the same rate.

    Discordant pairs are fair coin flips: p = min(1, 2 · P(X ≤ min(b, c))) with X ~ Binomial(b + c, 1/2).

    Args:
        base_only: b, number of pairs that are 1 only under base.
        condition_only: c, number of pairs that are 1 only under the condition.

    Returns:
        p in (0, 1], 1 if no pair differs.

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
    discordant = base_only + condition_only
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(base_only, condition_only), discordant, 0.5)))


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted with Holm's method, which controls the family-wise error rate.

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
    return _adjust(p_values, lambda ordered: np.maximum.accumulate(np.arange(len(ordered), 0, -1) * ordered))


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted with the method of Benjamini and Hochberg, which controls the false discovery rate.

    The i-th smallest of m becomes min over j ≥ i of (m / j) · p_(j). Weaker than the guarantee of `holm`, but with more
    power; it holds for independent and positively dependent tests, such as comparisons with one base.

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

    def running_minimum(ordered: Floats) -> Floats:
        factors = len(ordered) / np.arange(1, len(ordered) + 1)
        return np.minimum.accumulate((factors * ordered)[::-1])[::-1]

    return _adjust(p_values, running_minimum)


def minimum_detectable_effect(
    n: int, discordant: float, *, level: float = 0.95, power: float = 0.8, comparisons: int = 1
) -> float:
    """Return the smallest difference of two paired rates that the score test of n pairs detects with the given power.

    It is the δ > 0 that solves √n · δ = z(1−α/2) · √ψ + z(power) · √(ψ − δ²), with the share ψ of discordant pairs,
    α = 1 − level and z the normal quantile; with several comparisons α is divided by their number, the strictest level
    of Holm's correction. δ cannot exceed ψ, at which all discordant pairs differ in the same direction.

    Args:
        n: number of pairs.
        discordant: ψ, the share of pairs that are 1 on only one side, in [0, 1], from a pilot or an earlier run.
        level: 1 − α of the two-sided test, in (0, 1).
        power: probability of detecting the difference, in (1 − level, 1).
        comparisons: number of conditions compared with base, whose p-values are corrected together.

    Returns:
        A difference of rates in (0, 1]; NaN if n pairs with this ψ are too few for any.

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
    z_level = normal_quantile(1 - (1 - level) / comparisons) if 0 < level < 1 else normal_quantile(level)
    if not 1 - level < power < 1:
        raise ValueError(f"expected 'power' between 1 - level = {1 - level:.4g} and 1, got {power}")
    z_power = float(ndtri(power))
    discriminant = n - z_level**2 + z_power**2
    if discordant == 0 or discriminant < 0:
        return math.nan
    # The root of the squared equation that also solves the original one.
    effect = math.sqrt(discordant) * (math.sqrt(n) * z_level + z_power * math.sqrt(discriminant)) / (n + z_power**2)
    return effect if effect <= discordant else math.nan


def recovered_limits(
    base: tuple[float, float, float], condition: tuple[float, float, float], correlation: float
) -> tuple[float, float]:
    """Return the limits of a difference of two rates from their (value, low, high) and correlation."""
    (base_value, base_low, base_high), (value, low, high) = base, condition

    def added(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first**2 - 2 * correlation * first * second + second**2))

    difference = value - base_value
    below = difference - added(value - low, base_high - base_value)
    above = difference + added(high - value, base_value - base_low)
    return max(below, -1.0), min(above, 1.0)  # NaN stays NaN


def _adjust(p_values: ArrayLike, adjust: Callable[[Floats], Floats]) -> Floats:
    """Apply a correction to the defined p-values in ascending order, and clip them to 1."""
    values = as_vector("p_values", p_values)
    tested = np.flatnonzero(~np.isnan(values))
    defined = values[tested]
    if len(defined) and not 0 <= defined.min() <= defined.max() <= 1:
        raise ValueError(f"expected p-values between 0 and 1, got {defined.min()} to {defined.max()}")
    order = np.argsort(defined, kind="stable")
    adjusted = np.full(len(values), math.nan)
    adjusted[tested[order]] = np.minimum(1.0, adjust(defined[order]))
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
    r"""Return the interval of the unweighted average of k estimates from their intervals.

    The method of variance estimates recovery: with $m = \frac1k \sum v_i$, the lower limit is
    $m - \frac1k \sqrt{\sum_b (\sum_{i \in b} (v_i - l_i))^2}$, and the upper one is analogous, over blocks b of
    estimates. Blocks are independent; within a block any dependence is allowed, as widths are added. With one estimate
    per block it is Newcombe's square-and-add, so the interval does not shrink to a point at rates of 0 and 1.

    Args:
        values: `(k,)`, the estimates.
        low: `(k,)`, their lower limits.
        high: `(k,)`, their upper limits, all of the desired level.
        blocks: k labels; estimates with the same label may be dependent. None = all are independent.

    Returns:
        (low, high), NaN without an estimate, or if an estimate or a limit is NaN.

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
    vectors = [as_vector(name, side) for name, side in (("values", values), ("low", low), ("high", high))]
    labels: list[Hashable] = [*range(len(vectors[0]))] if blocks is None else [*blocks]
    if len(set(lengths := [*map(len, vectors), len(labels)])) > 1:
        got = ", ".join(map(str, lengths))
        raise ValueError(f"expected 'values', 'low', 'high' and 'blocks' of the same length, got {got}")
    if not labels:
        return math.nan, math.nan
    estimates, lower, upper = vectors
    codes = [labels.index(label) for label in labels]
    below, above = (
        float(np.sqrt((np.bincount(codes, weights=widths) ** 2).sum())) / len(labels)
        for widths in (estimates - lower, upper - estimates)
    )
    average = float(estimates.mean())
    return average - below, average + above
