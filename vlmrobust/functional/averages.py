"""The average of several estimates, from their own intervals."""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import checked

__all__ = ["average_interval"]


def average_interval(
    values: ArrayLike, low: ArrayLike, high: ArrayLike, blocks: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    r"""Return the interval of the plain average of k estimates from each one's own interval.

    The method of variance estimates recovery: with $m = \frac1k \sum v_i$, the lower limit is
    $m - \frac1k \sqrt{\sum_b (\sum_{i \in b} (v_i - l_i))^2}$ and the upper one likewise, over blocks b of estimates.
    Blocks are independent of each other; within one, any dependence is allowed for by adding the widths up. With one
    estimate per block it is Newcombe's square-and-add, so an interval does not shrink to a point at rates of 0 and 1.

    Args:
        values: `(k,)`, the estimates.
        low: `(k,)`, their lower limits.
        high: `(k,)`, their upper limits, all of the level that is wanted.
        blocks: k labels; estimates of one label may depend on each other. None = all are independent.

    Returns:
        (low, high), NaN without an estimate, or if one of them or of its limits is NaN.

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
    given = [checked(name, side) for name, side in (("values", values), ("low", low), ("high", high))]
    labels: list[Hashable] = [*range(len(given[0]))] if blocks is None else [*blocks]
    lengths = [*map(len, given), len(labels)]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"expected 'values', 'low', 'high' and 'blocks' of one length, got {', '.join(map(str, lengths))}"
        )
    if not labels:
        return math.nan, math.nan
    estimates, lower, upper = given
    codes = [labels.index(label) for label in labels]
    below, above = (
        float(np.sqrt((np.bincount(codes, weights=widths) ** 2).sum())) / len(labels)
        for widths in (estimates - lower, upper - estimates)
    )
    average = float(estimates.mean())
    return average - below, average + above
