"""Convert a row, with its images, to a sample strictly: every problem is reported with place, sample and field."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from ..secrecy import error_message, error_text, without_secrets
from ..types import Sample
from ..types.image import decoded
from .fields import (
    AnswerAs,
    from_cell,
    index_of,
    is_missing,
    looks_nested,
    mere_number,
    name_of,
    nested_or_text,
    options_of,
    texts_of,
)

__all__ = [
    "FIELDS",
    "NUMBERED_MARK",
    "TEXTS",
    "Columns",
    "Counted",
    "Row",
    "RowReader",
    "column_of",
    "from_base64",
    "images_of",
    "is_base64_image",
]

TEXTS = ("wrong_caption", "correct_caption", "wrong_think", "correct_think")
FIELDS = ("id", "image", "images", "question", "options", "answer", "distractor", "group", "texts", *TEXTS, "metadata")
NUMBERED_MARK = re.compile(r"<image[ _-]?(\d{1,3})>", re.IGNORECASE)
_ENDLESS, _SHOWN = re.compile(r"\S{400,}"), 80
_IMAGE_COLUMNS = ("image", "images", "file_name", "file_names")

_SHORT = 64  # characters; a shorter cell is not an image in base64 (VLMEvalKit, image_base.py)
_IMAGE_BEGINS = re.compile(rb"(?s:\x89PNG|\xff\xd8\xff|GIF8|RIFF|BM|II\*\0|MM\0\*|.{4}ftyp(?:avi[fs]|mif1|msf1))")

Columns = Mapping[str, str | Sequence[str]]
Fetch = Callable[[str], bytes]
Value = TypeVar("Value")

# Exceptions that invalid cells may cause; any other is a bug.
_INVALID_CELL = (ValueError, OSError, OverflowError, RecursionError, TypeError)


@dataclass(frozen=True, slots=True)
class Row:
    """One row and its place.

    Attributes:
        place: its place, for messages, such as `rows.jsonl, line 3`.
        values: its cells by column.
        problem: why the row could not be read at all; None = it was read.
        left_out: why the row is not a multiple-choice question and has no sample; None = it is one.
        is_text: whether every cell is text, as in CSV, including lists and objects.
    """

    place: str
    values: Mapping[str, Any]
    problem: str | None = None
    left_out: str | None = None
    is_text: bool = False


def column_of(field: str, columns: Columns) -> str:
    """Return the column of a field, the first of several."""
    column = columns.get(field, field)
    return column if isinstance(column, str) else column[0]


class Counted(NamedTuple):
    """An answer that is a mere number.

    Attributes:
        number: the number.
        options: how many options there are.
        option: the index of the option that it was read as; None = no option, or two: one as an index, another as text.
    """

    number: int
    options: int
    option: int | None


class RowReader:
    """Convert one row to a sample, and collect its problems.

    Attributes:
        problems: one message per problem.
        changes: one message per decoded image that is changed before the model sees it.
        counted: the answer, if it is a mere number.
    """

    def __init__(
        self, row: Row, columns: Columns, root: Path | None, answer_as: AnswerAs, fetch: Fetch | None = None
    ) -> None:
        self.row, self.columns, self.root, self.answer_as, self.fetch = row, columns, root, answer_as, fetch
        self.problems: list[str] = []
        self.changes: list[str] = []
        self.counted: Counted | None = None
        self._used: set[str] = set()
        self._name = "<no id>"

    def refuse(self, field: str, problem: object) -> None:
        """Record a problem of a field, with its column if that has another name."""
        columns = self.columns.get(field, field)
        named = [columns] if isinstance(columns, str) else columns
        where = "" if columns == field else f", column{'s' * (len(named) > 1)} {', '.join(map(repr, named))}"
        self._note(f"sample {self._name!r}, field {field!r}{where}: {problem}")

    def _note(self, problem: str) -> None:
        # Messages repeat parts of the row, where a URL may be signed.
        def shortened(found: re.Match[str]) -> str:  # such as an image in base64
            return f"{found[0][:_SHOWN]}… ({len(found[0])} characters)"

        self.problems.append(f"{self.row.place}: {_ENDLESS.sub(shortened, without_secrets(problem))}")

    def sample(self, number: str | None, check_images: bool) -> Sample | None:
        """Return the sample; None if the row has problems other than those of its image files.

        Args:
            number: the id of a row in a file without ids.
            check_images: whether to decode the images.
        """
        if self.row.problem is not None:
            self._note(self.row.problem)
            return None
        fields: dict[str, Any] = {"id": number or self._read("id", name_of, required=True)}
        self._name = fields["id"] or self._name
        fields["question"] = self._read("question", _text, required=True)
        fields["options"] = options = self._read("options", options_of, required=True)
        if options is not None:
            index = partial(index_of, options=options, written_as=self.answer_as)
            fields["answer"] = self._read("answer", index, required=True)
            if self.answer_as in ("any", "index"):
                counted = mere_number(self._cell("answer"), options)
                self.counted = None if counted is None else Counted(counted, len(options), fields["answer"])
            fields["distractor"] = self._read("distractor", index)
            fields["texts"] = self._texts(options)
        fields["group"] = self._read("group", name_of)
        fields["images"] = self._images()
        self._place_images(fields)
        fields["metadata"] = self._metadata()
        sample = None
        if not self.problems:
            try:
                sample = Sample(**fields)
            except ValidationError as error:
                for problem in error.errors(include_url=False):
                    self._note(problem["msg"].removeprefix("Value error, "))
        for position, image in enumerate(fields["images"] or ()):
            unreadable, change = _check_image(image, check_images)
            if unreadable:
                self.refuse(f"images.{position}", unreadable)
            if change:
                self.changes.append(f"{self.row.place}: sample {self._name!r}, field 'images.{position}': {change}")
        return sample

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

    def _read(self, field: str, convert: Callable[[Any], Value], *, required: bool = False) -> Value | None:
        if (value := self._cell(field)) is not None:
            return self._converted(field, value, convert)
        if required:
            got = "none"
            if (column := column_of(field, self.columns)) not in self.row.values:
                got = f"the columns {', '.join(map(str, self.row.values))}; give the column of the field in 'columns'"
            self.refuse(field, f"expected a value in column {column!r}, got {got}")
        return None

    def _converted(self, field: str, value: Any, convert: Callable[[Any], Value]) -> Value | None:
        try:
            return convert(value)
        except _INVALID_CELL as error:
            self.refuse(field, error_message(error) if isinstance(error, ValueError) else error_text(error))
            return None

    def _texts(self, options: Sequence[str]) -> dict[str, Any]:
        convert = partial(texts_of, options=options)
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

        def convert(value: Any) -> tuple[Any, ...]:
            if not isinstance(self.columns.get(found[0], ""), str):  # several columns
                value = [cell for cell in value if not is_missing(cell)]
            return images_of(value, self.root, self.fetch)

        return self._read(found[0], convert)

    def _place_images(self, fields: dict[str, Any]) -> None:
        """Replace numbered image marks by plain ones, and sort the images accordingly, if each has one mark."""
        question, images = fields["question"], fields["images"]
        if question is None or images is None:
            return
        numbers = [int(number) for number in NUMBERED_MARK.findall(question)]
        if outside := [number for number in numbers if not 1 <= number <= len(images)]:
            self.refuse("question", f"expected marks of images up to <image {len(images)}>, got <image {outside[0]}>")
        elif sorted(numbers) == list(range(1, len(images) + 1)):
            fields["question"] = NUMBERED_MARK.sub("<image>", question)
            fields["images"] = tuple(images[number - 1] for number in numbers)

    def _metadata(self) -> dict[str, Any]:
        given = self._read("metadata", _mapping) or {}
        others = {name: value for name, value in self.row.values.items() if name not in self._used}
        if both := sorted(set(given) & set(others)):
            self.refuse("metadata", f"expected each name once, got {both[0]!r} in 'metadata' and as a column")
        if self.row.is_text:
            others = {name: nested_or_text(value) for name, value in others.items()}
        return {**given, **{name: value for name, value in others.items() if _is_json(value)}}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}: {value!r:.80}")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    value = from_cell(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping, got {type(value).__name__}: {value!r:.80}")
    return value


def _is_json(value: Any) -> bool:
    """Return whether a value can be saved as JSON, unlike images and other binary columns."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | int | float | bool)


def images_of(value: Any, root: Path | None, fetch: Fetch | None = None) -> tuple[Any, ...]:
    """Return the images of a cell: one or a list of paths, bytes, PIL images or `{"bytes": …, "path": …}`.

    A `data:` URL and a file in base64 are decoded. `{"path": …, "sha256": …}` is a URL whose content must have this
    sha256.

    Args:
        value: the cell.
        root: the folder that relative paths start from; None = the current one.
        fetch: downloads the bytes at a URL; None = refuse URLs.

    Raises:
        ValueError: the cell is something else, or a URL that is refused or cannot be downloaded.

    Example:
        >>> [path.as_posix() for path in images_of(["a.png", "b.png"], Path("images"))]
        ['images/a.png', 'images/b.png']
        >>> images_of("data:image/png;base64,YWJj", None)
        (b'abc',)
    """
    if looks_nested(value):  # a file name may be [1].png
        value = from_cell(value)
    if isinstance(value, Mapping | str | bytes) or not isinstance(value, Sequence):
        value = [value]
    if not value:
        raise ValueError("expected at least one image, got an empty list")
    return tuple(_image(image, root, fetch) for image in value)


def _image(value: Any, root: Path | None, fetch: Fetch | None) -> Any:
    sha256 = None
    if isinstance(value, Mapping):  # an image that `datasets` has not decoded
        sha256 = value.get("sha256")
        value = value.get("bytes") or value.get("path")
    if is_missing(value):
        raise ValueError("expected an image, got an empty cell")
    if isinstance(value, list) or hasattr(value, "shape"):
        raise ValueError(
            f"expected a path, bytes or a PIL image, got {type(value).__name__}; of an array, give PIL.Image.fromarray"
        )
    if not isinstance(value, str | Path):
        return value
    if str(value).startswith(("http://", "https://")):
        if fetch is None:
            raise ValueError(
                f"expected the path of an image file, got an address: {str(value)!r:.80}; "
                "to fetch it, pass download_urls=True"
            )
        return _checked(fetch(str(value)), sha256, str(value))
    if str(value).startswith("data:"):
        head, _, data = str(value).partition(",")
        if not head.endswith(";base64"):
            raise ValueError(f"expected a data URL in base64, got {head!r:.80}")
        return from_base64(data)
    if is_base64_image(value):
        return from_base64("".join(str(value).split()))
    return Path(value) if root is None else root / value


def is_base64_image(value: object) -> bool:
    r"""Return whether a cell is an image file in base64, judged by its first bytes.

    Example:
        >>> is_base64_image(base64.b64encode(b"\x89PNG" + bytes(80)).decode()), is_base64_image("iVBORw0KGgo.png")
        (True, False)
    """
    if not isinstance(value, str) or len(value) < _SHORT:
        return False
    try:
        return _IMAGE_BEGINS.match(base64.b64decode(value[:_SHORT], validate=True)) is not None
    except ValueError:
        return False


def _checked(content: bytes, sha256: str | None, address: str) -> bytes:
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(f"expected the image with sha256 {sha256} at {address!r}, got another: {found}")
    return content


def from_base64(value: str) -> bytes:
    """Decode a text in base64.

    Raises:
        ValueError: it is not valid base64.

    Example:
        >>> from_base64("YWJj")
        b'abc'
    """
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError(f"expected an image in base64, got {value!r:.40}: {error}") from error


def _check_image(image: Any, decode: bool) -> tuple[str, str]:
    """Return the problem of an image, and how it is changed before the model sees it; both may be empty."""
    if isinstance(image, Path):
        try:
            is_there = image.is_file()
        except OSError as error:  # an impossible file name, such as base64 without `data:`
            return f"expected the path of an image file, got {str(image)!r:.80}: {error.strerror}", ""
        if not is_there:
            return f"expected an image file, found none at {str(image)!r:.300}", ""
    if not decode:
        return "", ""
    try:
        return "", decoded(image).change
    except OSError as error:
        return str(error), ""
