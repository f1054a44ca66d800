"""Yield the rows of files and of tables in memory, each with its place; fill in shared images.

Images stay encoded: files are far smaller than pixels.
"""

import csv
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ..text import can_be_written
from .fields import from_json, looks_nested
from .hugging_face import read_parquet, rows_of
from .row import Row, is_base64_image

__all__ = [
    "SUFFIXES",
    "fill_shared_images",
    "is_table",
    "numbered_rows",
    "read_file",
]

_MANY = 5  # number of columns from which a line with as many commas is a row rather than text
_LONGEST_CELL = 2**31 - 1  # an image in base64 has megabytes; csv's default limit is 131,072 characters


def read_file(path: Path) -> Iterator[Row]:
    """Read the rows of a file.

    Raises:
        ValueError: its suffix is not one of `SUFFIXES`.
    """
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise ValueError(f"expected a file of rows that ends in {', '.join(SUFFIXES)}, got {path.name!r}")
    return fill_shared_images(reader(path))


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path.name}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                values = from_json(text) if text else None
            except ValueError as error:
                yield Row(place, {}, f"expected one JSON object, got {line!r:.80}: {error}")
                continue
            if text:
                yield _object(place, values)


def _read_json(path: Path) -> Iterator[Row]:
    try:
        rows = from_json(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"expected a JSON list of rows in {path.name!r}: {error}") from error
    if not isinstance(rows, list):
        raise ValueError(f"expected a JSON list of rows in {path.name!r}, got {type(rows).__name__}")
    for number, values in enumerate(rows):
        # Rows of What's Up are lists, such as ["1", "a cat", "a dog"]: name their cells by position.
        named = {str(position): value for position, value in enumerate(values)} if isinstance(values, list) else values
        yield _object(f"{path.name}, row {number}", named)


def _object(place: str, values: Any) -> Row:
    if isinstance(values, dict):
        return Row(place, values)
    return Row(place, {}, f"expected one JSON object, got {type(values).__name__}")


class _Lines:
    """The lines of a table, where those after the first line of a row can be read again.

    An unclosed quote, or one closed only rows later, turns everything in between into one cell.
    """

    def __init__(self, file: Iterator[str]) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self._before = 0
        self.taken: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        self.taken.append(self._again.popleft() if self._again else next(self._file))
        return self.taken[-1]

    def begin(self) -> int:
        """Start a row, and return the number of its first line, from 1."""
        self._before, self.taken = self._before + len(self.taken), []
        return self._before + 1

    def give_back(self) -> None:
        """Go back to the line after the first one of the row."""
        self._again.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def _read_table(delimiter: str) -> Callable[[Path], Iterator[Row]]:
    def read(path: Path) -> Iterator[Row]:
        # Invalid UTF-8 is a problem of its row only.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = _Lines(file)
            reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
            try:
                names = list(reader.fieldnames or ())
            except csv.Error as error:
                yield Row(f"{path.name}, line 1", {}, f"expected a row of {path.suffix[1:]}, got {error}")
                return
            if twice := [name for name in names if names.count(name) > 1]:  # `csv` would read the last of them
                yield Row(f"{path.name}, line 1", {}, f"expected distinct column names, got {twice[0]!r} twice")
                return
            if len(names) == 1 and (other := re.search(r"[,;|\t]", names[0])):
                got = f"{names[0]!r:.80}: is {other[0]!r} the separator?"
                yield Row(f"{path.name}, line 1", {}, f"expected several columns separated by {delimiter!r}, got {got}")
                return
            values: Mapping[Any, Any] | None = {}
            while values is not None:
                place = f"{path.name}, line {lines.begin()}"
                try:
                    with _cells_of_any_length():
                        values = next(reader, None)
                except csv.Error as error:
                    yield Row(place, {}, f"expected a row of {path.suffix[1:]}, got {error}")
                    lines.give_back()
                    continue
                if values is not None:
                    yield _table_row(place, values, lines, delimiter, len(names))

    return read


def _table_row(place: str, values: Mapping[Any, Any], lines: _Lines, delimiter: str, columns: int) -> Row:
    """Return a row of a table or its problem; lines swallowed by an unclosed quote are given back."""
    # A cell may span lines; if one of them looks like a row, the quote was literal.
    looks_like_rows = delimiter == "\t" or columns >= _MANY
    for number, line in enumerate(lines.taken[1:] if looks_like_rows and columns > 1 else (), start=1):
        # A comma between cells has no space after it, one between words has.
        if line.rstrip("\r\n").count(delimiter) == columns - 1 and ", " not in (line if delimiter == "," else ""):
            lines.give_back()
            return Row(
                place, {}, f"expected a quote that is closed in its row, got one that goes on for {number} lines"
            )
    if None in values:
        return Row(place, {}, f"expected {columns} cells, got {len(values[None])} more")
    if not can_be_written(values.values()):
        return Row(place, {}, "expected text in UTF-8, got bytes that are none")
    return Row(place, values, is_text=True)


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_CELL)  # the limit is global, and restored below
    try:
        yield
    finally:
        csv.field_size_limit(before)


def fill_shared_images(rows: Iterable[Row]) -> Iterator[Row]:
    """Fill in images that rows share: a cell `image` that is another row's `index` refers to that row's image.

    The other row may come later, and may refer to a third one. Rows are read ahead to find it.

    Source: VLMEvalKit, vlmeval/dataset/image_base.py.
    """
    left, ahead = iter(rows), deque[Row]()
    images: dict[str, Any] = {}
    shares: dict[str, str] = {}

    def read() -> bool:
        """Read one more row; return whether there was one."""
        if (row := next(left, None)) is None:
            return False
        ahead.append(row)
        index, image = row.values.get("index"), row.values.get("image")
        if index is not None and (is_base64_image(image) or looks_nested(image)):
            images[str(index)] = image
        elif index is not None and _may_share(image):
            shares[str(index)] = image
        return True

    def found(index: str) -> str | None:
        """Return the image of a row; None if it has none."""
        seen: set[str] = set()
        while index not in images and index not in seen:
            if index in shares:
                seen.add(index)
                index = shares[index]
            elif not read():
                return None
        return images.get(index)

    while ahead or read():
        row = ahead.popleft()
        image = row.values.get("image")
        if "index" in row.values and _may_share(image):
            if (shared := found(image)) is not None:
                row = replace(row, values={**row.values, "image": shared})
            elif images:
                row = replace(row, problem=f"expected an image, or the index of a row that has it, got {image!r}")
        yield row


def _may_share(image: Any) -> TypeGuard[str]:
    return isinstance(image, str) and image.isdecimal()


def _mappings(rows: Any) -> Iterable[Any]:
    """Return the rows of a table as mappings with Python values."""
    if isinstance(rows, Mapping):
        kind = f"{type(rows).__name__} of {', '.join(map(str, rows))}"
        raise TypeError(f"expected rows, a DataFrame or a dataset, got a {kind}; of a dataset's splits, give one")
    # A DataFrame or a dataset exists only if its library has been imported.
    pandas, datasets = sys.modules.get("pandas"), sys.modules.get("datasets")
    if pandas is not None and isinstance(rows, pandas.DataFrame):
        names = list(rows.index.names)
        new = dict.fromkeys(name for name in names if name is not None and name not in rows.columns)
        # A column to the writers of pandas, too; by number, as a name may be there twice.
        rows = rows.reset_index([names.index(name) for name in new]) if new else rows
        records: Iterable[Any] = rows.astype(object).where(rows.notna(), None).to_dict("records")
        return records
    for method in ("to_pylist", "to_dicts"):  # a table of pyarrow, a frame of polars
        if hasattr(rows, method):
            found: Iterable[Any] = getattr(rows, method)()
            return found
    if datasets is not None and isinstance(rows, datasets.Dataset | datasets.IterableDataset):
        return rows_of(rows)
    in_rows: Iterable[Any] = rows
    return in_rows


def is_table(value: object) -> bool:
    """Return whether a value is a table of a library, which does not iterate over its rows.

    Example:
        >>> import pandas as pd
        >>> is_table(pd.DataFrame({"id": ["q1"]})), is_table([{"id": "q1"}])
        (True, False)
    """
    return hasattr(value, "columns") or hasattr(value, "column_names")


def numbered_rows(rows: Any) -> Iterator[Row]:
    """Yield the rows of a list, a DataFrame or a dataset, numbered from 0."""
    return fill_shared_images(
        row if isinstance(row, Row) else _placed(number, row) for number, row in enumerate(_mappings(rows))
    )


def _placed(number: int, row: Any) -> Row:
    if not isinstance(row, Mapping):
        raise TypeError(f"expected rows that map columns to values, got {type(row).__name__} as row {number}")
    return Row(f"row {number}", {name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    """Return a value with lists, numbers and bytes of Python, at any depth, instead of arrays and buffers.

    Times stay as they are, and so do arrays of three or more dimensions, which hold pixels.
    """
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if not hasattr(value, "tolist") or isinstance(value, np.datetime64 | np.timedelta64):
        return value
    dimensions = getattr(value, "ndim", 1)  # `array.array` has no number of them
    if dimensions == 0:
        item = value.item()
        return value if type(item) is type(value) else _plain(item)
    return value if dimensions > 2 else [_plain(part) for part in value]


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_table(","),
    ".tsv": _read_table("\t"),
    ".parquet": lambda path: read_parquet([path]),
}
SUFFIXES = tuple(_READERS)
