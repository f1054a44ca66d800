"""Match responses for comparison by condition and carrier, sample, read-out, and asserted option."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..functional.resampling import Floats, Integers
from ..metrics import Metric
from ..types import Responses
from .metric_columns import Column

__all__ = [
    "UNSCORED",
    "Contrast",
    "Floats",
    "Integers",
    "Mask",
    "SampleIndex",
    "Unit",
    "check_conditions",
    "contrasts_with",
    "is_one_of",
    "numbered",
    "units_of",
    "with_common_option",
    "without_rounding_errors",
]


Mask = NDArray[np.bool_]
Item = TypeVar("Item")

UNSCORED = ("error", "not_applicable")

# A float32 logit between 16 and 32 is known to 2e-6, so that probabilities and nats of the letters are known to about
# 1e-6, larger nats to that share of them.
_LETTER_RESOLUTION = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """The responses to summarise together: those of one condition and carrier.

    Attributes:
        condition: its name.
        carrier: how it was carried; None without a scored response.
        rows: positions of the responses.
    """

    condition: str
    carrier: str | None
    rows: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """A unit, and the reference responses to compare it with.

    Attributes:
        unit: to summarise.
        base: positions of the reference responses.
        where: describes the reference in notes, such as `under base`.
        is_reference: the unit is the reference itself.
        note: for the rows of all metrics.
    """

    unit: Unit
    base: Integers
    where: str
    is_reference: bool = False
    note: str = ""


def numbered(labels: Sequence[Item]) -> tuple[list[Item], Integers]:
    """Return the distinct labels in order of first occurrence, and each label's index among them."""
    distinct = list(dict.fromkeys(labels))
    number = {label: code for code, label in enumerate(distinct)}
    return distinct, np.fromiter(map(number.__getitem__, labels), np.int64, len(labels))


def is_one_of(labels: Sequence[str], *wanted: str) -> Mask:
    """Return an `(N,)` mask of the labels that are in `wanted`."""
    return np.fromiter((label in wanted for label in labels), np.bool_, len(labels))


def units_of(responses: Responses) -> list[Unit]:
    """Return the units in the order of their conditions' first responses; a condition with two carriers has two units.

    Failed responses have no carrier, and belong to the condition's first unit.
    """
    conditions, condition = numbered(responses.condition)
    carriers, carrier = numbered(responses.carrier)
    unscored = is_one_of(responses.status, *UNSCORED)
    units = []
    for code, name in enumerate(conditions):
        rows = np.flatnonzero(condition == code)
        failed = unscored[rows]
        if failed.all():
            units.append(Unit(name, None, rows))
            continue
        carried, first = np.unique(carrier[rows[~failed]], return_index=True)
        for position, way in enumerate(carried[np.argsort(first)]):
            own = ~failed & (carrier[rows] == way)
            units.append(Unit(name, carriers[way], rows[own | failed] if position == 0 else rows[own]))
    return units


def check_conditions(responses: Responses, names: Iterable[str]) -> None:
    """Raise a `KeyError` for a condition without a response."""
    known = dict.fromkeys(responses.condition)
    for name in names:
        if name not in known:
            raise KeyError(f"expected one of the conditions {', '.join(known)}; got {name!r}")


def contrasts_with(reference: str, responses: Responses) -> list[Contrast]:
    """Return the contrast of each unit with the responses under the reference condition."""
    base, where = np.flatnonzero(is_one_of(responses.condition, reference)), f"under {reference}"
    return [Contrast(unit, base, where, unit.condition == reference) for unit in units_of(responses)]


@dataclass(frozen=True, slots=True, eq=False)
class SampleIndex:
    """An index of the responses' samples and read-outs, and of the samples' groups.

    Attributes:
        code: `(N,)`, the number of each response's sample.
        group: `(S,)`, the number of each sample's group, in the order of the groups' labels.
        readout: `(N,)`, the index of each response's read-out in `readout_names`.
        readout_names: the read-outs that occur.
    """

    code: Integers
    group: Integers
    readout: Integers
    readout_names: list[str]

    @classmethod
    def of(cls, responses: Responses) -> Self:
        """Number the samples in the order of their first response."""
        _, code = numbered(responses.sample_id)
        first = np.unique(code, return_index=True)[1]
        labels, group = numbered([responses.group[row] for row in first.tolist()])
        # Sorted by label, so that the bootstrap does not depend on the order of the responses.
        rank = np.argsort(np.argsort(np.array(labels, dtype=np.str_)))
        readouts, readout = numbered(responses.readout)
        return cls(code, rank[group] if labels else group, readout, [name or "none" for name in readouts])

    def means(self, scores: Floats, rows: Integers) -> Floats:
        """Return each sample's mean over its defined scores among `rows` (its draws), NaN where there is none."""
        return self.row_means(scores[rows], rows)

    def row_means(self, values: Floats, rows: Integers) -> Floats:
        """Return each sample's mean over its defined values, NaN where there is none; `values[i]` is of `rows[i]`."""
        defined = ~np.isnan(values)
        code = self.code[rows][defined]
        sums = np.bincount(code, weights=values[defined], minlength=len(self.group))
        counts = np.bincount(code, minlength=len(self.group))
        means = np.full(len(self.group), math.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    def squared_errors(self, scores: Floats, rows: Integers) -> Floats:
        """Return the squared standard error of each sample's mean over its draws, NaN with fewer than two draws."""
        defined = rows[~np.isnan(scores[rows])]
        code = self.code[defined]
        origin = np.full(len(self.group), math.nan)
        # Subtract one of the draws: equal draws then have a variance of exactly 0, without rounding errors.
        origin[code] = scores[defined]
        shifted = scores[defined] - origin[code]
        sums, squares, counts = (
            np.bincount(code, weights=weights, minlength=len(self.group)).astype(np.float64)
            for weights in (shifted, shifted**2, None)
        )
        found = np.full(len(self.group), math.nan)
        several = counts > 1
        sums, squares, counts = sums[several], squares[several], counts[several]
        found[several] = np.maximum(0.0, squares - sums**2 / counts) / (counts * (counts - 1))
        return found

    def readouts(self, scores: Floats, rows: Integers) -> Integers:
        """Return the read-outs of each sample's scores in `rows` (its draws): bit i stands for `readout_names[i]`."""
        defined = rows[~np.isnan(scores[rows])]
        found = np.zeros(len(self.group), dtype=np.int64)
        for code in range(len(self.readout_names)):
            found[self.code[defined[self.readout[defined] == code]]] |= 1 << code
        return found

    def readouts_listed(self, sets: Integers) -> str:
        """Return distinct sets of read-outs as text; several read-outs in the draws of a sample are joined with `+`."""
        names = {
            "+".join(sorted(name for code, name in enumerate(self.readout_names) if found >> code & 1))
            for found in np.unique(sets).tolist()
        }
        return " or ".join(sorted(names))

    def defined_rows(self, scores: Floats, rows: Integers, chosen: Mask) -> Integers:
        """Return those of `rows` that have a score and belong to a chosen sample."""
        return rows[chosen[self.code[rows]] & ~np.isnan(scores[rows])]

    def group_count(self, chosen: Mask) -> int:
        """Return the number of the chosen samples' groups."""
        return len(np.unique(self.group[chosen]))

    def group_codes(self, chosen: Mask, rows: Integers) -> Integers:
        """Return the number of each row's group among the chosen samples' groups."""
        of_sample = np.zeros(len(self.group), dtype=np.int64)
        of_sample[chosen] = np.unique(self.group[chosen], return_inverse=True)[1]
        return of_sample[self.code[rows]]


def with_common_option(responses: Responses, column: Column, contrast: Contrast) -> Column | None:
    """Return a column in which both sides of a contrast are measured by the same asserted wrong option.

    A side without a wrong assertion, such as base, is measured by the option that the other side asserts for the same
    sample, in the same draw if there is one. If that is the distractor, nothing changes: it is the default.

    None if the column was loaded without its metric, and a text asserts another option than the distractor.
    """
    misled = responses.is_misled()
    is_unusual = misled & (responses.asserted != responses.distractor)
    sides = contrast.unit.rows, contrast.base
    if not any(bool(is_unusual[rows].any()) for rows in sides):
        return column
    if not isinstance(column.metric, Metric):
        return None
    scores = column.scores.copy()
    for own, others in (sides, sides[::-1]):
        rows = torch.from_numpy(own[~misled[own].numpy()])
        asserted = _asserted(responses, rows.tolist(), others[misled[others].numpy()])
        rows = rows[asserted >= 0]
        measured = replace(responses.select(rows.tolist()), asserted=asserted[asserted >= 0])
        scores[rows.numpy()] = column.metric(measured).double().numpy()
    return replace(column, scores=scores)


def _asserted(responses: Responses, rows: list[int], others: Integers) -> torch.Tensor:
    """Return the option that `others` assert for the sample of each of `rows`, -1 = none."""
    draws = responses.draw.tolist()
    of_draw = {(responses.sample_id[row], draws[row]): row for row in others.tolist()}
    of_sample = {responses.sample_id[row]: row for row in reversed(others.tolist())}
    found = [
        of_draw.get((responses.sample_id[row], draws[row]), of_sample.get(responses.sample_id[row], -1)) for row in rows
    ]
    matches = torch.tensor(found, dtype=torch.int64)
    return torch.where(matches < 0, -1, responses.asserted[matches])


def without_rounding_errors(column: Column, before: Floats, after: Floats) -> Floats:
    """Return `after`, with `before` in places where the column's values cannot be told apart.

    A test of rounding errors has an arbitrary p-value, which also changes those of other conditions by Holm's method.
    Distances from base, which paired metrics measure, may be much smaller and still be more than rounding.
    """
    if not column.reads_letters or column.is_paired:
        return after
    return np.where(np.abs(after - before) <= _LETTER_RESOLUTION * np.maximum(1, np.abs(before)), before, after)
