"""Rates of which a judge says something everywhere, and people something somewhere: prediction-powered estimates.

The judge's verdict is a category, so that the power-tuned prediction-powered estimate is the post-stratified one: the
share of each verdict is known, and what it is worth comes from the labels beside it. It is right on average however bad
the judge is; a good judge makes the interval shorter.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import Estimate
from .resampling import Floats, Integers
from .statistics import recovered_limits

__all__ = ["PoweredDifference", "post_stratified_difference", "post_stratified_rate"]


class PoweredDifference(NamedTuple):
    """A paired difference of two rates with its interval; all on the same pairs, `n` of them labelled."""

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
    r"""Return a rate estimated from verdicts on all cases and labels on some, drawn at random.

    $\hat\theta = \sum_k \frac{N_k}{N} \hat p_k$, with $N_k$ cases of verdict k and $\hat p_k$ the share of ones among
    the labels beside it. The interval draws every $p_k$ from its Jeffreys posterior, an end that no label contradicts
    being 0 or 1, and the shares $N_k / N$ from a Dirichlet distribution of the counts. It holds where rates are near 1
    and labels few: for the cases at hand in every simulation; for the population that they are of down to 0.88, where a
    judge is sure of nothing, the rate is 0.975 and there are 100 labels.

    Args:
        labels: `(n,)`, 1 or 0; NaN = not labelled.
        verdicts: `(n,)`, the category that the judge puts each case in; "unsure" is one of them.
        rng: where the replicates come from.
        replicates: how many draws.
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
    return _Side.of(labels, verdicts, rng, replicates, level).estimate


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

    Both rates are post-stratified by the verdicts or, where the labels of a pair are so alike that the verdicts only
    add noise, by nothing: whichever leaves the smaller variance (this is the power tuning). The interval puts those of
    the two rates together, with the correlation of what the verdicts leave open.

    Args:
        base_labels: `(n,)`, 1 or 0; NaN = not labelled. Only pairs with both labels count as labelled.
        labels: `(n,)`, likewise, of the other side of each pair.
        base_verdicts: `(n,)`, the judge's category.
        verdicts: `(n,)`, likewise.
        rng: where the replicates come from.
        replicates: how many draws.
        level: the interval's coverage, in (0, 1).

    Returns:
        value − base_value is the difference; `low` and `high` are its interval. NaN without a labelled pair.

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
            _Side.of(values, strata, rng, replicates, level)
            for values, strata in zip((before, after), categories, strict=True)
        ]
        if sides[0].left.shape != sides[1].left.shape:
            raise ValueError(f"expected pairs, got {len(before)} cases on one side and {len(after)} on the other")
        candidates.append((float((sides[1].left - sides[0].left).std()) if sides[0].left.size else 0.0, sides))
    _, (base, here) = min(candidates, key=lambda candidate: candidate[0])
    return _together(base, here)


class _Side(NamedTuple):
    """A rate, and what its verdicts leave open: each label less its stratum's mean."""

    estimate: Estimate
    left: Floats

    @classmethod
    def of(
        cls, labels: ArrayLike, verdicts: ArrayLike, rng: np.random.Generator, replicates: int, level: float
    ) -> "_Side":
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
        low, high = _ends(cases, count, ones, rng, replicates, level)
        left = values[labelled] - rates[codes[labelled]]
        return cls(Estimate(value, min(low, value), max(high, value), len(left)), left)


def _ends(
    cases: Integers, count: Integers, ones: Integers, rng: np.random.Generator, replicates: int, level: float
) -> tuple[float, float]:
    shares = rng.dirichlet(cases.astype(np.float64), replicates)
    rates = rng.beta(ones + 0.5, count - ones + 0.5, (replicates, len(cases)))
    # Where no label says otherwise a rate may be 0, or 1: a posterior's quantile would exclude exactly that.
    lower, upper = np.where(ones == 0, 0.0, rates), np.where(ones == count, 1.0, rates)
    tail = (1 - level) / 2
    low = float(np.quantile((shares * lower).sum(axis=1), tail))
    return low, min(1.0, float(np.quantile((shares * upper).sum(axis=1), 1 - tail)))


def _together(base: _Side, here: _Side) -> PoweredDifference:
    """Return the difference of two correlated rates, its interval recovered from theirs."""
    before, after = base.estimate, here.estimate
    size = math.sqrt(float((base.left**2).sum() * (here.left**2).sum()))
    alike = float((base.left * here.left).sum()) / size if size > 0 else 0.0
    low, high = recovered_limits((before.value, before.low, before.high), (after.value, after.low, after.high), alike)
    return PoweredDifference(before.value, after.value, low, high, after.n)
