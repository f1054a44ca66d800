"""Which responses are compared with which: by condition and carrier, by sample, by read-out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..types import Responses

__all__ = ["UNSCORED", "Floats", "Integers", "Mask", "SampleIndex", "Unit", "units_of"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

UNSCORED = ("error", "not_applicable")


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """The responses that are summarised together: those of one condition, carried in one way.

    Attributes:
        condition: its name.
        carrier: how it was carried; None without a scored response.
        rows: positions of the responses.
    """

    condition: str
    carrier: str | None
    rows: Integers


def units_of(responses: Responses) -> list[Unit]:
    """Return the conditions in the order of their first response; one that was carried in two ways is two units.

    Failed responses, which nothing has carried, go with the condition's first unit.
    """
    by_condition: dict[str, list[int]] = {}
    for row, condition in enumerate(responses.condition):
        by_condition.setdefault(condition, []).append(row)
    units = []
    for condition, rows in by_condition.items():
        failed = [row for row in rows if responses.status[row] in UNSCORED]
        by_carrier: dict[str | None, list[int]] = {}
        for row in rows:
            if responses.status[row] not in UNSCORED:
                by_carrier.setdefault(responses.carrier[row], []).append(row)
        for carrier, carried in (by_carrier or {None: []}).items():
            units.append(Unit(condition, carrier, np.array(sorted(carried + failed), dtype=np.int64)))
            failed = []
    return units


@dataclass(frozen=True, slots=True, eq=False)
class SampleIndex:
    """Which sample each response is of, and which group each sample is in.

    Attributes:
        code: `(N,)`, the number of each response's sample.
        group: `(S,)`, the label of each sample's group.
    """

    code: Integers
    group: NDArray[np.str_]

    @classmethod
    def of(cls, responses: Responses) -> Self:
        """Number the samples in the order of their first response."""
        number: dict[str, int] = {}
        groups: list[str] = []
        for sample_id, group in zip(responses.sample_id, responses.group, strict=True):
            if sample_id not in number:
                number[sample_id] = len(number)
                groups.append(group)
        code = np.array([number[sample_id] for sample_id in responses.sample_id], dtype=np.int64)
        return cls(code, np.array(groups, dtype=np.str_))

    def means(self, scores: Floats, rows: Integers) -> Floats:
        """Return each sample's mean over its defined scores among `rows` (its draws), NaN where there is none."""
        chosen = scores[rows]
        defined = ~np.isnan(chosen)
        code = self.code[rows][defined]
        sums = np.bincount(code, weights=chosen[defined], minlength=len(self.group))
        counts = np.bincount(code, minlength=len(self.group))
        means = np.full(len(self.group), math.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    def readouts(self, responses: Responses, scores: Floats, rows: Integers) -> NDArray[np.str_]:
        """Return where each sample's scores among `rows` were read; several (in different draws) joined with `+`."""
        found: list[set[str]] = [set() for _ in self.group]
        for row in rows[~np.isnan(scores[rows])]:
            found[self.code[row]].add(responses.readout[row] or "none")
        return np.array(["+".join(sorted(names)) for names in found], dtype=np.str_)

    def defined_rows(self, scores: Floats, rows: Integers, chosen: Mask) -> Integers:
        """Return those of `rows` that have a score and belong to a chosen sample."""
        return rows[chosen[self.code[rows]] & ~np.isnan(scores[rows])]

    def group_codes(self, chosen: Mask, rows: Sequence[int] | Integers) -> tuple[Integers, int]:
        """Return the number of each row's group among the chosen samples' groups, and how many groups these are."""
        labels, codes = np.unique(self.group[chosen], return_inverse=True)
        of_sample = np.zeros(len(self.group), dtype=np.int64)
        of_sample[chosen] = codes
        return of_sample[self.code[rows]], len(labels)
