"""What is no mean over samples (calibration errors, areas under curves), with bootstrap intervals."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from ..functional.bootstrap import expanded_p, percentile_limits
from ..functional.intervals import FEWEST_GROUPS
from ..functional.resampling import resample_counts
from ..types import Responses
from .columns import Column
from .pairing import Floats, Integers, Mask, SampleIndex

__all__ = ["AggregateDifference", "aggregate_difference", "aggregate_interval"]

# Each replicate calls the metric itself, which may have to sort.
_REPLICATES = 1000
_LEVEL = 0.95
_ALPHA = 0.05  # 1 − 0.95 is a little more


class AggregateDifference(NamedTuple):
    """An aggregate under two conditions; see `SummaryRow` for the fields."""

    paired_value: float
    base_value: float
    low: float
    high: float
    p: float


def aggregate_interval(
    responses: Responses,
    samples: SampleIndex,
    column: Column,
    rows: Integers,
    chosen: Mask,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Return the metric's aggregate over some samples' rows, and its 95 % percentile interval over resampled groups."""
    defined = samples.defined_rows(column.scores, rows, chosen)
    aggregate = _Aggregate(responses, column, defined)
    replicates = np.array([aggregate(weights) for weights in _resampled(samples, chosen, defined, rng)])
    groups = samples.group_count(chosen)
    limits = percentile_limits(replicates, groups, _LEVEL) if groups >= FEWEST_GROUPS else (math.nan, math.nan)
    return aggregate(None), *limits


def aggregate_difference(
    responses: Responses,
    samples: SampleIndex,
    column: Column,
    rows: Integers,
    base: Integers,
    chosen: Mask,
    rng: np.random.Generator,
) -> AggregateDifference:
    """Compare the metric's aggregate on two sides of the same samples, which are resampled together.

    The p-value is that of `functional.paired_bootstrap`.
    """
    sides = [samples.defined_rows(column.scores, side, chosen) for side in (rows, base)]
    after, before = (_Aggregate(responses, column, side) for side in sides)
    split = len(sides[0])
    replicates = np.array(
        [
            (after(weights[:split]), before(weights[split:]))
            for weights in _resampled(samples, chosen, np.concatenate(sides), rng)
        ]
    )
    differences, groups = replicates[:, 0] - replicates[:, 1], samples.group_count(chosen)
    low, high = percentile_limits(differences, groups, _LEVEL)
    p = expanded_p(differences, groups)
    if groups < FEWEST_GROUPS:
        low = high = p = math.nan
    elif (p < _ALPHA) == (low <= 0 <= high):
        p = _ALPHA if low <= 0 <= high else math.nextafter(_ALPHA, 0)  # apart by the replicates' steps alone
    return AggregateDifference(after(None), before(None), low, high, p)


class _Aggregate:
    """A metric's own aggregate over some rows, as a function of how often a resample drew each of them."""

    def __init__(self, responses: Responses, column: Column, rows: Integers) -> None:
        if column.metric is None:
            raise ValueError(f"metric {column.name!r}: expected the metric itself, got a column of a loaded report")
        self._metric = column.metric
        self._responses = responses.select(rows.tolist())
        self._values = torch.from_numpy(column.scores[rows])

    def __call__(self, weights: Floats | None) -> float:
        drawn = None if weights is None else torch.from_numpy(weights)
        # An aggregate may work in place: it is called many times on the same rows.
        return float(self._metric.aggregate(self._values.clone(), self._responses, drawn))


def _resampled(samples: SampleIndex, chosen: Mask, rows: Integers, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield, for each resample of the chosen samples' groups, how often each of `rows` was drawn."""
    codes = samples.group_codes(chosen, rows)
    for chunk in resample_counts(samples.group_count(chosen), _REPLICATES, rng):
        for counts in chunk:
            yield counts[codes]
