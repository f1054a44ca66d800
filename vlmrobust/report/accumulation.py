"""Accumulate reports on parts of one run: samples, conditions, draws and metrics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ..manifest import first_difference, in_common
from ..metrics import JudgedMetric, Metric, PairedMetric, default_metrics
from ..metrics.settings import metric_of
from ..types import Responses
from .columns import Column, measured_column
from .concatenation import Part
from .pairing import UNSCORED

__all__ = ["NOT_MEASURED", "MergedParts", "SettingConflict", "merge", "setting_conflicts"]


Settings = Mapping[str, Any] | None

NOT_MEASURED = "not measured: no call that named this response named the metric"
_TOLERANCE = 1e-6  # what is measured again on another machine


@dataclass(frozen=True, slots=True, eq=False)
class MergedParts:
    """Parts as one.

    Attributes:
        responses: of all parts, each key once.
        columns: of all parts.
        judge: the identity of the one who says what is consistent.
        not_measured: by metric, on how many responses it would have to be measured by its author.
    """

    responses: Responses
    columns: Sequence[Column]
    judge: Mapping[str, Any]
    not_measured: Mapping[str, int]


class SettingConflict(NamedTuple):
    """A metric that two parts set in two ways: its name, the field, and both values as text."""

    metric: str
    field: str
    first: str
    second: str


def setting_conflicts(first: Mapping[str, Settings], second: Mapping[str, Settings]) -> list[SettingConflict]:
    """Return which metrics two parts set in two ways, of those that they have in common, as far as both say how.

    Args:
        first: settings by the metrics' names.
        second: the same of the other part.
    """
    found = []
    for name, other in second.items():
        # Another version of the library may have fields more.
        if (one := first.get(name)) and other and (difference := first_difference(*in_common(one, other))):
            found.append(SettingConflict(name, *difference))
    return found


def merge(parts: Sequence[Part]) -> MergedParts:
    """Put reports on parts of one run together.

    Where two parts hold one response, the later part's stands; so does what it says of a sample's group and metadata.
    Samples and conditions are in the order in which they came first, draws by their numbers.

    A metric that is known, or can be made again from its settings, is measured on all responses: between draws and
    against base a value depends on what else there is. Of one that only its author can make, or whose judge is costly,
    the values stand where they were measured.

    Args:
        parts: of one run, with metrics of one name set alike.
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
    """Return some responses, with group and metadata of each sample as the last part has them."""
    last = {sample: row for row, sample in enumerate(joined.sample_id)}
    responses = joined.select(rows)
    return replace(
        responses,
        group=tuple(joined.group[last[sample]] for sample in responses.sample_id),
        metadata=tuple(joined.metadata[last[sample]] for sample in responses.sample_id),
    )


_Owner = tuple[int, Part, Column]


def _metric(owners: Sequence[_Owner]) -> Metric | PairedMetric | None:
    """Return the metric of a column: as a part has it, or made again from what a part says of it."""
    for _, _, column in reversed(owners):
        if column.metric is not None:
            return column.metric
    for _, _, column in reversed(owners):
        if column.settings is not None:
            return metric_of(column.name, column.settings)
    # Files from before settings were saved: the default of this name, if it says of them what stands there.
    name = owners[0][2].name
    default = next((metric for metric in default_metrics() if metric.column == name), None)
    if default is None or not all(_reproduces(default, part, column) for _, part, column in owners):
        return None
    return default


def _reproduces(metric: Metric | PairedMetric, part: Part, column: Column) -> bool:
    """Return whether a metric, measured again, has the values of a column."""
    if isinstance(metric, JudgedMetric) and part.judge != metric.judge.identity():
        return False
    again = measured_column(part.responses, metric).scores
    return bool(np.allclose(again, column.scores, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True))


def _gathered_column(
    joined: Responses, keys: Sequence[tuple[str, str, int]], rows: Sequence[int], owners: Sequence[_Owner]
) -> Column:
    """Return a column's values where a part has measured them on the same answer."""
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
