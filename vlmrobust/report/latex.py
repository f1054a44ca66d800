"""A table in LaTeX, for a paper: `booktabs` alone is needed."""

import re
from collections.abc import Sequence

from ..text import printable
from .tables import Table

__all__ = ["escaped", "latex_table"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": "$-$",
    "–": "--",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
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


def latex_table(table: Table, caption: str | None = None, label: str | None = None) -> str:
    """Return a table as a floating one with rules of `booktabs`; its notes stand below it, small."""

    def line(cells: Sequence[str]) -> str:
        return f"    {' & '.join(map(_cell, cells))} \\\\"

    above = [] if caption is None else [f"  \\caption{{{escaped(caption)}}}"]
    above += [] if label is None else [f"  \\label{{{label}}}"]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            *above,
            rf"  \begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"    \toprule",
            line(table.header),
            r"    \midrule",
            *map(line, table.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            *(f"  \\par\\footnotesize {escaped(note)}" for note in table.notes),
            r"\end{table}",
        ]
    )


def _cell(text: str) -> str:
    lines = [escaped(line.strip()) for line in text.split("\n")]
    if len(lines) > 1:
        return r"\shortstack[r]{" + r" \\ ".join(lines) + "}"
    # A row that begins with a bracket would be the optional argument of the line break before it.
    return f"{{{lines[0]}}}" if lines[0].startswith("[") else lines[0]
