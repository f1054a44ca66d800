"""Resample groups with replacement or as subsets, with the same draws for many columns, as a matrix product.

The bootstrap and the sign-flip tests share this, the checks of their arguments, and the types of their results.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Difference",
    "Estimate",
    "GroupedColumn",
    "as_vector",
    "as_vectors",
    "check_settings",
    "columns_by_group",
    "group_codes",
    "replicate_means",
    "resample_counts",
    "subsets",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Groups = Sequence[Any] | NDArray[Any]

# 16 MiB of draws per chunk.
_CHUNK_ELEMENTS = 2**21
# More groups are merged at random: the interval's width then has a standard error of 0.8 %, about that of 10,000
# replicates, and a million samples cost as much as 8,192.
_MAX_GROUPS = 2**13


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: the mean over the n defined values, NaN if there is none.
        low, high: the interval, NaN if undefined.
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
        low, high: the interval, NaN if undefined.
        n: number of pairs defined on both sides.
        p: two-sided p-value of "no difference", NaN if undefined.
    """

    value: float
    low: float
    high: float
    n: int
    p: float


def as_vector(name: str, values: ArrayLike, where: str = "") -> Floats:
    """Return values as a float64 vector; refuse other shapes and infinite values."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected {name!r}{where} of shape (n,), got {array.shape}")
    if len(infinite := np.flatnonzero(np.isinf(array))):
        raise ValueError(f"expected finite values or NaN in {name!r}{where}, got {array[infinite[0]]} at {infinite[0]}")
    return array


def as_vectors(base: ArrayLike, condition: ArrayLike, where: str = "") -> tuple[Floats, Floats]:
    """Return two float64 vectors of the same length."""
    first, second = as_vector("base", base, where), as_vector("condition", condition, where)
    if first.shape != second.shape:
        raise ValueError(
            f"expected 'base' and 'condition'{where} of the same length, got {len(first)} and {len(second)}"
        )
    return first, second


def check_settings(level: float, replicates: int) -> None:
    """Refuse a level outside (0, 1), and less than one replicate."""
    if not 0 < level < 1:
        raise ValueError(f"expected 'level' between 0 and 1, got {level}")
    if replicates < 1:
        raise ValueError(f"expected at least one of 'replicates', got {replicates}")


def resample_counts(count: int, replicates: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield chunks of resamples: how often each of G groups is drawn in G draws with replacement.

    Args:
        count: number of groups, G.
        replicates: number of resamples.
        rng: random generator.

    Yields:
        `(r, G)` float64 whole numbers; each row sums to G, and the chunks have `replicates` rows in total.

    Example:
        >>> [counts.shape for counts in resample_counts(5, 100, np.random.default_rng(0))]
        [(100, 5)]
    """
    chunk_rows = max(1, _CHUNK_ELEMENTS // count)
    for start in range(0, replicates, chunk_rows):
        rows = min(chunk_rows, replicates - start)
        counts = np.empty((rows, count))
        # With 32-bit draws the generator keeps the unused half for the next call: chunks do not affect the draws.
        for row, drawn in enumerate(rng.integers(count, size=(rows, count), dtype=np.int32)):
            counts[row] = np.bincount(drawn, minlength=count)
        yield counts


def subsets(count: int, replicates: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield chunks `(r, G)` of subsets of G groups, 1 for a group in the subset.

    They are all the non-empty ones if there are at most `replicates`, else random ones, which contain each group with
    probability 1/2.

    Example:
        >>> [chunk.tolist() for chunk in subsets(2, 100, np.random.default_rng(0))]
        [[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]
    """
    total = 2**count - 1 if count < 60 and 2**count - 1 <= replicates else 0
    rows = max(1, _CHUNK_ELEMENTS // count)
    width = -(-count // 32) * 4  # whole words, so that chunks do not affect the draws
    for start in range(0, total or replicates, rows):
        size = min(rows, (total or replicates) - start)
        if total:
            numbers = np.arange(start + 1, start + size + 1, dtype=np.int64)
            yield ((numbers[:, None] >> np.arange(count)) & 1).astype(np.float64)
        else:
            drawn = np.frombuffer(rng.bytes(size * width), dtype=np.uint8).reshape(size, width)
            yield np.unpackbits(drawn, axis=1, count=count).astype(np.float64)


def group_codes(groups: Groups | None, n: int) -> Integers:
    """Return the group code of each of n values: integers from 0 without gaps, in the order of the labels."""
    if groups is None:
        return np.arange(n, dtype=np.int64)
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(f"expected 'groups' of shape {(n,)}, got {labels.shape}")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class GroupedColumn:
    """A column's statistics for resampling, independent of its length.

    The sums are integer multiples of a unit of at most 2**-51 · G times the largest: a matrix product adds integers
    below 2**53 exactly, in any order. So results do not depend on other columns, the number of threads or the machine,
    and a mean of 0 is exactly 0 for the p-value.

    Attributes:
        value: the mean, NaN without a defined value.
        n: number of defined values.
        sums: `(G,)`, each group's sum, in units.
        sizes: `(G,)`, number of defined values in each group.
        unit: the unit of the sums, a power of 2.
    """

    value: float
    n: int
    sums: Floats
    sizes: Floats
    unit: float

    @property
    def groups(self) -> int:
        """The number of groups with a defined value."""
        return int(np.count_nonzero(self.sizes))

    @property
    def ratio(self) -> float:
        """The mean, rounded like a replicate for comparison with replicates; NaN without a defined value."""
        return float(self.sums.sum() * self.unit / self.sizes.sum()) if self.n else math.nan

    def jackknife(self) -> Floats:
        """Return `(G,)`, the mean without each group; needs at least two groups with a defined value."""
        without: Floats = (self.sums.sum() - self.sums) * self.unit / (self.sizes.sum() - self.sizes)
        return without

    @classmethod
    def of(cls, values: Floats, codes: Integers, count: int) -> Self:
        """Aggregate a column by group codes 0 … count − 1."""
        is_defined = ~np.isnan(values)
        values, codes = values[is_defined], codes[is_defined]
        sums = np.bincount(codes, weights=values, minlength=count)
        sizes = np.bincount(codes, minlength=count).astype(np.float64)
        exponent = math.frexp(float(np.abs(sums).max(initial=0.0)))[1] + count.bit_length() - 53
        unit = math.ldexp(1.0, max(-1022, exponent))
        mean = float(values.mean()) if len(values) else math.nan
        return cls(mean, len(values), np.rint(sums / unit), sizes, unit)


def columns_by_group(columns: Iterable[Floats], groups: Groups | None, rng: np.random.Generator) -> list[GroupedColumn]:
    """Aggregate columns by group, one at a time; more than 8,192 groups are merged at random."""
    grouped: list[GroupedColumn] = []
    codes, count = np.empty(0, dtype=np.int64), 0
    for index, column in enumerate(columns):
        if index == 0:
            codes = group_codes(groups, len(column))
            count = int(codes.max(initial=-1)) + 1
            if count > _MAX_GROUPS:
                codes = (rng.permutation(count) % _MAX_GROUPS)[codes]
                count = _MAX_GROUPS
        if len(column) != len(codes):
            raise ValueError(f"expected columns of the same length, got {len(codes)} and {len(column)}")
        grouped.append(GroupedColumn.of(column, codes, count))
    return grouped


def replicate_means(
    columns: Sequence[GroupedColumn],
    replicates: int,
    rng: np.random.Generator,
    draw: Callable[[int, int, np.random.Generator], Iterator[Floats]] = resample_counts,
) -> Floats:
    """Return `(len(columns), r)` means over `resample_counts` or `subsets`, NaN if no defined value was drawn."""
    if not columns:
        return np.empty((0, replicates))
    sums = np.stack([column.sums for column in columns])
    # Many columns, such as all metrics of letters, are defined for the same values: sum equal sizes only once.
    sizes, which = np.unique(np.stack([column.sizes for column in columns]), axis=0, return_inverse=True)
    units = np.array([column.unit for column in columns])[:, None]
    means = np.full((len(columns), replicates), math.nan)
    start = 0
    for counts in draw(sums.shape[1], replicates, rng):
        drawn = (sizes @ counts.T)[which.ravel()]
        part = means[:, start : start + len(counts)]
        np.divide((sums @ counts.T) * units, drawn, out=part, where=drawn > 0)
        start += len(counts)
    return means[:, :start]  # few groups have fewer subsets than `replicates`
