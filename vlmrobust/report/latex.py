"""A table in LaTeX, for a paper: `booktabs` alone is needed."""

import re
from collections.abc import Sequence
from itertools import zip_longest

from ..text import printable
from .tables import Table

__all__ = ["escaped", "joined", "latex_table"]

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


def escaped(text: str) -> str:
    r"""Return a text as LaTeX shows it, special characters and all.

    Example:
        >>> print(escaped("wrong_think & 50 % ↑"))
        wrong\_think \& 50 \% $\uparrow$
    """
    return _NEGATIVE.sub("−", printable(text)).translate(_TRANSLATION)


def joined(parts: Sequence[tuple[Sequence[str], Table]], names: Sequence[str]) -> Table:
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
    above = [] if caption is None else [f"  \\caption{{{escaped(caption)}}}"]
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
            *(f"  \\par\\footnotesize {escaped(note)}" for note in table.notes),
            r"\end{table}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _title(text: str, side: str) -> str:
    lines = [escaped(line.strip()) for line in text.split("\n")]
    return lines[0] if len(lines) == 1 else rf"\shortstack[{side}]{{" + r" \\ ".join(lines) + "}"


def _cell(text: str, *, is_small: bool) -> str:
    shown = escaped(text.strip())
    if is_small and shown:
        return rf"{{\scriptsize {shown}}}"
    # A row that begins with a bracket would be the optional argument of the line break before it.
    return f"{{{shown}}}" if shown.startswith(("[", "*")) else shown
