"""A run's report in its directory: what a later call names less of does not take its place."""

import logging
from collections.abc import Iterator
from pathlib import Path

from ..jsonl import read_lines
from .files import FORMAT
from .report import Report

__all__ = ["keep_report", "kept_report"]

logger = logging.getLogger(__name__)

_WHOLE, _PART = "report.jsonl", "report.part.jsonl"
_SHOWN = 5

Key = tuple[str, str, int]


def keep_report(report: Report, folder: Path) -> Path:
    """Save a report in a run directory and return its file.

    Where the report that is there has samples, conditions, draws or metrics that this one has not, it stays, and this
    one is `report.part.jsonl`; the log says what is left out.
    """
    keys = zip(report.responses.sample_id, report.responses.condition, report.responses.draw.tolist(), strict=True)
    if left_out := _left_out(folder / _WHOLE, set(keys), set(report.metrics)):
        logger.warning(
            "run directory %s: its report has more than this call names (%s); it stays as it is, and the report of "
            "this call is in %s",
            folder,
            "; ".join(left_out),
            _PART,
        )
        return report.save(folder / _PART)
    saved = report.save(folder)
    (folder / _PART).unlink(missing_ok=True)
    return saved


def kept_report(folder: Path) -> Path:
    """Return the file of the report that the last call has made."""
    part = folder / _PART
    return part if part.exists() else folder / _WHOLE


def _left_out(file: Path, keys: set[Key], metrics: set[str]) -> list[str]:
    """Return what the report in a file has that is not among some keys and metrics, in words."""
    try:
        lines = (value for _, value in read_lines(file)) if file.exists() else iter(())
        head = next(lines, None)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            return []
        before = {(row["sample_id"], row["condition"], row["draw"]) for row in lines}
        measured = {about["name"] for about in head["metrics"]}
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("%s holds no report that can be read (%s), and is written over", file, error)
        return []
    return list(_differences(before, keys, measured - metrics))


def _differences(before: set[Key], keys: set[Key], metrics: set[str]) -> Iterator[str]:
    lost = before - keys
    if lost:
        yield f"{len(lost)} of its {len(before)} responses are not among those that this call is about"
    for place, name in enumerate(("samples", "conditions", "draws")):
        if missing := sorted({str(key[place]) for key in before} - {str(key[place]) for key in keys}):
            yield f"{name} {_listed(missing)}"
    if metrics:
        yield f"metrics {_listed(sorted(metrics))}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
