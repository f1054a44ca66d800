"""Separate the question, options and instruction that benchmarks write into one text, and read shared conventions.

Conventions: lettered columns of options, images in base64, marks of images, answers that are not published; and options
made around a number (`nearby_numbers`).
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from ...prompting import IMAGE_MARK, LETTERS
from ..fields import is_missing
from ..row import from_base64

__all__ = [
    "OPTIONS",
    "LeftOut",
    "image_of_cell",
    "lettered_options",
    "nearby_numbers",
    "published",
    "split_options",
    "without_instruction",
    "without_marks",
]

_INSTRUCTIONS = re.compile(
    r"^Hint: Please answer the question and provide the correct option letter, e\.g\., A, B, C, D, at the end\."
    r"\s*(?:Question:)?"
    r"|(?:Please answer directly with only the letter of the correct option and nothing else\."
    r"|Answer with the option's letter from the given choices directly\."
    r"|Answer with the text of the option\.)\s*$"
)
_HEADING = re.compile(r"\s*\b(?:Options|(?:Answer )?Choices):\s*$")
# Where options may begin: at the mark of an A that starts a line or follows a heading.
_FIRST_MARK = re.compile(r"(?:^|\n)[ \t]*\(?A[.:)][ \t]*|(?<=Options:)\s*\(?A[.:)]\s*|(?<=Choices:)\s*\(?A[.:)]\s*")
_HIDDEN = ("?", "hidden", "nan")


class LeftOut(Exception):  # noqa: N818 - not an error: the row is as its authors want it
    """A row that is no multiple-choice question with a known answer; its text says why."""


def published(answer: str | None) -> str:
    """Return an answer, unless the benchmark keeps it to itself.

    Raises:
        LeftOut: there is none; test parts have an empty cell, "?" or "hidden".

    Example:
        >>> published("B")
        'B'
    """
    if not answer or answer in _HIDDEN:
        raise LeftOut("its answer is not published")
    return answer


def without_instruction(text: str) -> str:
    r"""Return a question without the sentence that asks for a letter or text: how to answer is the style's to say.

    Example:
        >>> without_instruction("Red or blue?\nAnswer with the option's letter from the given choices directly.")
        'Red or blue?'
    """
    return _INSTRUCTIONS.sub("", text).strip()


def split_options(text: str) -> tuple[str, list[str]]:
    r"""Return the question and the options of a text that holds both.

    Options are marked `A.`, `A)`, `A:` or `(A)` with the letters in order, each on a line of its own, or behind one
    another after `Options:` or `Choices:`, separated by commas.

    Raises:
        LeftOut: it holds no options.

    Example:
        >>> split_options("Where is the cat?\nA. left\nB. right")
        ('Where is the cat?', ['left', 'right'])
        >>> split_options("Which is it?\nOptions: A: One, two., B: Three.")
        ('Which is it?', ['One, two.', 'Three.'])
    """
    runs = [list(_marks(text, start)) for start in _FIRST_MARK.finditer(text)]
    marks = max(reversed(runs), key=len, default=[])  # of two that are as long, the last: options end a text
    if len(marks) < 2:
        raise LeftOut("its text has no options A, B, …")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = [text[mark.end() : end].strip().rstrip(",;").rstrip() for mark, end in zip(marks, ends, strict=True)]
    return _HEADING.sub("", text[: marks[0].start()]).strip(), options


def _marks(text: str, first: re.Match[str]) -> Iterator[re.Match[str]]:
    yield first
    position = first.end()
    for letter in LETTERS[1:]:
        marks = [rf"\n[ \t]*\(?{letter}[.:)][ \t]*", rf"[,;]\s*\(?{letter}[.:)]\s+"]
        if "(" in first.group():  # in brackets, a letter is a mark behind a mere space as well
            marks.append(rf"[ \t]\({letter}\)[ \t]*")
        mark = re.compile("|".join(marks)).search(text, position)
        if mark is None:
            return
        yield mark
        position = mark.end()


OPTIONS = 4


def nearby_numbers(number: str, generator: np.random.Generator) -> list[str]:
    """Return four successive numbers with as many decimals, the given one first.

    It is as likely to be the smallest of them as the second, third or largest, so that its place among the others tells
    nothing; distractors around it would make it the middle one. No number is below zero: those below three have fewer
    places. All steps are one unit of the last digit, whatever the number: if larger numbers had wider steps, the step
    would tell how large the right one is.

    Args:
        number: without sign, such as "7" or "12.5".
        generator: draws the place.

    Raises:
        LeftOut: it is no such number; a formula or a unit are not taken apart.

    Example:
        >>> nearby_numbers("7", np.random.default_rng(0))
        ['7', '4', '5', '6']
        >>> nearby_numbers("0.0", np.random.default_rng(0))
        ['0.0', '0.1', '0.2', '0.3']
    """
    if not re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", number):
        raise LeftOut("an open question whose answer is no plain number")
    decimals = len(number.partition(".")[2])
    units = int(Decimal(number).scaleb(decimals))
    smallest = units - int(generator.integers(min(units, OPTIONS - 1) + 1))
    others = [value for value in range(smallest, smallest + OPTIONS) if value != units]
    return [number, *(f"{Decimal(value).scaleb(-decimals):f}" for value in others)]


def lettered_options(row: Mapping[str, Any], letters: str) -> list[Any]:
    """Return the options of the columns A, B, …, as far as they are filled; "nan" is how pandas writes an empty cell.

    Example:
        >>> lettered_options({"A": "red", "B": "blue", "C": "nan", "D": None}, "ABCD")
        ['red', 'blue']
    """
    cells = [None if row.get(letter) == "nan" else row.get(letter) for letter in letters]
    while cells and is_missing(cells[-1]):  # a gap in between is refused later
        cells.pop()
    return cells


def image_of_cell(value: Any) -> Any:
    """Return the image of a cell: text is its file in base64, all else is what `datasets` makes of an image column."""
    return from_base64(value) if isinstance(value, str) and value else value


def without_marks(text: str) -> str:
    """Return a text without the marks of images that all stand in front, as images do that have no marks."""
    rest = re.sub(rf"^(?:\s*{IMAGE_MARK})+\s*", "", text)
    return text if IMAGE_MARK in rest else rest
