"""Merge reports on parts of one run, and concatenate reports over benchmarks, models or seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ..manifest import common_entries, first_difference
from ..metrics import JudgedMetric, Metric, PairedMetric, default_metrics
from ..metrics.catalogue import metric_of
from ..types import Responses
from .metric_columns import Column, measured_column
from .pairing import UNSCORED, numbered

__all__ = [
    "NOT_MEASURED",
    "MergedParts",
    "Part",
    "SettingConflict",
    "concatenate",
    "merge",
    "setting_conflicts",
]


Settings = Mapping[str, Any] | None

NOT_MEASURED = "not measured: no call that named this response named the metric"
_TOLERANCE = 1e-6  # values measured again on another machine may differ by this much

_SampleContent = tuple[int, int, str | None, tuple[str, ...] | None]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One of the reports to join.

    Attributes:
        name: for messages, and as the prefix of its sample ids.
        responses: all of them.
        columns: its metrics.
        manifest: of its run; empty if unknown.
        judge: the identity of the judge of consistency.
    """

    name: str
    responses: Responses
    columns: Sequence[Column]
    manifest: Mapping[str, Any]
    judge: Mapping[str, Any]


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


_Owner = tuple[int, Part, Column]
"""The place of a part's first response among all, the part, and its column."""


def concatenate(
    parts: Sequence[Part], column: str, *, is_named: bool
) -> tuple[Responses, list[Column], dict[str, Any]]:
    """Return the responses of all parts, their metrics, and a manifest that contains theirs, as `Report.concat` does.

    Args:
        parts: with unique names.
        column: the metadata key for a part's name.
        is_named: prefix sample ids with the part's name, and add it to the metadata; else ids are unchanged, and must
            be unique.
    """
    for part in parts[1:]:
        _check_metrics(parts[0], part)
    for place, part in enumerate(parts):
        for other in parts[:place]:
            _check_settings(other, part)
    if is_named:
        _check_column(parts, column)
        responses = list(_renamed(parts, column))
    else:
        _check_samples(parts)
        responses = [part.responses for part in parts]
    manifests = {part.name: dict(part.manifest) for part in parts}
    common = {
        key: value
        for key, value in parts[0].manifest.items()
        if all(part.manifest.get(key) == value for part in parts[1:])
    }
    return Responses.concatenated(responses), list(_joined_columns(parts)), common | {"reports": manifests}


def _check_metrics(first: Part, other: Part) -> None:
    here, there = ({column.name: column for column in part.columns} for part in (first, other))
    if unshared := sorted(here.keys() ^ there.keys()):
        raise ValueError(
            f"expected reports with the same metrics; {', '.join(unshared)} is in {first.name!r} or {other.name!r} "
            "alone; score them with the same metrics"
        )
    for name, column in here.items():
        metrics = column.metric, there[name].metric
        if None not in metrics and metrics[0] != metrics[1]:
            raise ValueError(
                f"metric {name!r}: expected the same in all reports, got {metrics[0]!r} in {first.name!r} and "
                f"{metrics[1]!r} in {other.name!r}; score them with the same metrics"
            )


def _check_settings(first: Part, other: Part) -> None:
    """Raise if two runs define a condition differently, or use two styles for one model."""
    here, there = first.manifest, other.manifest
    compared = ["distractor", *(["style"] if here.get("model") == there.get("model") else [])]
    one, two = ({key: side[key] for key in compared if key in here and key in there} for side in (here, there))
    conditions = here.get("conditions", {}), there.get("conditions", {})
    shared = conditions[0].keys() & conditions[1].keys()
    one["conditions"], two["conditions"] = ({name: side[name] for name in sorted(shared)} for side in conditions)
    if any(column.name == "consistency" for column in first.columns):
        one["judge"], two["judge"] = first.judge, other.judge
    if difference := first_difference(one, two):
        field, old, new = difference
        raise ValueError(
            f"field {field!r}: expected the same in reports to concatenate, got {old} in {first.name!r} and "
            f"{new} in {other.name!r}; compare them with Report.compare"
        )


def _check_column(parts: Sequence[Part], column: str) -> None:
    for part in parts:
        if any(column in metadata for metadata in part.responses.metadata):
            raise ValueError(
                f"field 'column': expected a name that the samples' metadata do not have yet, got {column!r}, which "
                f"those of {part.name!r} have"
            )


def _check_samples(parts: Sequence[Part]) -> None:
    owner: dict[str, str] = {}
    for part in parts:
        for sample in dict.fromkeys(part.responses.sample_id):
            if sample in owner:
                raise ValueError(
                    f"sample {sample!r} is in reports {owner[sample]} and {part.name}: expected other samples in each; "
                    "give the reports 'names', which become prefixes of the ids"
                )
            owner[sample] = part.name


def _renamed(parts: Sequence[Part], column: str) -> Iterator[Responses]:
    """Yield each part's responses with prefixed sample ids; samples that parts share are in one group."""
    group_of: dict[tuple[str, _SampleContent], str] = {}
    for part in parts:
        responses = part.responses
        content = _contents(responses)
        new: dict[str, str] = {}
        for sample, group in zip(responses.sample_id, responses.group, strict=True):
            known = group_of.get((sample, content[sample]))
            if known is not None:
                new.setdefault(group, known)
        for sample, group in zip(responses.sample_id, responses.group, strict=True):
            label = new.setdefault(group, f"{part.name}/{group}")
            group_of.setdefault((sample, content[sample]), label)
        yield replace(
            responses,
            sample_id=tuple(f"{part.name}/{sample}" for sample in responses.sample_id),
            group=tuple(new[group] for group in responses.group),
            metadata=tuple({**metadata, column: part.name} for metadata in responses.metadata),
        )


def _contents(responses: Responses) -> dict[str, _SampleContent]:
    """Return what distinguishes samples with the same id: target, number of options, and base question and options."""
    found: dict[str, _SampleContent] = {}
    rows = zip(responses.sample_id, responses.target.tolist(), responses.option_count.tolist(), strict=True)
    for row, (sample, target, count) in enumerate(rows):
        if responses.condition[row] == "base":
            found[sample] = target, count, responses.question[row], responses.options[row]
        else:
            found.setdefault(sample, (target, count, None, None))
    return found


def _joined_columns(parts: Sequence[Part]) -> Iterator[Column]:
    for column in parts[0].columns:
        same = [next(other for other in part.columns if other.name == column.name) for part in parts]
        metric = next((one.metric for one in same if one.metric is not None), None)
        starts = np.cumsum([0, *(len(one.scores) for one in same)]).tolist()
        failures = {
            start + row: message
            for start, one in zip(starts, same, strict=False)
            for row, message in one.failures.items()
        }
        # An older file does not record that its values are rates.
        outcome = "rate" if any(one.outcome == "rate" for one in same) else column.outcome
        scores = np.concatenate([one.scores for one in same])
        yield replace(column, scores=scores, metric=metric, outcome=outcome, failures=failures)


def setting_conflicts(first: Mapping[str, Settings], second: Mapping[str, Settings]) -> list[SettingConflict]:
    """Return the common metrics whose settings, given by name, differ, where both parts record them."""
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
    sample, condition = (numbered(labels)[1].tolist() for labels in (joined.sample_id, joined.condition))
    order = list(zip(sample, condition, joined.draw.tolist(), strict=True))
    rows = sorted({key: row for row, key in enumerate(keys)}.values(), key=order.__getitem__)
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


def _with_latest_metadata(joined: Responses, rows: Sequence[int]) -> Responses:
    """Select responses; group and metadata of each sample are those of its last response."""
    last = {sample: row for row, sample in enumerate(joined.sample_id)}
    responses = joined.select(rows)
    return replace(
        responses,
        group=tuple(joined.group[last[sample]] for sample in responses.sample_id),
        metadata=tuple(joined.metadata[last[sample]] for sample in responses.sample_id),
    )


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
