"""Write tables as text for a terminal, notebooks, Markdown, LaTeX and spreadsheets."""

import html
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    "html_table",
    "inline",
    "join_tables",
    "latex_escaped",
    "latex_table",
    "markdown_table",
    "terminal_table",
    "with_interval",
    "write_csv",
]


_MAX_NAME_SHARE = 0.65  # of a line's width, to leave room for numbers


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes:
        header: one title per column.
        rows: one text per column.
        notes: sentences below the table.
        undecided: for each row, whether the interval of the change in its first number contains 0; empty = no changes.
        names: number of leading columns that name the row.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = field(default=())
    undecided: tuple[bool, ...] = field(default=())
    names: int = 1


def with_interval(value: float, low: float, high: float, *, digits: int = 2, sign: str = "") -> str:
    """Return a number and its interval as text.

    Example:
        >>> with_interval(0.5, 0.4, 0.6, sign="+")
        '+0.50 [+0.40, +0.60]'
    """
    interval = "no interval" if math.isnan(low) else f"{low:{sign}.{digits}f}, {high:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f} [{interval}]"


def terminal_table(table: Table, width: int | None = None) -> str:
    """Draw a table for a terminal; columns that do not fit continue below, with the row names repeated.

    Args:
        table: to draw.
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
    out = io.StringIO()
    # In a notebook, rich would display every part instead of writing it to the file.
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
    """Return the column widths: titles wrap between words, cells only if they do not fit the line."""
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
    """Split the columns into parts that fit the width: the names, then as many others as possible."""
    parts: list[list[int]] = [list(range(names))]
    for index in range(names, len(widths)):
        if len(parts[-1]) > names and sum(widths[column] + 1 for column in (*parts[-1], index)) > space + 1:
            parts.append(list(range(names)))
        parts[-1].append(index)
    return parts


# Characters that may begin markup: an underscore inside a word does not, a closing bracket only before a link target.
_MARKUP = re.compile(r"[\\`*<&|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
_BLOCK_MARKUP = re.compile(r"^(?:[#>+=-]|\d+(?=[.)]))")


def inline(text: str) -> str:
    r"""Escape text for the middle of a line or a table cell: on one line, without markup and control characters.

    Example:
        >>> print(inline("wrong_think <b> [a](b) x|y"))
        wrong_think \<b> [a\](b) x\|y
    """
    return _MARKUP.sub(r"\\\g<0>", printable(" ".join(text.split())))


def block(text: str) -> str:
    r"""Escape text for the beginning of a line: no heading, list or quotation.

    Example:
        >>> print(block("# 1"), block("1. a"))
        \# 1 1\. a
    """
    escaped = inline(text)
    marker = _BLOCK_MARKUP.match(escaped)
    if marker is None:
        return escaped
    end = marker.end()
    return f"{escaped[:end]}\\{escaped[end:]}" if escaped[0].isdigit() else f"\\{escaped}"


def markdown_table(table: Table) -> str:
    """Return a table in Markdown, with all text escaped."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(inline, cells))} |"

    ruler = ["---", *("---:" for _ in table.header[1:])]
    lines = [line(table.header), line(ruler), *(line(row) for row in table.rows)]
    return "\n".join([*lines, *(f"\n{block(note)}" for note in table.notes)])


def html_table(table: Table) -> str:
    """Return a table in HTML, with all text escaped."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

    head = f"<thead><tr>{cells('th', table.header)}</tr></thead>"
    body = "".join(f"<tr><th>{html.escape(row[0])}</th>{cells('td', row[1:])}</tr>" for row in table.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    return f"<table>{head}<tbody>{body}</tbody></table>{notes}"


_ROWS = 20_000  # rows to convert to text at once

_FORMULA = re.compile(r"[=@\t\r]|[+-](?!\d*[.,]?\d+(?:e[+-]?\d+)?$|$)", re.IGNORECASE)


def csv_text(table: "pd.DataFrame") -> str:
    """Return a table as CSV; undefined cells are empty, and text that would be a formula gets a leading quote.

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
    """Write a table of any length like `csv_text`, in chunks, in UTF-8; tuples become JSON lists."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for begin in range(0, max(len(table), 1), _ROWS):
            file.write(_csv(table.iloc[begin : begin + _ROWS], header=begin == 0))


def _csv(table: "pd.DataFrame", *, header: bool) -> str:
    safe = table.rename(columns=_spreadsheet_safe)
    for column in range(safe.shape[1]):
        if safe.dtypes.iloc[column].kind not in "biufM":
            safe.isetitem(column, [_spreadsheet_safe(cell) for cell in safe.iloc[:, column]])
    buffer = _LineFeedBuffer()
    # Cells are quoted if they contain the line terminator: a bare carriage return would begin a row in a spreadsheet.
    safe.to_csv(buffer, index=False, header=header, lineterminator="\r\n")
    return buffer.getvalue()


class _LineFeedBuffer(io.StringIO):
    """A buffer that ends each written row with a line feed instead of CRLF; `csv` writes one row per call."""

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
    r"""Escape text for LaTeX, including special characters.

    Example:
        >>> print(latex_escaped("wrong_think & 50 % ↑"))
        wrong\_think \& 50 \% $\uparrow$
    """
    return _NEGATIVE.sub("−", printable(text)).translate(_TRANSLATION)


def join_tables(parts: Sequence[tuple[Sequence[str], Table]], names: Sequence[str]) -> Table:
    """Join tables with the same header; each part's labels precede its first row and its own notes.

    Args:
        parts: the labels, one per name, and the table.
        names: titles of the label columns.
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
    """Return a table as a LaTeX float with `booktabs` rules, and its notes below in small print.

    Args:
        table: each line of a cell becomes a row, in small print after the first.
        caption: above the table, as plain text.
        label: for references.
        names: number of columns that name a row; with several, a rule precedes each row with text in the first.

    Raises:
        ValueError: the label has a character that LaTeX does not allow.
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
    # LaTeX reads a bracket or star after a line break as its argument.
    return f"{{{shown}}}" if shown.startswith(("[", "*")) else shown
