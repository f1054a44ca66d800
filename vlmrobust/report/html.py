"""Write a report as one self-contained page: findings, tables, plots and samples.

Outputs of models and contents of samples are untrusted. Jinja escapes them in a page's text, the data are JSON in which
no tag can begin, scripts insert them as text, and the page's content security policy allows its own script only and no
loading.
"""

import json
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from ..jsonl import json_safe
from ..text import printable_part, readable, unit_labels, without_local_paths
from ..types import Responses, Sample
from .browse import browser_data
from .files import ReportData
from .findings import Finding
from .formats import Table
from .metric_columns import Column
from .overview import ARROWS, headline, overview, pair_count
from .summary import SummaryRow

if TYPE_CHECKING:
    from jinja2 import Environment

    from ..plots.look import Reported

__all__ = [
    "LIMITS",
    "TableCell",
    "grouped_limits",
    "interval_cell",
    "number_cell",
    "page",
    "render_page",
    "templates",
    "text_cell",
]


def render_page(template: str, *, scripts: Sequence[str], styles: Sequence[str], **values: Any) -> str:
    """Render a page.

    Args:
        template: a file in this package that extends `layout.html`, which needs `title`, `subtitle`, `headline` and
            `data`.
        scripts: files in this package, to be joined in this order.
        styles: likewise.
        **values: for the template.
    """
    environment = templates("vlmrobust.report")
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    script = "\n".join(map(_own_file, scripts))
    return environment.get_template(template).render(
        style="".join(map(_own_file, styles)),
        script=script,
        script_digest=b64encode(sha256(script.encode()).digest()).decode(),
        **values,
    )


def templates(package: str) -> "Environment":
    """Return an environment for a package's templates: text is escaped and printable, and unknown names raise."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=printable_part,
    )


def _own_file(name: str) -> str:
    return files("vlmrobust.report").joinpath(name).read_text(encoding="utf-8")


LIMITS = {
    "Form or content": ("form", "no_control"),
    "Chance": ("one_draw", "few_groups"),
    "What the judge says": ("judged", "judge_failed", "coverage"),
    "Answers that are missing": ("abstention", "truncation", "left_out", "unreported"),
    "What is not compared": ("carrier", "readouts"),
}
"""The kinds of limits, by topic."""

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
    report: ReportData,
    plotted: "Reported",
    findings: Sequence[Finding],
    *,
    title: str,
    samples: Iterable[Sample],
    max_samples: int,
    labels: int,
) -> str:
    """Return a report as HTML.

    Args:
        report: to show.
        plotted: the same report with the tables for plots.
        findings: its findings.
        title: of the page.
        samples: with the images.
        max_samples: maximum number of samples on the page; tables and plots are over all.
        labels: number of thoughts per condition to label.
    """
    rows = report.summary
    pictures, missing = _pictures(plotted)
    table = overview(report)
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
        numbers=list(_numbers(rows, report.columns)),
        total=len(set(report.responses.sample_id)),
        data=browser_data(report, samples, max_samples, labels),
    )


def grouped_limits(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """Return the sentences that say what cannot be concluded, by topic."""
    limits = [finding for finding in findings if finding.is_limit]
    groups = {topic: [one.text for one in limits if one.kind in kinds] for topic, kinds in LIMITS.items()}
    return {topic: texts for topic, texts in groups.items() if texts}


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
    arrows = {column.name: ARROWS[column.higher_is_better] for column in columns}
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
                _count_cell(row.n_value),
                number_cell(row.paired_value),
                number_cell(row.base_value),
                number_cell(row.difference, sign="+")._replace(is_quiet=not is_decided),
                interval_cell(row.low, row.high, sign="+")._replace(is_quiet=not is_decided),
                _probability(row.p),
                _probability(row.p_adjusted),
                _count_cell(pair_count(asdict(row))),
                _count_cell(row.errors),
                _count_cell(row.not_applicable),
                number_cell(row.coverage),
                number_cell(row.noise_floor),
                text_cell(row.note),
            ],
        )


def _count_cell(count: int | None) -> TableCell:
    return TableCell("–" if count is None else str(count), count)


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
