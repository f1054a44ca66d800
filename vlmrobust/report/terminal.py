"""Tables as text that fits a terminal: one that is too wide goes on below, and what does not fit a line is folded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO

from ..text import printable, terminal_width

__all__ = ["Table", "terminal_table"]

_NAMES = 0.65  # the part of a line that names may take, so that something fits beside them


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
        drawn = RichTable(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
        for index in part:
            drawn.add_column(
                Text(table.header[index]),
                justify="left" if index < table.names else "right",
                width=widths[index],
                overflow="fold",
            )
        for row in table.rows:
            drawn.add_row(*(Text(row[index]) for index in part))
        console.print(drawn)
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
    most = int(space * _NAMES) if others else space
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
