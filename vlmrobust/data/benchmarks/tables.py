"""Conventions that several benchmarks' tables share: letters as columns, images in base64."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..fields import from_base64, is_missing
from ..row import Row

__all__ = ["image_of_cell", "lettered_options", "with_shared_images"]

_SHORT = 64  # characters; a cell that is no longer names the row that has the image (VLMEvalKit, image_base.py)


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


def with_shared_images(rows: Iterator[Row]) -> Iterator[Row]:
    """Fill in images that rows share: a short cell `image` is the `index` of the row that has it.

    Source: VLMEvalKit, vlmeval/dataset/image_base.py.
    """
    images: dict[str, str] = {}
    for row in rows:
        image = row.values.get("image")
        if not isinstance(image, str) or "index" not in row.values:
            yield row
        elif len(image) > _SHORT:
            images[str(row.values["index"])] = image
            yield row
        elif image in images:
            yield replace(row, values={**row.values, "image": images[image]})
        else:
            problem = f"expected an image, or the index of an earlier row that has it, got {image!r}"
            yield replace(row, problem=problem)
