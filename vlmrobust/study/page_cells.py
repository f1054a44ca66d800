"""Turn rows of tables into cells of a page: each number with its 95 % interval and n, or the reason it is undefined."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..report.tables import values_on_pairs

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RUN",
    "Cell",
    "Row",
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


Row = Mapping[str, Any]
RUN = ("model", "checkpoint", "benchmark")
"""What names a run in the tables."""


class Cell(NamedTuple):
    """One cell: its lines, where it leads to (a file below the study's folder), and whether it is no finding."""

    text: str
    link: str = ""
    is_quiet: bool = False


def change(row: Row) -> Cell:
    """Show value, change and n; grey where the interval of the change contains 0.

    The row of base by the same metric stands in the row as `base`: see `with_base`.
    """
    if math.isnan(row["value"]):
        return Cell(_undefined(row), is_quiet=True)
    lines = [with_interval(row["value"], row["value_low"], row["value_high"])]
    is_compared = not math.isnan(row["difference"])
    if is_compared:
        lines.append(with_interval(row["difference"], row["low"], row["high"], "+"))
    lines.append(f"n {row['n_value']}")
    lines += filter(None, (values_on_pairs(row, row["base"], 3), row["note"]))
    return Cell("\n".join(lines), is_quiet=is_compared and not (row["low"] > 0 or row["high"] < 0))


def covered(row: Row) -> Cell:
    """Show the same, and the judge's coverage."""
    cell = change(row)
    return cell if math.isnan(row["value"]) else cell._replace(text=f"{cell.text}, coverage {row['coverage']:.0%}")


def with_unanswered(table: "pd.DataFrame") -> Callable[[Row], Cell]:
    """Return how accuracy is shown: beside it, the shares of what was not answered, and failed calls."""
    shares = {
        (*(row[name] for name in (*RUN, "condition", "carrier")), row["metric"]): row["value"]
        for row in records_of(table)
        if row["metric"] in ("abstain_rate", "unparsed_rate", "truncated_rate")
    }

    def show(row: Row) -> Cell:
        cell = change(row)
        key = tuple(row[name] for name in (*RUN, "condition", "carrier"))
        said = []
        for metric, name in (
            ("abstain_rate", "abstained"),
            ("unparsed_rate", "unparsed"),
            ("truncated_rate", "truncated"),
        ):
            share = shares.get((*key, metric), math.nan)
            if share > 0:
                said.append(f"{name} {share:.0%}")
        said += [f"errors {row['errors']}"] if row["errors"] else []
        return cell._replace(text="\n".join([cell.text, *([", ".join(said)] if said else [])]))

    return show


def short(row: Row) -> Cell:
    """Show value, change, n, and what the change is taken of, on a line of a terminal."""
    if math.isnan(row["value"]):
        return Cell("–")
    change = "" if math.isnan(row["difference"]) else f" {_number(row['difference'], '+', 2)}"
    counted = "; ".join(filter(None, (f"n {row['n_value']}", values_on_pairs(row, row["base"], 2))))
    return Cell(f"{_number(row['value'], digits=2)}{change} ({counted})")


def share(row: Row | None) -> Cell:
    """Show value and n."""
    if row is None or math.isnan(row["value"]):
        return Cell("–" if row is None else _undefined(row), is_quiet=True)
    return Cell(f"{with_interval(row['value'], row['value_low'], row['value_high'])}\nn {row['n_value']}")


def with_base(records: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Return rows of one metric, each with that of base as `base`, None where there is none.

    Args:
        records: of a summary.
        names: the columns that tell runs apart.
    """
    base = {tuple(row[name] for name in names): row for row in records if row["condition"] == "base"}
    return [{**row, "base": base.get(tuple(row[name] for name in names))} for row in records]


def area(row: Row) -> Cell:
    """Show an AUROC and both class counts; grey where its interval contains 0.5."""
    if math.isnan(row["auroc"]):
        return Cell(_undefined(row), is_quiet=True)
    counts = f"n {row['n']} = {row['positives']} + {row['negatives']}"
    note = f"\n{row['note']}" if row["note"] else ""
    return Cell(
        f"{with_interval(row['auroc'], row['low'], row['high'])}\n{counts}{note}",
        is_quiet=row["low"] <= 0.5 <= row["high"],
    )


def records_of(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return a table's rows by column, NA being None."""
    kept = table.astype(object).where(table.notna(), None)
    numbers = [name for name in table.columns if table[name].dtype == "float64"]
    records = [{str(name): value for name, value in row.items()} for row in kept.to_dict("records")]
    for row in records:
        row |= {name: math.nan for name in numbers if row[name] is None}
    return records


def _undefined(row: Row) -> str:
    return f"– {row['note'] or 'defined for no sample'}"


def _number(value: float, sign: str = "", digits: int = 3) -> str:
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def with_interval(value: float, low: float, high: float, sign: str = "") -> str:
    """Return a number and its interval; spaces that do not break keep them on a line."""
    interval = "[no\N{NO-BREAK SPACE}interval]"
    if not math.isnan(low):
        interval = f"[{_number(low, sign)},\N{NO-BREAK SPACE}{_number(high, sign)}]"
    return f"{_number(value, sign)}\N{NO-BREAK SPACE}{interval}"
