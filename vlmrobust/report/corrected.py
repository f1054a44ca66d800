"""Consistency as labels of some thoughts correct it: estimated from them and the judge's verdicts on all."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..functional import post_stratified_difference, post_stratified_rate
from ..keyed import generator
from ..types import Responses
from .columns import Column
from .labels import Labels, by_position, check_drawn, sample_and_draw, with_answer_and_thought
from .pairing import Floats, Unit, units_of

__all__ = ["ConsistencyRow", "consistency_rows"]

_ENOUGH = 30


@dataclass(frozen=True, slots=True)
class ConsistencyRow:
    """One condition × what an answer is to its thought, estimated from a judge's verdicts and labels.

    Attributes:
        condition: its name.
        verdict: "consistent": the thought concludes the answer; "inconsistent": it concludes another option. What is
            left to 1 are thoughts that conclude nothing.
        value: the estimated share of the `n` responses.
        value_low, value_high: its 95 % interval.
        base_value, difference: on the responses that have an answer and a thought here and under base; difference =
            paired_value − base_value.
        low, high: 95 % interval of the difference.
        n: number of responses with an answer and a thought.
        labelled, labelled_pairs: how many labels value and difference rest on.
        judged: the judge's plain rate, over the responses with a verdict; it is not the truth.
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
    """Return the estimates, two rows per condition.

    Args:
        responses: all of them.
        columns: the metrics, `consistency` among them.
        labels: drawn at random in this report.
        seed: keys the intervals.

    Raises:
        ValueError: there is no `consistency`, a label is of no thought in the report, labels were not drawn by the
            report, or no condition has enough of them.
    """
    judged = next((column.scores for column in columns if column.name == "consistency"), None)
    if judged is None:
        names = ", ".join(column.name for column in columns)
        raise ValueError(f"expected a report with the metric 'consistency', got {names}; Report.score adds it")
    given = by_position(responses, labels)
    check_drawn(responses, labels, given)
    units = units_of(responses)
    most = max((sum(row in given for row in unit.rows.tolist()) for unit in units), default=0)
    if most < _ENOUGH:
        raise ValueError(
            f"expected at least {_ENOUGH} labels under one condition for an interval, got at most {most}; missing: "
            f"{_ENOUGH - most}"
        )
    estimates = _Estimates(responses, judged, given, seed)
    base = next((unit for unit in units if unit.condition == "base"), None)
    return [row for unit in units for row in estimates.rows(unit, base)]


class _Estimates:
    """A judge's verdicts beside people's labels."""

    def __init__(self, responses: Responses, judged: Floats, given: Mapping[int, int | None], seed: int) -> None:
        self.responses, self.judged, self.seed = responses, judged, seed
        self.readable = with_answer_and_thought(responses)
        self.verdicts = np.where(np.isnan(judged), 2, judged)
        self.said = np.full(len(responses), math.nan)  # 1 consistent, 0 inconsistent, 2 nothing concluded
        for row, label in given.items():
            self.said[row] = 2 if label is None else float(label == int(responses.choice[row]))

    def rows(self, unit: Unit, base: Unit | None) -> Iterator[ConsistencyRow]:
        own = unit.rows[self.readable[unit.rows]]
        verdicts = self.judged[own][~np.isnan(self.judged[own])]
        before, after = ([], []) if base is None or unit is base else self._pairs(base, unit)
        for name, code in (("consistent", 1), ("inconsistent", 0)):
            said = self._is(code)
            key = ("labels", unit.condition, unit.carrier or "", name)
            count = int((~np.isnan(said[own])).sum())
            pairs = int((~np.isnan(said[before]) & ~np.isnan(said[after])).sum())
            value = low = high = base_value = paired_value = difference = down = up = math.nan
            if count >= _ENOUGH:
                found = post_stratified_rate(said[own], self.verdicts[own], rng=generator(self.seed, *key))
                value, low, high = found.value, found.low, found.high
            if pairs >= _ENOUGH:
                both = post_stratified_difference(
                    said[before],
                    said[after],
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
                note=_missing(count, pairs if base is not None and unit is not base else _ENOUGH),
                paired_value=paired_value,
            )

    def _is(self, code: int) -> Floats:
        return np.where(np.isnan(self.said), math.nan, self.said == code)

    def _pairs(self, base: Unit, unit: Unit) -> tuple[list[int], list[int]]:
        """Return the readable responses of a unit, and before them those to the same samples under base."""
        there = {sample_and_draw(self.responses, row): row for row in base.rows.tolist() if self.readable[row]}
        pairs = [
            (there[name], row)
            for row in unit.rows.tolist()
            if self.readable[row] and (name := sample_and_draw(self.responses, row)) in there
        ]
        return [before for before, _ in pairs], [after for _, after in pairs]


def _missing(count: int, pairs: int) -> str:
    notes = [
        f"{having} {what} of the {_ENOUGH} that an interval needs"
        for having, what in ((count, "labels"), (pairs, "labelled pairs"))
        if having < _ENOUGH
    ]
    return "; ".join(notes)
