"""Compute confidence intervals and p-values of means and paired differences: score tests, or randomisation tests.

The test flips the signs of whole groups. Under the hypothesis "the mean is δ", a group's sum less δ times its size has
a symmetric distribution. Flipping a subset of groups does not reduce the total exactly if the subset's mean is at most
δ, so the p-value at every δ counts the subsets with a mean on either side of it, and the interval's limits are order
statistics of these means. Test and interval thus agree, and both limits are monotone in every value, as every subset's
mean is: an additional failure never raises a limit.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import repeat
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .closed_form import tango_interval, tango_p, wilson_interval
from .resampling import (
    Difference,
    Estimate,
    Floats,
    GroupedColumn,
    Groups,
    Integers,
    as_vector,
    as_vectors,
    check_settings,
    columns_by_group,
    group_codes,
    replicate_means,
    subsets,
)

__all__ = [
    "FEWEST_GROUPS",
    "Outcome",
    "flip_intervals",
    "mean_interval",
    "mean_intervals",
    "paired_interval",
    "paired_intervals",
]


Outcome = Literal["mean", "rate", "share"]
"""The type of a column's values: any numbers; 0 or 1; or shares in [0, 1], such as means over draws."""

FEWEST_GROUPS = 6
"""With fewer groups, even the most extreme sign pattern is too likely for a level of 95 %."""
_MIN_RATE_VALUES = 5
# The smallest weights with the stated coverage of intervals near 0 and 1 (tests/benchmarks/coverage.py).
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
    """Return a mean with an interval suited to the type of its values.

    Wilson's score interval for rates without groups, with at least 5 values. Otherwise that of a randomisation test
    that flips the signs of whole groups, with at least 6 groups (without groups, each value is one); for rates and
    shares a group of zeros and a group of ones are added, so that the interval is never a point. With fewer values or
    groups it is NaN.

    Args:
        values: `(n,)`, NaN = undefined; undefined values are left out.
        groups: n labels; values with the same label may be dependent. None, or all different = no groups.
        outcome: the type of the values. It is not inferred: zeros and ones count as rates only if set.
        rng: random generator of the flips; with up to 11 groups, all are enumerated.
        replicates: number of random flips.
        level: the interval's coverage, in (0, 1).

    Raises:
        ValueError: a shape does not fit, a value is infinite or does not match `outcome`, or a setting is out of range.

    Example:
        >>> values = [1.0, 1.0, 1.0, 0.0, 1.0, float("nan")]
        >>> mean_interval(values, outcome="rate", rng=np.random.default_rng(0)).value
        0.8

    Source:
        Wilson, JASA 22 (1927); Hartigan, JASA 64 (1969) (subset means); Canay, Romano and Shaikh, Econometrica 85
        (2017) (few groups).
    """
    column = as_vector("values", values)
    [estimate] = mean_intervals([column], groups, outcomes=[outcome], rng=rng, replicates=replicates, level=level)
    return estimate


def mean_intervals(
    columns: Iterable[ArrayLike],
    groups: Groups | None = None,
    *,
    outcomes: Iterable[Outcome] | None = None,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> list[Estimate]:
    """Return `mean_interval` of every column, from the same random flips; a column's result depends on no other.

    Columns are consumed one at a time. Without `outcomes`, all are "mean".

    Raises:
        ValueError: as `mean_interval`; the message names the column.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> [estimate.value for estimate in mean_intervals([[1.0, 0.0], [0.2, 0.4], [0.0, 0.0]], rng=rng)]
        [0.5, 0.30000000000000004, 0.0]
    """
    codes = None if groups is None else lru_cache(partial(group_codes, groups))
    kinds: Iterable[Outcome] = repeat("mean") if outcomes is None else outcomes

    def scored() -> Iterator[_ScoredColumn]:
        for index, (column, outcome) in enumerate(zip(columns, kinds, strict=False)):
            values = _checked_values(as_vector(f"columns[{index}]", column), outcome, f"columns[{index}]")
            score = _score(values, codes, level) if outcome == "rate" else None
            yield values, score, None if outcome == "mean" else (0.0, 1.0)

    found = _score_or_flip(scored(), groups, weight=_VALUE_WEIGHT, rng=rng, replicates=replicates, level=level)
    return [Estimate(one.value, one.low, one.high, one.n) for one in found]


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
    """Return the mean paired difference condition − base with the interval and p-value of one suitable test.

    Position i of `base` and `condition` is the same sample; a pair with a NaN is left out. The other arguments are
    those of `mean_interval`; `outcome` is the type of the values on both sides.

    Tango's score test for rates without groups, with at least 5 pairs. Otherwise the randomisation test that flips the
    signs of whole groups' differences, with at least 6 groups; for rates and shares half a group that falls by 1 and
    half a group that rises by 1 are added. With fewer pairs or groups, interval and p are NaN. p < 1 − level exactly if
    the interval excludes 0.

    Returns:
        NaN everywhere without a defined pair.

    Raises:
        ValueError: as `mean_interval`.

    Example:
        >>> sides = [1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 0]
        >>> difference = paired_interval(*sides, outcome="rate", rng=np.random.default_rng(0))
        >>> round(difference.value, 2), round(difference.high, 2), round(difference.p, 3)
        (-0.67, -0.02, 0.046)

    Source:
        Tango, Statistics in Medicine 17 (1998); the rest as for `mean_interval`.
    """
    pair = as_vectors(base, condition)
    [difference] = paired_intervals([pair], groups, outcomes=[outcome], rng=rng, replicates=replicates, level=level)
    return difference


def paired_intervals(
    pairs: Iterable[tuple[ArrayLike, ArrayLike]],
    groups: Groups | None = None,
    *,
    outcomes: Iterable[Outcome] | None = None,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> list[Difference]:
    """Return `paired_interval` of every pair (base, condition), from the same random flips, as `mean_intervals` does.

    Raises:
        ValueError: as `paired_interval`; the message names the pair.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pair = [0.9, 0.8, 0.9, 0.7, 0.8, 0.9, 0.8], [0.5, 0.6, 0.7, 0.5, 0.6, 0.6, 0.5]
        >>> [(difference.n, difference.p) for difference in paired_intervals([pair], rng=rng)]
        [(7, 0.015625)]
    """
    codes = None if groups is None else lru_cache(partial(group_codes, groups))
    kinds: Iterable[Outcome] = repeat("mean") if outcomes is None else outcomes

    def scored() -> Iterator[_ScoredColumn]:
        for index, (sides, outcome) in enumerate(zip(pairs, kinds, strict=False)):
            where = f"pairs[{index}]"
            base, condition = (
                _checked_values(side, outcome, where) for side in as_vectors(*sides, where=f" of {where}")
            )
            score = _paired_score(base, condition, codes, level) if outcome == "rate" else None
            yield condition - base, score, None if outcome == "mean" else (-1.0, 1.0)

    return _score_or_flip(scored(), groups, weight=_CHANGE_WEIGHT, rng=rng, replicates=replicates, level=level)


_Codes = Callable[[int], Integers] | None
"""The groups' codes for a number of values, encoded once; None = each value is a group."""
_ScoredColumn = tuple[Floats, Difference | None, tuple[float, float] | None]
"""Values, their score interval if it applies, and the smallest and largest possible value."""


def _score_or_flip(
    columns: Iterable[_ScoredColumn],
    groups: Groups | None,
    *,
    weight: float,
    rng: np.random.Generator,
    replicates: int,
    level: float,
) -> list[Difference]:
    """Return each column's score interval, or else that of the test, in which all columns share the flips."""
    scores: list[Difference | None] = []
    extremes: list[tuple[float, float] | None] = []

    def flipped() -> Iterator[Floats]:
        for values, score, ends in columns:
            scores.append(score)
            if score is None:
                extremes.append(ends)
                yield values

    rest = iter(flip_intervals(flipped(), extremes, groups, weight=weight, rng=rng, replicates=replicates, level=level))
    return [score or next(rest) for score in scores]


def _checked_values(values: Floats, outcome: Outcome, where: str) -> Floats:
    """Return values if they match their outcome type."""
    if outcome not in get_args(Outcome):
        raise ValueError(f"expected 'outcome' to be one of {', '.join(get_args(Outcome))}; got {outcome!r}")
    defined = values[~np.isnan(values)]
    wrong = (defined != 0) & (defined != 1) if outcome == "rate" else (defined < 0) | (defined > 1)
    if outcome != "mean" and wrong.any():
        expected = "0, 1 or NaN" if outcome == "rate" else "values from 0 to 1, or NaN"
        raise ValueError(f"expected {expected} in {where}, a {outcome}; got {defined[wrong][0]}")
    return values


def flip_intervals(
    columns: Iterable[Floats],
    extremes: Sequence[tuple[float, float] | None],
    groups: Groups | None,
    *,
    weight: float,
    rng: np.random.Generator,
    replicates: int,
    level: float,
) -> list[Difference]:
    """Return the mean of every column with the test's interval and p-value, all from the same subsets.

    `extremes` are the smallest and largest possible value of each column, or None. As rates near 0 or 1 would have too
    short intervals, a fraction of a group (`weight`) at either extreme is added; it moves the limits, not the mean.
    """
    check_settings(level, replicates)
    grouped = columns_by_group(columns, groups, rng)
    augmented = [
        _add_pseudo_groups(column, ends, weight)
        for column, ends in zip(grouped, extremes, strict=True)
        if column.groups >= FEWEST_GROUPS
    ]
    means = iter(replicate_means(augmented, replicates, rng, subsets))
    return [
        _flip_interval(column, next(means), level)
        if column.groups >= FEWEST_GROUPS
        else Difference(column.value, math.nan, math.nan, column.n, math.nan)
        for column in grouped
    ]


def _add_pseudo_groups(column: GroupedColumn, extremes: tuple[float, float] | None, weight: float) -> GroupedColumn:
    """Return a column with two additional groups, a fraction of a group at either extreme."""
    # A multiple of 2**-10, so that sizes are added without rounding, like sums.
    size = 0.0 if extremes is None else round(1024 * weight * column.n / column.groups) / 1024
    added = [np.rint(size * end / column.unit) for end in extremes or (0.0, 0.0)]
    return replace(column, sums=np.append(column.sums, added), sizes=np.append(column.sizes, [size, size]))


def _flip_interval(column: GroupedColumn, means: Floats, level: float) -> Difference:
    defined = np.sort(means[~np.isnan(means)])
    empty = 1 + len(means) - len(defined)  # subsets without a value count on both sides of every δ
    total = len(means) + 1
    rank = math.ceil(round((1 - level) * total / 2, 9)) - 1 - empty
    low = high = math.nan
    if 0 <= rank < len(defined):
        low, high = min(float(defined[rank]), column.value), max(float(defined[-1 - rank]), column.value)
    below, above = np.searchsorted(defined, 0.0, "right"), len(defined) - np.searchsorted(defined, 0.0, "left")
    p = min(1.0, 2 * (empty + int(min(below, above))) / total)
    return Difference(column.value, low, high, column.n, p)


def _score(values: Floats, codes: _Codes, level: float) -> Difference | None:
    """Return Wilson's interval, without p; None if a group has several values."""
    defined = ~np.isnan(values)
    n, ones = int(defined.sum()), float(values[defined].sum())
    if not _are_single(defined, codes):
        return None
    if n < _MIN_RATE_VALUES:
        return Difference(ones / n if n else math.nan, math.nan, math.nan, n, math.nan)
    return Difference(ones / n, *wilson_interval(ones, n, level), n, math.nan)


def _paired_score(base: Floats, condition: Floats, codes: _Codes, level: float) -> Difference | None:
    """Return Tango's interval and p; None if a group has several pairs."""
    defined = ~np.isnan(base) & ~np.isnan(condition)
    if not _are_single(defined, codes):
        return None
    change = condition[defined] - base[defined]
    n, fallen, risen = len(change), int((change < 0).sum()), int((change > 0).sum())
    if n < _MIN_RATE_VALUES:
        return Difference((risen - fallen) / n if n else math.nan, math.nan, math.nan, n, math.nan)
    return Difference((risen - fallen) / n, *tango_interval(fallen, risen, n, level), n, tango_p(fallen, risen))


def _are_single(defined: NDArray[np.bool_], codes: _Codes) -> bool:
    """Return whether no group has two defined values."""
    return codes is None or int(np.bincount(codes(len(defined))[defined]).max(initial=0)) < 2
