"""Implement the commands on existing runs: `report`, to show, plot and export one, and `merge`, to combine several."""

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..naming import did_you_mean, unknown_name
from . import options
from .app import finish, refusals
from .difference_table import show_rows
from .output import as_json, rows_of, say, show, show_data

if TYPE_CHECKING:
    import pandas as pd

    from ..report import Report
    from ..report.formats import Table
    from ..types import Sample

__all__ = ["ReportPath", "check_conditions", "check_formats", "load_report", "merge", "report", "samples_for_images"]


def load_report(path: Path) -> "Report":
    """Load the report of a run directory or of a file.

    Raises:
        FileNotFoundError: there is nothing at the path (the message suggests the nearest name), or a run directory has
            no report.
        ValueError: the file is not a report.
    """
    from ..report import Report

    expected = f"expected a run directory or a saved report at {path}"
    if not path.exists():
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"{expected}, found nothing; {did_you_mean(path.name, names) or 'check the path'}")
    if path.is_file() and not _looks_like_a_report(path):
        raise ValueError(f"{expected}, found another file; give the run's folder, or a file that a report was saved to")
    return Report.load(path)


def _looks_like_a_report(file: Path) -> bool:
    """Return whether a file begins like Parquet, or like a report of JSON lines."""
    with file.open("rb") as opened:
        head = opened.readline()
    if head.startswith(b"PAR1"):
        return True
    try:
        return str(json.loads(head).get("format")).startswith("vlmrobust report")
    except (ValueError, AttributeError):
        return False


def check_conditions(flag: str, names: Iterable[str], report: "Report") -> None:
    """Refuse names that are not conditions of a report.

    Raises:
        ValueError: one is not; the message suggests the nearest and lists all.
    """
    for name in names:
        if name not in report.conditions:
            raise ValueError(f"{flag}: expected a condition of the report, {unknown_name(name, report.conditions)}")


def samples_for_images(run: Path, data: str | None) -> "list[Sample]":
    """Return the samples of a run, from `data` or from the data its `run.toml` names; none, with a note, if not found.

    Args:
        run: a run directory or a saved report.
        data: rows to read the samples from.

    Raises:
        ValueError: `data` has an error.
        FileNotFoundError: `data` does not exist.
    """
    from .construction import samples_of

    settings = {"check_images": False, "skip_bad_rows": True}
    if data is not None:
        return list(samples_of({"data": data} | settings))
    file = (run if run.is_dir() else run.parent) / "run.toml"
    try:
        call = tomllib.loads(file.read_text(encoding="utf-8"))
        return list(samples_of(call | settings))
    except (OSError, ValueError, ImportError, LookupError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        say(f"Note: the page has no images, since the samples of {run} were not found ({reason}); use --data")
        return []


ReportPath = Annotated[Path, typer.Argument(help="Run directory or saved report.", show_default=False)]


def report(
    context: typer.Context,
    path: ReportPath,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="One summary per value of a metadata column; of several columns, separated by commas, one per "
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
            metavar="FILE", help="Labels exported by the report's page: show consistency as estimated with them."
        ),
    ] = None,
    html: options.Html = None,
    data: options.ImagesFrom = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plots as .png, .svg or .pdf.")] = None,
    latex: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a LaTeX table with intervals; --metrics gives its columns, --by its groups of rows.",
        ),
    ] = None,
    frame: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write Report.frame, one row per response with all columns, as .csv or .parquet."
        ),
    ] = None,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Show an existing report as a table, a page, plots, or data. No model is loaded.

    CSV and JSON have one row per condition and metric, with the columns of Report.summary; undefined values are empty
    cells or null. The file of --frame has one row per response.
    """
    with refusals(context):
        from ..jsonl import atomic_draft
        from ..report.formats import terminal_table
        from .construction import with_metrics

        check_formats(csv=csv, json=json, by=by, contrast=contrast)
        if frame is not None and frame.suffix not in _FRAMES:
            raise ValueError(f"--frame: expected a file whose name ends in .csv or .parquet, got {frame.name!r}")
        if plot is not None and not plot.suffix:  # matplotlib would add one
            raise ValueError(f"--plot: expected a file whose name ends in .png, .svg or .pdf, got {str(plot)!r}")
        if data is not None and html is None:
            raise ValueError("--data: expected --html with it, whose page shows the images")
        if latex is not None and (contrast is not None or labels is not None):
            raise ValueError("--latex: cannot be combined with --contrast or --labels; it writes the overview")
        if labels is not None and (by or contrast or metrics):
            raise ValueError("--labels: cannot be combined with --by, --contrast or --metrics")
        keys = options.listed(by)
        loaded, names = with_metrics(load_report(path), options.listed(metrics))
        check_conditions("--contrast", contrast or (), loaded)
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
            say(f"The plots are in {plot}")
        if latex is not None:
            say(f"The table is in {loaded.to_latex(latex, metrics=names or None, by=keys or None)}")
        if frame is not None:
            with atomic_draft(frame) as draft:
                _FRAMES[frame.suffix](loaded.frame, draft)
            say(f"The responses are in {frame}")
    finish(loaded)


def check_formats(
    *, csv: bool, json: bool, by: Sequence[str] | None = None, contrast: tuple[str, str] | None = None
) -> None:
    """Refuse flags that exclude each other.

    Raises:
        ValueError: both of a pair are given.
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
    """Return estimates of consistency as a table for a terminal."""
    from ..report.formats import Table

    def interval(row: Mapping[str, Any], value: str, low: str, high: str, sign: str = "") -> str:
        is_defined = row[value] == row[value]
        return f"{row[value]:{sign}.3f} [{row[low]:{sign}.3f}, {row[high]:{sign}.3f}]" if is_defined else "–"

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
    conditions: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["note"]:
            conditions.setdefault(row["note"], {})[row["condition"]] = None
    notes = tuple(f"{', '.join(names)}: {note}" for note, names in conditions.items())
    return Table(header, cells, notes, names=2)


class Differing(StrEnum):
    """How to treat samples whose responses differ between directories."""

    refuse = "refuse"
    first = "first"


def merge(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Run directories of one model.", show_default=False)],
    *,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="New directory, or an existing run directory to add the others to.",
            show_default=False,
        ),
    ],
    differing: Annotated[
        Differing,
        typer.Option(
            help="How to treat samples whose responses differ between directories: refuse, or keep those of the "
            "first directory and count the others."
        ),
    ] = Differing.refuse,
    json: options.Json = False,
) -> None:
    """Merge runs of one model: their samples, conditions, draws and metrics. The runs stay unchanged.

    The new run directory can be resumed like any other. No model is loaded.
    """
    with refusals(context):
        from ..merging import merge_runs

        merged = merge_runs(paths, out, differing=differing.value)
        show_data(as_json(merged.summary)) if json else show(merged)
        say(f"The merged run of {len(paths)} directories is in {out}")
    finish(merged)
