"""Means with the interval and the p-value of one randomisation test: whole groups change their sign.

Under "the mean is δ" every group's sum less δ times its size is as likely as its opposite. The mean of a set of groups
whose sign is flipped is at most δ exactly where flipping them leaves no smaller total, so the p-value at every δ counts
the subsets of groups whose mean is on either side of it, and the interval ends at order statistics of these means. Test
and interval cannot contradict each other, and since every subset's mean rises with every value, so do both ends: one
more failure raises neither.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .resampling import Floats, GroupedColumn, Groups, columns_by_group

__all__ = ["FEWEST_GROUPS", "FlipInterval", "flip_intervals", "subsets"]

_CHUNK_ELEMENTS = 2**21
FEWEST_GROUPS = 6
"""Of fewer, not even the rarest pattern is rare enough for 95 %."""


class FlipInterval(NamedTuple):
    """A mean, its interval, and the p-value of "it is 0"; NaN where they can't be had."""

    value: float
    low: float
    high: float
    n: int
    p: float


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
    """Return the mean of every column, all from the same subsets.

    Args:
        columns: each `(n,)`, NaN = undefined; taken one at a time.
        extremes: for each column, the least and the largest value that there can be, or None. Of rates near 0 or 1 the
            sample says too little about what it has not seen, so a part of a group of either extreme is added; it moves
            the ends, not the mean.
        groups: n labels; None = each value is its own group.
        weight: how large a part, in groups.
        rng: where random subsets come from.
        replicates: how many of them.
        level: the intervals' coverage, in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"expected 'level' between 0 and 1, got {level}")
    if replicates < 1:
        raise ValueError(f"expected at least one of 'replicates', got {replicates}")
    grouped = columns_by_group(columns, groups, rng)
    told = [
        _with_extremes(column, ends, weight) for column, ends in zip(grouped, extremes, strict=True) if _is_told(column)
    ]
    means = iter(_subset_means(told, replicates, rng))
    return [
        _interval(column, next(means), level)
        if _is_told(column)
        else FlipInterval(column.value, math.nan, math.nan, column.n, math.nan)
        for column in grouped
    ]


def _is_told(column: GroupedColumn) -> bool:
    return column.groups >= FEWEST_GROUPS


def _with_extremes(
    column: GroupedColumn, extremes: tuple[float, float] | None, weight: float
) -> tuple[Floats, Floats, float]:
    """Return sums in units, sizes and unit of a column's groups and of the two that are added."""
    # A multiple of 2**-10, so that sizes add up without rounding, as sums do.
    size = 0.0 if extremes is None else round(1024 * weight * column.n / column.groups) / 1024
    added = [np.rint(size * end / column.unit) for end in extremes or (0.0, 0.0)]
    return np.append(column.sums, added), np.append(column.sizes, [size, size]), column.unit


def _subset_means(told: Sequence[tuple[Floats, Floats, float]], replicates: int, rng: np.random.Generator) -> Floats:
    """Return `(len(told), r)` means over subsets, NaN for one without a value."""
    if not told:
        return np.empty((0, 0))
    sums = np.stack([column[0] for column in told])
    # Many columns are defined for the same values (all metrics of the letters, say): their sizes are added up once.
    sizes, which = np.unique(np.stack([column[1] for column in told]), axis=0, return_inverse=True)
    units = np.array([column[2] for column in told])[:, None]
    parts = []
    for chosen in subsets(sums.shape[1], replicates, rng):
        drawn = (sizes @ chosen.T)[which.ravel()]
        part = np.full(drawn.shape, math.nan)
        np.divide((sums @ chosen.T) * units, drawn, out=part, where=drawn > 0)
        parts.append(part)
    return np.concatenate(parts, axis=1)


def _interval(column: GroupedColumn, means: Floats, level: float) -> FlipInterval:
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
