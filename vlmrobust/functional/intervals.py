"""Compute the interval that fits: a score interval for rates, else that of a randomisation test.

The test flips the sign of whole groups. Under "the mean is δ" every group's sum less δ times its size is as likely as
its opposite. The mean of a set of groups whose sign is flipped is at most δ exactly where flipping them leaves no
smaller total, so the p-value at every δ counts the subsets of groups whose mean is on either side of it, and the
interval ends at order statistics of these means. Test and interval cannot contradict each other, and since every
subset's mean rises with every value, so do both ends: one more failure raises neither.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bootstrap import Difference, Estimate, checked, checked_pair
from .resampling import (
    Floats,
    GroupedColumn,
    Groups,
    Integers,
    columns_by_group,
    group_codes,
    replicate_means,
    subsets,
)
from .statistics import tango_interval, tango_p, wilson_interval

__all__ = [
    "FEWEST_GROUPS",
    "FlipInterval",
    "Outcome",
    "flip_intervals",
    "mean_interval",
    "mean_intervals",
    "paired_interval",
    "paired_intervals",
]

_Interval = TypeVar("_Interval", Estimate, Difference)

Outcome = Literal["mean", "rate", "share"]
"""What a column's values are: any numbers; 0 or 1, one for each; or shares of 0 and 1, such as means over draws."""

FEWEST_GROUPS = 6
"""Of fewer, not even the rarest pattern is rare enough for 95 %."""
_FEWEST_RATES = 5
# As large as intervals near 0 and 1 need to cover what they say (tests/benchmarks/coverage.py), and no larger.
_VALUE_WEIGHT, _CHANGE_WEIGHT = 1.0, 0.5


class FlipInterval(NamedTuple):
    """A mean, its interval, and the p-value of "it is 0"; NaN where they can't be had."""

    value: float
    low: float
    high: float
    n: int
    p: float


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
    """Return `mean_interval` of every column, from the same random flips; a column's result depends on no other.

    Columns are taken one at a time. Without `outcomes`, that of all is "mean".

    Raises:
        ValueError: as `mean_interval`; the message says which column.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> [estimate.value for estimate in mean_intervals([[1.0, 0.0], [0.2, 0.4], [0.0, 0.0]], rng=rng)]
        [0.5, 0.30000000000000004, 0.0]
    """
    labels = _Labels(groups)

    def scored() -> Iterator[_Scored[Estimate]]:
        for index, (column, outcome) in enumerate(zip(columns, _each(outcomes), strict=False)):
            values = _fitting(checked(f"columns[{index}]", column), outcome, f"columns[{index}]")
            score = _score(values, labels, level) if outcome == "rate" else None
            yield values, score, None if outcome == "mean" else (0.0, 1.0)

    return _score_or_flip(
        scored(),
        lambda flip: Estimate(flip.value, flip.low, flip.high, flip.n),
        groups,
        weight=_VALUE_WEIGHT,
        rng=rng,
        replicates=replicates,
        level=level,
    )


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
    """Return the mean paired difference condition − base with interval and p-value of one test, the one that fits.

    Position i of `base` and `condition` is the same sample; a pair with a NaN is left out. The other arguments are
    those of `mean_interval`; `outcome` is what the values on either side are.

    Tango's score test for rates without groups, from 5 pairs on. Otherwise the randomisation test that flips the sign
    of whole groups' differences, from 6 groups on; for rates and shares half a group that falls by 1 and half a
    group that rises by 1 are added. With fewer, interval and p are NaN. p < 1 − level exactly where the interval
    excludes 0.

    Returns:
        NaN everywhere without a defined pair.

    Raises:
        ValueError: as `mean_interval`.

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
    """Return `paired_interval` of every pair (base, condition), as `mean_intervals` does `mean_interval` of columns.

    Raises:
        ValueError: as `paired_interval`; the message says which pair.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pair = [0.9, 0.8, 0.9, 0.7, 0.8, 0.9, 0.8], [0.5, 0.6, 0.7, 0.5, 0.6, 0.6, 0.5]
        >>> [(difference.n, difference.p) for difference in paired_intervals([pair], rng=rng)]
        [(7, 0.015625)]
    """
    labels = _Labels(groups)

    def scored() -> Iterator[_Scored[Difference]]:
        for index, (sides, outcome) in enumerate(zip(pairs, _each(outcomes), strict=False)):
            where = f"pairs[{index}]"
            base, condition = (_fitting(side, outcome, where) for side in checked_pair(*sides, where=f" of {where}"))
            score = _paired_score(base, condition, labels, level) if outcome == "rate" else None
            yield condition - base, score, None if outcome == "mean" else (-1.0, 1.0)

    return _score_or_flip(
        scored(),
        lambda flip: Difference(*flip),
        groups,
        weight=_CHANGE_WEIGHT,
        rng=rng,
        replicates=replicates,
        level=level,
    )


def _each(outcomes: Iterable[Outcome] | None) -> Iterable[Outcome]:
    return repeat("mean") if outcomes is None else outcomes


_Scored = tuple[Floats, _Interval | None, tuple[float, float] | None]
"""Values, their score interval if it fits, and the least and the largest value that there can be."""


def _score_or_flip(
    columns: Iterable[_Scored[_Interval]],
    of_flip: Callable[[FlipInterval], _Interval],
    groups: Groups | None,
    *,
    weight: float,
    rng: np.random.Generator,
    replicates: int,
    level: float,
) -> list[_Interval]:
    """Return each column's score interval, or else the one of the test, for which all columns share the flips."""
    scores: list[_Interval | None] = []
    extremes: list[tuple[float, float] | None] = []

    def flipped() -> Iterator[Floats]:
        for values, score, ends in columns:
            scores.append(score)
            if score is None:
                extremes.append(ends)
                yield values

    rest = iter(flip_intervals(flipped(), extremes, groups, weight=weight, rng=rng, replicates=replicates, level=level))
    return [score or of_flip(next(rest)) for score in scores]


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


def flip_intervals(
    columns: Iterable[Floats],
    extremes: Sequence[tuple[float, float] | None],
    groups: Groups | None,
    *,
    weight: float,
    rng: np.random.Generator,
    replicates: int,
    level: float,
) -> list[FlipInterval]:
    """Return the mean of every column with the test's interval and p-value, all from the same subsets.

    `extremes` are, for each column, the least and the largest value that there can be, or None. Of rates near 0 or 1
    the sample says too little about what it has not seen, so a part of a group (`weight`) of either extreme is added;
    it moves the ends, not the mean.
    """
    if not 0 < level < 1:
        raise ValueError(f"expected 'level' between 0 and 1, got {level}")
    if replicates < 1:
        raise ValueError(f"expected at least one of 'replicates', got {replicates}")
    grouped = columns_by_group(columns, groups, rng)
    told = [
        _with_extremes(column, ends, weight)
        for column, ends in zip(grouped, extremes, strict=True)
        if column.groups >= FEWEST_GROUPS
    ]
    means = iter(replicate_means(told, replicates, rng, subsets))
    return [
        _flip_interval(column, next(means), level)
        if column.groups >= FEWEST_GROUPS
        else FlipInterval(column.value, math.nan, math.nan, column.n, math.nan)
        for column in grouped
    ]


def _with_extremes(column: GroupedColumn, extremes: tuple[float, float] | None, weight: float) -> GroupedColumn:
    """Return a column with two groups more, a part of a group at either extreme."""
    # A multiple of 2**-10, so that sizes add up without rounding, as sums do.
    size = 0.0 if extremes is None else round(1024 * weight * column.n / column.groups) / 1024
    added = [np.rint(size * end / column.unit) for end in extremes or (0.0, 0.0)]
    return replace(column, sums=np.append(column.sums, added), sizes=np.append(column.sizes, [size, size]))


def _flip_interval(column: GroupedColumn, means: Floats, level: float) -> FlipInterval:
    known = np.sort(means[~np.isnan(means)])
    empty = 1 + len(means) - len(known)  # nothing flipped, which is on either side of every δ
    total = len(means) + 1
    rank = math.ceil(round((1 - level) * total / 2, 9)) - 1 - empty
    low = high = math.nan
    if 0 <= rank < len(known):
        low, high = min(float(known[rank]), column.value), max(float(known[-1 - rank]), column.value)
    below, above = np.searchsorted(known, 0.0, "right"), len(known) - np.searchsorted(known, 0.0, "left")
    p = min(1.0, 2 * (empty + int(min(below, above))) / total)
    return FlipInterval(column.value, low, high, column.n, p)


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
