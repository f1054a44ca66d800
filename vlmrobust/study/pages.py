"""Render the page of a study as HTML and as Markdown, and write it into the study's folder with the tables.

The HTML is self-contained and links to the reports of the runs. Names and errors are untrusted text: Jinja escapes all
of it, and the page's policy allows no scripts.
"""

import csv
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..jsonl import write_atomically
from ..report.formats import block, csv_text, inline
from ..report.html import templates
from ..text import abridged, readable, without_local_paths
from .page_cells import Cell
from .sections import Curves, Grid, Section
from .tables import StudyTables

__all__ = ["headline", "keep_result", "kept_page", "markdown", "page"]


_NAMED = 3


def headline(result: StudyTables) -> tuple[str, ...]:
    """Return the number of finished runs, and in how many runs accuracy falls under which conditions, most first."""
    finished = sum(row.status == "finished" for row in result.run_rows)
    total = len(result.run_rows)
    failed = "" if finished == total else "; the table of runs says what failed"
    sentences = [f"{finished} of {total} runs finished{failed}."]
    found = result.findings
    falls = found.loc[found["kind"] == "falls", "condition"].tolist()
    by_count = sorted(dict.fromkeys(falls), key=falls.count, reverse=True)
    changes = result.summary[result.summary["metric"] == "accuracy"]
    for condition in by_count[:_NAMED]:
        most = -changes.loc[changes["condition"] == condition, "difference"].min()
        count = falls.count(condition)
        sentences.append(
            f"Accuracy falls under {readable(condition)} in {count} of {finished} runs, by up to {most:.3f}."
        )
    if others := len(by_count[_NAMED:]):
        sentences.append(f"It falls in some run under {others} more condition{'s' * (others > 1)}.")
    if finished and not falls:
        sentences.append("No run shows a fall of accuracy, corrected for all that is compared.")
    return tuple(sentences)


def page(result: StudyTables, sections: Sequence[Section], pictures: Sequence[Curves]) -> str:
    """Return the page as HTML."""
    return (
        templates("vlmrobust.study")
        .get_template("page.html")
        .render(
            style=_style("vlmrobust.report") + _style("vlmrobust.study"),
            headline=headline(result),
            facts=_facts(result),
            sections=sections,
            curves=pictures,
            study=json.dumps(
                without_local_paths(result.study.model_dump(mode="json", exclude_defaults=True)), indent=2
            ),
            quote=quote,
        )
    )


def _style(package: str) -> str:
    return files(package).joinpath("page.css").read_text(encoding="utf-8")


def _facts(result: StudyTables) -> list[tuple[str, str]]:
    study, rows = result.study, result.run_rows
    failed = sum(row.status == "failed" for row in rows)
    facts = {
        "models": len(study.models),
        "benchmarks": len(study.benchmarks),
        "conditions": len(study.conditions),
        "judges": ", ".join(judge.name for judge in study.judges) or "none",
        "runs finished": f"{len(rows) - failed} of {len(rows)}",
        "responses": sum(row.responses for row in rows),
        "error rows": sum(row.errors for row in rows),
        "draws": study.draws,
        "seed": study.seed,
    }
    return [(name, str(value)) for name, value in facts.items()]


def markdown(result: StudyTables, sections: Sequence[Section], pictures: Sequence[Curves], page: str) -> str:
    """Return the page as Markdown, which lists the pictures of the HTML page next to it."""
    parts = ["# Study", *map(block, headline(result))]
    for section in sections:
        parts += [
            f"## {section.title}",
            block(section.hint),
            _table(section.grid) if section.grid.rows else section.missing,
        ]
    if pictures:
        listed = [f"- {inline(one.title)}{f': {inline(one.missing)}' if one.missing else ''}" for one in pictures]
        parts += ["## Over the checkpoints", f"Drawn in [the page]({page}):", "\n".join(listed)]
    return "\n\n".join(parts) + "\n"


def _table(grid: Grid) -> str:
    ruler = ["---"] * grid.names + ["---:"] * (len(grid.header) - grid.names)
    lines = [[inline(title) for title in grid.header], ruler, *([_cell(cell) for cell in row] for row in grid.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    text = "<br>".join(inline(line) for line in cell.text.split("\n"))
    return f"[{text}]({quote(cell.link)})" if cell.link else text


logger = logging.getLogger(__name__)

_TABLES = ("runs", "judgements", "summary", "judged", "survival", "agreement", "averages", "findings")
_WHOLE, _PART = "study", "study.part"
_TABLES_OF = {_WHOLE: "tables", _PART: "tables.part"}

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
        yield f"runs {abridged([_shown(run) for run in missing])}"
    now = _finished(csv_text(result.runs))
    if fewer := [f"{_shown(run)} of {runs[run]}" for run in runs if now.get(run, runs[run]) < runs[run]]:
        yield f"samples of {abridged(fewer)}"
    named = _names(result.study.model_dump(mode="json"))
    for field, names in study.items():
        if missing_names := [name for name in names if name not in named[field]]:
            yield f"{field} {abridged(missing_names)}"
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
