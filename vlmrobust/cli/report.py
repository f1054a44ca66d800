"""`vlmrobust report`: a report that is there, shown again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .app import refusals
from .finishing import finish
from .output import say, show, show_rows

if TYPE_CHECKING:
    import pandas as pd

    from ..report import Report

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
    html: options.Html = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the pictures, as .png, .svg or .pdf.")
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
        from .measuring import with_metrics

        one_format(csv=csv, json=json, by=by, contrast=contrast)
        names = options.listed(metrics)
        loaded = with_metrics(Report.load(path), names)
        table = _table(loaded, by, contrast)
        if csv or json or by or contrast or names:
            show_rows(table, names, csv=csv, json=json, reference=contrast[1] if contrast else "base")
        else:
            show(loaded)
        _write(loaded, html, plot)
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


def _write(report: "Report", html: Path | None, plot: Path | None) -> None:
    if html is not None:
        say(f"The page is {report.to_html(html)}")
    if plot is not None:
        report.plot().savefig(plot)
        say(f"The pictures are in {plot}")
