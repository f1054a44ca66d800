"""Conditions compared with a reference on the same samples: differences, intervals, counts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..functional.bootstrap import resample_counts
from ..functional.statistics import holm, mean_interval, paired_interval
from ..keyed import generator
from ..types import Responses
from .columns import Column

__all__ = ["SummaryRow", "Unit", "compare", "units_of"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_REPLICATES = 1000
_UNSCORED = ("error", "not_applicable")


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One condition × metric.

    Attributes:
        condition, metric: names.
        value, base_value, difference: on the same `n` samples; for the reference itself the value alone, on all that
            are defined.
        low, high: 95 % interval of the difference.
        n: number of samples (draws averaged) that are defined on both sides.
        errors: number of responses of status `error` under this condition.
        value_low, value_high: 95 % interval of the value.
        p: of "no difference", two-sided.
        p_adjusted: the same after Holm's correction for the number of conditions of one metric.
        coverage, base_coverage: share of the responses that could be scored at all (no error, applicable) for which the
            metric is defined.
        not_applicable: number of responses of that status.
        carrier: how the condition was carried; None without a response.
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


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """The responses that are summarised together: those of one condition, carried in one way.

    Attributes:
        condition: its name.
        carrier: None without a scored response.
        rows: positions of the responses.
    """

    condition: str
    carrier: str | None
    rows: Integers


def units_of(responses: Responses) -> list[Unit]:
    """Return the conditions in the order of their first response; one that was carried in two ways is two units.

    Failed responses, which nothing has carried, go with the condition's first unit.
    """
    units = []
    for condition in dict.fromkeys(responses.condition):
        rows = [row for row, name in enumerate(responses.condition) if name == condition]
        failed = [row for row in rows if responses.status[row] in _UNSCORED]
        by_carrier: dict[str | None, list[int]] = {}
        for row in rows:
            if responses.status[row] not in _UNSCORED:
                by_carrier.setdefault(responses.carrier[row], []).append(row)
        if not by_carrier:
            by_carrier[None] = []
        for carrier, carried in by_carrier.items():
            units.append(Unit(condition, carrier, np.array(sorted(carried + failed), dtype=np.int64)))
            failed = []
    return units


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
    samples = _Samples.of(responses)
    base = np.array([row for row, name in enumerate(responses.condition) if name == reference], dtype=np.int64)
    rows = []
    for column in columns:
        compared = [_compare(responses, samples, column, unit, base, reference, seed) for unit in units]
        adjusted = holm([row.p for row in compared])
        rows.append([replace(row, p_adjusted=float(p)) for row, p in zip(compared, adjusted, strict=True)])
    return [row for of_unit in zip(*rows, strict=True) for row in of_unit]


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """Which sample each response is of, and which group each sample is in.

    Attributes:
        code: `(N,)`, the number of each response's sample.
        group: `(S,)`, the group of each sample.
    """

    code: Integers
    group: NDArray[np.object_]

    @classmethod
    def of(cls, responses: Responses) -> "_Samples":
        number: dict[str, int] = {}
        code = np.array([number.setdefault(name, len(number)) for name in responses.sample_id], dtype=np.int64)
        group = np.empty(len(number), dtype=np.object_)
        group[code] = responses.group
        return cls(code, group)

    def means(self, values: Floats, rows: Integers) -> Floats:
        """Return each sample's mean over its defined values among `rows`, NaN where there is none."""
        chosen = values[rows]
        defined = ~np.isnan(chosen)
        code = self.code[rows][defined]
        sums = np.bincount(code, weights=chosen[defined], minlength=len(self.group))
        counts = np.bincount(code, minlength=len(self.group))
        means = np.full(len(self.group), math.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means


def _compare(
    responses: Responses,
    samples: _Samples,
    column: Column,
    unit: Unit,
    base: Integers,
    reference: str,
    seed: int,
) -> SummaryRow:
    rng = generator(seed, "bootstrap", column.name, unit.condition, reference)
    value = samples.means(column.scores, unit.rows)
    against = samples.means(column.scores, base)
    defined = ~np.isnan(value)
    statuses = [responses.status[row] for row in unit.rows]
    blank = SummaryRow(
        condition=unit.condition,
        metric=column.name,
        value=math.nan,
        base_value=math.nan,
        difference=math.nan,
        low=math.nan,
        high=math.nan,
        n=int(defined.sum()),
        errors=statuses.count("error"),
        value_low=math.nan,
        value_high=math.nan,
        p=math.nan,
        p_adjusted=math.nan,
        coverage=_coverage(responses, column, unit.rows),
        base_coverage=_coverage(responses, column, base),
        not_applicable=statuses.count("not_applicable"),
        carrier=unit.carrier,
        note="",
    )
    if unit.condition == reference or column.is_paired:
        return _alone(responses, samples, column, unit, defined, blank, rng)
    pairs = defined & ~np.isnan(against)
    note = "" if len(base) else f"no responses under {reference!r}"
    if column.reads_letters:
        before, after = _readouts(responses, samples, column, base), _readouts(responses, samples, column, unit.rows)
        differ = pairs & (before != after)
        if differ.any():
            where = f"read-outs differ ({_listed(before[differ])} under {reference}, {_listed(after[differ])} here)"
            note = where if differ.sum() == pairs.sum() else f"{int(differ.sum())} pairs left out: {where}"
        pairs &= ~differ
    if not pairs.any():
        return _alone(responses, samples, column, unit, defined, replace(blank, note=note), rng)
    noted = replace(blank, n=int(pairs.sum()), note=note)
    if not column.is_mean:
        return _compare_aggregates(responses, samples, column, unit.rows, base, pairs, noted, rng)
    difference = paired_interval(against[pairs], value[pairs], samples.group[pairs], rng=rng)
    alone = mean_interval(value[pairs], samples.group[pairs], rng=rng)
    base_value = float(against[pairs].mean())
    return replace(
        noted,
        value=alone.value,
        base_value=base_value,
        difference=alone.value - base_value,
        low=difference.low,
        high=difference.high,
        value_low=alone.low,
        value_high=alone.high,
        p=difference.p,
    )


def _alone(
    responses: Responses,
    samples: _Samples,
    column: Column,
    unit: Unit,
    defined: NDArray[np.bool_],
    blank: SummaryRow,
    rng: np.random.Generator,
) -> SummaryRow:
    """Return a row that compares with nothing: the value on all samples for which it is defined."""
    if not defined.any():
        return blank
    if column.is_mean:
        alone = mean_interval(samples.means(column.scores, unit.rows)[defined], samples.group[defined], rng=rng)
        return replace(blank, value=alone.value, value_low=alone.low, value_high=alone.high)
    if column.metric is None:
        return replace(blank, note=_needs_metric(column))
    rows = _defined_rows(samples, column, unit.rows, defined)
    aggregate = _Aggregate(responses, column, rows)
    drawn = _resampled(samples, defined, rows, rng)
    low, high = _percentiles(np.array([aggregate(weights) for weights in drawn]))
    return replace(blank, value=aggregate(None), value_low=low, value_high=high)


def _compare_aggregates(
    responses: Responses,
    samples: _Samples,
    column: Column,
    unit_rows: Integers,
    base: Integers,
    pairs: NDArray[np.bool_],
    noted: SummaryRow,
    rng: np.random.Generator,
) -> SummaryRow:
    """Compare what is no mean: the metric's own aggregate, over resamples of the same samples on both sides."""
    if column.metric is None:
        return replace(noted, note=_needs_metric(column))
    rows = [_defined_rows(samples, column, side, pairs) for side in (unit_rows, base)]
    after, before = (_Aggregate(responses, column, side) for side in rows)
    split = len(rows[0])
    value, base_value = after(None), before(None)
    replicates = np.array(
        [
            (after(weights[:split]), before(weights[split:]))
            for weights in _resampled(samples, pairs, np.concatenate(rows), rng)
        ]
    )
    differences = replicates[:, 0] - replicates[:, 1]
    known = differences[~np.isnan(differences)]
    extreme = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    low, high = _percentiles(differences)
    value_low, value_high = _percentiles(replicates[:, 0])
    return replace(
        noted,
        value=value,
        base_value=base_value,
        difference=value - base_value,
        low=low,
        high=high,
        value_low=value_low,
        value_high=value_high,
        p=min(1.0, 2 * (1 + extreme) / (len(known) + 1)) if len(known) else math.nan,
    )


def _defined_rows(samples: _Samples, column: Column, rows: Integers, chosen: NDArray[np.bool_]) -> Integers:
    return rows[chosen[samples.code[rows]] & ~np.isnan(column.scores[rows])]


class _Aggregate:
    """A metric's own aggregate over some rows, as a function of how often a resample drew each of them."""

    def __init__(self, responses: Responses, column: Column, rows: Integers) -> None:
        assert column.metric is not None
        self._metric = column.metric
        self._responses = responses.select(rows.tolist())
        self._values = torch.from_numpy(column.scores[rows])

    def __call__(self, weights: Floats | None) -> float:
        drawn = None if weights is None else torch.from_numpy(weights)
        return float(self._metric.aggregate(self._values, self._responses, drawn))


def _resampled(
    samples: _Samples, chosen: NDArray[np.bool_], rows: Integers, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield, for each resample of the chosen samples' groups, how often each of `rows` was drawn."""
    labels, codes = np.unique(samples.group[chosen].astype(str), return_inverse=True)
    group = np.zeros(len(samples.group), dtype=np.int64)
    group[chosen] = codes
    of_row = group[samples.code[rows]]
    for chunk in resample_counts(np.ones(len(labels)), _REPLICATES, rng):
        for counts in chunk:
            yield counts[of_row]


def _percentiles(values: Floats) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return math.nan, math.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def _coverage(responses: Responses, column: Column, rows: Integers) -> float:
    scored = [row for row in rows if responses.status[row] not in _UNSCORED]
    return float((~np.isnan(column.scores[scored])).mean()) if scored else math.nan


def _readouts(responses: Responses, samples: _Samples, column: Column, rows: Integers) -> NDArray[np.object_]:
    """Return each sample's read-out (several in different draws joined with `+`), None where nothing was read."""
    found: list[set[str]] = [set() for _ in samples.group]
    for row in rows[~np.isnan(column.scores[rows])]:
        found[samples.code[row]].add(responses.readout[row] or "none")
    named = np.empty(len(found), dtype=np.object_)
    named[:] = ["+".join(sorted(names)) or None for names in found]
    return named


def _listed(names: NDArray[np.object_]) -> str:
    return " or ".join(sorted(set(names.tolist())))


def _needs_metric(column: Column) -> str:
    return f"{column.name} is no mean over samples: score the loaded report again to have it"
