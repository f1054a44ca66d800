"""Compute statistics other than means over samples: calibration errors, areas, corrected consistency."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ..functional import post_stratified_difference, post_stratified_rate
from ..functional.bootstrap import expanded_p, percentile_limits
from ..functional.intervals import FEWEST_GROUPS
from ..functional.resampling import resample_counts
from ..seeding import generator
from ..types import Responses
from .labels import Labels, check_random_draw, labels_by_row, sample_and_draw, with_answer_and_thought
from .metric_columns import Column
from .pairing import Floats, Integers, Mask, SampleIndex, Unit, units_of, without_rounding_errors

__all__ = ["AggregateDifference", "ConsistencyRow", "aggregate_difference", "aggregate_interval", "consistency_rows"]


_MIN_LABELS = 30
# Each replicate calls the metric itself, which may have to sort.
_REPLICATES = 1000
_LEVEL = 0.95
_ALPHA = 0.05  # in floating point, 1 − 0.95 is slightly larger


class AggregateDifference(NamedTuple):
    """The difference of an aggregate between two conditions; see `SummaryRow` for the fields."""

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
    replicates = np.array([aggregate(weights) for weights in _resample_weights(samples, chosen, defined, rng)])
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
    """Compare the metric's aggregate between two sets of responses to the same samples, resampled together.

    The p-value is that of `functional.paired_bootstrap`.
    """
    sides = [samples.defined_rows(column.scores, side, chosen) for side in (rows, base)]
    after, before = (_Aggregate(responses, column, side) for side in sides)
    split = len(sides[0])
    replicates = np.array(
        [
            (after(weights[:split]), before(weights[split:]))
            for weights in _resample_weights(samples, chosen, np.concatenate(sides), rng)
        ]
    )
    differences = without_rounding_errors(column, replicates[:, 1], replicates[:, 0]) - replicates[:, 1]
    groups = samples.group_count(chosen)
    low, high = percentile_limits(differences, groups, _LEVEL)
    p = expanded_p(differences, groups)
    if groups < FEWEST_GROUPS:
        low = high = p = math.nan
    elif (p < _ALPHA) == (low <= 0 <= high):
        # They disagree only by the finite steps of the replicates.
        p = _ALPHA if low <= 0 <= high else math.nextafter(_ALPHA, 0)
    base_value = before(None)
    value = without_rounding_errors(column, np.array(base_value), np.array(after(None)))
    return AggregateDifference(float(value), base_value, low, high, p)


class _Aggregate:
    """A metric's own aggregate over some rows, as a function of their resampling weights."""

    def __init__(self, responses: Responses, column: Column, rows: Integers) -> None:
        if column.metric is None:
            raise ValueError(f"metric {column.name!r}: expected the metric itself, got a column of a loaded report")
        self._metric = column.metric
        self._responses = responses.select(rows.tolist())
        self._values = torch.from_numpy(column.scores[rows])

    def __call__(self, weights: Floats | None) -> float:
        drawn = None if weights is None else torch.from_numpy(weights)
        # An aggregate may modify its input, and is called many times on the same rows.
        return float(self._metric.aggregate(self._values.clone(), self._responses, drawn))


def _resample_weights(samples: SampleIndex, chosen: Mask, rows: Integers, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield, for each resample of the chosen samples' groups, how often each of `rows` was drawn."""
    codes = samples.group_codes(chosen, rows)
    for chunk in resample_counts(samples.group_count(chosen), _REPLICATES, rng):
        for counts in chunk:
            yield counts[codes]


@dataclass(frozen=True, slots=True)
class ConsistencyRow:
    """One condition × verdict: a share estimated from a judge's verdicts and labels.

    Attributes:
        condition: its name.
        verdict: "consistent": the thought concludes the answer; "inconsistent": it concludes another option. The rest
            of the thoughts conclude nothing.
        value: the estimated share of the `n` responses.
        value_low, value_high: its 95 % interval.
        base_value, difference: on the responses that have an answer and a thought both here and under base; difference
            = paired_value − base_value.
        low, high: 95 % interval of the difference.
        n: number of responses with an answer and a thought.
        labelled, labelled_pairs: number of labels behind value and difference.
        judged: the judge's uncorrected rate over the responses with a verdict.
        coverage: the share of the `n` responses with a verdict.
        carrier: how the condition was carried.
        note: why something is undefined.
        paired_value: the estimate on the responses of the difference.
    """

    condition: str
    verdict: str
    value: float
    value_low: float
    value_high: float
    base_value: float
    difference: float
    low: float
    high: float
    n: int
    labelled: int
    labelled_pairs: int
    judged: float
    coverage: float
    carrier: str | None
    note: str
    paired_value: float


def consistency_rows(
    responses: Responses, columns: Sequence[Column], labels: Labels, seed: int
) -> list[ConsistencyRow]:
    """Return the rows of `Report.consistency`."""
    judged = next((column.scores for column in columns if column.name == "consistency"), None)
    if judged is None:
        names = ", ".join(column.name for column in columns)
        raise ValueError(f"expected a report with the metric 'consistency', got {names}; Report.score adds it")
    label_by_row = labels_by_row(responses, labels)
    check_random_draw(responses, labels, label_by_row)
    units = units_of(responses)
    most = max((sum(row in label_by_row for row in unit.rows.tolist()) for unit in units), default=0)
    if most < _MIN_LABELS:
        raise ValueError(
            f"expected at least {_MIN_LABELS} labels under one condition for an interval, got at most {most}; missing: "
            f"{_MIN_LABELS - most}"
        )
    estimates = _Estimates(responses, judged, label_by_row, seed)
    base = next((unit for unit in units if unit.condition == "base"), None)
    return [row for unit in units for row in estimates.rows(unit, base)]


class _Estimates:
    """Estimates from a judge's verdicts on all thoughts and human labels of some."""

    def __init__(self, responses: Responses, judged: Floats, label_by_row: Mapping[int, int | None], seed: int) -> None:
        self.responses, self.judged, self.seed = responses, judged, seed
        self.readable = with_answer_and_thought(responses)
        self.verdicts = np.where(np.isnan(judged), 2, judged)
        self.label_verdicts = np.full(len(responses), math.nan)  # 1 consistent, 0 inconsistent, 2 nothing concluded
        for row, label in label_by_row.items():
            self.label_verdicts[row] = 2 if label is None else float(label == int(responses.choice[row]))

    def rows(self, unit: Unit, base: Unit | None) -> Iterator[ConsistencyRow]:
        own = unit.rows[self.readable[unit.rows]]
        verdicts = self.judged[own][~np.isnan(self.judged[own])]
        before, after = ([], []) if base is None or unit is base else self._pairs(base, unit)
        for name, code in (("consistent", 1), ("inconsistent", 0)):
            matches = self._is(code)
            key = ("labels", unit.condition, unit.carrier or "", name)
            count = int((~np.isnan(matches[own])).sum())
            pairs = int((~np.isnan(matches[before]) & ~np.isnan(matches[after])).sum())
            value = low = high = base_value = paired_value = difference = down = up = math.nan
            if count >= _MIN_LABELS:
                found = post_stratified_rate(matches[own], self.verdicts[own], rng=generator(self.seed, *key))
                value, low, high = found.value, found.low, found.high
            if pairs >= _MIN_LABELS:
                both = post_stratified_difference(
                    matches[before],
                    matches[after],
                    self.verdicts[before],
                    self.verdicts[after],
                    rng=generator(self.seed, *key, "pairs"),
                )
                base_value, paired_value, down, up = both.base_value, both.value, both.low, both.high
                difference = paired_value - base_value
            yield ConsistencyRow(
                condition=unit.condition,
                verdict=name,
                value=value,
                value_low=low,
                value_high=high,
                base_value=base_value,
                difference=difference,
                low=down,
                high=up,
                n=len(own),
                labelled=count,
                labelled_pairs=pairs,
                judged=float((verdicts == code).mean()) if len(verdicts) else math.nan,
                coverage=len(verdicts) / len(own) if len(own) else math.nan,
                carrier=unit.carrier,
                note=_missing(count, pairs if base is not None and unit is not base else _MIN_LABELS),
                paired_value=paired_value,
            )

    def _is(self, code: int) -> Floats:
        return np.where(np.isnan(self.label_verdicts), math.nan, self.label_verdicts == code)

    def _pairs(self, base: Unit, unit: Unit) -> tuple[list[int], list[int]]:
        """Return the base responses and the unit's responses, both readable, to the same samples and draws."""
        there = {sample_and_draw(self.responses, row): row for row in base.rows.tolist() if self.readable[row]}
        pairs = [
            (there[name], row)
            for row in unit.rows.tolist()
            if self.readable[row] and (name := sample_and_draw(self.responses, row)) in there
        ]
        return [before for before, _ in pairs], [after for _, after in pairs]


def _missing(count: int, pairs: int) -> str:
    notes = [
        f"{having} {what} of the {_MIN_LABELS} that an interval needs"
        for having, what in ((count, "labels"), (pairs, "labelled pairs"))
        if having < _MIN_LABELS
    ]
    return "; ".join(notes)
