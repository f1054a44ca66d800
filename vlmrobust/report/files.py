"""Hold a report as values, read and write it as a file, and find the files of run directories."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..functional.intervals import Outcome
from ..judges import RuleJudge
from ..metrics import FollowRate, JudgedMetric, default_metrics
from ..types import Responses
from ..unreported import unreported_in
from .metric_columns import Column
from .serialisation import (
    Contents,
    Key,
    keys_in_json_lines,
    keys_in_parquet,
    keys_of,
    read_json_lines,
    read_parquet,
    write_json_lines,
    write_parquet,
)
from .summary import SummaryRow

__all__ = [
    "LINES",
    "PART",
    "WHOLE",
    "Key",
    "ReportData",
    "judge_of",
    "keys_of",
    "last_report_file",
    "read_keys_and_settings",
    "read_report",
    "report_file",
    "with_judge",
    "write_report",
]

WHOLE, PART = "report.parquet", "report.part.parquet"
"""File names of a run's report, and of the report on a call that covers only a part of the run."""

LINES = ".jsonl"
"""The suffix of a report in JSON Lines, the only format of older versions."""

_PARQUET_MAGIC = b"PAR1"

_FOLLOW_RATE = FollowRate()
_COLUMN_FIELDS = tuple(field.name for field in fields(Column) if field.name not in ("scores", "metric", "failures"))
_LATER_SUMMARY_FIELDS = {"noise_floor": math.nan}  # missing in older files


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """A report as values.

    Attributes:
        responses: all of them.
        columns: their metrics.
        summary: every condition compared with base.
        seed: keys the resampling.
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


def write_report(path: Path, report: ReportData) -> Path:
    """Write a report and return the file's path; metadata that JSON cannot represent are written as text.

    Args:
        path: the file, JSON Lines if its name ends in `.jsonl`, else Parquet; or a folder, in which the file is `WHOLE`
            and replaces one in JSON Lines.
        report: to write; its manifest gets the judge, unless that is the default one.
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
    write = write_json_lines if file.suffix == LINES else write_parquet
    write(file, contents)
    if file != path:
        file.with_suffix(LINES).unlink(missing_ok=True)
    return file


def report_file(folder: Path, name: str = WHOLE) -> Path:
    """Return the path of a folder's report; of a Parquet and a JSON Lines file, the newer one.

    Args:
        folder: of a run.
        name: `WHOLE`, `PART`, or the name of a judged report.
    """
    columns = folder / name
    lines = columns.with_suffix(LINES)
    existing = [file for file in (columns, lines) if file.is_file()]
    return max(existing, key=lambda file: file.stat().st_mtime_ns, default=columns)


def last_report_file(folder: Path) -> Path:
    """Return the file of the last call's report in a run directory."""
    part = report_file(folder, PART)
    return part if part.exists() else report_file(folder)


def read_report(path: Path) -> ReportData:
    """Read a file that `write_report` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a report, or is incomplete.
    """
    file = report_file(path) if path.is_dir() else path
    if not file.exists():
        unreported = unreported_in(path) if path.is_dir() else None
        raise FileNotFoundError(
            f"expected a report at {file}, found none; "
            + (str(unreported) if unreported else "a run that was not finished has none until it is resumed")
        )
    contents = (read_parquet if _is_parquet(file) else read_json_lines)(file)
    head = contents.head
    columns = [
        Column(
            scores=contents.scores[entry["name"]],
            # Comparing with base measures the follow rate again, which needs no settings.
            metric=_FOLLOW_RATE if entry["name"] == _FOLLOW_RATE.column else None,
            failures=contents.failures.get(entry["name"], {}),
            **{**_defaults_of_older_files(entry["name"]), **entry},
        )
        for entry in head["metrics"]
    ]
    summary = [_summary_row(row) for row in head["summary"]]
    return ReportData(contents.responses, columns, summary, head["seed"], head["manifest"])


def read_keys_and_settings(file: Path) -> tuple[set[Key], dict[str, Mapping[str, Any] | None]]:
    """Return the response keys and the metrics' settings in a report's file; both are empty if it is not a report.

    Raises:
        KeyError, TypeError, ValueError: it cannot be read.
    """
    keys, metrics = (keys_in_parquet if _is_parquet(file) else keys_in_json_lines)(file)
    return keys, {entry["name"]: entry.get("settings") for entry in metrics}


def _is_parquet(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC


def _defaults_of_older_files(name: str) -> dict[str, Any]:
    """Return the attributes of a library metric that older files lack."""
    is_rate = any(metric.column == name and metric.is_rate for metric in default_metrics())
    outcome: Outcome = "rate" if is_rate else "mean"
    return {"outcome": outcome, "reads_asserted": name == _FOLLOW_RATE.column}


def _summary_row(row: Mapping[str, Any]) -> SummaryRow:
    kinds = {field.name: field.type for field in fields(SummaryRow)}
    # In older versions, value and difference were on the same samples.
    row = {**_LATER_SUMMARY_FIELDS, "paired_value": row["value"], "n_value": row["n"], **row}
    values: dict[str, Any] = {name: float(row[name]) if kind is float else row[name] for name, kind in kinds.items()}
    return SummaryRow(**values)
