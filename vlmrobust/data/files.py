"""Read files of rows, and record the place of each row."""

import csv
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..text import can_be_written
from .cells import from_json
from .hub import read_parquet
from .row import Row
from .rows import fill_shared_images

__all__ = ["SUFFIXES", "fill_shared_images", "read_file"]

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
        self._before += len(self.taken)
        self.taken = []
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
            if duplicate := _first_duplicate(names):
                problem = f"expected distinct column names, got {duplicate!r} twice"
                yield Row(f"{path.name}, line 1", {}, problem)
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


def _first_duplicate(names: Sequence[str]) -> str | None:
    """Return the first name that a header has twice, where `csv` would silently read the last column."""
    return next((name for name in names if names.count(name) > 1), None)


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_CELL)  # the limit is global, and restored below
    try:
        yield
    finally:
        csv.field_size_limit(before)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_table(","),
    ".tsv": _read_table("\t"),
    ".parquet": lambda path: read_parquet([path]),
}
SUFFIXES = tuple(_READERS)
