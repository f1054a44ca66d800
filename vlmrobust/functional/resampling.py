"""Draw groups with replacement, or subsets of them: one set of draws for many columns, as a matrix product."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["GroupedColumn", "columns_by_group", "group_codes", "replicate_means", "resample_counts", "subsets"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Groups = Sequence[Any] | NDArray[Any]

# 16 MiB of draws at a time, whatever the number of replicates and groups.
_CHUNK_ELEMENTS = 2**21
# Beyond this, groups are merged at random: the interval's width then has a standard error of 0.8 %, about what 10,000
# replicates leave anyhow, and a million samples cost what 8,192 do.
_MOST_GROUPS = 2**13


def resample_counts(count: int, replicates: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield how often each of some groups is drawn when as many are drawn with replacement, a chunk at a time.

    Args:
        count: number of groups, G.
        replicates: how many resamples.
        rng: where they come from.

    Yields:
        `(r, G)` float64 whole numbers; r adds up to `replicates`, each row to G.

    Example:
        >>> [counts.shape for counts in resample_counts(5, 100, np.random.default_rng(0))]
        [(100, 5)]
    """
    most_rows = max(1, _CHUNK_ELEMENTS // count)
    for start in range(0, replicates, most_rows):
        rows = min(most_rows, replicates - start)
        counts = np.empty((rows, count))
        # A generator that draws 32 bits keeps the unused half for the next call: chunks don't change what is drawn.
        for row, drawn in enumerate(rng.integers(count, size=(rows, count), dtype=np.int32)):
            counts[row] = np.bincount(drawn, minlength=count)
        yield counts


def subsets(count: int, replicates: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield subsets of so many groups, a chunk at a time: all but the empty one where they are few, else random ones.

    Args:
        count: number of groups, G.
        replicates: how many random ones, each group being in half of them.
        rng: where they come from.

    Yields:
        `(r, G)` float64, 1 for a group that is in the subset.

    Example:
        >>> [chunk.tolist() for chunk in subsets(2, 100, np.random.default_rng(0))]
        [[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]
    """
    total = 2**count - 1 if count < 60 and 2**count - 1 <= replicates else 0
    rows = max(1, _CHUNK_ELEMENTS // count)
    width = -(-count // 32) * 4  # whole words: chunks don't change what is drawn
    for start in range(0, total or replicates, rows):
        size = min(rows, (total or replicates) - start)
        if total:
            numbers = np.arange(start + 1, start + size + 1, dtype=np.int64)
            yield ((numbers[:, None] >> np.arange(count)) & 1).astype(np.float64)
        else:
            drawn = np.frombuffer(rng.bytes(size * width), dtype=np.uint8).reshape(size, width)
            yield np.unpackbits(drawn, axis=1, count=count).astype(np.float64)


def group_codes(groups: Groups | None, n: int) -> Integers:
    """Return the number of each of n values' group, counted from 0 without gaps in the order of the labels."""
    if groups is None:
        return np.arange(n, dtype=np.int64)
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(f"expected 'groups' of shape {(n,)}, got {labels.shape}")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class GroupedColumn:
    """What a bootstrap needs of a column, whatever its length.

    Its sums are whole multiples of a unit of at most 2**-51 · G of the largest: whole numbers below 2**53 add up
    without rounding, in whatever order a matrix product takes them. So a result depends neither on the columns beside
    it nor on the number of threads or the machine, and a mean that is 0 is exactly 0 for the p-value.

    Attributes:
        value: the mean, NaN without a defined value.
        n: number of defined values.
        sums: `(G,)`, each group's sum, in units.
        sizes: `(G,)`, how many defined values each group has.
        unit: what the sums are multiples of, a power of 2.
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
        """The mean, rounded as a replicate is, so that the two can be compared; NaN without a defined value."""
        return float(self.sums.sum() * self.unit / self.sizes.sum()) if self.n else math.nan

    def jackknife(self) -> Floats:
        """Return `(G,)`, the mean without each group; of two groups or more with a defined value."""
        without: Floats = (self.sums.sum() - self.sums) * self.unit / (self.sizes.sum() - self.sizes)
        return without

    @classmethod
    def of(cls, values: Floats, codes: Integers, count: int) -> Self:
        """Sum up a column by the groups, 0 … count − 1, of its values."""
        defined = ~np.isnan(values)
        kept, of_kept = values[defined], codes[defined]
        sums = np.bincount(of_kept, weights=kept, minlength=count)
        sizes = np.bincount(of_kept, minlength=count).astype(np.float64)
        exponent = math.frexp(float(np.abs(sums).max(initial=0.0)))[1] + count.bit_length() - 53
        unit = math.ldexp(1.0, max(-1022, exponent))
        return cls(float(kept.mean()) if len(kept) else math.nan, len(kept), np.rint(sums / unit), sizes, unit)


def columns_by_group(columns: Iterable[Floats], groups: Groups | None, rng: np.random.Generator) -> list[GroupedColumn]:
    """Sum up columns by group, one at a time; more groups than 8,192 are merged at random."""
    grouped: list[GroupedColumn] = []
    codes, count = np.empty(0, dtype=np.int64), 0
    for index, column in enumerate(columns):
        if index == 0:
            codes = group_codes(groups, len(column))
            count = int(codes.max(initial=-1)) + 1
            if count > _MOST_GROUPS:
                codes = (rng.permutation(count) % _MOST_GROUPS)[codes]
                count = _MOST_GROUPS
        if len(column) != len(codes):
            raise ValueError(f"expected columns of one length, got {len(codes)} and {len(column)}")
        grouped.append(GroupedColumn.of(column, codes, count))
    return grouped


def replicate_means(
    columns: Sequence[GroupedColumn],
    replicates: int,
    rng: np.random.Generator,
    draw: Callable[[int, int, np.random.Generator], Iterator[Floats]] = resample_counts,
) -> Floats:
    """Return `(len(columns), r)` means over `resample_counts` or `subsets`, NaN where no defined value was drawn."""
    if not columns:
        return np.empty((0, replicates))
    sums = np.stack([column.sums for column in columns])
    # Many columns are defined for the same values (all metrics of the letters, say): their sizes are added up once.
    sizes, which = np.unique(np.stack([column.sizes for column in columns]), axis=0, return_inverse=True)
    units = np.array([column.unit for column in columns])[:, None]
    means = np.full((len(columns), replicates), math.nan)
    start = 0
    for counts in draw(sums.shape[1], replicates, rng):
        drawn = (sizes @ counts.T)[which.ravel()]
        part = means[:, start : start + len(counts)]
        np.divide((sums @ counts.T) * units, drawn, out=part, where=drawn > 0)
        start += len(counts)
    return means[:, :start]  # all subsets of a few groups are fewer than `replicates`
