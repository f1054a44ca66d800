"""Rows → samples, strictly: every problem is found, and named by place, sample and field."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from ..types import Sample, open_image
from .fields import AnswerAs, from_json_text, images_of, index_of, is_missing, options_of, texts_of

__all__ = ["FIELDS", "TEXTS", "AnswerAs", "Columns", "Row", "RowsError", "Samples", "samples_from"]

TEXTS = ("wrong_caption", "correct_caption", "wrong_think", "correct_think")
FIELDS = ("id", "image", "images", "question", "options", "answer", "distractor", "group", "texts", *TEXTS, "metadata")
_IMAGE_COLUMNS = ("image", "images", "file_name", "file_names")
_SHOWN = 20

Columns = Mapping[str, str | Sequence[str]]
Value = TypeVar("Value")


class RowsError(ValueError):
    """Rows that make no samples; the message lists the first twenty problems.

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
    """A list of samples, with what was wrong with rows that made none.

    Attributes:
        problems: one message per problem; empty unless `on_error="record"`.
    """

    def __init__(self, samples: Iterable[Sample] = (), problems: Sequence[str] = ()) -> None:
        super().__init__(samples)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands.

    Attributes:
        place: for messages, such as `rows.jsonl, line 3`.
        values: by column.
        problem: why the row could not be read at all; None = it could.
    """

    place: str
    values: Mapping[str, Any]
    problem: str | None = None


def samples_from(
    rows: Iterable[Mapping[str, Any] | Row],
    columns: Columns | None = None,
    *,
    root: str | Path | None = None,
    on_error: Literal["raise", "record"] = "raise",
    check_images: bool = False,
    answer_as: AnswerAs = "any",
) -> Samples:
    """Make samples of rows.

    A row has the columns `id`, `image` (or `images`, or `file_name`), `question`, `options` and `answer`, and perhaps
    `distractor`, `group`, `texts` or single texts such as `wrong_caption`. All others become metadata, as
    far as they are JSON values. If no row has a column `id`, the rows are numbered from 0.

    Args:
        rows: mappings from column to value.
        columns: which column holds a field, where it is not called like it: `{"question": "prompt"}`. Options may lie
            in several columns: `{"options": ["A", "B", "C", "D"]}`; empty cells among them are no options.
        root: the folder that relative image paths start from; None = the current one.
        on_error: "raise" collects all problems into one error. "record" leaves bad rows out and lists them in
            `problems`; a row whose only fault is its image stays, so that a run lists it as an error.
        check_images: decode every image now; otherwise only the files' presence is checked.
        answer_as: how `answer` and `distractor` are read, see `fields.index_of`: "any" takes an index, a letter or an
            option's text, and refuses what can be read in two ways.

    Raises:
        RowsError: something is wrong with a row; each problem names place, sample and field.
        ValueError: `columns` names an unknown field or a column that no row has.

    Example:
        >>> [sample] = samples_from([{"id": "q1", "image": b"bytes of a file", "question": "Which colour?",
        ...                           "options": ["red", "blue"], "answer": "B", "kind": "colour"}])
        >>> sample.answer, sample.metadata
        (1, {'kind': 'colour'})
    """
    placed = [row if isinstance(row, Row) else Row(f"row {number}", row) for number, row in enumerate(rows)]
    mapping = _checked_columns(columns or {}, placed)
    numbered = not any(_column("id", mapping) in row.values for row in placed)
    places: dict[str, str] = {}
    samples: list[Sample] = []
    problems: list[str] = []
    for number, row in enumerate(placed):
        reader = _RowReader(row, mapping, None if root is None else Path(root), answer_as)
        sample = reader.sample(str(number) if numbered else None, check_images)
        if sample is not None and sample.id in places:
            reader.refuse("id", f"expected ids that differ, got the same at {places[sample.id]}")
            sample = None
        if sample is not None:
            places[sample.id] = row.place
            samples.append(sample)
        problems += reader.problems
    if problems and on_error == "raise":
        raise RowsError(problems)
    if not samples:
        raise RowsError(problems or ["expected at least one row, got none"])
    return Samples(samples, problems)


def _column(field: str, mapping: Columns) -> str:
    column = mapping.get(field, field)
    return column if isinstance(column, str) else column[0]


def _checked_columns(columns: Columns, rows: Sequence[Row]) -> Columns:
    if unknown := sorted(set(columns) - set(FIELDS)):
        raise ValueError(f"expected columns for the fields {', '.join(FIELDS)}, got {', '.join(unknown)}")
    there = {column for row in rows for column in row.values}
    for field, names in columns.items():
        for name in [names] if isinstance(names, str) else names:
            if there and name not in there:
                raise ValueError(
                    f"columns, field {field!r}: expected one of the columns {', '.join(sorted(there))}, got {name!r}"
                )
        if not isinstance(names, str) and field != "options":
            raise ValueError(f"columns, field {field!r}: expected one column, got {list(names)!r}")
    return columns


class _RowReader:
    """Reads one row and collects what is wrong with it."""

    def __init__(self, row: Row, columns: Columns, root: Path | None, answer_as: AnswerAs) -> None:
        self.row, self.columns, self.root, self.answer_as = row, columns, root, answer_as
        self.problems: list[str] = []
        self._used: set[str] = set()
        self._name = "<no id>"

    def refuse(self, field: str, problem: object) -> None:
        self.problems.append(f"{self.row.place}: sample {self._name!r}, field {field!r}: {problem}")

    def sample(self, number: str | None, check_images: bool) -> Sample | None:
        """Return the sample, or None where something else than an image file is wrong.

        Args:
            number: the id of a row in a file without ids.
            check_images: decode the images.
        """
        if self.row.problem is not None:
            self.problems.append(f"{self.row.place}: {self.row.problem}")
            return None
        fields: dict[str, Any] = {"id": number or self._required("id", str)}
        self._name = fields["id"] or self._name
        fields["question"] = self._required("question", _text)
        fields["options"] = options = self._required("options", options_of)
        if options is not None:
            fields["answer"] = self._required("answer", self._index_in(options))
            fields["distractor"] = self._read("distractor", self._index_in(options))
            fields["texts"] = self._texts(options)
        fields["group"] = self._read("group", str)
        fields["images"] = self._images()
        fields["metadata"] = self._metadata()
        sample = None if self.problems else self._built(fields)
        for position, image in enumerate(fields["images"] or ()):
            if problem := _image_problem(image, check_images):
                self.refuse(f"images.{position}", problem)
        return sample

    def _built(self, fields: Mapping[str, Any]) -> Sample | None:
        try:
            return Sample(**fields)
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                self.problems.append(f"{self.row.place}: {problem['msg'].removeprefix('Value error, ')}")
            return None

    def _cell(self, field: str) -> Any:
        columns = self.columns.get(field, field)
        if isinstance(columns, str):
            self._used.add(columns)
            value = self.row.values.get(columns)
            return None if is_missing(value) else value
        self._used.update(columns)
        values = [self.row.values.get(column) for column in columns]
        while values and is_missing(values[-1]):  # fewer options than columns; a gap in between is refused later
            values.pop()
        return values

    def _read(self, field: str, convert: Callable[[Any], Value]) -> Value | None:
        value = self._cell(field)
        return None if value is None else self._converted(field, value, convert)

    def _required(self, field: str, convert: Callable[[Any], Value]) -> Value | None:
        value = self._cell(field)
        if value is None:
            self.refuse(field, f"expected a value in column {_column(field, self.columns)!r}, got none")
            return None
        return self._converted(field, value, convert)

    def _converted(self, field: str, value: Any, convert: Callable[[Any], Value]) -> Value | None:
        try:
            return convert(value)
        except ValueError as error:
            self.refuse(field, error)
            return None

    def _index_in(self, options: Sequence[str]) -> Callable[[Any], int]:
        return lambda value: index_of(value, options, self.answer_as)

    def _texts(self, options: Sequence[str]) -> dict[str, Any]:
        def convert(value: Any) -> str | dict[int, str]:
            return texts_of(value, options)

        given = self._read("texts", _mapping) or {}
        texts = {name: self._converted(f"texts.{name}", text, convert) for name, text in given.items() if text}
        for name in TEXTS:
            if (text := self._read(name, convert)) is not None:
                if name in texts:
                    self.refuse(name, "expected the text once, got it in 'texts' and in a column of its own")
                texts[name] = text
        return texts

    def _images(self) -> tuple[Any, ...] | None:
        found = [name for name in _IMAGE_COLUMNS if self._cell(name) is not None]
        if len(found) != 1:
            got = " and ".join(map(repr, found)) or "none"
            self.refuse("images", f"expected a value in one of the columns 'image' and 'images', got {got}")
            return None
        return self._read(found[0], lambda value: images_of(value, self.root))

    def _metadata(self) -> dict[str, Any]:
        given = self._read("metadata", _mapping) or {}
        others = {name: value for name, value in self.row.values.items() if name not in self._used}
        if both := sorted(set(given) & set(others)):
            self.refuse("metadata", f"expected each name once, got {both[0]!r} in 'metadata' and as a column")
        return {**given, **{name: value for name, value in others.items() if _is_json(value)}}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}: {value!r:.80}")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    value = from_json_text(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping, got {type(value).__name__}: {value!r:.80}")
    return value


def _is_json(value: Any) -> bool:
    """Whether a value can stand in a run's manifest: pictures and other binary columns can not."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | int | float | bool)


def _image_problem(image: Any, decode: bool) -> str | None:
    if isinstance(image, Path) and not image.is_file():
        return f"expected an image file, found none at {str(image)!r}"
    if decode:
        try:
            open_image(image)
        except OSError as error:
            return str(error)
    return None
