"""`vlmrobust report`: a report that is there, shown again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .app import refusals
from .finishing import finish
from .output import rows_of, say, show, show_rows

if TYPE_CHECKING:
    import pandas as pd

    from ..report import Report
    from ..report.tables import Table

__all__ = ["ReportPath", "one_format", "report"]

ReportPath = Annotated[Path, typer.Argument(help="A run directory, or a saved report.", show_default=False)]


def report(
    context: typer.Context,
    path: ReportPath,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="One summary per value of a column of the samples' metadata.")
    ] = None,
    contrast: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare condition A with condition B instead of each with base."),
    ] = None,
    metrics: options.Metrics = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Labels that the report's page exported: show consistency as estimated with them."
        ),
    ] = None,
    html: options.Html = None,
    data: options.ImagesFrom = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the pictures, as .png, .svg or .pdf.")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table in LaTeX, for a paper; it needs booktabs.")
    ] = None,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Show the report of a run again: as a table, a page, a picture, or data. No model is asked.

    CSV and JSON have one row per condition and metric, with the columns of Report.summary; what is undefined is an
    empty cell, or null.
    """
    with refusals(context):
        from ..report import Report
        from ..report.tables import terminal_table
        from .images import samples_for_images
        from .measuring import with_metrics

        one_format(csv=csv, json=json, by=by, contrast=contrast)
        if data is not None and html is None:
            raise ValueError("--data: expected --html beside it, whose page shows the images")
        if labels is not None and (by or contrast or metrics):
            raise ValueError("expected --labels, or --by, --contrast or --metrics, got both")
        names = options.listed(metrics)
        loaded = with_metrics(Report.load(path), names)
        table = _table(loaded, by, contrast) if labels is None else loaded.consistency(labels)
        if labels is not None and not (csv or json):
            show(terminal_table(_estimates(rows_of(table))))
        elif csv or json or by or contrast or names:
            show_rows(
                table, names, csv=csv, json=json, judge=loaded.judge, reference=contrast[1] if contrast else "base"
            )
        else:
            show(loaded)
        if html is not None:
            say(f"The page is {loaded.to_html(html, samples=samples_for_images(path, data))}")
        _write(loaded, plot, latex)
    finish(loaded)


def one_format(*, csv: bool, json: bool, by: str | None = None, contrast: tuple[str, str] | None = None) -> None:
    """Refuse flags that exclude one another.

    Raises:
        ValueError: both of two are given.
    """
    if csv and json:
        raise ValueError("expected --csv or --json, got both")
    if by is not None and contrast is not None:
        raise ValueError("expected --by or --contrast, got both")


def _table(report: "Report", by: str | None, contrast: tuple[str, str] | None) -> "pd.DataFrame":
    if contrast is not None:
        return report.contrast(*contrast)
    return report.summary if by is None else report.by(by)


def _estimates(rows: Sequence[Mapping[str, Any]]) -> "Table":
    """Return estimates of consistency for a terminal."""
    from ..report.tables import Table

    def interval(row: Mapping[str, Any], value: str, low: str, high: str, sign: str = "") -> str:
        known = row[value] == row[value]
        return f"{row[value]:{sign}.3f} [{row[low]:{sign}.3f}, {row[high]:{sign}.3f}]" if known else "–"

    def number(row: Mapping[str, Any], value: str) -> str:
        return f"{row[value]:.3f}" if row[value] == row[value] else "–"

    cells = tuple(
        (
            row["condition"],
            row["verdict"],
            interval(row, "value", "value_low", "value_high"),
            number(row, "paired_value"),
            number(row, "base_value"),
            interval(row, "difference", "low", "high", "+"),
            f"{row['judged']:.3f} ({row['coverage']:.0%})" if row["judged"] == row["judged"] else "–",
            str(row["n"]),
            str(row["labelled"]),
            str(row["labelled_pairs"]) if row["difference"] == row["difference"] else "–",
        )
        for row in rows
    )
    header = (
        "condition",
        "answers",
        "estimate [95 %]",
        "of the pairs",
        "base",
        "change from base [95 %]",
        "judge alone (judged)",
        "n",
        "labels",
        "labelled pairs",
    )
    notes = dict.fromkeys(f"{row['condition']}: {row['note']}" for row in rows if row["note"])
    return Table(header, cells, tuple(notes))


def _write(report: "Report", plot: Path | None, latex: Path | None) -> None:
    if plot is not None:
        report.plot().savefig(plot)
        say(f"The pictures are in {plot}")
    if latex is not None:
        say(f"The table is in {report.to_latex(latex)}")
