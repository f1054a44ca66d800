"""The interval that fits: a score interval for rates, else a randomisation test; for one column or for many at once."""

import math
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bootstrap import Difference, Estimate, checked, checked_pair
from .resampling import Floats, Groups, Integers, group_codes
from .sign_flips import FlipInterval, flip_intervals
from .statistics import tango_interval, tango_p, wilson_interval

__all__ = ["Outcome", "mean_interval", "mean_intervals", "paired_interval", "paired_intervals"]

Outcome = Literal["mean", "rate", "share"]
"""What a column's values are: any numbers; 0 or 1, one for each; or shares of 0 and 1, such as means over draws."""

_FEWEST_RATES = 5
# As large as intervals near 0 and 1 need to cover what they say (tests/benchmarks/coverage.py), and no larger.
_VALUE_WEIGHT, _CHANGE_WEIGHT = 1.0, 0.5


def mean_interval(
    values: ArrayLike,
    groups: Groups | None = None,
    *,
    outcome: Outcome = "mean",
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> Estimate:
    """Return a mean with the interval that fits.

    Wilson's score interval for rates without groups, from 5 values on. Otherwise that of a randomisation test that
    flips the sign of whole groups, from 6 groups on (without groups each value is one); for rates and shares a
    group of zeros and a group of ones are added to it, so that it is never a point. With fewer it is NaN.

    Args:
        values: `(n,)`, NaN = undefined; undefined values are left out.
        groups: n labels; values of one label may depend on each other. None, or all different = no groups.
        outcome: what the values are. Zeros and ones are no rate by chance: say so.
        rng: where random flips come from; up to 11 groups, all are tried.
        replicates: how many random flips.
        level: the interval's coverage, in (0, 1).

    Raises:
        ValueError: a shape does not fit, a value is infinite or not what `outcome` says, or a setting is out of range.

    Example:
        >>> values = [1.0, 1.0, 1.0, 0.0, 1.0, float("nan")]
        >>> mean_interval(values, outcome="rate", rng=np.random.default_rng(0)).value
        0.8

    Source:
        Wilson, JASA 22 (1927); Hartigan, JASA 64 (1969) (subset means); Canay, Romano and Shaikh, Econometrica 85
        (2017) (few groups).
    """
    column = checked("values", values)
    [found] = mean_intervals([column], groups, outcomes=[outcome], rng=rng, replicates=replicates, level=level)
    return found


def mean_intervals(
    columns: Iterable[ArrayLike],
    groups: Groups | None = None,
    *,
    outcomes: Iterable[Outcome] | None = None,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> list[Estimate]:
    """Return `mean_interval` of every column, from the same random flips. A column's result depends on no other.

    Args:
        columns: each `(n,)`, NaN = undefined; taken one at a time.
        groups: n labels, for all columns.
        outcomes: what each column's values are; None = "mean" for all.
        rng: where random flips come from.
        replicates: how many of them.
        level: the intervals' coverage, in (0, 1).

    Raises:
        ValueError: as `mean_interval`; the message says which column.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> [estimate.value for estimate in mean_intervals([[1.0, 0.0], [0.2, 0.4], [0.0, 0.0]], rng=rng)]
        [0.5, 0.30000000000000004, 0.0]
    """
    labels = _Labels(groups)
    scores: list[Estimate | None] = []
    extremes: list[tuple[float, float] | None] = []

    def flipped() -> Iterator[Floats]:
        for index, (column, outcome) in enumerate(zip(columns, _each(outcomes), strict=False)):
            values = _fitting(checked(f"columns[{index}]", column), outcome, f"columns[{index}]")
            found = _score(values, labels, level) if outcome == "rate" else None
            scores.append(found)
            if found is None:
                extremes.append(None if outcome == "mean" else (0.0, 1.0))
                yield values

    rest = iter(
        flip_intervals(flipped(), extremes, groups, weight=_VALUE_WEIGHT, rng=rng, replicates=replicates, level=level)
    )
    return [found or _estimate(next(rest)) for found in scores]


def paired_interval(
    base: ArrayLike,
    condition: ArrayLike,
    groups: Groups | None = None,
    *,
    outcome: Outcome = "mean",
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> Difference:
    """Return the mean paired difference condition − base with interval and p-value of one test, that which fits.

    Tango's score test for rates without groups, from 5 pairs on. Otherwise the randomisation test that flips the sign
    of whole groups' differences, from 6 groups on; for rates and shares half a group that falls by 1 and half a
    group that rises by 1 are added. With fewer, interval and p are NaN. p < 1 − level exactly where the interval
    excludes 0.

    Args:
        base: `(n,)`, NaN = undefined; a pair with a NaN is left out.
        condition: `(n,)`, position i is the sample at position i of `base`.
        groups: n labels; pairs of one label may depend on each other. None, or all different = no groups.
        outcome: what the values on either side are.
        rng: where random flips come from; up to 11 groups, all are tried.
        replicates: how many random flips.
        level: the interval's coverage, in (0, 1).

    Returns:
        NaN everywhere without a defined pair.

    Raises:
        ValueError: a shape does not fit, a value is infinite or not what `outcome` says, or a setting is out of range.

    Example:
        >>> sides = [1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 0]
        >>> found = paired_interval(*sides, outcome="rate", rng=np.random.default_rng(0))
        >>> round(found.value, 2), round(found.high, 2), round(found.p, 3)
        (-0.67, -0.02, 0.046)

    Source:
        Tango, Statistics in Medicine 17 (1998); the rest as for `mean_interval`.
    """
    pair = checked_pair(base, condition)
    [found] = paired_intervals([pair], groups, outcomes=[outcome], rng=rng, replicates=replicates, level=level)
    return found


def paired_intervals(
    pairs: Iterable[tuple[ArrayLike, ArrayLike]],
    groups: Groups | None = None,
    *,
    outcomes: Iterable[Outcome] | None = None,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> list[Difference]:
    """Return `paired_interval` of every pair of columns, from the same random flips; a pair's result is its own.

    Args:
        pairs: base and condition, each `(n,)`, NaN = undefined; taken one at a time.
        groups: n labels, for all pairs.
        outcomes: what each pair's values are; None = "mean" for all.
        rng: where random flips come from.
        replicates: how many of them.
        level: the intervals' coverage, in (0, 1).

    Raises:
        ValueError: as `paired_interval`; the message says which pair.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pair = [0.9, 0.8, 0.9, 0.7, 0.8, 0.9, 0.8], [0.5, 0.6, 0.7, 0.5, 0.6, 0.6, 0.5]
        >>> [(difference.n, difference.p) for difference in paired_intervals([pair], rng=rng)]
        [(7, 0.015625)]
    """
    labels = _Labels(groups)
    scores: list[Difference | None] = []
    extremes: list[tuple[float, float] | None] = []

    def flipped() -> Iterator[Floats]:
        for index, (sides, outcome) in enumerate(zip(pairs, _each(outcomes), strict=False)):
            where = f"pairs[{index}]"
            base, condition = (_fitting(side, outcome, where) for side in checked_pair(*sides, where=f" of {where}"))
            found = _paired_score(base, condition, labels, level) if outcome == "rate" else None
            scores.append(found)
            if found is None:
                extremes.append(None if outcome == "mean" else (-1.0, 1.0))
                yield condition - base

    rest = iter(
        flip_intervals(flipped(), extremes, groups, weight=_CHANGE_WEIGHT, rng=rng, replicates=replicates, level=level)
    )
    return [found or Difference(*next(rest)) for found in scores]


def _each(outcomes: Iterable[Outcome] | None) -> Iterable[Outcome]:
    return repeat("mean") if outcomes is None else outcomes


def _estimate(flip: FlipInterval) -> Estimate:
    return Estimate(flip.value, flip.low, flip.high, flip.n)


def _fitting(values: Floats, outcome: Outcome, where: str) -> Floats:
    """Return values if they are what they are said to be."""
    if outcome not in get_args(Outcome):
        raise ValueError(f"expected 'outcome' to be one of {', '.join(get_args(Outcome))}; got {outcome!r}")
    known = values[~np.isnan(values)]
    wrong = (known != 0) & (known != 1) if outcome == "rate" else (known < 0) | (known > 1)
    if outcome != "mean" and wrong.any():
        expected = "0, 1 or NaN" if outcome == "rate" else "values from 0 to 1, or NaN"
        raise ValueError(f"expected {expected} in {where}, a {outcome}; got {known[wrong][0]}")
    return values


class _Labels:
    """The groups of columns, numbered once for all of them."""

    def __init__(self, groups: Groups | None) -> None:
        self._groups = groups
        self._codes: Integers | None = None

    def are_of_one(self, defined: NDArray[np.bool_]) -> bool:
        """Return whether no group has two defined values."""
        if self._groups is None:
            return True
        if self._codes is None or len(self._codes) != len(defined):
            self._codes = group_codes(self._groups, len(defined))
        return int(np.bincount(self._codes[defined]).max(initial=0)) < 2


def _score(values: Floats, labels: _Labels, level: float) -> Estimate | None:
    """Return Wilson's interval, None where groups have several values."""
    defined = ~np.isnan(values)
    n, ones = int(defined.sum()), float(values[defined].sum())
    if not labels.are_of_one(defined):
        return None
    if n < _FEWEST_RATES:
        return Estimate(ones / n if n else math.nan, math.nan, math.nan, n)
    return Estimate(ones / n, *wilson_interval(ones, n, level), n)


def _paired_score(base: Floats, condition: Floats, labels: _Labels, level: float) -> Difference | None:
    """Return Tango's interval and p, None where groups have several pairs."""
    defined = ~np.isnan(base) & ~np.isnan(condition)
    if not labels.are_of_one(defined):
        return None
    change = condition[defined] - base[defined]
    n, fallen, risen = len(change), int((change < 0).sum()), int((change > 0).sum())
    if n < _FEWEST_RATES:
        return Difference((risen - fallen) / n if n else math.nan, math.nan, math.nan, n, math.nan)
    return Difference((risen - fallen) / n, *tango_interval(fallen, risen, n, level), n, tango_p(fallen, risen))
