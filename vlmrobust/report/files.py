"""A report on disk: one file, of columns or of lines, and what it is called in a run's directory."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..functional.intervals import Outcome
from ..metrics import FollowRate, default_metrics
from ..unreported import unreported_in
from . import parquet
from .columns import Column
from .contents import Contents, Key, ReportData, read_all, read_keys, with_judge, write_lines
from .summary import SummaryRow

__all__ = ["LINES", "PART", "WHOLE", "read_keys_and_settings", "read_report", "report_file", "write_report"]

WHOLE, PART = "report.parquet", "report.part.parquet"
"""A run's report, and the one of a call that names less than it holds."""

LINES = ".jsonl"
"""How a report's file is called that holds lines, as all of them did before."""

_PARQUET_MAGIC = b"PAR1"

_FOLLOW_RATE = FollowRate()
_COLUMN_FIELDS = tuple(field.name for field in fields(Column) if field.name not in ("scores", "metric", "failures"))
_LATER_SUMMARY_FIELDS = {"noise_floor": math.nan}  # which summaries of older files lack, and what stands for them


def write_report(path: Path, report: ReportData) -> Path:
    """Write a report and return the file's path; metadata that JSON has no form for is written as text.

    Args:
        path: the file, which holds lines if its name ends in `.jsonl` and else columns; or a folder, in which it is
            `WHOLE`, and takes the place of one of lines.
        report: what is written, with its judge in the manifest unless that is the default one.
    """
    file = path / WHOLE if path.is_dir() else path
    head = {
        "responses": len(report.responses),
        "seed": report.seed,
        "manifest": with_judge(report.manifest, report.columns),
        "metrics": [{name: getattr(column, name) for name in _COLUMN_FIELDS} for column in report.columns],
        "summary": [asdict(row) for row in report.summary],
    }
    contents = Contents(
        report.responses,
        {column.name: column.scores for column in report.columns},
        {column.name: column.failures for column in report.columns if column.failures},
        head,
    )
    write = write_lines if file.suffix == LINES else parquet.write_columns
    write(file, contents)
    if file != path:
        file.with_suffix(LINES).unlink(missing_ok=True)
    return file


def report_file(folder: Path, name: str = WHOLE) -> Path:
    """Return a folder's report, the newer one where there is one of columns and one of lines.

    Args:
        folder: of a run.
        name: `WHOLE`, `PART`, or what a judged one is called.
    """
    columns = folder / name
    lines = columns.with_suffix(LINES)
    existing = [file for file in (columns, lines) if file.is_file()]
    return max(existing, key=lambda file: file.stat().st_mtime_ns, default=columns)


def read_report(path: Path) -> ReportData:
    """Read what `write_report` has written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no report, or a part of it is missing.
    """
    file = report_file(path) if path.is_dir() else path
    if not file.exists():
        unreported = unreported_in(path) if path.is_dir() else None
        raise FileNotFoundError(
            f"expected a report at {file}, found none; "
            + (str(unreported) if unreported else "a run that was not finished has none until it is resumed")
        )
    contents = parquet.read_columns(file) if _is_parquet(file) else read_all(file)
    head = contents.head
    columns = [
        Column(
            scores=contents.scores[entry["name"]],
            # Compared with base, what a text asserts is measured anew; for that its name is enough.
            metric=_FOLLOW_RATE if entry["name"] == _FOLLOW_RATE.column else None,
            failures=contents.failures.get(entry["name"], {}),
            **{**_defaults_of_older_files(entry["name"]), **entry},
        )
        for entry in head["metrics"]
    ]
    summary = [_summary_row(row) for row in head["summary"]]
    return ReportData(contents.responses, columns, summary, head["seed"], head["manifest"])


def read_keys_and_settings(file: Path) -> tuple[set[Key], dict[str, Mapping[str, Any] | None]]:
    """Return the keys of the responses in a report's file, and by name how its metrics were set; nothing if it is none.

    Raises:
        KeyError, TypeError, ValueError: it can't be read.
    """
    keys, metrics = (parquet.read_keys if _is_parquet(file) else read_keys)(file)
    return keys, {entry["name"]: entry.get("settings") for entry in metrics}


def _is_parquet(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC


def _defaults_of_older_files(name: str) -> dict[str, Any]:
    """Return what a file of an older version does not say of a library's metric."""
    is_rate = any(metric.column == name and metric.is_rate for metric in default_metrics())
    outcome: Outcome = "rate" if is_rate else "mean"
    return {"outcome": outcome, "reads_asserted": name == _FOLLOW_RATE.column}


def _summary_row(row: Mapping[str, Any]) -> SummaryRow:
    kinds = {field.name: field.type for field in fields(SummaryRow)}
    # Value and difference were of the same samples before.
    row = {**_LATER_SUMMARY_FIELDS, "paired_value": row["value"], "n_value": row["n"], **row}
    values: dict[str, Any] = {name: float(row[name]) if kind is float else row[name] for name, kind in kinds.items()}
    return SummaryRow(**values)
