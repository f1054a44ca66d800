"""Read and write the contents of a report as JSON Lines or as Parquet.

In JSON Lines the first line is the head, and each further one a response. Parquet has a column per field and metric,
and the head in the file's metadata; any Parquet reader opens it (`pandas.read_parquet`). Numbers and texts have their
native types; options, their order, earlier turns, token counts and the samples' metadata are JSON. `own_think` is null
if it equals `think`, which saves space: texts are most of a report, and most thoughts have no prefill.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..jsonl import atomic_draft, json_safe, read_lines, write_lines_atomically
from ..prompting import LETTERS
from ..text import writable
from ..types import Responses
from ..types.responses import within_thoughts

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = [
    "Contents",
    "Key",
    "keys_in_json_lines",
    "keys_in_parquet",
    "keys_of",
    "read_json_lines",
    "read_parquet",
    "write_json_lines",
    "write_parquet",
]


Key = tuple[str, str, int]
"""A response's sample id, condition and draw."""

_LINES_FORMAT, _COLUMNS_FORMAT = "vlmrobust report 1", "vlmrobust report 2"  # in the head
_LATER_FIELDS: Mapping[str, Any] = {"context": "", "history": (), "letters": LETTERS, "option_tokens": None}
"""Fields that files of older versions lack, with their default values."""

_FIELDS = tuple(field.name for field in fields(Responses) if field.init)
_BLANK = Responses.of([], [])
_LINES_CHUNK = 10_000  # rows to hold as objects at once while reading
_CHUNK = 20_000  # rows of Parquet to read or write at once, which needs twice their memory
_HEAD = b"vlmrobust"  # key in the schema's metadata
_SCORE, _FAILURE = "scores.", "failures."  # prefixes of a metric's columns
_KEY = ("sample_id", "condition", "draw")
_JSON = frozenset({"options", "order", "history", "option_tokens", "metadata"})
_UNIQUE_TEXTS = frozenset({"think", "own_think", "text"})  # rarely repeated, unlike other texts
_MAX_METADATA_BYTES = 2**31 - 1  # the metadata contain the manifest


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """The contents of a report's file, JSON Lines or Parquet.

    Attributes:
        responses: all of them.
        scores: values, by metric.
        failures: by metric, the reason for a missing value by position.
        head: the rest: number of responses, seed, manifest, summary, and the attributes of each metric.
    """

    responses: Responses
    scores: Mapping[str, NDArray[np.float64]]
    failures: Mapping[str, Mapping[int, str]]
    head: Mapping[str, Any]


def keys_of(responses: Responses) -> Iterator[Key]:
    """Yield the keys of responses."""
    return zip(responses.sample_id, responses.condition, responses.draw.tolist(), strict=True)


def write_json_lines(file: Path, contents: Contents) -> None:
    """Write a report as JSON Lines."""
    write_lines_atomically(file, _lines(contents))


def _lines(contents: Contents) -> Iterator[dict[str, Any]]:
    responses, failures = contents.responses, contents.failures
    metrics = [
        entry | ({"failures": list(failures[entry["name"]].items())} if entry["name"] in failures else {})
        for entry in contents.head["metrics"]
    ]
    yield {"format": _LINES_FORMAT, **contents.head, "metrics": metrics}
    listed = {
        name: value.tolist() if isinstance(value := getattr(responses, name), Tensor) else value for name in _FIELDS
    }
    scores = {name: values.tolist() for name, values in contents.scores.items()}
    for row in range(len(responses)):
        yield {name: values[row] for name, values in listed.items()} | {
            "scores": {name: values[row] for name, values in scores.items()}
        }


def read_json_lines(file: Path) -> Contents:
    """Read a file that `write_json_lines` wrote.

    Raises:
        ValueError: it is not a report, or lines are missing.
    """
    rest = (value for _, value in read_lines(file))
    first = next(rest, None)
    head = first if isinstance(first, dict) else {}
    if head.get("format") != _LINES_FORMAT:
        raise ValueError(f"{file}: expected a file of format {_LINES_FORMAT!r}, got {head.get('format')!r}")
    names = [entry["name"] for entry in head["metrics"]]
    scores: dict[str, list[float]] = {name: [] for name in names}
    parts: list[Responses] = []
    while rows := list(islice(rest, _LINES_CHUNK)):
        parts.append(_of_rows(rows))
        for name in names:
            scores[name].extend(float(row["scores"][name]) for row in rows)
    responses = Responses.concatenated(parts or [_of_rows([])])
    if len(responses) != head["responses"]:
        raise ValueError(f"{file}: expected {head['responses']} responses, got {len(responses)}")
    failures = {entry["name"]: dict(entry.pop("failures", ())) for entry in head["metrics"]}
    return Contents(responses, {name: np.array(values) for name, values in scores.items()}, failures, head)


def keys_in_json_lines(file: Path) -> tuple[set[Key], list[dict[str, Any]]]:
    """Return the keys of the responses and the entry of each metric; both are empty if the file is not a report."""
    lines = (value for _, value in read_lines(file))
    head = next(lines, None)
    if not isinstance(head, dict) or head.get("format") != _LINES_FORMAT:
        return set(), []
    keys = {(row["sample_id"], row["condition"], row["draw"]) for row in lines}
    return keys, list(head["metrics"])


def _of_rows(rows: Sequence[Mapping[str, Any]]) -> Responses:
    values: dict[str, Any] = {}
    for name in _FIELDS:
        like = getattr(_BLANK, name)
        column = [row.get(name, _LATER_FIELDS[name]) if name in _LATER_FIELDS else row[name] for row in rows]
        if not isinstance(like, Tensor):
            values[name] = tuple(_as_tuples(value) for value in column)
        elif like.dtype == torch.int64:
            values[name] = torch.tensor(column, dtype=like.dtype)
        else:
            shape = (len(rows), *((len(column[0]) if column else 0,) if like.ndim == 2 else ()))
            values[name] = torch.tensor(_floats(column), dtype=like.dtype).reshape(shape)
    return _with_shared_texts(values)


def _with_shared_texts(values: dict[str, Any]) -> Responses:
    values["own_think"], values["text"] = within_thoughts(values["think"], values["own_think"], values["text"])
    return Responses(**values)


def _as_tuples(value: Any) -> Any:
    """Convert lists in a JSON value to tuples, except within objects."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _floats(value: Any) -> Any:
    return [_floats(part) for part in value] if isinstance(value, list) else float(value)


def write_parquet(file: Path, contents: Contents) -> None:
    """Write a report as Parquet, in chunks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    responses = contents.responses
    head = {"format": _COLUMNS_FORMAT, **contents.head, "widths": _widths(responses)}
    kinds = _kinds(responses)
    repeated = _repeated(kinds)
    schema = pa.schema(
        [
            *((name, _type_of(kind, getattr(responses, name))) for name, kind in kinds.items() if kind != "none"),
            *((_SCORE + name, pa.float64()) for name in contents.scores),
            *((_FAILURE + name, pa.string()) for name in contents.failures),
        ],
        metadata={_HEAD: json.dumps(json_safe(head), default=str)},
    )
    with (
        atomic_draft(file) as draft,
        pq.ParquetWriter(draft, schema, compression="zstd", use_dictionary=repeated, write_statistics=False) as writer,
    ):
        for begin in range(0, len(responses), _CHUNK):
            rows = slice(begin, min(begin + _CHUNK, len(responses)))
            writer.write_table(pa.Table.from_arrays(list(_arrays(contents, kinds, rows)), schema=schema))
    pa.default_memory_pool().release_unused()


def _kinds(responses: Responses) -> dict[str, str]:
    """Return the kind of each field's column: text, json, numbers, rows (of numbers), or none (if of width 0)."""
    kinds: dict[str, str] = {}
    for name in _FIELDS:
        value = getattr(responses, name)
        if not isinstance(value, Tensor):
            kinds[name] = "json" if name in _JSON else "text"
        elif value.ndim == 1:
            kinds[name] = "numbers"
        else:
            kinds[name] = "rows" if value.shape[1] else "none"
    return kinds


def _repeated(kinds: Mapping[str, str]) -> list[str]:
    """Return the columns of texts to encode as a dictionary."""
    return [name for name, kind in kinds.items() if kind in ("text", "json") and name not in _UNIQUE_TEXTS]


def _widths(responses: Responses) -> dict[str, int]:
    values = {name: getattr(responses, name) for name in _FIELDS}
    return {name: value.shape[1] for name, value in values.items() if isinstance(value, Tensor) and value.ndim == 2}


def _type_of(kind: str, value: Any) -> "pa.DataType":
    import pyarrow as pa

    if kind in ("text", "json"):
        return pa.string()
    number = pa.int64() if value.dtype == torch.int64 else pa.float32()
    return pa.list_(number, value.shape[1]) if kind == "rows" else number


def _arrays(contents: Contents, kinds: Mapping[str, str], rows: slice) -> Iterator["pa.Array"]:
    import pyarrow as pa

    for name, kind in kinds.items():
        values = getattr(contents.responses, name)[rows]
        if name == "own_think":
            pairs = zip(values, contents.responses.think[rows], strict=True)
            values = [None if own == think else own for own, think in pairs]
        if kind == "text":
            yield _texts(values)
        elif kind == "json":
            yield _texts(_encoded(values))
        elif kind == "numbers":
            yield pa.array(values.numpy())
        elif kind == "rows":
            yield pa.FixedSizeListArray.from_arrays(pa.array(values.numpy().ravel()), values.shape[1])
    for scores in contents.scores.values():
        yield pa.array(scores[rows], pa.float64(), from_pandas=False)
    for failures in contents.failures.values():
        yield _texts([failures.get(row) for row in range(rows.start, rows.stop)])


def _texts(values: Sequence[str | None]) -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # a text contains surrogates
        return pa.array([None if value is None else writable(value) for value in values], pa.string())


def _encoded(values: Sequence[Any]) -> list[str]:
    """Return values as JSON; shared objects are encoded once."""
    texts: dict[int, str] = {}
    for value in values:
        if id(value) not in texts:
            texts[id(value)] = json.dumps(json_safe(value), ensure_ascii=False, allow_nan=False, default=str)
    return [texts[id(value)] for value in values]


def read_parquet(file: Path) -> Contents:
    """Read a file that `write_parquet` wrote.

    Raises:
        ValueError: it is not a report, or is incomplete.
    """
    with _opened(file) as (opened, head):
        return _read_contents(opened, head)


def keys_in_parquet(file: Path) -> tuple[set[Key], list[dict[str, Any]]]:
    """Return the keys of the responses and the entry of each metric; both are empty if the file is not a report."""
    try:
        with _opened(file) as (opened, head):
            return _read_keys(opened), list(head["metrics"])
    except _OtherFormatError:
        return set(), []


def _read_keys(opened: "pq.ParquetFile") -> set[Key]:
    table = opened.read(list(_KEY))
    return set(zip(*(table[name].to_pylist() for name in _KEY), strict=True))


class _OtherFormatError(ValueError):
    """A Parquet file is not a report."""


@contextmanager
def _opened(file: Path) -> "Iterator[tuple[pq.ParquetFile, dict[str, Any]]]":
    """Open a report, and yield the file and its head."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, thrift_string_size_limit=_MAX_METADATA_BYTES) as opened:
            metadata, schema = opened.metadata, opened.schema_arrow
        head = json.loads((schema.metadata or {}).get(_HEAD, b"{}"))
        if head.get("format") != _COLUMNS_FORMAT:
            raise _OtherFormatError(
                f"{file}: expected a file of format {_COLUMNS_FORMAT!r}, got {head.get('format')!r}"
            )
        if metadata.num_rows != head["responses"]:
            raise ValueError(f"{file}: expected {head['responses']} responses, got {metadata.num_rows}")
        kinds = {name: kind for name, kind in _kinds(_BLANK).items() if kind != "none"}
        expected = [name for name in kinds if name not in _LATER_FIELDS]
        expected += [_SCORE + metric["name"] for metric in head["metrics"]]
        if missing := [name for name in expected if name not in schema.names]:
            raise ValueError(f"{file}: expected the columns of a report, got none of {', '.join(missing)}")
        dictionaries = [name for name in _repeated(kinds) if name in schema.names]
        with pq.ParquetFile(file, metadata=metadata, read_dictionary=dictionaries) as opened:
            yield opened, head
        pa.default_memory_pool().release_unused()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{file}: expected the columns of a report, got a file that cannot be read: {error}") from None


def _read_contents(opened: "pq.ParquetFile", head: dict[str, Any]) -> Contents:
    names = [metadata["name"] for metadata in head["metrics"]]
    with_failures = [name for name in names if _FAILURE + name in opened.schema_arrow.names]
    parts: list[Responses] = []
    scores: dict[str, list[Any]] = {name: [] for name in names}
    failures: dict[str, dict[int, str]] = {name: {} for name in with_failures}
    begin = 0
    for part in range(opened.num_row_groups):
        table = opened.read_row_group(part)
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        parts.append(_of_columns(columns, table.num_rows, head["widths"]))
        for name in names:
            scores[name].append(columns[_SCORE + name].to_numpy())
        for name in with_failures:
            messages = enumerate(columns[_FAILURE + name].to_pylist(), start=begin)
            failures[name].update((row, why) for row, why in messages if why is not None)
        begin += table.num_rows
    responses = Responses.concatenated(parts or [_BLANK])
    return Contents(responses, {name: np.concatenate([*scores[name], []]) for name in names}, failures, head)


def _of_columns(columns: Mapping[str, Any], count: int, widths: Mapping[str, int]) -> Responses:
    values: dict[str, Any] = {}
    for name in _FIELDS:
        like = getattr(_BLANK, name)
        if name not in columns and name in _LATER_FIELDS:
            values[name] = (_LATER_FIELDS[name],) * count
        elif not isinstance(like, Tensor):
            values[name] = tuple(_python_values(columns[name], decode=name in _JSON))
        elif like.ndim == 2:
            width = widths[name]
            numbers = columns[name].flatten().to_numpy() if width else np.empty(0, np.float32)
            values[name] = torch.tensor(numbers.reshape(count, width))
        else:
            values[name] = torch.tensor(columns[name].to_numpy())
    pairs = zip(values["own_think"], values["think"], strict=True)
    values["own_think"] = [think if own is None else own for own, think in pairs]
    return _with_shared_texts(values)


def _python_values(column: Any, *, decode: bool) -> list[Any]:
    """Return a column's values; equal ones share an object if the column is dictionary-encoded."""
    if not hasattr(column, "dictionary"):
        values: list[Any] = column.to_pylist()
        return values
    distinct = column.dictionary.to_pylist()
    if decode:
        distinct = [_as_tuples(json.loads(text)) for text in distinct]
    distinct.append(None)  # for index -1
    return list(map(distinct.__getitem__, column.indices.fill_null(-1).to_pylist()))
