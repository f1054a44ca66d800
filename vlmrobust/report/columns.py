"""Metrics applied: one column of values per metric, with what a summary has to know of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..functional.intervals import Outcome
from ..metrics import BaseMetric, JudgedMetric, Metric, PairedMetric
from ..metrics.settings import settings_of
from ..types import Responses

__all__ = ["FRAME_COLUMNS", "Column", "measured_column", "score"]

_PART = 100_000  # responses that are paired at once

FRAME_COLUMNS = (
    "sample_id",
    "condition",
    "draw",
    "group",
    "target",
    "answer",
    "distractor",
    "asserted",
    "status",
    "readout",
    "carrier",
    "text",
    "think",
    "error",
    "metric_error",
)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One metric's values.

    Attributes:
        name: the column's name.
        scores: `(N,)` float64, NaN = undefined.
        higher_is_better: None = neither.
        is_paired: the values compare a response with the one under base.
        reads_letters: the values come from letter probabilities, which are compared within one read-out only.
        outcome: what its values are, see `functional.mean_interval`.
        is_mean: the number for a condition is the mean over its samples.
        metric: None in a report that was loaded, but for the follow rate, which holds nothing but its name.
        failures: by position, why a response that was asked has no value.
        reads_asserted: the values depend on what the text asserts.
        settings: how the metric was set, see `metrics.settings.settings_of`; None where a file of before does not say.
    """

    name: str
    scores: NDArray[np.float64]
    higher_is_better: bool | None
    is_paired: bool
    reads_letters: bool
    is_mean: bool
    metric: Metric | PairedMetric | None
    outcome: Outcome = "mean"
    failures: Mapping[int, str] = field(default_factory=dict)
    reads_asserted: bool = False
    settings: Mapping[str, Any] | None = None

    def taken(self, rows: Sequence[int]) -> Self:
        """Return the column of some responses, in that order."""
        failures = {place: self.failures[row] for place, row in enumerate(rows) if row in self.failures}
        return replace(self, scores=self.scores[np.asarray(rows, dtype=np.int64)], failures=failures)


def score(
    responses: Responses, metrics: Sequence[Metric | PairedMetric], verdicts: Path | None = None
) -> tuple[Column, ...]:
    """Apply metrics to responses.

    Args:
        responses: all of them.
        metrics: what is measured.
        verdicts: the folder in which judges' verdicts are kept; None = they are not.

    Raises:
        TypeError: something else than a metric is among them.
        ValueError: two metrics, or a metric and a column of the frame, have one name.
    """
    names = list(FRAME_COLUMNS)
    columns = []
    for metric in metrics:
        if not isinstance(metric, BaseMetric):
            raise TypeError(f"expected metrics, got {type(metric).__name__}: {metric!r:.100}")
        if metric.column in names:
            raise ValueError(
                f"expected metrics with names that differ from each other and from {', '.join(FRAME_COLUMNS)}; "
                f"got {metric.column!r} twice; set 'name' on one of them"
            )
        names.append(metric.column)
        asked = metric if verdicts is None or not isinstance(metric, JudgedMetric) else metric.keeping(verdicts)
        columns.append(replace(measured_column(responses, asked), metric=metric))
    return tuple(columns)


def measured_column(responses: Responses, metric: Metric | PairedMetric) -> Column:
    """Apply one metric to responses."""
    # A metric may work in place; the answers are not its own.
    values = metric(responses.copied()) if isinstance(metric, Metric) else _paired_values(responses, metric)
    return Column(
        name=metric.column,
        scores=values.double().numpy(),
        higher_is_better=metric.higher_is_better,
        is_paired=isinstance(metric, PairedMetric),
        reads_letters=metric.reads_letters,
        is_mean=metric.is_mean,
        metric=metric,
        outcome="rate" if metric.is_rate else "mean",
        failures=metric.failures(responses.copied()),
        reads_asserted=metric.reads_asserted,
        settings=settings_of(metric),
    )


def _paired_values(responses: Responses, metric: PairedMetric) -> torch.Tensor:
    """Return the metric of every response with the one of the same sample and draw under base.

    Under base itself, every draw is compared with every other one of its sample: what differs, differs by chance.
    """
    draws = responses.draw.tolist()
    base = {
        key: row
        for row, key in enumerate(zip(responses.sample_id, draws, strict=True))
        if responses.condition[row] == "base"
    }
    values = _between_draws(responses, metric, base)
    for begin in range(0, len(responses), _PART):
        rows = range(begin, min(begin + _PART, len(responses)))
        found = ((base.get((responses.sample_id[row], draws[row])), row) for row in rows)
        pairs = [(first, row) for first, row in found if first is not None and responses.condition[row] != "base"]
        if pairs:
            before, after = (list(side) for side in zip(*pairs, strict=True))
            values[after] = metric(responses.select(before), responses.select(after)).double()
    return values


def _between_draws(responses: Responses, metric: PairedMetric, base: Mapping[tuple[str, int], int]) -> torch.Tensor:
    """Return for each base response the mean of the metric over the other draws of its sample, NaN elsewhere.

    Halves of the draws would give the same on average, from k/2 pairs instead of all k (k − 1).
    """
    of_sample: dict[str, list[int]] = {}
    for (sample, _), row in sorted(base.items()):
        of_sample.setdefault(sample, []).append(row)
    sums, counts = torch.zeros(2, len(responses), dtype=torch.float64)
    for shift in range(1, max(map(len, of_sample.values()), default=0)):
        pairs = [
            (rows[place - shift], row)
            for rows in of_sample.values()
            if len(rows) > shift
            for place, row in enumerate(rows)
        ]
        before, after = (list(side) for side in zip(*pairs, strict=True))
        found = metric(responses.select(before), responses.select(after)).double()
        sums[after] += found.nan_to_num()
        counts[after] += (~found.isnan()).double()
    means: torch.Tensor = sums / counts
    return means
