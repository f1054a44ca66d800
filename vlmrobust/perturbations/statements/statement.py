"""Questions and options made into statements, by rules: "Which colour is it?" and "red" say that it is red.

A rule reads one kind of question and writes the statement that asserts an option. What no rule is sure of is None: a
question of another kind, an option that does not fit the question's grammar, formulas, code. A sample is written as a
whole: if one of its options cannot be said, none is, so that its wrong and its correct texts have the same form.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from .asked import question_proper
from .clauses import is_sentence
from .closed import how_many, how_much, one_or_other, which_of_them, yes_or_no
from .wh import asked_for, blank_filled, what_in_place, what_is_done, what_is_shown, where, which_caption, why
from .what import what_or_who, which_one
from .words import all_lowered, capitalised, lowered

__all__ = ["statement", "statements"]

_OPEN = re.compile(
    r"(?:none of|all of (?:the above|them)|(?:i'?m |i am )?not? sure|(?:unsure|unknown|unclear|uncertain)$"
    r"|(?:it )?(?:cannot|can't|can not)|n/a|not enough|insufficient|(?:i )?don't know|not given|undetermined"
    r"|impossible to|no answer|both\b|neither\b|either\b|other$|others$)|.*\bof the above",
    re.I,
)


@lru_cache(maxsize=4096)
def statements(question: str, options: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return a statement for each option, None where they are not sure for all of them or do not differ.

    Example:
        >>> statements("How many stars are there in the picture?", ("1", "4"))
        ('There is 1 star in the picture.', 'There are 4 stars in the picture.')
        >>> statements("What is the sum?", ("$3x$", "none of the above"))
    """
    written = tuple(statement(question, option, options) for option in options)
    if None in written or len({str(text).casefold() for text in written}) < len(written):
        return None
    return tuple(text for text in written if text is not None)


def statement(question: str, option: str | None, options: Sequence[str]) -> str | None:
    """Return the statement that asserts an option in answer to a question, None where no rule is sure.

    Args:
        question: the question as it is asked.
        option: one of the options; None = assert none of them, in the same form.
        options: all of them.

    Example:
        >>> statement("What colour is the triangle?", "green", ("green", "red"))
        'The triangle is green.'
        >>> statement("Is the door open?", "no", ("yes", "no"))
        'The door is not open.'
        >>> statement("Which is nearer to the camera, the lamp or the table?", "table", ("lamp", "table"))
        'The table is nearer to the camera than the lamp.'
        >>> statement("Does the man hold a ball?", None, ("yes", "no"))
        'It can be seen whether the man holds a ball.'
    """
    if any("```" in text or "<image" in text or "\n" in text.strip() for text in options):
        return None
    choices = all_lowered(tuple(map(_plain, options)))
    said = None if option is None else choices[list(options).index(option)]
    if any(not text or _OPEN.match(text) or len(text) > 160 for text in choices):
        return None
    lead, core = question_proper(question)
    written: str | None = None
    if all(map(is_sentence, sentences := tuple(map(_unlabelled, choices)))):
        written = "what is asked about can be seen" if said is None else sentences[choices.index(said)]
        lead = ""
    elif core is not None:
        written = next((text for rule in _RULES if (text := rule(core, said, choices))), None)
    if written is None or "?" in written:
        return None
    written = capitalised(f"{lead}, {lowered(written)}" if lead else written)
    return written if written.endswith((".", "!")) else f"{written}."


def _plain(text: str) -> str:
    text = re.sub(r"^\(?[A-Z][.):] (?=\S)", "", " ".join(text.replace('"', "'").split()))
    return text.rstrip(".") if not re.search(r"\b[A-Za-z]\.[A-Za-z]?\.$", text) else text


def _unlabelled(option: str) -> str:
    """Return what an option says: "Left pan – The camera turns left" says the sentence behind the dash."""
    _, dash, sentence = option.partition(" – ") if " – " in option else option.partition(": ")
    return sentence if dash and is_sentence(sentence) else re.sub(r"^(?:because|since) ", "", option, flags=re.I)


_RULES: tuple[Callable[[str, str | None, Sequence[str]], str | None], ...] = (
    what_is_shown,
    asked_for,
    yes_or_no,
    one_or_other,
    which_of_them,
    how_many,
    how_much,
    where,
    why,
    what_is_done,
    which_caption,
    which_one,
    what_or_who,
    what_in_place,
    blank_filled,
)
