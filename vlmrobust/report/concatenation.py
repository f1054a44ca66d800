"""Concatenate reports over benchmarks, models or seeds, and pair prompts with responses."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from ..manifest import first_difference
from ..types import Prompt, Response, Responses
from .metric_columns import Column

__all__ = ["Part", "checked_pairs", "concatenate"]


def checked_pairs(prompts: Iterable[Prompt], responses: Iterable[Response]) -> Iterator[tuple[Prompt, Response]]:
    """Yield each prompt with its response.

    Raises:
        ValueError: their numbers differ, or a key is not unique.
    """
    if isinstance(prompts, list | tuple) and isinstance(responses, list | tuple):
        _check_counts(len(prompts), len(responses))
    seen: dict[tuple[str, int], dict[str, int]] = {}
    counts = [0, 0]
    for position, (prompt, response) in enumerate(zip_longest(prompts, responses)):
        counts = [count + (one is not None) for count, one in zip(counts, (prompt, response), strict=True)]
        if prompt is None or response is None:
            continue
        known = seen.setdefault((response.condition, response.draw), {})
        first = known.setdefault(response.sample_id, position)
        if first != position:
            raise ValueError(
                f"expected responses with keys that differ, got {response.key} at positions {first} and {position}; "
                "repeated draws of a prompt need different numbers in 'draw'"
            )
        yield prompt, response
    _check_counts(*counts)


def _check_counts(prompts: int, responses: int) -> None:
    if prompts != responses:
        raise ValueError(f"expected one response per prompt ({prompts}), got {responses}")


SampleContent = tuple[int, int, str | None, tuple[str, ...] | None]


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


def concatenate(
    parts: Sequence[Part], column: str, *, is_named: bool
) -> tuple[Responses, list[Column], dict[str, Any]]:
    """Return the responses of all parts, their metrics, and a manifest that contains theirs.

    Args:
        parts: with unique names.
        column: the metadata key for a part's name.
        is_named: prefix sample ids with the part's name, and add it to the metadata; else ids are unchanged, and must
            be unique.

    Raises:
        ValueError: the parts define a metric, a condition or a sample differently.
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
    group_of: dict[tuple[str, SampleContent], str] = {}
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


def _contents(responses: Responses) -> dict[str, SampleContent]:
    """Return what distinguishes samples with the same id: target, number of options, and base question and options."""
    found: dict[str, SampleContent] = {}
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
