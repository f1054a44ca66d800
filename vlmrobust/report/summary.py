"""Conditions compared with a reference on the same samples: differences, intervals, counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..functional.statistics import holm, mean_interval, paired_interval
from ..keyed import generator
from ..types import Responses
from .aggregates import aggregate_difference, aggregate_interval
from .columns import Column
from .pairing import UNSCORED, Integers, Mask, SampleIndex, Unit

__all__ = ["SummaryRow", "compare"]


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One condition × metric.

    Attributes:
        condition, metric: names.
        value, base_value, difference: on the same `n` samples; for the reference itself the value alone, on all that
            are defined.
        low, high: 95 % interval of the difference.
        n: number of samples (draws averaged) that are defined on both sides; where nothing is compared, on this side.
        errors: number of responses of status `error` under this condition.
        value_low, value_high: 95 % interval of the value.
        p: of "no difference", two-sided.
        p_adjusted: the same after Holm's correction for the number of conditions of one metric.
        coverage, base_coverage: share of the responses that could be scored at all (no error, applicable) for which the
            metric is defined.
        not_applicable: number of responses of that status.
        carrier: how the condition was carried; None without a scored response.
        note: why something is undefined or left out.
    """

    condition: str
    metric: str
    value: float
    base_value: float
    difference: float
    low: float
    high: float
    n: int
    errors: int
    value_low: float
    value_high: float
    p: float
    p_adjusted: float
    coverage: float
    base_coverage: float
    not_applicable: int
    carrier: str | None
    note: str


def compare(
    responses: Responses, columns: Sequence[Column], units: Sequence[Unit], reference: str, seed: int
) -> list[SummaryRow]:
    """Return one row per unit × metric, each compared with the reference condition.

    Args:
        responses: all of them.
        columns: the metrics' values for all responses.
        units: what is compared.
        reference: name of the condition that it is compared with, usually `base`.
        seed: keys the bootstrap.
    """
    comparison = _Comparison(responses, units, reference, seed)
    by_metric = []
    for column in columns:
        rows = [comparison.row(column, unit) for unit in units]
        adjusted = holm([row.p for row in rows])
        by_metric.append([replace(row, p_adjusted=float(p)) for row, p in zip(rows, adjusted, strict=True)])
    return [row for of_unit in zip(*by_metric, strict=True) for row in of_unit]


class _Comparison:
    """Units against one reference condition."""

    def __init__(self, responses: Responses, units: Sequence[Unit], reference: str, seed: int) -> None:
        self.responses = responses
        self.samples = SampleIndex.of(responses)
        self.reference = reference
        self.base = np.array([row for row, name in enumerate(responses.condition) if name == reference], dtype=np.int64)
        self.seed = seed

    def row(self, column: Column, unit: Unit) -> SummaryRow:
        """Compare one unit by one metric."""
        value = self.samples.means(column.scores, unit.rows)
        if unit.condition == self.reference or column.is_paired:
            return self._alone(column, unit, ~np.isnan(value), note="")
        base = self.samples.means(column.scores, self.base)
        pairs, note = self._pairs(column, unit, ~np.isnan(value) & ~np.isnan(base))
        if not pairs.any():
            return self._alone(column, unit, ~np.isnan(value), note)
        blank = replace(self._blank(column, unit), n=int(pairs.sum()), note=note)
        if not column.is_mean:
            return self._aggregates(column, unit, pairs, blank)
        rng = self._rng(column, unit)
        groups = self.samples.group[pairs]
        difference = paired_interval(base[pairs], value[pairs], groups, rng=rng)
        alone = mean_interval(value[pairs], groups, rng=rng)
        base_value = float(base[pairs].mean())
        return replace(
            blank,
            value=alone.value,
            base_value=base_value,
            difference=alone.value - base_value,
            low=difference.low,
            high=difference.high,
            value_low=alone.low,
            value_high=alone.high,
            p=difference.p,
        )

    def _pairs(self, column: Column, unit: Unit, defined: Mask) -> tuple[Mask, str]:
        """Return which samples are compared, and what there is to say about the others."""
        if not len(self.base):
            return defined, f"no responses under {self.reference!r}"
        if not defined.any():
            return defined, f"defined for no sample on both sides ({self.reference} and {unit.condition})"
        if not column.reads_letters:
            return defined, ""
        before, after = (self.samples.readouts(self.responses, column.scores, rows) for rows in (self.base, unit.rows))
        differ = defined & (before != after)
        if not differ.any():
            return defined, ""
        note = f"read-outs differ ({_listed(before[differ])} under {self.reference}, {_listed(after[differ])} here)"
        pairs = defined & ~differ
        return pairs, f"{int(differ.sum())} pairs left out: {note}" if pairs.any() else note

    def _alone(self, column: Column, unit: Unit, defined: Mask, note: str) -> SummaryRow:
        """Return a row that compares with nothing: the value on all samples for which it is defined."""
        if column.reads_letters and not note:
            readouts = self.samples.readouts(self.responses, column.scores, unit.rows)[defined]
            note = f"read-outs mixed ({_listed(readouts)})" if len(set(readouts.tolist())) > 1 else ""
        blank = replace(self._blank(column, unit), n=int(defined.sum()), note=note)
        if not defined.any():
            return blank
        rng = self._rng(column, unit)
        if column.is_mean:
            means = self.samples.means(column.scores, unit.rows)
            estimate = mean_interval(means[defined], self.samples.group[defined], rng=rng)
            value, low, high = estimate.value, estimate.low, estimate.high
        elif column.metric is None:
            return replace(blank, note=_needs_metric(column))
        else:
            value, low, high = aggregate_interval(self.responses, self.samples, column, unit.rows, defined, rng)
        return replace(blank, value=value, value_low=low, value_high=high)

    def _aggregates(self, column: Column, unit: Unit, pairs: Mask, blank: SummaryRow) -> SummaryRow:
        if column.metric is None:
            return replace(blank, note=_needs_metric(column))
        found = aggregate_difference(
            self.responses, self.samples, column, unit.rows, self.base, pairs, self._rng(column, unit)
        )
        return replace(blank, difference=found.value - found.base_value, **found._asdict())

    def _blank(self, column: Column, unit: Unit) -> SummaryRow:
        statuses = [self.responses.status[row] for row in unit.rows]
        undefined = math.nan
        return SummaryRow(
            condition=unit.condition,
            metric=column.name,
            value=undefined,
            base_value=undefined,
            difference=undefined,
            low=undefined,
            high=undefined,
            n=0,
            errors=statuses.count("error"),
            value_low=undefined,
            value_high=undefined,
            p=undefined,
            p_adjusted=undefined,
            coverage=self._coverage(column, unit.rows),
            base_coverage=self._coverage(column, self.base),
            not_applicable=statuses.count("not_applicable"),
            carrier=unit.carrier,
            note="",
        )

    def _coverage(self, column: Column, rows: Integers) -> float:
        scored = [row for row in rows if self.responses.status[row] not in UNSCORED]
        return float((~np.isnan(column.scores[scored])).mean()) if scored else math.nan

    def _rng(self, column: Column, unit: Unit) -> np.random.Generator:
        return generator(self.seed, "bootstrap", column.name, unit.condition, self.reference)


def _listed(names: NDArray[np.str_]) -> str:
    return " or ".join(sorted(set(names.tolist())))


def _needs_metric(column: Column) -> str:
    return f"{column.name} is no mean over samples: score the loaded report again to have it"
