"""Convert rows to samples, with the problems of all rows in one error or list."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeGuard

from ..types import Sample
from .cells import looks_nested
from .fields import AnswerAs, is_base64_image
from .hub import CONNECTIONS, Downloader, is_dataset, undecoded
from .row import FIELDS, TEXTS, Columns, Row, RowReader, column_of

__all__ = [
    "FIELDS",
    "TEXTS",
    "AnswerAs",
    "Columns",
    "Row",
    "RowsError",
    "Samples",
    "fill_shared_images",
    "is_table",
    "numbered_rows",
    "samples_from",
]


def fill_shared_images(rows: Iterable[Row]) -> Iterator[Row]:
    """Fill in images that rows share: a cell `image` that is another row's `index` refers to that row's image.

    The other row may come later, and may refer to a third one. Rows are read ahead to find it.

    Source: VLMEvalKit, vlmeval/dataset/image_base.py.
    """
    left, ahead = iter(rows), deque[Row]()
    images: dict[str, str] = {}
    shares: dict[str, str] = {}

    def read() -> bool:
        """Read one more row; return whether there was one."""
        if (row := next(left, None)) is None:
            return False
        ahead.append(row)
        index, image = row.values.get("index"), row.values.get("image")
        if index is not None and _is_image(image):
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
                problem = f"expected an image, or the index of a row that has it, got {image!r}"
                row = replace(row, problem=problem)
        yield row


def _is_image(image: Any) -> TypeGuard[str]:
    return is_base64_image(image) or looks_nested(image)


def _may_share(image: Any) -> TypeGuard[str]:
    return isinstance(image, str) and image.isdecimal()


_SHOWN = 20


class RowsError(ValueError):
    """Invalid rows; the message lists the first twenty problems.

    Attributes:
        problems: all of them.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = [f"  {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            shown.append(f"  … and {len(self.problems) - _SHOWN} more")
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{count} in the rows:", *shown]))


class Samples(list[Sample]):
    """A list of samples, with the problems of rows that have no sample.

    Attributes:
        problems: one message per problem; empty unless `on_error="record"`.
        left_out: one message per row of a benchmark that is not a multiple-choice question.
        changes: one message per image that is changed before the model sees it, such as a transparent one; empty unless
            images are checked.
    """

    def __init__(
        self,
        samples: Iterable[Sample] = (),
        problems: Sequence[str] = (),
        left_out: Sequence[str] = (),
        changes: Sequence[str] = (),
    ) -> None:
        super().__init__(samples)
        self.changes = tuple(changes)
        self.problems = tuple(problems)
        self.left_out = tuple(left_out)


def samples_from(
    rows: Iterable[Mapping[str, Any] | Row],
    columns: Columns | None = None,
    *,
    root: str | Path | None = None,
    on_error: Literal["raise", "record"] = "raise",
    check_images: bool = False,
    answer_as: AnswerAs = "any",
    download_urls: bool = False,
) -> Samples:
    """Convert rows to samples.

    A row has the columns `id`, `image` (or `images`, or `file_name`), `question`, `options` and `answer`, and
    optionally `distractor`, `group`, `texts` or single texts such as `wrong_caption`. All other columns with JSON
    values become metadata. If no row has a column `id`, the rows are numbered from 0.

    Args:
        rows: mappings from column to value, a DataFrame of pandas or polars, a table of pyarrow, or a dataset of the
            library `datasets`. An image is a path, the bytes of a file, a PIL image, or a `data:` URL.
        columns: the columns of fields with other names: `{"question": "prompt"}`. Options may have several columns:
            `{"options": ["A", "B", "C", "D"]}`; empty cells among them are not options. So may images:
            `{"images": ["image_1", "image_2"]}`; marks `<image 1>` in the question, one for each, give their places.
        root: the folder that relative image paths start from; None = the current one.
        on_error: "raise" collects all problems into one error. "record" leaves invalid rows out and lists them in
            `problems`; a row that only has an invalid image file stays, so that a run lists it as an error.
        check_images: decode every image now, and list in `changes` those that are changed; otherwise only check that
            the files exist.
        answer_as: how `answer` and `distractor` are written, see `fields.index_of`: "any" accepts an index, a letter or
            an option's text, and refuses ambiguous answers.
        download_urls: download images at `http://` and `https://` URLs now, and keep their bytes; otherwise URLs are
            refused. Needs the extra `data`.

    Raises:
        RowsError: a row is invalid; each problem names place, sample and field.
        ValueError: `columns` names an unknown field or a column that no row has.

    Example:
        >>> [sample] = samples_from([{"id": "q1", "image": b"bytes of a file", "question": "Which colour?",
        ...                           "options": ["red", "blue"], "answer": "B", "kind": "colour"}])
        >>> sample.answer, sample.metadata
        (1, {'kind': 'colour'})
    """
    placed = list(numbered_rows(rows))
    left_out = [f"{row.place}: {row.left_out}" for row in placed if row.left_out is not None]
    placed = [row for row in placed if row.left_out is None]
    mapping = _checked_columns(columns or {}, placed)
    numbered = not any(column_of("id", mapping) in row.values for row in placed)
    fetch = Downloader() if download_urls else None
    readers = [RowReader(row, mapping, None if root is None else Path(root), answer_as, fetch) for row in placed]
    places: dict[str, str] = {}
    samples: list[Sample] = []
    for reader, sample in zip(readers, _read(readers, numbered, check_images, download_urls), strict=True):
        if sample is not None and sample.id in places:
            reader.refuse("id", f"expected ids that differ, got the same at {places[sample.id]}")
        elif sample is not None:
            places[sample.id] = reader.row.place
            samples.append(sample)
    problems = [problem for reader in readers for problem in reader.problems]
    if problems and on_error == "raise":
        raise RowsError(problems)
    if not samples:
        raise RowsError([*problems, *left_out] or ["expected at least one row, got none"])
    changes = [change for reader in readers for change in reader.changes]
    return Samples(samples, problems, left_out, changes)


def _read(readers: Sequence[RowReader], numbered: bool, check_images: bool, at_once: bool) -> Iterator[Sample | None]:
    """Read the rows in order, with several threads if each waits for a download."""

    def read(number: int) -> Sample | None:
        return readers[number].sample(str(number) if numbered else None, check_images)

    if not at_once:
        yield from map(read, range(len(readers)))
        return
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        yield from threads.map(read, range(len(readers)))


def _mappings(rows: Any) -> Iterable[Any]:
    """Return the rows of a table as mappings with Python values."""
    if isinstance(rows, Mapping):
        kind = f"{type(rows).__name__} of {', '.join(map(str, rows))}"
        raise TypeError(f"expected rows, a DataFrame or a dataset, got a {kind}; of a dataset's splits, give one")
    pandas = sys.modules.get("pandas")  # a DataFrame exists only if pandas has been imported
    if pandas is not None and isinstance(rows, pandas.DataFrame):
        cells = rows.astype(object).where(rows.notna(), None)
        return (
            {name: value.tolist() if hasattr(value, "tolist") else value for name, value in record.items()}
            for record in cells.to_dict("records")  # pandas reads lists in a Parquet file as arrays
        )
    for method in ("to_pylist", "to_dicts"):  # a table of pyarrow, a frame of polars
        if hasattr(rows, method):
            found: Iterable[Any] = getattr(rows, method)()
            return found
    dataset: Iterable[Any] = undecoded(rows) if is_dataset(rows) else rows
    return dataset


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
        row if isinstance(row, Row) else _numbered(number, row) for number, row in enumerate(_mappings(rows))
    )


def _numbered(number: int, row: Any) -> Row:
    if not isinstance(row, Mapping):
        raise TypeError(f"expected rows that map columns to values, got {type(row).__name__} as row {number}")
    return Row(f"row {number}", row)


def _checked_columns(columns: Columns, rows: Sequence[Row]) -> Columns:
    if unknown := sorted(set(columns) - set(FIELDS)):
        raise ValueError(f"expected columns for the fields {', '.join(FIELDS)}, got {', '.join(unknown)}")
    present = {column for row in rows for column in row.values}
    for field, names in columns.items():
        for name in [names] if isinstance(names, str) else names:
            if present and name not in present:
                known = ", ".join(sorted(present))
                raise ValueError(f"columns, field {field!r}: expected one of the columns {known}, got {name!r:.80}")
        if not isinstance(names, str) and field not in ("options", "images"):
            raise ValueError(f"columns, field {field!r}: expected one column, got {list(names)!r}")
    return columns
