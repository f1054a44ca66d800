"""Parse cells: lists and objects that a table holds as text, and the fields of a sample, with precise errors."""

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, Literal

from ..prompting import LETTERS, without_labels

__all__ = [
    "AnswerAs",
    "from_cell",
    "from_json",
    "index_of",
    "is_missing",
    "looks_nested",
    "mere_number",
    "name_of",
    "nested_or_text",
    "options_of",
    "texts_of",
]

AnswerAs = Literal["any", "index", "letter", "text"]
_BOOLEANS = ("true", "false")
_OBJECT = re.compile(r"\s*\{\s*(?:[\"']|\}\s*\Z)")
_CLOSED_BY = {"[": "]", "{": "}"}
_LABEL = re.compile(r"\s*(?:\((\d{1,2})\)|(\d{1,2})[.)](?!\d))")


def from_json(text: str | bytes) -> Any:
    """Parse a JSON text without duplicate keys.

    Raises:
        ValueError: it is not JSON, an object has a key twice (`json` would silently keep the last), a number has more
            digits than Python parses, or it is nested too deeply.

    Example:
        >>> from_json('{"answer": 0, "answer": 1}')
        Traceback (most recent call last):
        ValueError: expected each key of an object once, got 'answer' twice
    """
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("expected JSON that can be parsed, got lists or objects nested too deeply") from None


def looks_nested(value: object) -> bool:
    """Return whether a cell is text that begins and ends like a list or an object.

    Example:
        >>> looks_nested("[red, blue]"), looks_nested("[1].png"), looks_nested(["red"])
        (True, False, False)
    """
    if not isinstance(value, str):
        return False
    text = value.strip()
    return text[:1] in _CLOSED_BY and text.endswith(_CLOSED_BY[text[:1]])


def from_cell(value: Any) -> Any:
    """Parse a cell whose text begins like a list or an object, and return any other unchanged.

    Raises:
        ValueError: it begins like one, but is neither valid JSON nor valid Python.

    Example:
        >>> from_cell('["red", "blue"]'), from_cell("['red', None]"), from_cell("['red' 'blue']"), from_cell("red")
        (['red', 'blue'], ['red', None], ['red', 'blue'], 'red')
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in _CLOSED_BY:
        return value
    try:
        return from_json(value)
    except ValueError as error:
        as_json = error
    try:
        return _from_python(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        kind = "a list" if value.lstrip().startswith("[") else "an object"
        why = error if type(error) is ValueError and "malformed" not in str(error) else as_json
        raise ValueError(
            f"expected {kind}, as JSON or as Python writes it, in a cell that begins with {value.lstrip()[0]!r}, got "
            f"{value!r:.80}: {why}"
        ) from None


def nested_or_text(value: Any) -> Any:
    """Return the list or object in a cell, or the cell unchanged if it is not a valid one.

    Example:
        >>> nested_or_text("{'split': 'val'}"), nested_or_text("[sic] a cube")
        ({'split': 'val'}, '[sic] a cube')
    """
    try:
        return from_cell(value) if looks_nested(value) else value
    except ValueError:
        return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        _check_unique([name for name, _ in pairs])
    return values


def _check_unique(names: list[Any]) -> None:
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"expected each key of an object once, got {duplicates[0]!r} twice")


def _from_python(text: str) -> Any:
    tree = ast.parse("".join(_with_commas(text)), mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            _check_unique([key.value for key in node.keys if isinstance(key, ast.Constant)])
    value = ast.literal_eval(tree)
    _check_plain(value)
    return value


def _with_commas(text: str) -> Iterator[str]:
    """Yield a text in parts, with a comma between adjacent literals (as numpy prints them; Python would join them)."""
    # Lines as `tokenize` counts them: `splitlines` would also split at a form feed or U+2028.
    lines = io.StringIO(text).readlines()
    starts = [0, *accumulate(map(len, lines))]
    done, before = 0, None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING:
            here = starts[token.start[0] - 1] + token.start[1]
            if before == tokenize.STRING:
                yield text[done:here] + ", "
                done = here
        if token.type not in (tokenize.NL, tokenize.NEWLINE):
            before = token.type
    yield text[done:]


def _check_plain(value: Any) -> None:
    """Refuse values that JSON cannot represent, such as a set."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if not isinstance(key, str):
                raise ValueError(f"expected text in every key of an object, got {type(key).__name__}: {key!r:.80}")
            _check_plain(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_plain(part)
    elif not (value is None or isinstance(value, str | int | float)):
        raise ValueError(f"expected texts, numbers, lists and objects, got {type(value).__name__}: {value!r:.80}")


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

    The values True and False, to which spreadsheets convert these words, become the options "True" and "False". Letters
    that the options' own texts begin with are left out, since a prompt writes them.

    Raises:
        ValueError: it is none of these, or an option is neither text nor a number.

    Example:
        >>> options_of(["red", 3]), options_of('{"A": "red", "B": "blue"}'), options_of("['A. red', 'B. blue']")
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
    if not value:
        raise ValueError("expected a list of options, got none")
    for index, option in enumerate(value):
        if not isinstance(option, str | int | float) or option != option:
            raise ValueError(f"expected text in every option, got {type(option).__name__} at index {index}: {option!r}")
    return without_labels([str(option) for option in value])


def index_of(value: Any, options: Sequence[str], written_as: AnswerAs = "any") -> int:
    """Return the index of the option that a cell names.

    Three readings are tried: an index from 0 (`2`, `"2"`), a capital letter (`"C"`, `"(C)"`, `"C."`, `"C. blue"` if the
    third option is "blue"), and an option's exact text, ignoring white space, or the number that the text begins
    with if all options are numbered ("1. red", "2. blue"). A lower-case letter counts only with its option's text
    (`"c. blue"`). All valid readings have to agree: with the options 1, 2, 3 the answer "2" is the index of one
    option and the text of another, and is refused unless `written_as` decides.

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
    tried = {
        "index": _as_index(value, len(options)),
        "letter": _as_letter(value, options),
        "text": _as_text(value, options),
    }
    readings = {name: index for name, index in tried.items() if index is not None and written_as in ("any", name)}
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


def mere_number(value: Any, options: Sequence[str]) -> int | None:
    """Return the number in a cell; None = it holds none, or an option's whole text.

    Example:
        >>> mere_number("2", ["red", "blue"]), mere_number("2", ["1", "2"])
        (2, None)
    """
    number = _number_of(value)
    return None if number is None or _whole_text(value, options) is not None else number


def _number_of(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,18}\s*", value):  # Python parses no number of any length
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _as_index(value: Any, count: int) -> int | None:
    number = _number_of(value)
    return number if number is not None and 0 <= number < count else None


def _as_letter(value: Any, options: Sequence[str]) -> int | None:
    if not isinstance(value, str):
        return None
    # White space alone follows a capital only: the option "a few" does not name A.
    named = re.fullmatch(r"\(?([A-Za-z])(?:(?:[.):]+\s*|(?<=[A-Z])\s+)(.*))?", value.strip(), re.DOTALL)
    if named is None or named[1].upper() not in LETTERS[: len(options)]:
        return None
    index = LETTERS.index(named[1].upper())
    is_meant = _same_text(named[2], options[index]) if named[2] else named[1].isupper()
    return index if is_meant else None


def _as_text(value: Any, options: Sequence[str]) -> int | None:
    whole = _whole_text(value, options)
    return whole if whole is not None or not isinstance(value, str | int | float) else _labelled(str(value), options)


def _whole_text(value: Any, options: Sequence[str]) -> int | None:
    if not isinstance(value, str | int | float):
        return None
    text = str(value)
    exact = (index for index, option in enumerate(options) if _same_text(text, option))
    # Spreadsheets convert True to TRUE, in the answer or in an option.
    word = text.strip().lower()
    alike = (index for index, option in enumerate(options) if word in _BOOLEANS and option.strip().lower() == word)
    return next(chain(exact, alike), None)


def _labelled(text: str, options: Sequence[str]) -> int | None:
    """Return the option whose text begins with a number, such as 2 in "2. blue", if all are numbered from 0 or 1."""
    number, count = _number_of(text.removesuffix(".0").strip(" ().:")), len(options)
    if number is None:
        return None
    labels = [int(found[1] or found[2]) for found in map(_LABEL.match, options) if found]
    is_numbered = sorted(labels) in (list(range(count)), list(range(1, count + 1)))
    return labels.index(number) if is_numbered and number in labels else None


def _same_text(first: str, second: str) -> bool:
    return first.split() == second.split()


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
