"""Make names readable, wrap text, and make foreign text safe for files, terminals and sharing.

Half of a surrogate pair is valid in JSON and in a Python string, but no UTF-8 file can hold it. Control characters are
valid anywhere, but move a terminal's cursor, rewrite its lines or reverse its text.
"""

import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

__all__ = [
    "abridged",
    "can_be_written",
    "find_unwritable",
    "printable",
    "printable_part",
    "readable",
    "snake_case",
    "terminal_width",
    "unit_labels",
    "without_local_paths",
    "wrapped",
    "writable",
]

Unit = tuple[str, str | None]

_TITLES = {"correct_probability": "P(correct)", "correct_probability_with_added": "P(correct) with added"}

_DEFAULT_WIDTH = 80  # characters of a line where the output is no terminal and COLUMNS is not set
_MIN_WIDTH = 20  # characters for a text; a terminal that leaves less breaks its lines itself

_SURROGATE = re.compile("[\ud800-\udfff]")
# All but tab and line feed: C0 and C1, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def snake_case(name: str) -> str:
    """Return a class name in snake case, as in the names of conditions and metric columns.

    Example:
        >>> snake_case("WrongThink"), snake_case("AUROC"), snake_case("LMJudge")
        ('wrong_think', 'auroc', 'lm_judge')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def abridged(names: Sequence[str], most: int = 5) -> str:
    """Join names by commas; of more than `most`, the first ones and the number of the others.

    Example:
        >>> abridged(["base", "stop_think", "wrong_think"], most=2)
        'base, stop_think and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def readable(name: str) -> str:
    """Return the name of a condition or a metric in readable form.

    Example:
        >>> readable("letter_entropy"), readable("correct_probability"), readable("wrong_caption+abstain_option")
        ('letter entropy', 'P(correct)', 'wrong caption + abstain option')
    """
    return _TITLES.get(name, name.replace("_", " ").replace("+", " + "))


def unit_labels(units: Iterable[Unit]) -> dict[Unit, str]:
    """Return the labels of pairs of condition and carrier.

    The label includes the carrier if it is not a prefill, or if the condition has several carriers.

    Args:
        units: pairs of a condition's name and its carrier, None = no carrier; pairs may repeat.

    Example:
        >>> unit_labels([("base", "assistant_prefill"), ("wrong_think", "user_text")]).values()
        dict_values(['base', 'wrong_think [user_text]'])
    """
    distinct = list(dict.fromkeys(units))
    count = Counter(condition for condition, _ in distinct)
    return {
        (condition, carrier): f"{condition} [{carrier}]"
        if count[condition] > 1 or carrier == "user_text"
        else condition
        for condition, carrier in distinct
    }


def writable(text: str) -> str:
    r"""Return a text that UTF-8 can encode, with lone surrogates replaced by the replacement character.

    Example:
        >>> ascii(writable("cut emoji \ud83d")), ascii(writable("whole \ud83d\ude00"))
        ("'cut emoji \\ufffd'", "'whole \\U0001f600'")
    """
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def printable(text: str) -> str:
    r"""Return a text with control characters as JSON escapes, so that a terminal shows rather than executes them.

    Example:
        >>> print(printable("q1\x1b[2J\u202eevil"))
        q1\u001b[2J\u202eevil
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def terminal_width() -> int:
    """Return the line width in characters: that of COLUMNS or the terminal, or 80 without either."""
    return shutil.get_terminal_size((_DEFAULT_WIDTH, 24)).columns


def wrapped(text: str, label: str = "", *, indent: int | None = None, width: int | None = None) -> str:
    r"""Return a text wrapped to a line width; words longer than a line are not broken.

    Args:
        text: the text; its line breaks and spaces are kept.
        label: start of the first line.
        indent: indentation of continuation lines; None = the length of the label, or the line's own indentation.
        width: in characters; None = `terminal_width()`.

    Example:
        >>> print(wrapped("A caption that strongly suggests one wrong option.", "wrong_caption: ", width=44))
        wrong_caption: A caption that strongly
                       suggests one wrong option.
        >>> print(wrapped("Found:\n  one thing or another, and more of it", width=32))
        Found:
          one thing or another, and more
          of it
    """
    space = width or terminal_width()
    lines = []
    for number, line in enumerate(text.split("\n")):
        own = label if number == 0 else ""
        moved = len(own) or len(line) - len(line.lstrip(" "))
        inner = min(moved, space // 2) if indent is None else indent
        if len(own) + len(line) <= space:
            lines.append(own + line)
            continue
        lines.append(
            textwrap.fill(
                line if own else line[moved:],
                width=max(space, inner + _MIN_WIDTH),
                initial_indent=own or " " * moved,
                subsequent_indent=" " * inner,
                expand_tabs=False,
                replace_whitespace=False,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    return "\n".join(lines)


def printable_part(value: Any) -> Any:
    r"""Return a value for a page, as Jinja's `finalize`: text is made printable, markup is unchanged.

    Example:
        >>> printable_part("q1\x1b[2J"), printable_part(3)
        ('q1\\u001b[2J', 3)
    """
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def find_unwritable(value: Any, field: str = "") -> str | None:
    r"""Return a message about the first text within nested values that UTF-8 cannot encode; None = there is none.

    Args:
        value: texts in mappings (including keys), lists, tuples and sets; other values are ignored.
        field: the value's name.

    Example:
        >>> find_unwritable({"source": "cut \ud83d"}, "metadata")
        "field 'metadata.source': expected text that UTF-8 can hold, got half of a surrogate pair at character 4"
    """
    if can_be_written((value,)):
        return None
    place, text = next((place, text) for place, text in _texts(value, field) if _SURROGATE.search(text))
    where = f"field {place!r}: " if place else ""
    found = _SURROGATE.search(text)
    assert found is not None, "it was searched for"
    return f"{where}expected text that UTF-8 can hold, got half of a surrogate pair at character {found.start()}"


def can_be_written(values: Iterable[Any]) -> bool:
    """Return whether UTF-8 can encode all texts within values."""
    # A hot path: the kind of each type is cached.
    for value in values:
        kind_ = _container_kind(value.__class__)
        if kind_ is None:
            continue
        if kind_ is str:
            if not value.isascii() and _SURROGATE.search(value) is not None:
                return False
        elif not can_be_written(value) or (kind_ is dict and not can_be_written(value.values())):
            return False
    return True


@cache
def _container_kind(kind: type) -> type | None:
    """Return str for text, dict for mappings, list for other containers, None for types without text."""
    if issubclass(kind, str):
        return str
    if issubclass(kind, Mapping):
        return dict
    return list if issubclass(kind, list | tuple | set | frozenset) else None


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield the texts within a value with their places."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            name = writable(key) if isinstance(key, str) else str(key)
            here = f"{place}.{name}" if place else name
            yield from _texts(key, here)
            yield from _texts(part, here)
    elif isinstance(value, list | tuple | set | frozenset):
        for index, part in enumerate(value):
            yield from _texts(part, f"{place}.{index}")


# A root, folders, and a name: `/home/me/x`, `~/x/y`, `C:\me\x`, `\\host\share\x`, `file:///home/me/x`.
_ROOT = r"(?:file://(?:localhost)?/|~[\\/]|[A-Za-z]:[\\/]|\\\\|/)"
_WHOLE = re.compile(
    rf"\s*(?!/[^/\\]*$)(?!.*\s(?:~?/|[A-Za-z]:\\)){_ROOT}(?![/\\])(?:[^\n\\/;\"'<>|*?]+[\\/])*[^\n\\/;\"'<>|*?]+[\\/]?\s*"
)
_QUOTED = re.compile(rf"(?P<quote>['\"`“])(?P<path>{_ROOT}(?![/\\])[^'\"`“”\n]*[\\/][^'\"`“”\n]*)(?=['\"`”])")
# Not within a word, a tag or an address; a colon may stand before it, as in `hf:/models/x`.
_WITHIN = re.compile(
    rf"(?<![\w/\\.~<>…-]){_ROOT}(?![/\\])(?:[^\s\\/'\"`“”<>|*?,;:()\[\]{{}}]+[\\/]+)+[^\s\\/'\"`“”<>|*?,;:()\[\]{{}}]+"
)
_ENDS = re.compile(r"[\\/]")


def without_local_paths(value: Any) -> Any:
    r"""Return JSON values with absolute paths reduced to their last part, including in keys.

    A path that is the whole text becomes its name; one within a text begins with an ellipsis. Relative paths, names on
    the hub and URLs are unchanged.

    Args:
        value: text, or texts in mappings, lists and tuples; other values are returned unchanged.

    Example:
        >>> without_local_paths({"name": "/home/me/out/checkpoint-500", "url": "http://localhost:8000/v1"})
        {'name': 'checkpoint-500', 'url': 'http://localhost:8000/v1'}
        >>> without_local_paths("no such file: '/home/me/My Pictures/cube.png'")
        "no such file: '…/cube.png'"
        >>> without_local_paths("org/model says a/b, </think> and/or ~ 1/2")
        'org/model says a/b, </think> and/or ~ 1/2'
    """
    if isinstance(value, str):
        return _shortened(value)
    if isinstance(value, Mapping):
        return {without_local_paths(key): without_local_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(without_local_paths, value)) if type(value) in (list, tuple) else value
    return value


def _shortened(text: str) -> str:
    if not _ENDS.search(text):
        return text
    if _WHOLE.fullmatch(text) and len(text) < 4096:
        return _name(text.strip())
    text = _QUOTED.sub(lambda found: f"{found['quote']}…/{_name(found['path'])}", text)
    return _WITHIN.sub(lambda found: f"…/{_name(found[0])}", text)


def _name(path: str) -> str:
    return _ENDS.split(path.rstrip("\\/"))[-1]
