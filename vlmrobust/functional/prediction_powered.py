"""Estimate rates from a judge's verdicts on all cases and human labels on some: prediction-powered inference.

As the judge's verdict is a category, the power-tuned prediction-powered estimate equals the post-stratified one: the
share of each verdict is known, and its rate is estimated from the labels. It is unbiased for any judge; a good judge
shortens the interval.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .closed_form import recovered_limits
from .resampling import Estimate, Floats

__all__ = ["PoweredDifference", "post_stratified_difference", "post_stratified_rate"]


class PoweredDifference(NamedTuple):
    """A paired difference of two rates with its interval; `n` is the number of labelled pairs."""

    base_value: float
    value: float
    low: float
    high: float
    n: int


def post_stratified_rate(
    labels: ArrayLike,
    verdicts: ArrayLike,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> Estimate:
    r"""Return a rate estimated from verdicts on all cases and labels on a random subset.

    $\hat\theta = \sum_k \frac{N_k}{N} \hat p_k$, with $N_k$ cases of verdict k and $\hat p_k$ the share of ones among
    their labels. The interval draws every $p_k$ from its Jeffreys posterior, with a limit of 0 or 1 if no label
    contradicts it, and the shares $N_k / N$ from a Dirichlet distribution of the counts. Its coverage with rates near 1
    and few labels: nominal in every simulation for the given cases; for their population down to 0.88, with a judge
    that is always unsure, a rate of 0.975 and 100 labels.

    Args:
        labels: `(n,)`, 1 or 0; NaN = not labelled.
        verdicts: `(n,)`, the judge's category for each case; "unsure" is one of them.
        rng: random generator of the replicates.
        replicates: number of draws.
        level: the interval's coverage, in (0, 1).

    Returns:
        In [0, 1]; NaN without a label.

    Raises:
        ValueError: shapes differ, or a label is neither 0, 1 nor NaN.

    Source: Angelopoulos et al., arXiv:2301.09633 and arXiv:2311.01453; Fisch et al., arXiv:2406.04291; the ends as in
        Brown, Cai and DasGupta, Statistical Science 16(2), 2001.

    Example:
        >>> nothing = float("nan")
        >>> labels = [1, 1, 0, nothing, nothing, nothing]
        >>> post_stratified_rate(labels, [1, 1, 0, 1, 1, 0], rng=np.random.default_rng(0)).value
        0.6666666666666666
    """
    return _RateEstimate.of(labels, verdicts, rng, replicates, level).estimate


def post_stratified_difference(
    base_labels: ArrayLike,
    labels: ArrayLike,
    base_verdicts: ArrayLike,
    verdicts: ArrayLike,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> PoweredDifference:
    """Return the paired difference of two rates, estimated from verdicts on all pairs and labels on some.

    Both rates are post-stratified by the verdicts, or not at all if the labels of a pair are so similar that verdicts
    only add noise: whichever has the smaller variance (the power tuning). The interval combines those of the two rates,
    with the correlation of the residuals.

    Args:
        base_labels: `(n,)`, 1 or 0; NaN = not labelled. Only pairs with both labels count as labelled.
        labels: `(n,)`, the same for the other side of each pair.
        base_verdicts: `(n,)`, the judge's category.
        verdicts: `(n,)`, the same for the other side.
        rng: random generator of the replicates.
        replicates: number of draws.
        level: the interval's coverage, in (0, 1).

    Returns:
        The difference is value − base_value, with the interval `low` to `high`. NaN without a labelled pair.

    Raises:
        ValueError: as `post_stratified_rate`.

    Source: Zou and Donner, Statistics in Medicine 27(10), 2008; Newcombe's method 10 does the same without verdicts.

    Example:
        >>> found = post_stratified_difference([1, 1, 1], [0, 1, 1], [1, 1, 1], [0, 1, 1], rng=np.random.default_rng(0))
        >>> round(found.value - found.base_value, 3)
        -0.333
    """
    before, after = (np.asarray(side, dtype=np.float64) for side in (base_labels, labels))
    if before.shape == after.shape:
        before, after = np.where(np.isnan(after), np.nan, before), np.where(np.isnan(before), np.nan, after)
    candidates = []
    for categories in ((base_verdicts, verdicts), (np.zeros(before.shape), np.zeros(after.shape))):
        sides = [
            _RateEstimate.of(values, strata, rng, replicates, level)
            for values, strata in zip((before, after), categories, strict=True)
        ]
        if sides[0].residuals.shape != sides[1].residuals.shape:
            raise ValueError(f"expected pairs, got {len(before)} cases on one side and {len(after)} on the other")
        candidates.append(
            (float((sides[1].residuals - sides[0].residuals).std()) if sides[0].residuals.size else 0.0, sides)
        )
    _, (base, here) = min(candidates, key=lambda candidate: candidate[0])
    # The interval of the difference is recovered from those of the two correlated rates.
    size = math.sqrt(float((base.residuals**2).sum() * (here.residuals**2).sum()))
    correlation = float((base.residuals * here.residuals).sum()) / size if size > 0 else 0.0
    one, other = base.estimate, here.estimate
    limits = recovered_limits((one.value, one.low, one.high), (other.value, other.low, other.high), correlation)
    return PoweredDifference(one.value, other.value, *limits, other.n)


class _RateEstimate(NamedTuple):
    """A rate with its residuals: each label less its stratum's mean."""

    estimate: Estimate
    residuals: Floats

    @classmethod
    def of(
        cls, labels: ArrayLike, verdicts: ArrayLike, rng: np.random.Generator, replicates: int, level: float
    ) -> "_RateEstimate":
        values = np.asarray(labels, dtype=np.float64)
        given = np.asarray(verdicts)
        if values.ndim != 1 or values.shape != given.shape:
            raise ValueError(f"expected one verdict per label, got shapes {values.shape} and {given.shape}")
        wrong = values[~np.isnan(values) & (values != 0) & (values != 1)]
        if len(wrong):
            raise ValueError(f"field 'labels': expected 1, 0 or NaN, got {wrong[0]}")
        labelled = ~np.isnan(values)
        if not labelled.any():
            return cls(Estimate(math.nan, math.nan, math.nan, 0), values[labelled])
        _, codes = np.unique(given, return_inverse=True)
        cases = np.bincount(codes)
        count = np.bincount(codes[labelled], minlength=len(cases))
        ones = np.bincount(codes[labelled], values[labelled], minlength=len(cases)).astype(np.int64)
        rates = np.where(count > 0, ones / np.maximum(count, 1), values[labelled].mean())
        value = min(1.0, float(cases @ rates / len(values)))
        shares = rng.dirichlet(cases.astype(np.float64), replicates)
        drawn = rng.beta(ones + 0.5, count - ones + 0.5, (replicates, len(cases)))
        # If no label contradicts it, a rate may be 0 or 1, which a posterior's quantile would exclude.
        lower, upper = np.where(ones == 0, 0.0, drawn), np.where(ones == count, 1.0, drawn)
        tail = (1 - level) / 2
        low = float(np.quantile((shares * lower).sum(axis=1), tail))
        high = min(1.0, float(np.quantile((shares * upper).sum(axis=1), 1 - tail)))
        residuals = values[labelled] - rates[codes[labelled]]
        return cls(Estimate(value, min(low, value), max(high, value), len(residuals)), residuals)
