"""Merge the reports of a run: of a call into that of the run directory, and of several run directories into one."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..judges import RuleJudge
from ..text import abridged
from ..types import Responses
from ..unreported import Unreported, note_unreported
from .files import PART, WHOLE, Key, ReportData, keys_of, read_keys_and_settings, read_report, report_file, write_report
from .merging import NOT_MEASURED, Part, SettingConflict, Settings, merge, setting_conflicts
from .metric_columns import Column
from .pairing import contrasts_with
from .summary import summarise

__all__ = ["SavedReport", "belongs_to_run", "keep_report", "report_of_runs"]


logger = logging.getLogger(__name__)


class SavedReport(NamedTuple):
    """The file of a call's report, and the run's responses that no report contains; None = it covers only a part."""

    file: Path
    unreported: Unreported | None


def keep_report(report: ReportData, folder: Path) -> SavedReport:
    """Merge the report of a call into the one in a run directory.

    The directory's report has the samples, conditions, draws and metrics of all calls. If a call covers less, its own
    report is written to `report.part…`, and the log says what the other one has in addition. Responses that are in no
    report are logged too.
    """
    existing = [stored for name in (WHOLE, PART) if (stored := _StoredReport.of(report_file(folder, name))) is not None]
    keys, metrics = set(keys_of(report.responses)), _settings(report.columns)
    more = [stored for stored in existing if not (stored.keys <= keys and stored.metrics.keys() <= metrics.keys())]
    if not more:
        for stored in existing[:1]:
            for other in setting_conflicts(stored.metrics, metrics):
                logger.warning(
                    "%s: %s; all %d responses are measured again",
                    stored.file,
                    _described(other),
                    len(stored.keys),
                )
        saved = write_report(folder, report)
        while (part := report_file(folder, PART)).exists():
            part.unlink()
        return SavedReport(saved, _unreported(saved, report))
    logger.info(
        "run directory %s: its report has more than this call names (%s), and keeps it; this call alone is in %s",
        folder,
        "; ".join(_differences(more[0].keys, keys, more[0].metrics.keys() - metrics.keys())),
        PART,
    )
    # Older versions left samples in the part that the run's report did not have: include it then.
    whole, is_new = _extended(
        [stored for stored in existing if stored is existing[0] or not stored.keys <= existing[0].keys], report
    )
    saved = write_report(folder / PART, report)
    _unreported(write_report(folder, whole) if is_new else report_file(folder), whole)
    return SavedReport(saved, None)


def _unreported(file: Path, whole: ReportData) -> Unreported:
    """Return the responses of a run directory that are not in its report; record them there and in the log."""
    found = note_unreported(file.parent, file, whole.responses)
    if found:
        logger.warning("run directory %s: %s", file.parent, found)
    return found


def belongs_to_run(about: Mapping[str, Any], folder: Path) -> bool:
    """Return whether a folder is the run directory of a report, by the report's manifest."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        return all(about[name] == manifest[name] for name in ("model", "seed", "style"))
    except (OSError, KeyError, TypeError, ValueError):  # no run manifest, or none of the report
        return False


def _merged(parts: Sequence[Part], manifest: Mapping[str, Any], seed: int, where: Path) -> ReportData:
    """Return the merged report of a run's parts; log the metrics that could not be measured on all of it.

    Args:
        parts: see `merge`.
        manifest: of the run.
        seed: keys the resampling.
        where: the run directory.
    """
    found = merge(parts)
    for name, count in found.not_measured.items():
        logger.warning(
            "run directory %s: metric %r is not measured on %d of %d responses; a call that names the metric measures "
            "it on the responses that the call covers",
            where,
            name,
            count,
            len(found.responses),
        )
    about = {key: value for key, value in manifest.items() if key != "judge"}
    if found.judge != RuleJudge().identity():  # loaded columns do not name their judge
        about["judge"] = dict(found.judge)
    summary = summarise(found.responses, found.columns, contrasts_with("base", found.responses), seed)
    return ReportData(found.responses, found.columns, tuple(summary), seed, about)


def _described(other: SettingConflict) -> str:
    """Describe how the settings of a metric differ."""
    was, now = other.first, other.second
    return f"metric {other.metric!r}, field {other.field!r}: expected {was}, as it was measured, got {now}"


def _settings(columns: Sequence[Column]) -> dict[str, Settings]:
    """Return the settings of metrics by name."""
    return {column.name: column.settings for column in columns}


@dataclass(frozen=True, slots=True)
class _StoredReport:
    """The contents of a report on disk: keys of the responses, and settings by metric."""

    file: Path
    keys: set[Key]
    metrics: Mapping[str, Settings]

    @classmethod
    def of(cls, file: Path) -> "_StoredReport | None":
        """Return the contents of the report in a file, None if there is no report."""
        if not file.exists():
            return None
        try:
            keys, metrics = read_keys_and_settings(file)
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("%s is not a readable report (%s) and is overwritten", file, error)
            return None
        return cls(file, keys, metrics) if metrics else None


def _extended(existing: Sequence[_StoredReport], report: ReportData) -> tuple[ReportData, bool]:
    """Merge reports on disk with a new one; return the result and whether the new one added anything."""
    before = [read_report(stored.file) for stored in existing]
    otherwise: dict[str, SettingConflict] = {}
    for stored in existing:
        for other in setting_conflicts(stored.metrics, _settings(report.columns)):
            otherwise.setdefault(other.metric, other)
            logger.warning(
                "%s: %s; the run's report keeps the old values, this call's report has the new ones; another 'name' "
                "keeps both, and a call that covers all %d responses replaces the old ones",
                stored.file,
                _described(other),
                len(stored.keys),
            )
    columns = [column for column in report.columns if column.name not in otherwise]
    if len(before) == 1 and set(keys_of(report.responses)) <= existing[0].keys and _holds(before[0], report, columns):
        return before[0], False
    parts = [
        *(
            Part(stored.file.name, old.responses, old.columns, {}, old.judge)
            for old, stored in zip(before, existing, strict=True)
        ),
        Part("this call", report.responses, columns, {}, report.judge),
    ]
    return _merged(parts, report.manifest, report.seed, existing[0].file.parent), True


def _holds(whole: ReportData, part: ReportData, columns: Sequence[Column]) -> bool:
    """Return whether a report contains all responses of another unchanged, and the given columns of it."""
    stored = {column.name: column for column in whole.columns}
    if not all(
        column.name in stored and NOT_MEASURED not in stored[column.name].failures.values() for column in columns
    ):
        return False
    place = {key: row for row, key in enumerate(keys_of(whole.responses))}
    rows = [place[key] for key in keys_of(part.responses)]
    known = whole.responses.select(rows)
    return all(
        _equal(getattr(known, field.name), getattr(part.responses, field.name)) for field in fields(known) if field.init
    ) and all(
        # Comparisons with other draws depend on the other responses.
        column.is_paired or np.array_equal(stored[column.name].scores[rows], column.scores, equal_nan=True)
        for column in columns
    )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return np.array_equal(one.numpy(), other.numpy(), equal_nan=True)
    return bool(one == other)


def _differences(before: set[Key], keys: set[Key], metrics: AbstractSet[str]) -> Iterator[str]:
    if lost := before - keys:
        yield f"{len(lost)} of its {len(before)} responses"
    for place, name in enumerate(("samples", "conditions", "draws")):
        if missing := sorted({str(key[place]) for key in before} - {str(key[place]) for key in keys}):
            yield f"{name} {abridged(missing)}"
    if metrics:
        yield f"metrics {abridged(sorted(metrics))}"


def report_of_runs(dropped: Mapping[Path, AbstractSet[str]], manifest: Mapping[str, Any], seed: int) -> ReportData:
    """Return the merged report of run directories of one model, whose samples and answers agree.

    If a sample's metadata differ, the last directory's are used.

    Args:
        dropped: by run directory, ids of samples whose responses to leave out.
        manifest: of all of them.
        seed: keys the resampling.

    Raises:
        FileNotFoundError: none of them has a report.
        ValueError: a sample's group or a metric's settings differ; the message says where.
    """
    files = {file: folder for folder in dropped if (file := report_file(folder)).exists()}
    if not files:
        raise FileNotFoundError(
            f"expected a report in one of {', '.join(map(str, dropped))}, found none; finish one of them"
        )
    reports = {file: read_report(file) for file in files}
    _check_alike(reports)
    rows_of = {
        file: {row: key for row, key in enumerate(keys_of(report.responses)) if key[0] not in dropped[files[file]]}
        for file, report in reports.items()
    }
    answered = {
        key
        for file, keys in rows_of.items()
        for row, key in keys.items()
        if reports[file].responses.status[row] != "error"
    }
    parts = []
    for file, report in reports.items():
        responses = report.responses
        rows = [row for row, key in rows_of[file].items() if responses.status[row] != "error" or key not in answered]
        columns = [column.taken(rows) for column in report.columns]
        parts.append(Part(str(file), responses.select(rows), columns, {}, report.judge))
    return _merged(parts, manifest, seed, next(iter(dropped)))


def _check_alike(reports: Mapping[Path, ReportData]) -> None:
    """Raise if a sample's group or a metric's settings differ; warn about metadata that differ."""
    first_row: dict[str, tuple[Path, Responses, int]] = {}
    differing, example = 0, ""
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
    for place, (file, report) in enumerate(reports.items()):
        for before, earlier in islice(reports.items(), place):
            for other in setting_conflicts(_settings(earlier.columns), _settings(report.columns)):
                raise ValueError(
                    f"{file}: {_described(other)}, and {before} has the first; measure it again in one of them, with a "
                    "call that names all of its responses, or under another 'name'"
                )
