"""Metrics by the names of their columns, and reports in which some are measured anew; no model is asked."""

from collections.abc import Sequence
from pathlib import Path

from ..metrics import Metric, PairedMetric
from ..metrics.catalogue import metrics_named
from ..naming import unknown_name
from ..report import Report

__all__ = ["direction_of", "is_paired", "measured", "with_metrics"]


def with_metrics(report: Report, names: Sequence[str]) -> tuple[Report, list[str]]:
    """Return a report that has all of some metrics, and the columns of these, in their order.

    What the report lacks is measured on its responses, and so is what a class of one's own measures.

    Raises:
        ValueError: a name is not known; the message has the nearest, and lists all.
    """
    named = [name if name in report.metrics else metrics_named([name], others=report.metrics)[0] for name in names]
    missing = {metric.column: metric for metric in named if not isinstance(metric, str)}
    columns = [metric if isinstance(metric, str) else metric.column for metric in named]
    return measured(report, list(missing.values())) if missing else report, columns


def measured(report: Report, metrics: Sequence[Metric | PairedMetric], verdicts: Path | None = None) -> Report:
    """Return a report in which these metrics are measured anew, or added, and all others are as they were.

    Args:
        report: on the responses.
        metrics: what is measured.
        verdicts: as in `Report.score`.
    """
    new = report.score(metrics, verdicts=verdicts)
    columns = {column.name: column for column in (*report._columns, *new._columns)}
    rows = {((row.condition, row.carrier), row.metric): row for row in (*report._rows, *new._rows)}
    units = dict.fromkeys(unit for unit, _ in rows)
    summary = [rows[unit, name] for unit in units for name in columns]
    return Report(report.responses, list(columns.values()), seed=report.seed, manifest=report.manifest, summary=summary)


def direction_of(report: Report, metric: str) -> int:
    """Return 1 for a metric of which more is better, -1 for one of which less is.

    Raises:
        ValueError: the report does not have it, or it is neither.
    """
    found = {column.name: column.higher_is_better for column in report._columns}
    if metric not in found:
        raise ValueError(f"expected a metric of the report, {unknown_name(metric, found)}")
    better = found[metric]
    if better is None:
        raise ValueError(f"metric {metric!r}: expected one of which more, or less, is better; of this one neither is")
    return 1 if better else -1


def is_paired(report: Report, metric: str) -> bool:
    """Return whether a metric of the report is itself a comparison with base."""
    return any(column.name == metric and column.is_paired for column in report._columns)
