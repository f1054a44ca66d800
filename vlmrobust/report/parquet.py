"""Read and write a report as one Parquet file: a column per field and metric, and a head in the file's metadata.

Any Parquet reader opens it (`pandas.read_parquet`). Numbers and texts have their native types; options, their order,
earlier turns, token counts and the samples' metadata are JSON. `own_think` is null if it equals `think`, which saves
space: texts are most of a report, and most thoughts have no prefill.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..jsonl import atomic_draft, json_safe
from ..text import writable
from ..types import Responses
from ..types.responses import within_thoughts
from .contents import LATER_FIELDS, Contents, Key, as_tuples

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["FORMAT", "read_columns", "read_keys", "write_columns"]

Result = TypeVar("Result")

FORMAT = "vlmrobust report 2"
"""The format in the head."""

_HEAD = b"vlmrobust"  # key in the schema's metadata
_CHUNK = 20_000  # rows to read or write at once, which needs twice their memory
_SCORE, _FAILURE = "scores.", "failures."  # prefixes of a metric's columns
_KEY = ("sample_id", "condition", "draw")
_JSON = frozenset({"options", "order", "history", "option_tokens", "metadata"})
_UNIQUE_TEXTS = frozenset({"think", "own_think", "text"})  # rarely repeated, unlike other texts
_BLANK = Responses.of([], [])
_MAX_METADATA_BYTES = 2**31 - 1  # the metadata contain the manifest


def write_columns(file: Path, contents: Contents) -> None:
    """Write a report as Parquet, in chunks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    responses = contents.responses
    head = json.dumps(json_safe({"format": FORMAT, **contents.head, "widths": _widths(responses)}), default=str)
    kinds = _kinds(responses)
    schema = pa.schema(
        [
            *((name, _type_of(kind, getattr(responses, name))) for name, kind in kinds.items() if kind != "none"),
            *((_SCORE + name, pa.float64()) for name in contents.scores),
            *((_FAILURE + name, pa.string()) for name in contents.failures),
        ],
        metadata={_HEAD: head},
    )
    repeated = [name for name, kind in kinds.items() if kind in ("text", "json") and name not in _UNIQUE_TEXTS]
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
    for name in (field.name for field in fields(Responses) if field.init):
        value = getattr(responses, name)
        if not isinstance(value, Tensor):
            kinds[name] = "json" if name in _JSON else "text"
        elif value.ndim == 1:
            kinds[name] = "numbers"
        else:
            kinds[name] = "rows" if value.shape[1] else "none"
    return kinds


def _widths(responses: Responses) -> dict[str, int]:
    values = {field.name: getattr(responses, field.name) for field in fields(Responses)}
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


def read_columns(file: Path) -> Contents:
    """Read a file that `write_columns` wrote.

    Raises:
        ValueError: it is not a report, or is incomplete.
    """
    return _read(file, _read_contents)


def read_keys(file: Path) -> tuple[set[Key], list[dict[str, Any]]]:
    """Return the keys of the responses and the entry of each metric; both are empty if the file is not a report."""

    def read(opened: "pq.ParquetFile", head: Mapping[str, Any]) -> tuple[set[Key], list[dict[str, Any]]]:
        table = opened.read(list(_KEY))
        keys = zip(*(table[name].to_pylist() for name in _KEY), strict=True)
        return set(keys), list(head["metrics"])

    try:
        return _read(file, read)
    except _OtherFormatError:
        return set(), []


class _OtherFormatError(ValueError):
    """A Parquet file is not a report."""


def _read(file: Path, read: "Callable[[pq.ParquetFile, dict[str, Any]], Result]") -> Result:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, thrift_string_size_limit=_MAX_METADATA_BYTES) as opened:
            metadata, schema = opened.metadata, opened.schema_arrow
        head = json.loads((schema.metadata or {}).get(_HEAD, b"{}"))
        if head.get("format") != FORMAT:
            raise _OtherFormatError(f"{file}: expected a file of format {FORMAT!r}, got {head.get('format')!r}")
        if metadata.num_rows != head["responses"]:
            raise ValueError(f"{file}: expected {head['responses']} responses, got {metadata.num_rows}")
        expected = [name for name, kind in _kinds(_BLANK).items() if kind != "none" and name not in LATER_FIELDS]
        expected += [_SCORE + metric["name"] for metric in head["metrics"]]
        if missing := [name for name in expected if name not in schema.names]:
            raise ValueError(f"{file}: expected the columns of a report, got none of {', '.join(missing)}")
        repeated = [name for name, kind in _kinds(_BLANK).items() if kind in ("text", "json") and name in schema.names]
        dictionaries = [name for name in repeated if name not in _UNIQUE_TEXTS]
        with pq.ParquetFile(file, metadata=metadata, read_dictionary=dictionaries) as opened:
            found = read(opened, head)
        pa.default_memory_pool().release_unused()
        return found
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
        parts.append(_responses(columns, table.num_rows, head["widths"]))
        for name in names:
            scores[name].append(columns[_SCORE + name].to_numpy())
        for name in with_failures:
            messages = enumerate(columns[_FAILURE + name].to_pylist(), start=begin)
            failures[name].update((row, why) for row, why in messages if why is not None)
        begin += table.num_rows
    joined = Responses.concatenated(parts) if parts else Responses.of([], [])
    return Contents(joined, {name: np.concatenate([*scores[name], []]) for name in names}, failures, head)


def _responses(columns: Mapping[str, Any], count: int, widths: Mapping[str, int]) -> Responses:
    values: dict[str, Any] = {}
    for name, like in ((field.name, getattr(_BLANK, field.name)) for field in fields(Responses) if field.init):
        if name not in columns and name in LATER_FIELDS:
            values[name] = (LATER_FIELDS[name],) * count
        elif not isinstance(like, Tensor):
            values[name] = tuple(_python_values(columns[name], decode=name in _JSON))
        elif like.ndim == 2:
            width = widths[name]
            numbers = columns[name].flatten().to_numpy() if width else np.empty(0, np.float32)
            values[name] = torch.tensor(numbers.reshape(count, width))
        else:
            values[name] = torch.tensor(columns[name].to_numpy())
    pairs = zip(values["own_think"], values["think"], strict=True)
    own = [think if own is None else own for own, think in pairs]
    values["own_think"], values["text"] = within_thoughts(values["think"], own, values["text"])
    return Responses(**values)


def _python_values(column: Any, *, decode: bool) -> list[Any]:
    """Return a column's values; equal ones share an object if the column is dictionary-encoded."""
    if not hasattr(column, "dictionary"):
        values: list[Any] = column.to_pylist()
        return values
    distinct = column.dictionary.to_pylist()
    if decode:
        distinct = [as_tuples(json.loads(text)) for text in distinct]
    distinct.append(None)  # for index -1
    return list(map(distinct.__getitem__, column.indices.fill_null(-1).to_pylist()))
