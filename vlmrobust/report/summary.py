"""Compare conditions with a reference on the same samples: differences, intervals, counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from ..functional.closed_form import holm
from ..functional.intervals import FEWEST_GROUPS, Outcome, mean_intervals, paired_intervals
from ..seeding import generator
from ..types import Responses
from .aggregates import aggregate_difference, aggregate_interval
from .metric_columns import Column
from .pairing import (
    UNSCORED,
    Contrast,
    Floats,
    Integers,
    Mask,
    SampleIndex,
    is_one_of,
    with_common_option,
    without_rounding_errors,
)

__all__ = ["EQUAL_DIFFERENCES", "SummaryRow", "summarise", "too_few"]

EQUAL_DIFFERENCES = "no interval: all samples differ by the same"
CONSTANT_VALUE = "no interval of the value: it is the same in every resample"


def too_few(groups: int, *, is_of_samples: bool) -> str:
    """Return a note if there are too few independent groups, or samples, for an interval, else an empty string."""
    if groups >= FEWEST_GROUPS:
        return ""
    return f"too few for an interval: {groups} {'sample' if is_of_samples else 'group'}{'s' * (groups != 1)}"


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One condition × metric.

    Attributes:
        condition, metric: names.
        value: on all `n_value` samples (draws averaged) for which the metric is defined under this condition.
        base_value, difference: on the `n` samples that are defined on both sides; difference = paired_value −
            base_value.
        low, high: 95 % interval of the difference; NaN, with a note, if there are too few samples or groups.
        n: number of samples that are defined on both sides; without a comparison, on this side.
        errors: number of responses of status `error` under this condition.
        value_low, value_high: 95 % interval of the value.
        p: two-sided p-value of "no difference", from the test that [low, high] inverts: below 0.05 exactly if the
            interval excludes 0.
        p_adjusted: p after Holm's correction for the number of conditions, per metric.
        coverage, base_coverage: share of the scored responses (no error, applicable) for which the metric is defined.
        not_applicable: number of responses of that status.
        carrier: how the condition was carried; None without a scored response.
        note: why something is undefined or left out.
        noise_floor: the effect of sampling alone, base against base, on the same samples: for a paired metric its value
            between two draws of base, for any other the mean absolute difference between two runs of base. 0 if all
            draws are equal; NaN if unknown, as with a single draw.
        paired_value: the value on the `n` samples of the difference; differs from `value` if the metric is undefined
            for some samples on one side only, as where a judge is unsure.
        n_value: number of samples behind `value`.
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
    noise_floor: float
    paired_value: float
    n_value: int


_FIELDS = [field.name for field in fields(SummaryRow)]


def summarise(
    responses: Responses, columns: Sequence[Column], contrasts: Sequence[Contrast], seed: int
) -> list[SummaryRow]:
    """Return one row per contrast × metric; `columns` are the metrics' values for all responses."""
    rows = _Summary(responses, contrasts, seed).rows(columns)
    by_metric = []
    for start in range(0, len(rows), len(contrasts) or 1):
        of_metric = rows[start : start + len(contrasts)]
        adjusted = holm([row.p for row in of_metric])
        by_metric.append([replace(row, p_adjusted=float(p)) for row, p in zip(of_metric, adjusted, strict=True)])
    return [row for of_contrast in zip(*by_metric, strict=True) for row in of_contrast]


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """One contrast × metric, before the intervals of its means are computed.

    Attributes:
        row: complete if the metric is not averaged.
        averaged: `(S,)` mask of the samples to average; None = no mean.
        compared: `(S,)` mask of the samples to compare with the other side; None = no comparison.
    """

    column: Column
    contrast: Contrast
    row: SummaryRow
    averaged: Mask | None = None
    compared: Mask | None = None


class _Summary:
    """Computes the rows of contrasts for any metrics."""

    def __init__(self, responses: Responses, contrasts: Sequence[Contrast], seed: int) -> None:
        self.responses = responses
        self.contrasts = contrasts
        self.samples = SampleIndex.of(responses)
        self.errors = is_one_of(responses.status, "error")
        self.not_applicable = is_one_of(responses.status, "not_applicable")
        self.scored = ~is_one_of(responses.status, *UNSCORED)
        self.has_draws = len(set(responses.draw.tolist())) > 1
        self.seed = seed

    def rows(self, columns: Sequence[Column]) -> list[SummaryRow]:
        """Return the rows, metric by metric.

        All intervals of means use the same resamples, drawn twice, for all metrics and conditions. The samples' means
        are recomputed when needed, for one metric and contrast at a time: with a million responses, all of them would
        take 250 MB.
        """
        cells = [self._cell(column, contrast) for column in columns for contrast in self.contrasts]
        averaged = [(cell, cell.averaged) for cell in cells if cell.averaged is not None]
        compared = [(cell, cell.compared) for cell in cells if cell.compared is not None]
        values = (self._means(cell, cell.contrast.unit.rows, chosen) for cell, chosen in averaged)
        pairs = (self._pair(cell, chosen) for cell, chosen in compared)
        groups, outcomes, rng = self.samples.group, self._outcome, partial(generator, self.seed, "bootstrap")
        means = iter(mean_intervals(values, groups, outcomes=map(outcomes, averaged), rng=rng()))
        differences = iter(paired_intervals(pairs, groups, outcomes=map(outcomes, compared), rng=rng()))
        rows = []
        for cell in cells:
            row = cell.row
            if cell.averaged is not None:
                mean = next(means)
                row = replace(row, value=mean.value, value_low=mean.low, value_high=mean.high, n_value=mean.n)
            if cell.compared is not None:
                found = next(differences)
                row = replace(row, low=found.low, high=found.high, p=found.p)
            rows.append(self._with_intervals(row, averaged=cell.averaged, compared=cell.compared))
        return rows

    def _with_intervals(
        self, row: SummaryRow, *, averaged: Mask | None = None, compared: Mask | None = None
    ) -> SummaryRow:
        """Remove intervals of width 0 from a row, and note why its difference or value has no interval."""
        why = ""
        if averaged is not None and not row.value_low < row.value_high:
            row = replace(row, value_low=math.nan, value_high=math.nan)
            few = self._too_few(averaged)
            why = "" if few and row.note else few or CONSTANT_VALUE
        if compared is not None:
            row = replace(row, difference=row.paired_value - row.base_value)
            if not row.low < row.high:
                row = replace(row, low=math.nan, high=math.nan, p=math.nan)
                why = self._too_few(compared) or EQUAL_DIFFERENCES
        return replace(row, note=_joined_notes(row.note, why))

    def _too_few(self, chosen: Mask) -> str:
        groups = self.samples.group_count(chosen)
        return too_few(groups, is_of_samples=groups == int(chosen.sum()))

    def _means(self, cell: _Cell, rows: Integers, chosen: Mask) -> Floats:
        """Return the chosen samples' means over some rows, NaN for other samples."""
        return np.where(chosen, self.samples.means(cell.column.scores, rows), math.nan)

    def _pair(self, cell: _Cell, chosen: Mask) -> tuple[Floats, Floats]:
        """Return the chosen samples' means on both sides."""
        base, value = (self._means(cell, rows, chosen) for rows in (cell.contrast.base, cell.contrast.unit.rows))
        return base, without_rounding_errors(cell.column, base, value)

    def _outcome(self, cell: tuple[_Cell, Mask]) -> Outcome:
        """Return the outcome of a cell's means: a rate becomes a share if samples have several draws."""
        outcome = cell[0].column.outcome
        return "share" if outcome == "rate" and self.has_draws else outcome

    def _cell(self, column: Column, contrast: Contrast) -> _Cell:
        value = self.samples.means(column.scores, contrast.unit.rows)
        defined = ~np.isnan(value)
        if contrast.is_reference:
            return self._uncompared(column, contrast, defined, note="")
        if column.reads_asserted:
            measured = with_common_option(self.responses, column, contrast)
            if measured is None:
                why = f"{column.name} depends on what the text asserts, which is not the distractor"
                why += ": score the loaded report again to compare it"
                return self._uncompared(column, contrast, defined, _joined_notes(contrast.note, why))
            column, value = measured, self.samples.means(measured.scores, contrast.unit.rows)
            defined = ~np.isnan(value)
        base = self.samples.means(column.scores, contrast.base)
        pairs, note = self._pairs(column, contrast, defined, ~np.isnan(base))
        if not pairs.any():
            return self._uncompared(column, contrast, defined, note)
        row = replace(self._empty_row(column, contrast), n=int(pairs.sum()), note=note)
        if column.is_mean:
            row = replace(
                row,
                base_value=float(base[pairs].mean()),
                paired_value=float(without_rounding_errors(column, base, value)[pairs].mean()),
                noise_floor=self._noise_floor(column, contrast, pairs),
            )
            return _Cell(column, contrast, row, averaged=defined, compared=pairs)
        if column.metric is None:
            return _Cell(column, contrast, replace(row, note=_joined_notes(note, _needs_metric(column))))
        arguments = self.responses, self.samples, column, contrast.unit.rows
        value_now, low, high = aggregate_interval(*arguments, defined, self._rng(column, contrast))
        found = aggregate_difference(*arguments, contrast.base, pairs, self._rng(column, contrast))
        row = replace(row, value=value_now, value_low=low, value_high=high, n_value=int(defined.sum()))
        row = replace(row, **found._asdict())
        return _Cell(column, contrast, self._with_intervals(row, averaged=defined, compared=pairs))

    def _pairs(self, column: Column, contrast: Contrast, here: Mask, there: Mask) -> tuple[Mask, str]:
        """Return a mask of the samples to compare, from the masks of either side, and a note on the others."""
        defined = here & there
        if not (len(contrast.base) and len(contrast.unit.rows)):
            return defined, contrast.note or f"no responses {contrast.where}"
        if not defined.any():
            # A paired metric is itself a comparison with base, and has no values under base to compare with.
            is_expected = column.is_paired and not there.any()
            return defined, contrast.note if is_expected else _joined_notes(
                contrast.note, f"defined for no sample both {contrast.where} and here"
            )
        if not column.reads_letters:
            return defined, contrast.note
        before, after = (self.samples.readouts(column.scores, rows) for rows in (contrast.base, contrast.unit.rows))
        differ = defined & (before != after)
        if not differ.any():
            return defined, contrast.note
        listed = self.samples.readouts_listed
        note = f"read-outs differ ({listed(before[differ])} {contrast.where}, {listed(after[differ])} here)"
        pairs = defined & ~differ
        left_out = f"{int(differ.sum())} pairs left out: {note}" if pairs.any() else note
        return pairs, _joined_notes(contrast.note, left_out)

    def _uncompared(self, column: Column, contrast: Contrast, defined: Mask, note: str) -> _Cell:
        """Return a cell without a comparison: the value on all samples for which it is defined."""
        rows = contrast.unit.rows
        if column.reads_letters and not note:
            readouts = np.unique(self.samples.readouts(column.scores, rows)[defined])
            note = f"read-outs mixed ({self.samples.readouts_listed(readouts)})" if len(readouts) > 1 else ""
        count = int(defined.sum())
        row = replace(self._empty_row(column, contrast), n=count, n_value=count, note=note)
        if not defined.any():
            return _Cell(column, contrast, row)
        if column.is_mean:
            floor = self._noise_floor(column, contrast, defined) if contrast.is_reference else math.nan
            return _Cell(column, contrast, replace(row, noise_floor=floor), averaged=defined)
        if column.metric is None:
            return _Cell(column, contrast, replace(row, note=_joined_notes(note, _needs_metric(column))))
        rng = self._rng(column, contrast)
        value, low, high = aggregate_interval(self.responses, self.samples, column, rows, defined, rng)
        row = replace(row, value=value, value_low=low, value_high=high)
        return _Cell(column, contrast, self._with_intervals(row, averaged=defined))

    def _empty_row(self, column: Column, contrast: Contrast) -> SummaryRow:
        unit = contrast.unit
        known: dict[str, Any] = {
            "condition": unit.condition,
            "metric": column.name,
            "n": 0,
            "n_value": 0,
            "errors": int(self.errors[unit.rows].sum()),
            "not_applicable": int(self.not_applicable[unit.rows].sum()),
            "coverage": self._coverage(column, unit.rows),
            "base_coverage": self._coverage(column, contrast.base),
            "carrier": unit.carrier,
            "note": "",
        }
        return SummaryRow(**dict.fromkeys(_FIELDS, math.nan) | known)

    def _noise_floor(self, column: Column, contrast: Contrast, chosen: Mask) -> float:
        """Return the noise floor over some samples: a paired metric's mean under base, else E|difference| of two runs.

        The difference of two runs of base is nearly normal around 0: its mean absolute value is √(2/π) standard errors.
        """
        if not self.has_draws:
            return math.nan
        if column.is_paired and self.responses.condition[contrast.base[0]] == "base":
            return float(self.samples.means(column.scores, contrast.base)[chosen].mean())
        errors = self.samples.squared_errors(column.scores, contrast.base)[chosen]
        known = errors[~np.isnan(errors)]
        return math.sqrt(2 / math.pi * 2 * float(known.sum())) / len(known) if len(known) else math.nan

    def _coverage(self, column: Column, rows: Integers) -> float:
        scored = rows[self.scored[rows]]
        return float((~np.isnan(column.scores[scored])).mean()) if len(scored) else math.nan

    def _rng(self, column: Column, contrast: Contrast) -> np.random.Generator:
        return generator(self.seed, "bootstrap", column.name, contrast.unit.condition, contrast.where)


def _joined_notes(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _needs_metric(column: Column) -> str:
    return f"{column.name} is no mean over samples: score the loaded report again to have it"
