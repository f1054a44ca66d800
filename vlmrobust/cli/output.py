"""Print a command's results to standard output, as text, CSV or JSON, and everything else to standard error."""

import json
import math
import os
from typing import TYPE_CHECKING, Any

import typer

from ..text import printable, wrapped

if TYPE_CHECKING:
    import pandas as pd


__all__ = [
    "as_csv",
    "as_json",
    "is_first_process",
    "rows_of",
    "say",
    "show",
    "show_data",
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
