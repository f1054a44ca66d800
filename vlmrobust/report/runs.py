"""Merge the reports of run directories, or say why they cannot be merged."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..types import Responses
from .contents import Key, keys_of
from .files import report_file
from .merging import Part, setting_conflicts
from .report import Report
from .run_report import describe_conflict, merged_report, metric_settings

__all__ = ["Run", "report_of_runs"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory to merge with others.

    Attributes:
        path: the directory.
        dropped: ids of samples whose responses to leave out.
    """

    path: Path
    dropped: AbstractSet[str]


def report_of_runs(runs: Sequence[Run], manifest: Mapping[str, Any], seed: int) -> Report:
    """Return the merged report of run directories.

    If a sample's metadata differ, the last directory's are used.

    Args:
        runs: of one model; their samples and answers agree.
        manifest: of all of them.
        seed: keys the bootstrap.

    Raises:
        FileNotFoundError: none of them has a report.
        ValueError: a sample's group or a metric's settings differ; the message says where.
    """
    reports = {file: (run, Report.load(file)) for run in runs if (file := report_file(run.path)).exists()}
    if not reports:
        raise FileNotFoundError(
            f"expected a report in one of {', '.join(str(run.path) for run in runs)}, found none; finish one of them"
        )
    _check_alike({file: report for file, (_, report) in reports.items()})
    answered = {
        key for run, report in reports.values() for key in _answered(report.responses) if key[0] not in run.dropped
    }
    parts = []
    for file, (run, report) in reports.items():
        responses = report.responses
        rows = [
            row
            for row, key in enumerate(keys_of(responses))
            if key[0] not in run.dropped and (responses.status[row] != "error" or key not in answered)
        ]
        columns = [column.taken(rows) for column in report._columns]
        parts.append(Part(str(file), responses.select(rows), columns, {}, report.judge))
    return Report._from_data(merged_report(parts, manifest, seed, runs[0].path))


def _answered(responses: Responses) -> Iterator[Key]:
    return (key for key, status in zip(keys_of(responses), responses.status, strict=True) if status != "error")


def _check_alike(reports: Mapping[Path, Report]) -> None:
    """Raise if a sample's group or a metric's settings differ; warn about metadata that differ."""
    first_row: dict[str, tuple[Path, Responses, int]] = {}
    differing = 0
    example = ""
    for file, report in reports.items():
        responses = report.responses
        for row in {sample: row for row, sample in reversed(list(enumerate(responses.sample_id)))}.values():
            before, known, at = first_row.setdefault(responses.sample_id[row], (file, responses, row))
            where = f"{file}, response {row + 1}: sample {responses.sample_id[row]!r}"
            as_before = f"as in {before}, response {at + 1}"
            if responses.group[row] != known.group[at]:
                raise ValueError(
                    f"{where}, field 'group': expected {known.group[at]!r}, {as_before}, got {responses.group[row]!r}; "
                    "groups are resampled together: call one of the runs again with samples in the same groups"
                )
            if responses.metadata[row] != known.metadata[at]:
                differing += 1
                example = (
                    example or f"{where}, field 'metadata': {responses.metadata[row]!r:.100}, {as_before} it is not"
                )
    if differing:
        logger.warning("metadata of %d samples differ; the last directory's are used: %s", differing, example)
    seen: list[tuple[Path, Report]] = []
    for file, report in reports.items():
        for before, earlier in seen:
            for other in setting_conflicts(metric_settings(earlier._columns), metric_settings(report._columns)):
                raise ValueError(
                    f"{file}: {describe_conflict(other)}, and {before} has the first; measure it again in one of them, "
                    "with a call that names all of its responses, or under another 'name'"
                )
        seen.append((file, report))
