"""`vlmrobust report`: show, plot and export a report that exists."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
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
    from ..types import Sample

__all__ = ["ReportPath", "one_format", "report", "samples_for_images"]


def samples_for_images(run: Path, data: str | None) -> "list[Sample]":
    """Return the samples of a run: of the data that are named, else as its `run.toml` says; none, with a line why.

    Args:
        run: a run directory, or a saved report.
        data: rows that the samples are read from.

    Raises:
        ValueError: something is wrong with the data that are named.
        FileNotFoundError: they are not there.
    """
    from .construction import samples_of

    if data is not None:
        return list(samples_of(**_asked({"data": data}), skip_bad_rows=True))
    file = (run if run.is_dir() else run.parent) / "run.toml"
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
        return list(samples_of(**_asked(given), skip_bad_rows=True))
    except (OSError, ValueError, ImportError, LookupError, AttributeError, TypeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        say(f"Note: the page has no images, as the samples of {run} were not found ({said}); name their file: --data")
        return []


def _asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of `vlmrobust run` that say where samples come from, each by default as there."""
    defaults = {
        "data": None,
        "benchmark": None,
        "split": None,
        "columns": None,
        "answer_as": "any",
        "limit": None,
        "download_urls": False,
    }
    return {"check_images": False, **{name: given.get(name, value) for name, value in defaults.items()}}


ReportPath = Annotated[Path, typer.Argument(help="A run directory, or a saved report.", show_default=False)]


def report(
    context: typer.Context,
    path: ReportPath,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="One summary per value of a column of the samples' metadata; of several, separated by commas, one per "
            "combination.",
        ),
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
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a table in LaTeX for a paper, with intervals; --metrics are its columns, --by groups rows.",
        ),
    ] = None,
    frame: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write Report.frame, a row per response with all that is known, as .csv or .parquet."
        ),
    ] = None,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Show the report of a run again: as a table, a page, a picture, or data. No model is asked.

    CSV and JSON have one row per condition and metric, with the columns of Report.summary; what is undefined is an
    empty cell, or null. What is written with --frame has one row per response.
    """
    with refusals(context):
        from ..jsonl import atomic_draft
        from ..report import Report
        from ..report.formats import terminal_table
        from .construction import with_metrics

        one_format(csv=csv, json=json, by=by, contrast=contrast)
        if frame is not None and frame.suffix not in _FRAMES:
            raise ValueError(f"--frame: expected a file whose name ends in .csv or .parquet, got {frame.name!r}")
        if data is not None and html is None:
            raise ValueError("--data: expected --html beside it, whose page shows the images")
        if labels is not None and (by or contrast or metrics):
            raise ValueError("expected --labels, or --by, --contrast or --metrics, got both")
        keys = options.listed(by)
        loaded, names = with_metrics(Report.load(path), options.listed(metrics))
        table = _table(loaded, keys, contrast) if labels is None else loaded.consistency(labels)
        if labels is not None and not (csv or json):
            show(terminal_table(_estimates(rows_of(table))))
        elif csv or json or keys or contrast or names:
            show_rows(
                table, names, csv=csv, json=json, judge=loaded.judge, reference=contrast[1] if contrast else "base"
            )
        else:
            show(loaded)
        if html is not None:
            say(f"The page is {loaded.to_html(html, samples=samples_for_images(path, data))}")
        if plot is not None:
            loaded.plot().savefig(plot)
            say(f"The pictures are in {plot}")
        if latex is not None:
            say(f"The table is in {loaded.to_latex(latex, metrics=names or None, by=keys or None)}")
        if frame is not None:
            with atomic_draft(frame) as draft:
                _FRAMES[frame.suffix](loaded.frame, draft)
            say(f"The responses are in {frame}")
    finish(loaded)


def one_format(
    *, csv: bool, json: bool, by: Sequence[str] | None = None, contrast: tuple[str, str] | None = None
) -> None:
    """Refuse flags that exclude one another.

    Raises:
        ValueError: both of two are given.
    """
    if csv and json:
        raise ValueError("expected --csv or --json, got both")
    if by and contrast is not None:
        raise ValueError("expected --by or --contrast, got both")


def _table(report: "Report", keys: Sequence[str], contrast: tuple[str, str] | None) -> "pd.DataFrame":
    if contrast is not None:
        return report.contrast(*contrast)
    return report.by(keys) if keys else report.summary


def _write_csv(frame: "pd.DataFrame", path: Path) -> None:
    from ..report.formats import write_csv

    write_csv(frame, path)


def _write_parquet(frame: "pd.DataFrame", path: Path) -> None:
    frame.to_parquet(path, index=False)


_FRAMES: dict[str, Callable[["pd.DataFrame", Path], None]] = {".csv": _write_csv, ".parquet": _write_parquet}


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
    return Table(header, cells, tuple(notes), names=2)
