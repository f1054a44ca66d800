"""Merge reports on parts of one run: samples, conditions, draws and metrics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ..manifest import common_entries, first_difference
from ..metrics import JudgedMetric, Metric, PairedMetric, default_metrics
from ..metrics.catalogue import metric_of
from ..types import Responses
from .concatenation import Part
from .metric_columns import Column, measured_column
from .pairing import UNSCORED

__all__ = ["NOT_MEASURED", "MergedParts", "SettingConflict", "merge", "setting_conflicts"]


Settings = Mapping[str, Any] | None

NOT_MEASURED = "not measured: no call that named this response named the metric"
_TOLERANCE = 1e-6  # values measured again on another machine may differ by this much


@dataclass(frozen=True, slots=True, eq=False)
class MergedParts:
    """The merged parts of a run.

    Attributes:
        responses: of all parts, each key once.
        columns: of all parts.
        judge: the identity of the judge of consistency.
        not_measured: by metric, the number of responses without a value that only its author can measure.
    """

    responses: Responses
    columns: Sequence[Column]
    judge: Mapping[str, Any]
    not_measured: Mapping[str, int]


class SettingConflict(NamedTuple):
    """A metric whose settings differ between two parts: its name, the field, and both values as text."""

    metric: str
    field: str
    first: str
    second: str


def setting_conflicts(first: Mapping[str, Settings], second: Mapping[str, Settings]) -> list[SettingConflict]:
    """Return the common metrics whose settings differ between two parts, where both parts record them.

    Args:
        first: settings by metric name.
        second: the same for the other part.
    """
    found = []
    for name, other in second.items():
        # Another version of the library may have more fields.
        if (one := first.get(name)) and other and (difference := first_difference(*common_entries(one, other))):
            found.append(SettingConflict(name, *difference))
    return found


def merge(parts: Sequence[Part]) -> MergedParts:
    """Merge reports on parts of one run.

    Where two parts hold the same response, the later part wins; so do its group and metadata of a sample. Samples and
    conditions are in the order of their first occurrence, draws by number.

    A metric that is known, or can be built from its settings, is measured again on all responses: values between draws
    and against base depend on the other responses. The values of a metric that only its author can build, or whose
    judge is costly, are kept as they were measured.

    Args:
        parts: of one run; metrics of the same name have the same settings.
    """
    joined = reduce(Responses.joined, (part.responses for part in parts))
    keys = list(zip(joined.sample_id, joined.condition, joined.draw.tolist(), strict=True))
    rows = _in_order(joined, {key: row for row, key in enumerate(keys)}.values())
    responses = _with_latest_metadata(joined, rows)
    starts = np.cumsum([0, *(len(part.responses) for part in parts)]).tolist()
    columns, not_measured = [], {}
    for name in dict.fromkeys(column.name for part in parts for column in part.columns):
        owners = [
            (start, part, column)
            for start, part in zip(starts, parts, strict=False)
            for column in part.columns
            if column.name == name
        ]
        metric = _metric(owners)
        if metric is not None and not (isinstance(metric, JudgedMetric) and metric.asks):
            columns.append(measured_column(responses, metric))
            continue
        column = _gathered_column(joined, keys, rows, owners)
        columns.append(replace(column, metric=metric))
        if count := sum(message == NOT_MEASURED for message in column.failures.values()):
            not_measured[name] = count
    judges = [part.judge for part in parts if any(column.name == "consistency" for column in part.columns)]
    return MergedParts(responses, columns, (judges or [part.judge for part in parts])[-1], not_measured)


def _in_order(joined: Responses, rows: Iterable[int]) -> list[int]:
    sample, condition = (
        {label: place for place, label in enumerate(dict.fromkeys(labels))}
        for labels in (joined.sample_id, joined.condition)
    )
    draw = joined.draw.tolist()
    return sorted(rows, key=lambda row: (sample[joined.sample_id[row]], condition[joined.condition[row]], draw[row]))


def _with_latest_metadata(joined: Responses, rows: Sequence[int]) -> Responses:
    """Select responses; group and metadata of each sample are those of its last response."""
    last = {sample: row for row, sample in enumerate(joined.sample_id)}
    responses = joined.select(rows)
    return replace(
        responses,
        group=tuple(joined.group[last[sample]] for sample in responses.sample_id),
        metadata=tuple(joined.metadata[last[sample]] for sample in responses.sample_id),
    )


_Owner = tuple[int, Part, Column]


def _metric(owners: Sequence[_Owner]) -> Metric | PairedMetric | None:
    """Return the metric of a column: a part's own, or one built from the settings that a part records."""
    for _, _, column in reversed(owners):
        if column.metric is not None:
            return column.metric
    for _, _, column in reversed(owners):
        if column.settings is not None:
            return metric_of(column.name, column.settings)
    # Old files have no settings: use the default metric of this name if it reproduces the saved values.
    name = owners[0][2].name
    default = next((metric for metric in default_metrics() if metric.column == name), None)
    if default is None or not all(_reproduces(default, part, column) for _, part, column in owners):
        return None
    return default


def _reproduces(metric: Metric | PairedMetric, part: Part, column: Column) -> bool:
    """Return whether measuring a metric again gives the values of a column."""
    if isinstance(metric, JudgedMetric) and part.judge != metric.judge.identity():
        return False
    again = measured_column(part.responses, metric).scores
    return bool(np.allclose(again, column.scores, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True))


def _gathered_column(
    joined: Responses, keys: Sequence[tuple[str, str, int]], rows: Sequence[int], owners: Sequence[_Owner]
) -> Column:
    """Return a column with the values that a part measured on the same answer."""
    found: dict[tuple[str, str, int], tuple[int, Column, int]] = {}
    for start, part, column in owners:
        found |= {keys[start + row]: (start + row, column, row) for row in range(len(part.responses))}
    scores = np.full(len(rows), np.nan)
    failures: dict[int, str] = {}
    for place, row in enumerate(rows):
        known = found.get(keys[row])
        if known is not None and _same_answer(joined, known[0], row):
            _, column, own = known
            scores[place] = column.scores[own]
            if own in column.failures:
                failures[place] = column.failures[own]
        elif joined.status[row] not in UNSCORED:
            failures[place] = NOT_MEASURED
    return replace(owners[-1][2], scores=scores, failures=failures)


def _same_answer(joined: Responses, one: int, other: int) -> bool:
    return one == other or all(
        values[one] == values[other] for values in (joined.status, joined.text, joined.think, joined.choice)
    )
