"""Convert cells to fields of a sample, with errors that say what was expected and what came."""

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from ..prompting import LETTERS
from .cells import from_cell, from_json, looks_nested

__all__ = [
    "AnswerAs",
    "Fetch",
    "from_base64",
    "from_json",
    "images_of",
    "index_of",
    "is_base64_image",
    "is_missing",
    "name_of",
    "options_of",
    "texts_of",
]

AnswerAs = Literal["any", "index", "letter", "text"]
Fetch = Callable[[str], bytes]

_SHORT = 64  # characters; a shorter cell is not an image in base64 (VLMEvalKit, image_base.py)
_IMAGE_BEGINS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_BOOLEANS = ("true", "false")
_OBJECT = re.compile(r"\s*\{\s*(?:[\"']|\}\s*\Z)")


def is_missing(value: object) -> bool:
    """Return whether a cell is empty: null, the empty string, or NaN (as pandas writes it).

    Example:
        >>> is_missing(None), is_missing(""), is_missing(float("nan")), is_missing(0)
        (True, True, True, False)
    """
    return value is None or (isinstance(value, str) and not value) or (isinstance(value, float) and math.isnan(value))


def name_of(value: Any) -> str:
    """Return an id or the name of a group as text, from text or a number.

    Raises:
        ValueError: it is neither.

    Example:
        >>> name_of("q1"), name_of(17)
        ('q1', '17')
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected text or a number, got {type(value).__name__}: {value!r:.80}")
    return str(value)


def options_of(value: Any) -> tuple[str, ...]:
    """Return the options from a list, from a list written as text, or from a mapping of the letters A, B, … to texts.

    The values True and False, to which spreadsheets convert these words, become the options "True" and "False".

    Raises:
        ValueError: it is none of these, or an option is neither text nor a number.

    Example:
        >>> options_of(["red", 3]), options_of('{"A": "red", "B": "blue"}'), options_of("['red', 'blue']")
        (('red', '3'), ('red', 'blue'), ('red', 'blue'))
    """
    value = from_cell(value)
    if isinstance(value, Mapping):
        letters = sorted(letter for letter in value if not is_missing(value[letter]))
        if letters != list(LETTERS[: len(letters)]):
            raise ValueError(f"expected options under the letters A, B, … without a gap, got {letters}")
        value = [value[letter] for letter in letters]
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise ValueError(f"expected a list of options, got {type(value).__name__}: {value!r:.80}")
    for index, option in enumerate(value):
        if not isinstance(option, str | int | float) or option != option:
            raise ValueError(f"expected text in every option, got {type(option).__name__} at index {index}: {option!r}")
    return tuple(str(option) for option in value)


def index_of(value: Any, options: Sequence[str], written_as: AnswerAs = "any") -> int:
    """Return the index of the option that a cell names.

    Three readings are tried: an index from 0 (`2`, `"2"`), a capital letter (`"C"`, `"(C)"`, `"C."`, `"C. blue"` if the
    third option is "blue"), and an option's exact text, ignoring white space. All valid readings have to agree: with
    the options 1, 2, 3 the answer "2" is the index of one option and the text of another, and is refused unless
    `written_as` decides.

    Args:
        value: the cell.
        options: the sample's options.
        written_as: "any", or the only reading to try: "index", "letter" or "text".

    Raises:
        ValueError: no reading is valid, or two differ.

    Example:
        >>> index_of("C", ["red", "blue", "green"]), index_of("blue", ["red", "blue"]), index_of(0, ["red", "blue"])
        (2, 1, 0)
        >>> index_of("2", ["1", "2", "3"], written_as="text")
        1
    """
    readings = {
        name: index
        for name, index in (
            ("index", _as_index(value, len(options))),
            ("letter", _as_letter(value, options)),
            ("text", _as_text(value, options)),
        )
        if index is not None and written_as in ("any", name)
    }
    if len(set(readings.values())) == 1:
        return next(iter(readings.values()))
    got = f"{value!r:.80} with the options {list(options)!r:.200}"
    if readings:
        found = " and ".join(f"{name} means {options[index]!r}" for name, index in readings.items())
        hint = "write a letter, or say which with answer_as"
        raise ValueError(f"expected an answer with one meaning, got {got}: as {found}; {hint}")
    expected = (
        f"an index from 0 to {len(options) - 1}, a letter from A to {LETTERS[len(options) - 1]}, or an option's text"
    )
    raise ValueError(f"expected {expected if written_as == 'any' else f'the {written_as} of an option'}, got {got}")


def _as_index(value: Any, count: int) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count else None


def _as_letter(value: Any, options: Sequence[str]) -> int | None:
    if not isinstance(value, str):
        return None
    head, _, rest = value.strip().lstrip("(").partition(" ")
    letter = head.rstrip(".):")
    if len(letter) != 1 or letter not in LETTERS[: len(options)]:
        return None
    index = LETTERS.index(letter)
    return index if not rest.strip() or _same_text(rest, options[index]) else None


def _as_text(value: Any, options: Sequence[str]) -> int | None:
    if not isinstance(value, str | int | float):
        return None
    text = str(value)
    exact = (index for index, option in enumerate(options) if _same_text(text, option))
    # Spreadsheets convert True to TRUE, in the answer or in an option.
    word = text.strip().lower()
    alike = (index for index, option in enumerate(options) if word in _BOOLEANS and option.strip().lower() == word)
    return next(chain(exact, alike), None)


def _same_text(first: str, second: str) -> bool:
    return first.split() == second.split()


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
        return base64.b64decode(value[:_SHORT], validate=True).startswith(_IMAGE_BEGINS)
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


def texts_of(value: Any, options: Sequence[str]) -> str | dict[int, str]:
    """Return a caption or thought: a string, or a mapping from the asserted option (index, letter or text) to a string.

    Raises:
        ValueError: it is neither, or a key is not an option.

    Example:
        >>> texts_of({"B": "A blue cube."}, ["red", "blue"])
        {1: 'A blue cube.'}
        >>> texts_of("[Photo] A blue cube.", ["red", "blue"])
        '[Photo] A blue cube.'
    """
    if isinstance(value, str) and _OBJECT.match(value):  # other brackets belong to the caption
        value = from_cell(value)
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a text, or a mapping from option to text, got {type(value).__name__}")
    texts: dict[int, str] = {}
    for key, text in value.items():
        if is_missing(text):
            continue
        if not isinstance(text, str):
            raise ValueError(f"expected a text for option {key!r}, got {type(text).__name__}")
        index = index_of(key, options)
        if index in texts:
            raise ValueError(f"expected one text per option, got two for option {options[index]!r}")
        texts[index] = text
    return texts
