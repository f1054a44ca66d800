"""A report on disk: one JSON Lines file, a head line and then one line per response."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..functional.intervals import Outcome
from ..jsonl import json_safe, read_lines, write_atomically
from ..metrics import FollowRate, default_metrics
from ..prompting import LETTERS
from ..types import Responses
from .columns import Column
from .summary import SummaryRow

__all__ = ["FORMAT", "PART", "WHOLE", "Key", "known_in", "read_report", "saved_in", "write_report"]

WHOLE, PART = "report.jsonl", "report.part.jsonl"
"""A run's report, and the one of a call that names less than it holds."""

Key = tuple[str, str, int]

FORMAT = "vlmrobust report 1"
"""What the head line of a report says."""

_FOLLOWS = FollowRate()
_FIELDS = tuple(field.name for field in fields(Responses) if field.init)
# Which files of older versions lack, and what stands for them.
_LATER_FIELDS = {"context": "", "letters": LETTERS, "option_tokens": None}
_LATER_COLUMNS = {"noise_floor": math.nan}  # the same, of their summary


def write_report(
    path: Path,
    responses: Responses,
    columns: Sequence[Column],
    summary: Sequence[SummaryRow],
    rest: Mapping[str, Any],
) -> Path:
    """Write a report and return the file's path; metadata that JSON has no form for is written as text."""
    file = path / WHOLE if path.is_dir() else path
    head = {
        "format": FORMAT,
        "responses": len(responses),
        **rest,
        "metrics": [_about(column) for column in columns],
        "summary": [asdict(row) for row in summary],
    }
    listed = {
        name: value.tolist() if isinstance(value := getattr(responses, name), Tensor) else value for name in _FIELDS
    }
    scores = {column.name: column.scores.tolist() for column in columns}
    rows = (
        {name: values[row] for name, values in listed.items()}
        | {"scores": {name: values[row] for name, values in scores.items()}}
        for row in range(len(responses))
    )
    lines = (json.dumps(json_safe(row), ensure_ascii=False, allow_nan=False, default=str) for row in (head, *rows))
    write_atomically(file, "\n".join(lines) + "\n")
    return file


def _about(column: Column) -> dict[str, Any]:
    about = {name: getattr(column, name) for name in _COLUMN_FIELDS}
    return about | ({"failures": list(column.failures.items())} if column.failures else {})


_COLUMN_FIELDS = (
    "name",
    "higher_is_better",
    "is_paired",
    "reads_letters",
    "is_mean",
    "outcome",
    "reads_asserted",
    "settings",
)


def read_report(path: Path) -> tuple[Responses, list[Column], list[SummaryRow], dict[str, Any]]:
    """Read what `write_report` has written: responses, columns, summary, and the rest of the head.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no report, or some of its lines are missing.
    """
    file = saved_in(path) if path.is_dir() else path
    if not file.exists():
        raise FileNotFoundError(
            f"expected a report at {file}, found none; a run that was not finished has none until it is resumed"
        )
    lines = [value for _, value in read_lines(file)]
    head = lines[0] if lines and isinstance(lines[0], dict) else {}
    if head.get("format") != FORMAT:
        raise ValueError(f"{file}: expected a file of format {FORMAT!r}, got {head.get('format')!r}")
    rows = lines[1:]
    if len(rows) != head["responses"]:
        raise ValueError(f"{file}: expected {head['responses']} responses, got {len(rows)}")
    columns = [
        Column(
            scores=np.array([float(row["scores"][about["name"]]) for row in rows]),
            # Compared with base, what a text asserts is measured anew; for that its name is enough.
            metric=_FOLLOWS if about["name"] == _FOLLOWS.column else None,
            **{**_older(about["name"]), **about, "failures": dict(about.get("failures", ()))},
        )
        for about in head["metrics"]
    ]
    summary = [_summary_row(row) for row in head["summary"]]
    return _responses(rows), columns, summary, {"seed": head["seed"], "manifest": head["manifest"]}


def saved_in(folder: Path, name: str = WHOLE) -> Path:
    """Return a folder's report, which need not be there.

    Args:
        folder: of a run.
        name: `WHOLE` or `PART`.
    """
    return folder / name


def known_in(file: Path) -> tuple[set[Key], dict[str, Mapping[str, Any] | None]]:
    """Return the keys of the responses in a report's file, and by name how its metrics were set.

    Both are empty if it is no report.

    Raises:
        KeyError, TypeError, ValueError: it cannot be read.
    """
    lines = (value for _, value in read_lines(file))
    head = next(lines, None)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        return set(), {}
    keys = {(row["sample_id"], row["condition"], row["draw"]) for row in lines}
    return keys, {about["name"]: about.get("settings") for about in head["metrics"]}


def _older(name: str) -> dict[str, Any]:
    """Return what a file of an older version does not say of a library's metric."""
    is_rate = any(metric.column == name and metric.is_rate for metric in default_metrics())
    outcome: Outcome = "rate" if is_rate else "mean"
    return {"outcome": outcome, "reads_asserted": name == _FOLLOWS.column}


def _summary_row(row: Mapping[str, Any]) -> SummaryRow:
    kinds = {field.name: field.type for field in fields(SummaryRow)}
    # Value and difference were of the same samples before.
    row = {**_LATER_COLUMNS, "paired_value": row["value"], "n_value": row["n"], **row}
    values: dict[str, Any] = {name: float(row[name]) if kind is float else row[name] for name, kind in kinds.items()}
    return SummaryRow(**values)


def _responses(rows: Sequence[Mapping[str, Any]]) -> Responses:
    blank = Responses.of([], [])
    values: dict[str, Any] = {}
    for name in _FIELDS:
        like = getattr(blank, name)
        column = [row.get(name, _LATER_FIELDS[name]) if name in _LATER_FIELDS else row[name] for row in rows]
        if not isinstance(like, Tensor):
            values[name] = tuple(_as_tuple(value) for value in column)
        elif like.dtype == torch.int64:
            values[name] = torch.tensor(column, dtype=like.dtype)
        else:
            shape = (len(rows), *((len(column[0]) if column else 0,) if like.ndim == 2 else ()))
            values[name] = torch.tensor(_numbers(column), dtype=like.dtype).reshape(shape)
    return Responses(**values)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _numbers(value: Any) -> Any:
    return [_numbers(part) for part in value] if isinstance(value, list) else float(value)
