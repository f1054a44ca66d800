"""Show rows of a summary, or of a comparison, as a table of values and differences, or as data."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .output import as_csv, as_json, rows_of, show, show_data

if TYPE_CHECKING:
    import pandas as pd

    from ..report.formats import Table

__all__ = ["differences", "show_rows"]


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
