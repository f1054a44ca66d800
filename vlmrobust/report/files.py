"""A report on disk: one file, of columns or of lines, and what it is called in a run's directory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..functional.intervals import Outcome
from ..metrics import FollowRate, default_metrics
from ..types import Responses
from ..unreported import unreported_in
from .columns import Column
from .summary import SummaryRow

__all__ = ["PART", "WHOLE", "Contents", "Key", "known_in", "read_report", "saved_in", "write_report"]

WHOLE, PART = "report.parquet", "report.part.parquet"
"""A run's report, and the one of a call that names less than it holds."""

LINES = ".jsonl"
"""How a report's file is called that holds lines, as all of them did before."""

_OF_COLUMNS = b"PAR1"

_FOLLOWS = FollowRate()
_ABOUT = tuple(field.name for field in fields(Column) if field.name not in ("scores", "metric", "failures"))
_LATER_COLUMNS = {"noise_floor": math.nan}  # which summaries of older files lack, and what stands for them

Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a file of a report holds.

    Attributes:
        responses: all of them.
        scores, failures: by metric, values, and by position why there is none.
        head: the rest: how many responses there are, seed, manifest, summary, and what is to be known of each metric.
    """

    responses: Responses
    scores: Mapping[str, NDArray[np.float64]]
    failures: Mapping[str, Mapping[int, str]]
    head: Mapping[str, Any]


def write_report(
    path: Path,
    responses: Responses,
    columns: Sequence[Column],
    summary: Sequence[SummaryRow],
    rest: Mapping[str, Any],
) -> Path:
    """Write a report and return the file's path; metadata that JSON has no form for is written as text.

    Args:
        path: the file, which holds lines if its name ends in `.jsonl` and else columns; or a folder, in which it is
            `WHOLE`, and takes the place of one of lines.
        responses: all of them.
        columns: their metrics.
        summary: of them.
        rest: what else there is to say, as JSON values.
    """
    file = path / WHOLE if path.is_dir() else path
    head = {
        "responses": len(responses),
        **rest,
        "metrics": [{name: getattr(column, name) for name in _ABOUT} for column in columns],
        "summary": [asdict(row) for row in summary],
    }
    contents = Contents(
        responses,
        {column.name: column.scores for column in columns},
        {column.name: column.failures for column in columns if column.failures},
        head,
    )
    if file.suffix == LINES:
        from .lines import write_lines as write
    else:
        from .parquet import write_columns as write
    write(file, contents)
    if file != path:
        file.with_suffix(LINES).unlink(missing_ok=True)
    return file


def saved_in(folder: Path, name: str = WHOLE) -> Path:
    """Return a folder's report, the newer one where there is one of columns and one of lines.

    Args:
        folder: of a run.
        name: `WHOLE` or `PART`.
    """
    columns = folder / name
    lines = columns.with_suffix(LINES)
    there = [file for file in (columns, lines) if file.is_file()]
    return max(there, key=lambda file: file.stat().st_mtime_ns, default=columns)


def read_report(path: Path) -> tuple[Responses, list[Column], list[SummaryRow], dict[str, Any]]:
    """Read what `write_report` has written: responses, columns, summary, and the rest of the head.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no report, or a part of it is missing.
    """
    file = saved_in(path) if path.is_dir() else path
    if not file.exists():
        held = unreported_in(path) if path.is_dir() else None
        raise FileNotFoundError(
            f"expected a report at {file}, found none; "
            + (str(held) if held else "a run that was not finished has none until it is resumed")
        )
    if _holds_columns(file):
        from .parquet import read_columns as read
    else:
        from .lines import read_all as read
    contents = read(file)
    head = contents.head
    columns = [
        Column(
            scores=contents.scores[about["name"]],
            # Compared with base, what a text asserts is measured anew; for that its name is enough.
            metric=_FOLLOWS if about["name"] == _FOLLOWS.column else None,
            failures=contents.failures.get(about["name"], {}),
            **{**_older(about["name"]), **about},
        )
        for about in head["metrics"]
    ]
    summary = [_summary_row(row) for row in head["summary"]]
    return contents.responses, columns, summary, {"seed": head["seed"], "manifest": head["manifest"]}


def known_in(file: Path) -> tuple[set[Key], dict[str, Mapping[str, Any] | None]]:
    """Return the keys of the responses in a report's file, and by name how its metrics were set; nothing if it is none.

    Raises:
        KeyError, TypeError, ValueError: it can't be read.
    """
    if _holds_columns(file):
        from .parquet import read_keys
    else:
        from .lines import read_keys
    keys, metrics = read_keys(file)
    return keys, {about["name"]: about.get("settings") for about in metrics}


def _holds_columns(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_OF_COLUMNS)) == _OF_COLUMNS


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
