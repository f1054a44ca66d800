"""Hold a report's contents as plain values, and read and write them as JSON Lines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..jsonl import read_lines, write_lines_atomically
from ..judges import RuleJudge
from ..metrics import JudgedMetric
from ..prompting import LETTERS
from ..types import Responses
from ..types.responses import within_thoughts
from .metric_columns import Column
from .summary import SummaryRow

__all__ = [
    "FORMAT",
    "LATER_FIELDS",
    "Contents",
    "Key",
    "ReportData",
    "as_tuples",
    "judge_of",
    "keys_of",
    "read_all",
    "read_keys",
    "with_judge",
    "write_lines",
]


Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """A report as values.

    Attributes:
        responses: all of them.
        columns: their metrics.
        summary: every condition compared with base.
        seed: keys the bootstrap.
        manifest: of the run; may be empty.
    """

    responses: Responses
    columns: Sequence[Column]
    summary: Sequence[SummaryRow]
    seed: int
    manifest: Mapping[str, Any]

    @property
    def judge(self) -> dict[str, Any]:
        """The identity of the judge whose verdicts `consistency` holds."""
        return judge_of(self.columns, self.manifest)


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """The contents of a report's file, JSON Lines or Parquet.

    Attributes:
        responses: all of them.
        scores: values, by metric.
        failures: by metric, the reason for a missing value by position.
        head: the rest: number of responses, seed, manifest, summary, and the attributes of each metric.
    """

    responses: Responses
    scores: Mapping[str, NDArray[np.float64]]
    failures: Mapping[str, Mapping[int, str]]
    head: Mapping[str, Any]


def keys_of(responses: Responses) -> Iterator[Key]:
    """Yield the keys of responses."""
    return zip(responses.sample_id, responses.condition, responses.draw.tolist(), strict=True)


def judge_of(columns: Sequence[Column], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of the judge behind `consistency`: the metric's, else the one in the manifest."""
    metric = next((column.metric for column in columns if column.name == "consistency"), None)
    if isinstance(metric, JudgedMetric):
        return metric.judge.identity()
    return dict(manifest.get("judge") or RuleJudge().identity())


def with_judge(manifest: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Add the judge to a manifest, unless it is the default one; loaded columns do not name theirs."""
    judge = judge_of(columns, manifest)
    return dict(manifest) | ({} if judge == RuleJudge().identity() else {"judge": judge})


FORMAT = "vlmrobust report 1"
"""The format in the head line."""

LATER_FIELDS: Mapping[str, Any] = {"context": "", "history": (), "letters": LETTERS, "option_tokens": None}
"""Fields that files of older versions lack, with their default values."""

_CHUNK = 10_000  # rows to hold as objects at once while reading
_FIELDS = tuple(field.name for field in fields(Responses) if field.init)


def write_lines(file: Path, contents: Contents) -> None:
    """Write a report as JSON Lines."""
    write_lines_atomically(file, _lines(contents))


def _lines(contents: Contents) -> Iterator[dict[str, Any]]:
    responses, failures = contents.responses, contents.failures
    metrics = [
        entry | ({"failures": list(failures[entry["name"]].items())} if entry["name"] in failures else {})
        for entry in contents.head["metrics"]
    ]
    yield {"format": FORMAT, **contents.head, "metrics": metrics}
    listed = {
        name: value.tolist() if isinstance(value := getattr(responses, name), Tensor) else value for name in _FIELDS
    }
    scores = {name: values.tolist() for name, values in contents.scores.items()}
    for row in range(len(responses)):
        yield {name: values[row] for name, values in listed.items()} | {
            "scores": {name: values[row] for name, values in scores.items()}
        }


def read_all(file: Path) -> Contents:
    """Read a file that `write_lines` wrote.

    Raises:
        ValueError: it is not a report, or lines are missing.
    """
    rest = (value for _, value in read_lines(file))
    first = next(rest, None)
    head = first if isinstance(first, dict) else {}
    if head.get("format") != FORMAT:
        raise ValueError(f"{file}: expected a file of format {FORMAT!r}, got {head.get('format')!r}")
    names = [entry["name"] for entry in head["metrics"]]
    scores: dict[str, list[float]] = {name: [] for name in names}
    parts: list[Responses] = []
    while rows := list(islice(rest, _CHUNK)):
        parts.append(_responses(rows))
        for name in names:
            scores[name].extend(float(row["scores"][name]) for row in rows)
    responses = Responses.concatenated(parts or [_responses([])])
    if len(responses) != head["responses"]:
        raise ValueError(f"{file}: expected {head['responses']} responses, got {len(responses)}")
    failures = {entry["name"]: dict(entry.pop("failures", ())) for entry in head["metrics"]}
    return Contents(responses, {name: np.array(values) for name, values in scores.items()}, failures, head)


def read_keys(file: Path) -> tuple[set[Key], list[dict[str, Any]]]:
    """Return the keys of the responses and the entry of each metric; both are empty if the file is not a report."""
    lines = (value for _, value in read_lines(file))
    head = next(lines, None)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        return set(), []
    keys = {(row["sample_id"], row["condition"], row["draw"]) for row in lines}
    return keys, list(head["metrics"])


def _responses(rows: Sequence[Mapping[str, Any]]) -> Responses:
    blank = Responses.of([], [])
    values: dict[str, Any] = {}
    for name in _FIELDS:
        like = getattr(blank, name)
        column = [row.get(name, LATER_FIELDS[name]) if name in LATER_FIELDS else row[name] for row in rows]
        if not isinstance(like, Tensor):
            values[name] = tuple(as_tuples(value) for value in column)
        elif like.dtype == torch.int64:
            values[name] = torch.tensor(column, dtype=like.dtype)
        else:
            shape = (len(rows), *((len(column[0]) if column else 0,) if like.ndim == 2 else ()))
            values[name] = torch.tensor(_floats(column), dtype=like.dtype).reshape(shape)
    thoughts = values["think"]
    values["own_think"], values["text"] = within_thoughts(thoughts, values["own_think"], values["text"])
    return Responses(**values)


def as_tuples(value: Any) -> Any:
    """Convert lists in a JSON value to tuples, except within objects."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def _floats(value: Any) -> Any:
    return [_floats(part) for part in value] if isinstance(value, list) else float(value)
