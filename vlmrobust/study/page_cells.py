"""Format rows of tables as cells of a page: each number with its 95 % interval and n, or why it is undefined."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..report.formats import with_interval
from ..report.overview import values_on_pairs

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RUN",
    "Cell",
    "Record",
    "area",
    "change",
    "covered",
    "records_of",
    "share",
    "short",
    "with_base",
    "with_interval",
    "with_unanswered",
]


Record = Mapping[str, Any]
RUN = ("model", "checkpoint", "benchmark")
"""The columns that identify a run."""


class Cell(NamedTuple):
    """One cell: its lines, its link (a file below the study's folder), and whether it is grey: not a finding."""

    text: str
    link: str = ""
    is_quiet: bool = False


def change(row: Record) -> Cell:
    """Show value, change and n; grey if the interval of the change contains 0.

    The record needs the base record of the same metric as `base`: see `with_base`.
    """
    if math.isnan(row["value"]):
        return Cell(_undefined(row), is_quiet=True)
    lines = [unbroken_interval(row["value"], row["value_low"], row["value_high"])]
    is_compared = not math.isnan(row["difference"])
    if is_compared:
        lines.append(unbroken_interval(row["difference"], row["low"], row["high"], "+"))
    lines.append(f"n {row['n_value']}")
    lines += filter(None, (values_on_pairs(row, row["base"], 3), row["note"]))
    return Cell("\n".join(lines), is_quiet=is_compared and not (row["low"] > 0 or row["high"] < 0))


def covered(row: Record) -> Cell:
    """Show value, change and n, and the judge's coverage."""
    cell = change(row)
    return cell if math.isnan(row["value"]) else cell._replace(text=f"{cell.text}, coverage {row['coverage']:.0%}")


_UNANSWERED = {"abstain_rate": "abstained", "unparsed_rate": "unparsed", "truncated_rate": "truncated"}


def with_unanswered(table: "pd.DataFrame") -> Callable[[Record], Cell]:
    """Return a function that shows accuracy with the shares of unanswered responses and the number of errors."""

    def unit(row: Record) -> tuple[Any, ...]:
        return tuple(row[name] for name in (*RUN, "condition", "carrier"))

    shares = {(unit(row), row["metric"]): row["value"] for row in records_of(table) if row["metric"] in _UNANSWERED}

    def show(row: Record) -> Cell:
        cell = change(row)
        found = {name: shares.get((unit(row), metric), math.nan) for metric, name in _UNANSWERED.items()}
        details = [f"{name} {share:.0%}" for name, share in found.items() if share > 0]
        details += [f"errors {row['errors']}"] if row["errors"] else []
        return cell._replace(text="\n".join(filter(None, (cell.text, ", ".join(details)))))

    return show


def short(row: Record) -> Cell:
    """Show value, change, n, and both sides of the change in one line for a terminal."""
    if math.isnan(row["value"]):
        return Cell("–")
    change = "" if math.isnan(row["difference"]) else f" {_number(row['difference'], '+')}"
    counted = "; ".join(filter(None, (f"n {row['n_value']}", values_on_pairs(row, row["base"], 2))))
    return Cell(f"{_number(row['value'])}{change} ({counted})")


def share(row: Record | None) -> Cell:
    """Show value and n."""
    if row is None or math.isnan(row["value"]):
        return Cell("–" if row is None else _undefined(row), is_quiet=True)
    return Cell(f"{unbroken_interval(row['value'], row['value_low'], row['value_high'])}\nn {row['n_value']}")


def with_base(records: Sequence[Record], names: Sequence[str]) -> list[Record]:
    """Add the base record of the same run to records of one metric as `base`; None if there is none.

    Args:
        records: records of a summary.
        names: the columns that identify a run.
    """
    base = {tuple(row[name] for name in names): row for row in records if row["condition"] == "base"}
    return [{**row, "base": base.get(tuple(row[name] for name in names))} for row in records]


def area(row: Record) -> Cell:
    """Show an AUROC and both class counts; grey if its interval contains 0.5."""
    if math.isnan(row["auroc"]):
        return Cell(_undefined(row), is_quiet=True)
    counts = f"n {row['n']} = {row['positives']} + {row['negatives']}"
    note = f"\n{row['note']}" if row["note"] else ""
    return Cell(
        f"{unbroken_interval(row['auroc'], row['low'], row['high'])}\n{counts}{note}",
        is_quiet=row["low"] <= 0.5 <= row["high"],
    )


def records_of(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries, with None for NA."""
    kept = table.astype(object).where(table.notna(), None)
    numbers = [name for name in table.columns if table[name].dtype == "float64"]
    records = [{str(name): value for name, value in row.items()} for row in kept.to_dict("records")]
    for row in records:
        row |= {name: math.nan for name in numbers if row[name] is None}
    return records


def _undefined(row: Record) -> str:
    return f"– {row['note'] or 'defined for no sample'}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.2f}".replace("-", "−")


def unbroken_interval(value: float, low: float, high: float, sign: str = "") -> str:
    """Return a number and its interval, joined by no-break spaces."""
    text = with_interval(value, low, high, digits=3, sign=sign)
    return text.replace("-", "−").replace(" ", "\N{NO-BREAK SPACE}")
