"""Render the page of a study as HTML and as Markdown: headline, facts, sections and pictures.

The HTML is self-contained and links to the reports of the runs. Names and errors are untrusted text: Jinja escapes all
of it, and the page's policy allows no scripts.
"""

import json
from collections.abc import Sequence
from importlib.resources import files
from urllib.parse import quote

from ..report.formats import block, inline
from ..report.html import templates
from ..text import readable, without_local_paths
from .page_cells import Cell
from .pictures import Curves
from .sections import Grid, Section
from .tables import StudyTables

__all__ = ["headline", "markdown", "page"]

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
