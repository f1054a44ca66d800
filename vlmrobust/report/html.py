"""Write a report as one self-contained page: findings, tables, plots and samples."""

import json
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from ..jsonl import json_safe
from ..text import readable, unit_labels, without_local_paths
from ..types import Responses, Sample
from .browse import browser_data
from .findings import Finding
from .headline import grouped_limits, headline
from .metric_columns import Column
from .overview import Table, overview, pair_count
from .rendering import render_page
from .summary import SummaryRow

if TYPE_CHECKING:
    from ..plots.look import Reported

__all__ = ["TableCell", "interval_cell", "number_cell", "page", "text_cell"]


_NUMBER_HEADER = (
    "condition", "metric", "value", "95 %", "n", "of the pairs", "base", "difference", "95 %", "p", "p, adjusted",
    "pairs", "errors", "not applicable", "coverage", "noise floor", "note",
)  # fmt: skip


class TableCell(NamedTuple):
    """One cell of a sortable table.

    Attributes:
        text: to show.
        sort: the sort key, a number or text; None = always last.
        is_quiet: whether to grey it out, as no finding.
    """

    text: str
    sort: float | str | None
    is_quiet: bool = False


class PlotImage(NamedTuple):
    """A plot on the page: its name, how to read it, and the image as a data URI."""

    name: str
    caption: str
    src: str


def page(
    report: "Reported",
    columns: Sequence[Column],
    rows: Sequence[SummaryRow],
    findings: Sequence[Finding],
    *,
    title: str,
    samples: Iterable[Sample],
    max_samples: int,
    labels: int,
    seed: int,
    judge: Mapping[str, Any],
) -> str:
    """Return a report as HTML.

    Args:
        report: to plot.
        columns: its metrics.
        rows: its summary.
        findings: its findings.
        title: of the page.
        samples: with the images.
        max_samples: maximum number of samples on the page; tables and plots are over all.
        labels: number of thoughts per condition to label.
        seed: of their draw.
        judge: the identity of the judge of consistency.
    """
    pictures, missing = _pictures(report)
    table = overview(report.responses, columns, rows, judge)
    manifest = without_local_paths(json_safe(report.manifest))
    facts = _facts(report.responses, manifest)
    return render_page(
        "page.html",
        scripts=("common.js", "page.js"),
        styles=("page.css",),
        title=title,
        subtitle=_subtitle(dict(facts)),
        headline=without_local_paths(list(headline(findings, rows))),
        facts=facts,
        manifest=json.dumps(manifest, indent=2, ensure_ascii=False, default=str) if manifest else "",
        findings=[without_local_paths(finding.text) for finding in findings if not finding.is_limit],
        limits=without_local_paths(grouped_limits(findings)),
        header=table.header,
        overview=_overview_rows(table),
        notes=without_local_paths(list(table.notes)),
        pictures=pictures,
        missing_pictures=missing,
        metrics=list(dict.fromkeys((row.metric, readable(row.metric)) for row in rows)),
        number_header=_NUMBER_HEADER,
        numbers=list(_numbers(rows, columns)),
        total=len(set(report.responses.sample_id)),
        data=browser_data(report.responses, columns, samples, max_samples, labels, seed),
    )


def _subtitle(facts: Mapping[str, str]) -> str:
    """Return the model, the counts and the date in one line."""
    parts = [facts["model"]] if "model" in facts else []
    parts += [f"{facts[name]} {name}" for name in ("samples", "conditions", "responses", "errors")]
    return " · ".join([*parts, *([facts["started"][:10]] if "started" in facts else [])])


def _facts(responses: Responses, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and values of facts about the run, from the manifest and the responses."""
    model = manifest.get("model")
    about: Mapping[str, Any] = model if isinstance(model, Mapping) else {"name": model}
    versions = manifest.get("versions")
    facts = {
        "model": about.get("name") or about.get("class"),
        "architecture": about.get("architecture"),
        "dtype": about.get("dtype"),
        "seed": manifest.get("seed"),
        "started": manifest.get("started"),
        "samples": len(set(responses.sample_id)),
        "conditions": len(set(responses.condition)),
        "draws": len(set(responses.draw.tolist())),
        "responses": len(responses),
        "errors": int(responses.has_status("error").sum()),
        "not applicable": int(responses.has_status("not_applicable").sum()),
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items())
        if isinstance(versions, Mapping)
        else None,
        "gone on with under": "; ".join(_resumed(manifest)) or None,
        "notes": "; ".join(map(str, notes))
        if isinstance(notes := manifest.get("notes"), list | tuple) and notes
        else None,
    }
    return [(name, str(value)) for name, value in facts.items() if value is not None]


def _resumed(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the changed versions of each call that resumed the run with other versions."""
    initial = manifest.get("versions") or {}
    for entry in manifest.get("resumed") or ():
        changed = [f"{name} {text}" for name, text in entry["versions"].items() if initial.get(name, text) != text]
        yield f"{', '.join(changed)} ({entry['started']})"


def _overview_rows(table: Table) -> list[tuple[str, list[TableCell]]]:
    found = []
    for (name, *texts), is_undecided in zip(table.rows, table.undecided, strict=True):
        cells = [TableCell(re.sub(r"(?<![\w.])-(?=\d)", "−", text), _leading(text)) for text in texts]
        cells[:1] = [cell._replace(is_quiet=is_undecided) for cell in cells[:1]]
        found.append(("", [TableCell(name, _leading(name)), *cells]))
    return found


def _leading(text: str) -> float | str | None:
    """Return the sort key of a text: its leading number, None for a dash, else the text."""
    number = re.match(r"[+-]?\d+(\.\d+)?", text)
    return float(number[0]) if number else None if text == "–" else text


def _numbers(rows: Sequence[SummaryRow], columns: Sequence[Column]) -> Iterator[tuple[str, list[TableCell]]]:
    """Yield the rows of the summary, each with its metric's name."""
    arrows = {column.name: {True: " ↑", False: " ↓", None: ""}[column.higher_is_better] for column in columns}
    labels = unit_labels((row.condition, row.carrier) for row in rows)
    for row in rows:
        is_decided = row.low > 0 or row.high < 0
        yield (
            row.metric,
            [
                text_cell(labels[row.condition, row.carrier]),
                text_cell(readable(row.metric) + arrows[row.metric]),
                number_cell(row.value),
                interval_cell(row.value_low, row.value_high),
                TableCell(str(row.n_value), row.n_value),
                number_cell(row.paired_value),
                number_cell(row.base_value),
                number_cell(row.difference, sign="+")._replace(is_quiet=not is_decided),
                interval_cell(row.low, row.high, sign="+")._replace(is_quiet=not is_decided),
                _probability(row.p),
                _probability(row.p_adjusted),
                _pairs(row),
                TableCell(str(row.errors), row.errors),
                TableCell(str(row.not_applicable), row.not_applicable),
                number_cell(row.coverage),
                number_cell(row.noise_floor),
                text_cell(row.note),
            ],
        )


def _pairs(row: SummaryRow) -> TableCell:
    pairs = pair_count(asdict(row))
    return TableCell("–" if pairs is None else str(pairs), pairs)


def text_cell(text: str) -> TableCell:
    """Return a cell of text, sorted as text."""
    return TableCell(text, text or None)


def number_cell(value: float, sign: str = "") -> TableCell:
    """Return a number with three digits, or a dash if it is undefined."""
    return TableCell("–", None) if math.isnan(value) else TableCell(f"{value:{sign}.3f}".replace("-", "−"), value)


def _probability(value: float) -> TableCell:
    """Return a p-value, in scientific notation if small, so that adjusted ones can be recomputed."""
    cell = number_cell(value)
    return cell._replace(text=f"{value:.1e}".replace("-", "−")) if 0 < value < 0.001 else cell


def interval_cell(low: float, high: float, sign: str = "") -> TableCell:
    """Return an interval, sorted by its width."""
    if math.isnan(low):
        return TableCell("–", None)
    return TableCell(f"[{low:{sign}.3f}, {high:{sign}.3f}]".replace("-", "−"), high - low)


def _pictures(report: "Reported") -> tuple[list[PlotImage], str]:
    """Return the plots, and the reason if there are none."""
    from ..plots.panels import svgs

    try:
        plots = svgs(report)
    except ImportError as error:
        return [], str(error)
    pictures = [
        PlotImage(panel.name, panel.caption, f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}")
        for panel, svg in plots
    ]
    return pictures, "" if pictures else "There is nothing to draw: no differences, no verdicts, no letters."
