"""A question as a harness has logged it, options and all → the question and its options."""

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Lettered", "split_options"]

# How the letter of an option is set off, "(A)", "A." and so on; `^` is put in front where it begins a line.
_MARKS = tuple(re.compile(rf"(?<!\w){mark}[ \t]*", re.MULTILINE) for mark in (r"\(([A-Z])\)", r"([A-Z])[.):]"))
_LABEL = re.compile(r"\s*\b(?:answer )?(?:options|choices)\s*:?\s*\Z", re.IGNORECASE)


class Lettered(NamedTuple):
    """A text taken apart.

    Attributes:
        question: what stands before the options.
        options: their texts, in the order of their letters.
        instruction: what stands after them.
    """

    question: str
    options: tuple[str, ...]
    instruction: str


def split_options(text: str) -> Lettered:
    r"""Take apart a question that ends in lettered options, one a line or all in one line.

    The options are the last marks "(A)", "A.", "A)" or "A:" that follow each other as A, B, C, …; marks at the
    beginning of a line come first. The last option ends with its line. A label such as "Options:" is no part of the
    question.

    Args:
        text: the question, its options and perhaps an instruction.

    Raises:
        ValueError: there are no options in it, or nothing before them.

    Example:
        >>> split_options("Which colour?\nA. red\nB. blue\nAnswer with the letter.")
        Lettered(question='Which colour?', options=('red', 'blue'), instruction='Answer with the letter.')
        >>> split_options("Which colour?\nOptions: A: red, B: blue").options
        ('red', 'blue')
    """
    for lines in (True, False):
        for mark in _MARKS:
            run = _last_run(text, mark, lines)
            if len(run) >= 2:
                return _between(text, run)
    raise ValueError(f"expected a question with lettered options, got {text!r:.200}")


def _last_run(text: str, mark: re.Pattern[str], lines: bool) -> list[re.Match[str]]:
    """Return the last marks A, B, C, … in a row; those at the beginning of a line alone, or all."""
    run: list[re.Match[str]] = []
    last: list[re.Match[str]] = []
    for match in _marks(text, mark, lines):
        if match[1] == "A":
            run = [match]
        elif run and match[1] == chr(ord("A") + len(run)):
            run.append(match)
        if len(run) >= 2:
            last = run
    return last


def _marks(text: str, mark: re.Pattern[str], lines: bool) -> Iterator[re.Match[str]]:
    for match in mark.finditer(text):
        before = text[: match.start()].rpartition("\n")[2]
        if not lines or not before.strip():
            yield match


def _between(text: str, run: list[re.Match[str]]) -> Lettered:
    end = text.find("\n", run[-1].end())
    end = len(text) if end < 0 else end
    stops = [match.start() for match in run[1:]] + [end]
    options = tuple(
        text[match.end() : stop].strip().rstrip(",;").rstrip() for match, stop in zip(run, stops, strict=True)
    )
    question = _LABEL.sub("", text[: run[0].start()]).strip()
    if not question:
        raise ValueError(f"expected a question before its options, got {text!r:.200}")
    return Lettered(question, options, text[end:].strip())
