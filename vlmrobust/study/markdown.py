"""A study as a page of Markdown."""

from typing import TYPE_CHECKING
from urllib.parse import quote

from ..report.markdown import block, inline
from .cells import Cell
from .headline import headline
from .sections import Grid

if TYPE_CHECKING:
    from .result import StudyResult

__all__ = ["markdown"]


def markdown(result: "StudyResult", page: str) -> str:
    """Return the page; pictures are in the HTML page alone, a file beside it, and named here."""
    parts = ["# Study", *map(block, headline(result))]
    for section in result.sections:
        parts += [
            f"## {section.title}",
            block(section.hint),
            _table(section.grid) if section.grid.rows else section.missing,
        ]
    if result.pictures:
        listed = [
            f"- {inline(one.title)}{f': {inline(one.missing)}' if one.missing else ''}" for one in result.pictures
        ]
        parts += ["## Over the checkpoints", f"Drawn in [the page]({page}):", "\n".join(listed)]
    return "\n\n".join(parts) + "\n"


def _table(grid: Grid) -> str:
    ruler = ["---"] * grid.names + ["---:"] * (len(grid.header) - grid.names)
    lines = [[inline(title) for title in grid.header], ruler, *([_cell(cell) for cell in row] for row in grid.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    text = "<br>".join(inline(line) for line in cell.text.split("\n"))
    return f"[{text}]({quote(cell.link)})" if cell.link else text
