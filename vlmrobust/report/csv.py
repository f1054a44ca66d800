"""Tables as comma-separated values that a spreadsheet shows, and does not run."""

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["csv_text", "write_csv"]

_ROWS = 20_000  # that are text in memory at once

_FORMULA = re.compile(r"[=@\t\r]|[+-](?!\d*[.,]?\d+(?:e[+-]?\d+)?$|$)", re.IGNORECASE)


def csv_text(table: "pd.DataFrame") -> str:
    """Return a table as CSV, an empty cell where it is undefined; text that begins a formula has a quote in front.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"condition": ["=cmd|' /C calc'!A0", "-0.5", "- x"], "value": [-0.5, 1.0, 2.0]})
        >>> print(csv_text(table))
        condition,value
        '=cmd|' /C calc'!A0,-0.5
        -0.5,1.0
        '- x,2.0
        <BLANKLINE>
    """
    return _written(table, header=True)


def write_csv(table: "pd.DataFrame", path: Path) -> None:
    """Write a table of any length as `csv_text` has it, part by part; tuples are JSON lists, in UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for begin in range(0, max(len(table), 1), _ROWS):
            file.write(_written(table.iloc[begin : begin + _ROWS], header=begin == 0))


def _written(table: "pd.DataFrame", *, header: bool) -> str:
    safe = table.rename(columns=_safe)
    for column in range(safe.shape[1]):
        if safe.dtypes.iloc[column].kind not in "biufM":
            safe.isetitem(column, [_safe(cell) for cell in safe.iloc[:, column]])
    written = _Lines()
    # What ends a line is what a cell is quoted for: a bare carriage return would begin a row in a spreadsheet.
    safe.to_csv(written, index=False, header=header, lineterminator="\r\n")
    return written.getvalue()


class _Lines(io.StringIO):
    """Takes rows that end in carriage return and line feed, a call each as from `csv`, and ends them in a feed."""

    def write(self, row: str) -> int:
        return super().write(row.removesuffix("\r\n") + "\n")


def _safe(cell: Any) -> Any:
    if isinstance(cell, tuple):
        return json.dumps(cell, ensure_ascii=False)
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell
