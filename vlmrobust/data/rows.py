"""Read samples from files, folders, datasets and rows in memory, with all problems in one error or list.

Images at URLs are downloaded on request, by `Downloader`.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ..types import Sample
from .fields import AnswerAs
from .files import SUFFIXES, numbered_rows, read_file
from .hugging_face import read_dataset
from .row import FIELDS, TEXTS, Columns, Counted, Row, RowReader, column_of

__all__ = [
    "FIELDS",
    "TEXTS",
    "AnswerAs",
    "Columns",
    "Row",
    "RowsError",
    "Samples",
    "check_no_parts",
    "in_memory",
    "limited",
    "read_rows",
    "samples_from",
]

CONNECTIONS = 8  # at the same time; hosts of datasets reject more
_CONNECT_SECONDS, _READ_SECONDS, _RETRIES = 10.0, 30.0, 3
_TEMPORARY = (429, 500, 502, 503, 504)  # status codes worth a retry
_SHOWN = 20
_NUMBERS = "all rows: field 'answer': expected indices from 0"
_OF_ROW = re.compile(r"^.*?: (sample ('[^']*'|\"[^\"]*\"), )?")  # the beginning of a problem, which names its row


class RowsError(ValueError):
    """Invalid rows; the message lists up to twenty problems, and of more only the first of each kind with their number.

    Attributes:
        problems: all of them.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = [f"  {problem}" for problem in self.problems]
        if len(self.problems) > _SHOWN:
            kinds: dict[str, list[str]] = {}
            for problem in self.problems:
                kinds.setdefault(_OF_ROW.sub("", problem), []).append(problem)
            alike = list(kinds.values())
            shown = [f"  {one}" + f" (and {len(more)} more like it)" * bool(more) for one, *more in alike[:_SHOWN]]
            if others := sum(map(len, alike[_SHOWN:])):
                shown.append(f"  … and {others} more")
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
            library `datasets`, whose class labels are read by name. An image is a path, the bytes of a file, a PIL
            image, or a `data:` URL.
        columns: the columns of fields with other names: `{"question": "prompt"}`. Options may have several columns:
            `{"options": ["A", "B", "C", "D"]}`; empty cells among them are not options. So may images:
            `{"images": ["image_1", "image_2"]}`; marks `<image 1>` in the question, one for each, give their places.
        root: the folder that relative image paths start from; None = the current one.
        on_error: "raise" collects all problems into one error. "record" leaves invalid rows out and lists them in
            `problems`; a row that only has an invalid image file stays, so that a run lists it as an error. If most
            answers are numbers that seem to count options from 1, or may be numbers in the options' texts, that is
            always an error.
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

    def read(number: int) -> Sample | None:
        return readers[number].sample(str(number) if numbered else None, check_images)

    with ThreadPoolExecutor(CONNECTIONS) if download_urls else nullcontext() as threads:
        made = list(threads.map(read, range(len(readers))) if threads else map(read, range(len(readers))))
    places: dict[str, str] = {}
    samples: list[Sample] = []
    for reader, sample in zip(readers, made, strict=True):
        if sample is not None and sample.id in places:
            reader.refuse("id", f"expected ids that differ, got the same at {places[sample.id]}")
        elif sample is not None:
            places[sample.id] = reader.row.place
            samples.append(sample)
    problems = [problem for reader in readers for problem in reader.problems]
    origin = _problem_of_numbers([reader.counted for reader in readers])
    if origin is not None:
        problems = [origin, *problems]
    if problems and (on_error == "raise" or origin is not None):
        raise RowsError(problems)
    if not samples:
        raise RowsError([*problems, *left_out] or ["expected at least one row, got none"])
    changes = [change for reader in readers for change in reader.changes]
    return Samples(samples, problems, left_out, changes)


def _problem_of_numbers(answers: Sequence[Counted | None]) -> str | None:
    """Return the problem of answers that are mere numbers of unclear origin, in most of the rows; None = no problem.

    Rows that can be read would be left with the wrong answers, or with those of one option.
    """
    counted = [answer for answer in answers if answer is not None and answer.number >= 0]
    numbers = {answer.number for answer in counted}
    if len(numbers) < 2 or 2 * len(counted) <= len(answers):
        return None
    if any(answer.option is None and answer.number < answer.options for answer in counted):
        return f"{_NUMBERS}, got numbers that may be those in the options' texts; say which with answer_as"
    if 0 not in numbers and any(answer.number == answer.options for answer in counted):
        got = "got numbers that include the number of options and no 0"
        return f"{_NUMBERS}, {got}; if they count from 1, subtract 1 or write letters"
    return None


def read_rows(
    source: Any,
    columns: Columns | None = None,
    *,
    root: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_error: Literal["raise", "record"] = "raise",
    check_images: bool = False,
    answer_as: AnswerAs = "any",
    download_urls: bool = False,
) -> Samples:
    """Read samples from a file, a folder or a Hugging Face dataset, or from rows in memory.

    - `rows.jsonl`, `rows.json`, `rows.csv` or `rows.tsv`: image paths are relative to the file. A cell of a CSV or
      TSV file may hold a list or an object as JSON or Python: options, images, texts, metadata.
    - `rows.parquet` (needs the extra `data`).
    - a folder with `metadata.jsonl` or `metadata.csv` whose `file_name` names the image, in the folder itself or in a
      folder named after `split` (the layout of Hugging Face's imagefolder).
    - any other text: the name or the folder of a Hugging Face dataset (needs the extra `data`).
    - rows in memory: a DataFrame, a dataset of the library `datasets`, one split of it, or mappings.

    Args:
        source: the path, the name, or the rows.
        columns: the columns of fields with other names, see `samples_from`.
        root: the folder that relative image paths start from; None = the file's folder, or else the current one.
        split: the split of a dataset, such as "test"; required if there are several. A single file has none.
        limit: read only the first `limit` rows.
        on_error: see `samples_from`.
        check_images: see `samples_from`.
        answer_as: see `samples_from`.
        download_urls: see `samples_from`.

    Raises:
        FileNotFoundError: there is no such file.
        RowsError: a row is invalid; each problem names file, line, sample and field.
        ValueError: the format or the split is unknown, a split of a single file is given, or `columns` is invalid.
    """
    rows, home = _open(source, split) if isinstance(source, str | Path) else (in_memory(source, split), None)
    return samples_from(
        limited(rows, limit),
        columns,
        root=home if root is None else root,
        on_error=on_error,
        check_images=check_images,
        answer_as=answer_as,
        download_urls=download_urls,
    )


def limited(rows: Iterator[Row], limit: int | None) -> Iterator[Row]:
    """Return the first `limit` rows, without reading more.

    Raises:
        ValueError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"expected a limit of at least 1, got {limit}")
    return islice(rows, None if limit is None else min(limit, sys.maxsize))


def check_no_parts(file: Path, where: str = "", **selected: object) -> None:
    """Refuse a split or configuration of a single file, which is always read as a whole.

    Args:
        file: the file.
        where: the beginning of the message.
        **selected: the selected parts, by the plural of their name.

    Raises:
        ValueError: a part is selected.
    """
    for parts, value in selected.items():
        if value:
            prefix = f"{where}: " if where else ""
            raise ValueError(f"{prefix}a single file has no {parts}: expected none for {file.name!r}, got {value!r}")


def in_memory(rows: Any, split: str | None = None) -> Iterator[Row]:
    """Return rows in memory, from one split if they have several.

    Raises:
        ValueError: there is no such split, or no splits at all.
    """
    if split is not None and isinstance(rows, Mapping):
        if split not in rows:
            raise ValueError(f"expected one of the splits {', '.join(map(str, rows))}, got {split!r}")
        rows = rows[split]
    elif split is not None:
        raise ValueError(f"rows in memory have no splits: expected none, got {split!r}")
    return numbered_rows(rows)


def _open(source: str | Path, split: str | None) -> tuple[Iterator[Row], Path | None]:
    path = Path(source)
    if path.is_file():
        check_no_parts(path, splits=split)
        return read_file(path), path.parent
    if path.is_dir():
        for folder in [path] if split is None else [path, path / split]:
            for name in ("metadata.jsonl", "metadata.csv"):
                if (folder / name).is_file():
                    return read_file(folder / name), folder
    elif path.suffix in SUFFIXES or path.is_absolute() or str(source).startswith("."):
        raise FileNotFoundError(f"expected rows in a file or folder, found none at {str(source)!r}")
    return read_dataset(str(source), split), None


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


class Downloader:
    """Download the bytes at `http://` and `https://` URLs; may be called from several threads.

    The client is urllib3: it keeps connections open, has timeouts (10 s to connect, 30 s between two pieces of a
    response) and retries three times if a connection breaks or a server is overloaded, respecting `Retry-After`. The
    standard library has none of this, and httpx only retries broken connections.

    Raises:
        ValueError: urllib3 is not installed (extra `data`).
    """

    def __init__(self, backoff: float = 0.5) -> None:
        try:
            import urllib3
        except ModuleNotFoundError as error:
            raise ValueError("to download images, install the extra: pip install 'vlmrobust[data]'") from error

        retries = urllib3.Retry(
            total=_RETRIES, backoff_factor=backoff, status_forcelist=_TEMPORARY, raise_on_status=False
        )
        self._failures = urllib3.exceptions.HTTPError
        self._pool = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            block=True,
            retries=retries,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        )

    def __call__(self, address: str) -> bytes:
        """Download the content of a URL.

        Raises:
            ValueError: there is none, or the download failed; the message names the URL.
        """
        try:
            response = self._pool.request("GET", address)
        except self._failures as error:
            raise ValueError(f"expected an image at {address!r}, got {type(error).__name__}: {error}") from error
        if response.status != 200:
            raise ValueError(f"expected an image at {address!r}, got status {response.status} {response.reason}")
        if not response.data:
            raise ValueError(f"expected an image at {address!r}, got an empty answer")
        return response.data
