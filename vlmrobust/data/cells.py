"""Parse lists and objects in a cell of a table, written as JSON, by Python, or by numpy."""

import ast
import io
import json
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["from_cell", "from_json", "looks_nested", "nested_or_text"]

_CLOSED_BY = {"[": "]", "{": "}"}


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
    """Yield a text in parts, with a comma between adjacent string literals, which Python would concatenate."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
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
