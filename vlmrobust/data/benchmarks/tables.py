"""Conventions that several benchmarks' tables share: letters as columns, images in base64."""

from collections.abc import Mapping
from typing import Any

from ..fields import from_base64, is_missing

__all__ = ["image_of_cell", "lettered_options"]


def lettered_options(row: Mapping[str, Any], letters: str) -> list[Any]:
    """Return the options of the columns A, B, …, as far as they are filled; "nan" is how pandas writes an empty cell.

    Example:
        >>> lettered_options({"A": "red", "B": "blue", "C": "nan", "D": None}, "ABCD")
        ['red', 'blue']
    """
    cells = [None if row.get(letter) == "nan" else row.get(letter) for letter in letters]
    while cells and is_missing(cells[-1]):  # a gap in between is refused later
        cells.pop()
    return cells


def image_of_cell(value: Any) -> Any:
    """Return the image of a cell: text is its file in base64, all else is what `datasets` makes of an image column."""
    return from_base64(value) if isinstance(value, str) and value else value
