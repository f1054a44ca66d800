"""Files of rows → rows, each with the place it stands at."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .fields import from_json
from .hub import read_parquet
from .row import Row

__all__ = ["SUFFIXES", "read_file"]

_LONGEST_CELL = 2**31 - 1  # a picture in base64 is a cell of megabytes; csv stops at 131,072 characters


def read_file(path: Path) -> Iterator[Row]:
    """Open a file of rows.

    Raises:
        ValueError: its suffix is none of `SUFFIXES`.
    """
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise ValueError(f"expected a file of rows that ends in {', '.join(SUFFIXES)}, got {path.name!r}")
    return reader(path)


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path.name}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                values = from_json(text) if text else None
            except ValueError as error:
                yield Row(place, {}, f"expected one JSON object, got {error}: {line!r:.80}")
                continue
            if text:
                yield _object(place, values)


def _read_json(path: Path) -> Iterator[Row]:
    try:
        rows = from_json(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"expected a JSON list of rows in {path.name!r}, got {error}") from error
    if not isinstance(rows, list):
        raise ValueError(f"expected a JSON list of rows in {path.name!r}, got {type(rows).__name__}")
    for number, values in enumerate(rows):
        # Rows without names, such as ["1", "a cat", "a dog"], are those of What's Up: cells by position.
        named = {str(position): value for position, value in enumerate(values)} if isinstance(values, list) else values
        yield _object(f"{path.name}, row {number}", named)


def _object(place: str, values: Any) -> Row:
    if isinstance(values, dict):
        return Row(place, values)
    return Row(place, {}, f"expected one JSON object, got {type(values).__name__}")


def _read_table(delimiter: str) -> Callable[[Path], Iterator[Row]]:
    def read(path: Path) -> Iterator[Row]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            place = f"{path.name}, line 1"
            while True:
                try:
                    with _cells_of_any_length():
                        if reader.fieldnames is not None:
                            place = f"{path.name}, line {reader.line_num + 1}"  # a quoted cell may span lines
                        values: Mapping[Any, Any] | None = next(reader, None)
                except (csv.Error, UnicodeDecodeError) as error:
                    yield Row(place, {}, f"expected a row of {path.suffix[1:]}, got {error}")
                    return
                if values is None:
                    return
                if twice := _twice(reader.fieldnames or ()):
                    problem = f"expected columns with names that differ, got {twice!r} twice"
                    yield Row(f"{path.name}, line 1", {}, problem)
                    return
                if None in values:
                    yield Row(place, {}, f"expected {len(values) - 1} cells, got {len(values[None])} more")
                else:
                    yield Row(place, values)

    return read


def _twice(names: Sequence[str]) -> str | None:
    """Return the first name that a header has twice: the last of its columns would be read, without a word."""
    return next((name for name in names if names.count(name) > 1), None)


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_CELL)  # the limit is the whole process's: it is given back
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
