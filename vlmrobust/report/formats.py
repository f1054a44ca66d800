"""Write tables as text: for a terminal, Markdown, LaTeX and spreadsheets."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..text import printable, terminal_width

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Table",
    "block",
    "csv_text",
    "inline",
    "join_tables",
    "latex_escaped",
    "latex_table",
    "terminal_table",
    "write_csv",
]


_MAX_NAME_SHARE = 0.65  # the part of a line that names may take, so that something fits beside them


@dataclass(frozen=True, slots=True)
class Table:
    """Text to be shown.

    Attributes:
        header: one title per column.
        rows: one text per column.
        notes: sentences below the table.
        undecided: for each row, whether the interval of the change in its first number contains 0; none = no changes.
        names: how many columns, the first ones, name the row.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = field(default=())
    undecided: tuple[bool, ...] = field(default=())
    names: int = 1


def terminal_table(table: Table, width: int | None = None) -> str:
    """Draw a table for a terminal; one that is too wide goes on below, the names of its rows repeated.

    Args:
        table: what is shown.
        width: in characters; None = `text.terminal_width()`.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    table = Table(
        tuple(map(printable, table.header)),
        tuple(tuple(map(printable, row)) for row in table.rows),
        tuple(map(printable, table.notes)),
        names=table.names,
    )
    space = width or terminal_width()
    out = StringIO()
    # In a notebook, rich would show every part at once instead of writing it to the file.
    console = Console(
        file=out, width=space, color_system=None, force_terminal=False, force_jupyter=False, legacy_windows=False
    )
    widths = _widths(table, space)
    for number, part in enumerate(_parts(widths, table.names, space)):
        if number:
            console.print()
        rich_table = RichTable(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
        for index in part:
            rich_table.add_column(
                Text(table.header[index]),
                justify="left" if index < table.names else "right",
                width=widths[index],
                overflow="fold",
            )
        for row in table.rows:
            rich_table.add_row(*(Text(row[index]) for index in part))
        console.print(rich_table)
    for note in table.notes:
        console.print(Text(note))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _widths(table: Table, space: int) -> list[int]:
    """Return how wide each column is: titles break between words, cells only where the line is too short for them."""
    from rich.cells import cell_len

    widths = []
    for index, title in enumerate(table.header):
        lines = [line for row in table.rows for line in row[index].splitlines()]
        widths.append(max(1, *map(cell_len, (*title.split(), *lines))))
    names, others = widths[: table.names], widths[table.names :]
    most = int(space * _MAX_NAME_SHARE) if others else space
    while sum(names) + len(names) > most and max(names) > 1:
        names[names.index(max(names))] -= 1
    left = max(1, space - sum(names) - len(names))
    return [*names, *(min(width, left) for width in others)]


def _parts(widths: Sequence[int], names: int, space: int) -> list[list[int]]:
    """Return which columns stand beside one another: the names, and all that fit behind them."""
    parts: list[list[int]] = [list(range(names))]
    for index in range(names, len(widths)):
        if len(parts[-1]) > names and sum(widths[column] + 1 for column in (*parts[-1], index)) > space + 1:
            parts.append(list(range(names)))
        parts[-1].append(index)
    return parts


# A character that may begin markup; an underscore inside a word does not, and a bracket does where a target follows.
_MARKUP = re.compile(r"[\\`*<&|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
_BLOCK_MARKUP = re.compile(r"^(?:[#>+=-]|\d+(?=[.)]))")


def inline(text: str) -> str:
    r"""Return text for the middle of a line or a cell of a table: on one line, without markup and control characters.

    Example:
        >>> print(inline("wrong_think <b> [a](b) x|y"))
        wrong_think \<b> [a\](b) x\|y
    """
    return _MARKUP.sub(r"\\\g<0>", printable(" ".join(text.split())))


def block(text: str) -> str:
    r"""Return text for the beginning of a line: no heading, list or quotation.

    Example:
        >>> print(block("# 1"), block("1. a"))
        \# 1 1\. a
    """
    latex_escaped = inline(text)
    marker = _BLOCK_MARKUP.match(latex_escaped)
    if marker is None:
        return latex_escaped
    end = marker.end()
    return f"{latex_escaped[:end]}\\{latex_escaped[end:]}" if latex_escaped[0].isdigit() else f"\\{latex_escaped}"


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
    return _csv(table, header=True)


def write_csv(table: "pd.DataFrame", path: Path) -> None:
    """Write a table of any length as `csv_text` has it, part by part; tuples are JSON lists, in UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for begin in range(0, max(len(table), 1), _ROWS):
            file.write(_csv(table.iloc[begin : begin + _ROWS], header=begin == 0))


def _csv(table: "pd.DataFrame", *, header: bool) -> str:
    safe = table.rename(columns=_spreadsheet_safe)
    for column in range(safe.shape[1]):
        if safe.dtypes.iloc[column].kind not in "biufM":
            safe.isetitem(column, [_spreadsheet_safe(cell) for cell in safe.iloc[:, column]])
    buffer = _LineFeedBuffer()
    # What ends a line is what a cell is quoted for: a bare carriage return would begin a row in a spreadsheet.
    safe.to_csv(buffer, index=False, header=header, lineterminator="\r\n")
    return buffer.getvalue()


class _LineFeedBuffer(io.StringIO):
    """Takes rows that end in carriage return and line feed, a call each as from `csv`, and ends them in a feed."""

    def write(self, row: str) -> int:
        return super().write(row.removesuffix("\r\n") + "\n")


def _spreadsheet_safe(cell: Any) -> Any:
    if isinstance(cell, tuple):
        return json.dumps(cell, ensure_ascii=False)
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": "$-$",
    "–": "--",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "Δ": r"$\Delta$",
    "κ": r"$\kappa$",
    "ψ": r"$\psi$",
    "…": r"\ldots{}",
}
_NEGATIVE = re.compile(r"(?<![\w-])-(?=\d)")
_TRANSLATION = str.maketrans(_SPECIAL)


def latex_escaped(text: str) -> str:
    r"""Return a text as LaTeX shows it, special characters and all.

    Example:
        >>> print(escaped("wrong_think & 50 % ↑"))
        wrong\_think \& 50 \% $\uparrow$
    """
    return _NEGATIVE.sub("−", printable(text)).translate(_TRANSLATION)


def join_tables(parts: Sequence[tuple[Sequence[str], Table]], names: Sequence[str]) -> Table:
    """Return tables with the same header as one: what sets a part apart stands in front, once, and before its notes.

    Args:
        parts: one text per name, and the table.
        names: titles of the columns in front.
    """
    blank = [""] * len(names)
    rows = [
        ((*(labels if number == 0 else blank), *row)) for labels, part in parts for number, row in enumerate(part.rows)
    ]
    where: dict[str, list[str]] = {}
    for labels, part in parts:
        for note in part.notes:
            where.setdefault(note, []).append(", ".join(labels))
    notes = [note if len(those) == len(parts) else f"{'; '.join(those)}: {note}" for note, those in where.items()]
    return Table((*names, *parts[0][1].header), tuple(rows), tuple(notes))


def latex_table(table: Table, caption: str | None = None, label: str | None = None, *, names: int = 1) -> str:
    """Return a table as a floating one with rules of `booktabs`; its notes stand below it, small.

    Args:
        table: cells of several lines are as many rows, those after the first in small print.
        caption: what stands above the table, as plain text.
        label: what a reference takes.
        names: how many columns name a row; a rule stands before each row that has a text in the first of several.

    Raises:
        ValueError: the label has a character that LaTeX does not take there.
    """
    if label is not None and (wrong := sorted(set(label) & set("\\{}%#~^&$")) or [c for c in label if not c.isascii()]):
        raise ValueError(f"field 'label': expected a label such as 'tab:robustness', got {label!r} with {wrong[0]!r}")
    above = [] if caption is None else [f"  \\caption{{{latex_escaped(caption)}}}"]
    above += [] if label is None else [f"  \\label{{{label}}}"]
    body: list[str] = []
    for number, row in enumerate(table.rows):
        if number and names > 1 and row[0]:
            body.append(r"    \midrule")
        elif number and any("\n" in cell for cell in row):
            body.append(r"    \addlinespace[2pt]")
        lines = zip_longest(*(cell.split("\n") for cell in row), fillvalue="")
        body += [_line([_cell(cell, is_small=place > 0) for cell in line]) for place, line in enumerate(lines)]
    return "\n".join(
        [
            r"% in the preamble: \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            *above,
            rf"  \begin{{tabular}}{{{'l' * names}{'r' * (len(table.header) - names)}}}",
            r"    \toprule",
            _line([_title(cell, "l" if place < names else "r") for place, cell in enumerate(table.header)]),
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}",
            *(f"  \\par\\footnotesize {latex_escaped(note)}" for note in table.notes),
            r"\end{table}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _title(text: str, side: str) -> str:
    lines = [latex_escaped(line.strip()) for line in text.split("\n")]
    return lines[0] if len(lines) == 1 else rf"\shortstack[{side}]{{" + r" \\ ".join(lines) + "}"


def _cell(text: str, *, is_small: bool) -> str:
    shown = latex_escaped(text.strip())
    if is_small and shown:
        return rf"{{\scriptsize {shown}}}"
    # A row that begins with a bracket would be the optional argument of the line break before it.
    return f"{{{shown}}}" if shown.startswith(("[", "*")) else shown
