"""Write a study's tables and pages; a call for part of a study does not replace those of the whole."""

import csv
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..jsonl import write_atomically
from ..report.formats import csv_text
from .tables import StudyTables

__all__ = ["keep_result", "kept_page"]


logger = logging.getLogger(__name__)

_TABLES = ("runs", "judgements", "summary", "judged", "survival", "agreement", "averages", "findings")
_WHOLE, _PART = "study", "study.part"
_TABLES_OF = {_WHOLE: "tables", _PART: "tables.part"}
_SHOWN = 5

Run = tuple[str, str, str]


def keep_result(result: StudyTables, markdown: Callable[[str], str], html: Callable[[], str]) -> Path:
    """Write tables and pages of a study into its folder, and return the path of the HTML page.

    If the existing ones have runs, samples, conditions, judges, metrics or draws that this call lacks, they stay; the
    new ones become `study.part.html`, `study.part.md`, `study.part.json` and `tables.part`, and the log says what they
    lack.

    Args:
        result: the tables.
        markdown: returns the page as Markdown, given the name of the HTML page, which has the pictures.
        html: returns the page as HTML.
    """
    left_out = list(_left_out(result))
    stem = _PART if left_out else _WHOLE
    if left_out:
        logger.warning(
            "study %s: its page has more than this call (%s); it stays unchanged, and the page of this call is %s",
            result.out,
            "; ".join(left_out),
            f"{_PART}.html",
        )
    tables = result.out / _TABLES_OF[stem]
    tables.mkdir(parents=True, exist_ok=True)
    for name in _TABLES:
        write_atomically(tables / f"{name}.csv", csv_text(getattr(result, name)))
    page = result.out / f"{stem}.html"
    write_atomically(page.with_name(f"{stem}.json"), result.study.model_dump_json(indent=2) + "\n")
    write_atomically(page.with_name(f"{stem}.md"), markdown(page.name))
    write_atomically(page, html())
    if not left_out:
        for ending in ("html", "md", "json"):
            (result.out / f"{_PART}.{ending}").unlink(missing_ok=True)
        shutil.rmtree(result.out / _TABLES_OF[_PART], ignore_errors=True)
    return page


def kept_page(out: Path) -> Path:
    """Return the page that the last call wrote to a study's folder."""
    part = out / f"{_PART}.html"
    return part if part.exists() else out / f"{_WHOLE}.html"


def _left_out(result: StudyTables) -> Iterator[str]:
    """Describe what the results in the folder have that a call lacks."""
    page, file = result.out / f"{_WHOLE}.json", result.out / _TABLES_OF[_WHOLE] / "runs.csv"
    if not (page.exists() and file.exists()):
        return
    try:
        before = json.loads(page.read_text(encoding="utf-8"))
        study = _names(before)
        runs = _finished(file.read_text(encoding="utf-8"))
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("study %s: its results cannot be read (%s) and are overwritten", result.out, error)
        return
    current = set(_rows(csv_text(result.runs)))
    if missing := [run for run in runs if run not in current]:
        yield f"runs {_listed([_shown(run) for run in missing])}"
    now = _finished(csv_text(result.runs))
    if fewer := [f"{_shown(run)} of {runs[run]}" for run in runs if now.get(run, runs[run]) < runs[run]]:
        yield f"samples of {_listed(fewer)}"
    named = _names(result.study.model_dump(mode="json"))
    for field, names in study.items():
        if missing_names := [name for name in names if name not in named[field]]:
            yield f"{field} {_listed(missing_names)}"
    if before["draws"] > result.study.draws:
        yield f"{before['draws']} draws"


def _names(study: dict[str, Any]) -> dict[str, list[str]]:
    judges = [judge["name"] for judge in study["judges"]]
    return {"conditions": study["conditions"], "judges": judges, "metrics": study["metrics"]}


def _rows(table: str) -> dict[Run, dict[str, str]]:
    """Return the rows of the table of runs, by model, checkpoint and benchmark."""
    rows = csv.DictReader(io.StringIO(table))
    return {(row["model"], row["checkpoint"], row["benchmark"]): row for row in rows}


def _finished(table: str) -> dict[Run, int]:
    """Return the number of samples of each finished run."""
    return {run: int(row["samples"]) for run, row in _rows(table).items() if row["status"] == "finished"}


def _shown(run: Run) -> str:
    return "/".join(filter(None, run))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
