"""Print a command's results to standard output and everything else to standard error."""

import json
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from ..text import printable, wrapped

if TYPE_CHECKING:
    import pandas as pd

    from ..report.formats import Table

__all__ = [
    "as_csv",
    "as_json",
    "differences",
    "is_first_process",
    "rows_of",
    "say",
    "show",
    "show_data",
    "show_rows",
]


def is_first_process() -> bool:
    """Return whether this process prints: under torchrun, where every rank runs the command, only the first does."""
    return int(os.environ.get("WORLD_SIZE", 1)) == 1 or int(os.environ.get("RANK", 0)) == 0


def show(text: object, label: str = "") -> None:
    """Print a result as text, wrapped to the terminal, with a label before the first line."""
    if is_first_process():
        typer.echo(wrapped(printable(str(text)), printable(label)))


def show_data(text: str) -> None:
    """Print a result as data, JSON or CSV, without wrapping lines."""
    if is_first_process():
        typer.echo(printable(text))


def say(text: object) -> None:
    """Print a message to standard error: a warning, the place of a file, the outcome of a gate."""
    if is_first_process():
        typer.echo(wrapped(printable(str(text))), err=True)


def as_json(value: Any) -> str:
    """Return JSON: a table is a list of objects, one per row, and undefined values are null.

    Example:
        >>> import pandas as pd
        >>> print(as_json(pd.DataFrame({"metric": ["accuracy"], "difference": [float("nan")]})))
        [
          {
            "metric": "accuracy",
            "difference": null
          }
        ]
    """
    from ..jsonl import json_safe

    return json.dumps(json_safe(_plain(value)), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.astype(object).where(value.notna(), None).to_dict("records")
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def as_csv(table: "pd.DataFrame") -> str:
    """Return a table as CSV, with empty cells for undefined values."""
    from ..report.formats import csv_text

    return csv_text(table).rstrip("\n")


def rows_of(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries by column."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def differences(table: "pd.DataFrame", metrics: Collection[str] = (), *, reference: str = "base") -> "Table":
    """Return rows of a summary as a table for a terminal: value, n, both sides of the difference, and its interval.

    Args:
        table: a table with the columns of `Report.summary`, and perhaps others before them.
        metrics: the metrics to show; empty = `PAPER_METRICS`, with a note that names the others.
        reference: name of the reference side.
    """
    from ..metrics.catalogue import PAPER_METRICS
    from ..report.formats import Table
    from ..report.overview import pair_count
    from ..text import readable

    known = list(dict.fromkeys(table["metric"]))
    shown = list(metrics) or [name for name in PAPER_METRICS if name in known] or known
    leading = list(table.columns[: list(table.columns).index("condition")])
    rows = [row for row in rows_of(table) if row["metric"] in shown]
    cells: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        *((name, lambda row, name=name: str(row[name])) for name in leading),
        ("condition", lambda row: str(row["condition"])),
        ("metric", lambda row: readable(row["metric"]) + (" (judged)" if row["metric"] == "consistency" else "")),
        ("value", lambda row: _number(row["value"])),
        ("n", lambda row: str(row["n_value"])),
        ("paired", lambda row: _number(row["paired_value"])),
        (reference, lambda row: _number(row["base_value"])),
        ("difference\n[95 % interval]", _interval),
        ("pairs", lambda row: "–" if (pairs := pair_count(row)) is None else str(pairs)),
        ("errors", lambda row: str(row["errors"])),
    ]
    left_out = [name for name in known if name not in shown and not metrics]
    return Table(
        header=tuple(title for title, _ in cells),
        rows=tuple(tuple(cell(row) for _, cell in cells) for row in rows),
        notes=(*_notes(rows), *([f"Other metrics, for --metrics: {', '.join(left_out)}."] if left_out else [])),
        names=len(leading) + 2,
    )


def show_rows(
    table: "pd.DataFrame",
    metrics: Collection[str],
    *,
    csv: bool,
    json: bool,
    judge: Mapping[str, Any],
    reference: str = "base",
) -> None:
    """Print rows of a summary as data or as a table.

    Args:
        table: as in `differences`.
        metrics: the metrics to show; empty = all as data, `PAPER_METRICS` as a table.
        csv: print CSV.
        json: print JSON.
        judge: identity of the judge of consistency.
        reference: as in `differences`.
    """
    from ..report.formats import terminal_table
    from ..report.overview import judge_note

    if csv or json:
        chosen = table[table["metric"].isin(list(metrics))] if metrics else table
        show_data(as_csv(chosen) if csv else as_json(chosen))
    else:
        shown = differences(table, metrics, reference=reference)
        judged = any("consisten" in cell for row in shown.rows for cell in row)
        show(terminal_table(replace(shown, notes=(*([judge_note(judge)] if judged else []), *shown.notes))))


def _notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return each note once, after the conditions and before the metrics that it is about."""
    metrics: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        if row["note"]:
            metrics.setdefault((row["condition"], row["note"]), {})[row["metric"]] = None
    conditions: dict[tuple[str, str], list[str]] = {}
    for (condition, note), of_condition in metrics.items():
        conditions.setdefault((note, ", ".join(of_condition)), []).append(condition)
    return [f"{', '.join(names)}: {note} – {listed}" for (note, listed), names in conditions.items()]


def _number(value: float, sign: str = "") -> str:
    return "–" if math.isnan(value) else f"{value:{sign}.3f}"


def _interval(row: dict[str, Any]) -> str:
    difference = _number(row["difference"], "+")
    if math.isnan(row["low"]):
        return difference
    return f"{difference} [{_number(row['low'], '+')}, {_number(row['high'], '+')}]"
