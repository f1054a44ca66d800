"""The interval that fits: a closed form for rates, else the bootstrap; for one column or for many at once."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bootstrap import Difference, Estimate, bootstrap_means, checked, checked_pair, paired_bootstraps
from .resampling import Floats, Groups, Integers, group_codes
from .statistics import mcnemar_exact, newcombe_paired_interval, wilson_interval

__all__ = ["mean_interval", "mean_intervals", "paired_interval", "paired_intervals"]


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
    column = checked("values", values)
    return mean_intervals([column], groups, rng=rng, replicates=replicates, level=level)[0]


def mean_intervals(
    columns: Iterable[ArrayLike],
    groups: Groups | None = None,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> list[Estimate]:
    """Return `mean_interval` of every column; those that need a bootstrap share its resamples.

    A column's result does not depend on the others.

    Args:
        columns: each `(n,)`, NaN = undefined; taken one at a time, as in `bootstrap_means`.
        groups: n labels, for all columns.
        rng: where a bootstrap's replicates come from.
        replicates: how many resamples.
        level: the intervals' coverage, in (0, 1).

    Raises:
        ValueError: as `bootstrap_mean`; the message says which column.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> [estimate.value for estimate in mean_intervals([[1.0, 0.0], [0.2, 0.4], [0.0, 0.0]], rng=rng)]
        [0.5, 0.30000000000000004, 0.0]
    """
    labels = _Labels(groups)
    found: list[Estimate | None] = []

    def without_closed_form() -> Iterator[Floats]:
        for index, column in enumerate(columns):
            values = checked(f"columns[{index}]", column)
            found.append(_rate(values, labels, level))
            if found[-1] is None:
                yield values

    rest = iter(bootstrap_means(without_closed_form(), groups, rng=rng, replicates=replicates, level=level))
    return [next(rest) if estimate is None else estimate for estimate in found]


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
    pair = checked_pair(base, condition)
    return paired_intervals([pair], groups, rng=rng, replicates=replicates, level=level)[0]


def paired_intervals(
    pairs: Iterable[tuple[ArrayLike, ArrayLike]],
    groups: Groups | None = None,
    *,
    rng: np.random.Generator,
    replicates: int = 10_000,
    level: float = 0.95,
) -> list[Difference]:
    """Return `paired_interval` of every pair of columns; those that need a bootstrap share its resamples.

    A pair's result does not depend on the others.

    Args:
        pairs: base and condition, each `(n,)`, NaN = undefined; taken one at a time, as in `bootstrap_means`.
        groups: n labels, for all pairs.
        rng: where a bootstrap's replicates come from.
        replicates: how many resamples.
        level: the intervals' coverage, in (0, 1).

    Raises:
        ValueError: as `paired_interval`; the message says which pair.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = paired_intervals([([1, 1, 0], [0, 1, 0]), ([0.2, 0.4, 0.9], [0.2, 0.4, 0.9])], rng=rng)
        >>> [(difference.n, difference.p) for difference in found]
        [(3, 1.0), (3, 1.0)]
    """
    labels = _Labels(groups)
    found: list[Difference | None] = []

    def without_closed_form() -> Iterator[tuple[Floats, Floats]]:
        for index, (base, condition) in enumerate(pairs):
            pair = checked_pair(base, condition, where=f" of pairs[{index}]")
            found.append(_paired_rates(*pair, labels, level))
            if found[-1] is None:
                yield pair

    rest = iter(paired_bootstraps(without_closed_form(), groups, rng=rng, replicates=replicates, level=level))
    return [next(rest) if difference is None else difference for difference in found]


class _Labels:
    """The groups of columns, numbered once for all of them."""

    def __init__(self, groups: Groups | None) -> None:
        self._groups = groups
        self._codes: Integers | None = None

    def count(self, defined: NDArray[np.bool_]) -> int:
        """Return the number of groups with a defined value."""
        if self._groups is None:
            return int(np.count_nonzero(defined))
        if self._codes is None or len(self._codes) != len(defined):
            self._codes = group_codes(self._groups, len(defined))
        return int(np.count_nonzero(np.bincount(self._codes[defined])))


def _rate(values: Floats, labels: _Labels, level: float) -> Estimate | None:
    """Return Wilson's interval, None where it does not fit."""
    defined = ~np.isnan(values)
    kept = values[defined]
    n, count = len(kept), labels.count(defined)
    if not n or not _binary(kept) or (count < n and np.ptp(kept) > 0):
        return None
    rate = float(kept.mean())
    successes = float(kept.sum()) if count == n else rate * count
    return Estimate(rate, *wilson_interval(successes, count, level), n)


def _paired_rates(first: Floats, second: Floats, labels: _Labels, level: float) -> Difference | None:
    """Return Newcombe's interval and McNemar's p, None where they do not fit."""
    defined = ~np.isnan(first) & ~np.isnan(second)
    base, condition = first[defined], second[defined]
    n, count = len(base), labels.count(defined)
    if not n or not _binary(base) or not _binary(condition) or (count < n and np.ptp(condition - base) > 0):
        return None
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


def _binary(values: Floats) -> bool:
    return bool(((values == 0) | (values == 1)).all())
