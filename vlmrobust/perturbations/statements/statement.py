"""Convert questions and options to statements by rules: "Which colour is it?" and "red" become "It is red".

Each rule parses one kind of question and writes the statement that asserts an option. The result is None if no rule is
certain: another kind of question, an option that does not fit the question's grammar, formulas, code. Either all
options of a sample have statements or none, so that its wrong and its correct texts have the same form.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from .clauses import is_sentence
from .closed import how_many, how_much, one_or_other, which_of_them, yes_or_no
from .wh import (
    asked_for,
    asked_why,
    blank_filled,
    what_in_place,
    what_is_done,
    what_is_shown,
    where,
    which_caption,
    why,
)
from .what import what_or_who, which_one
from .words import AUXILIARY, all_lowered, capitalised, lowered

__all__ = ["question_proper", "statement", "statements"]


_MARK = re.compile(r"<image[ _]?\d*>")


_ASIDE = re.compile(r" \((?:highlighted|marked|outlined|shown|circled|enclosed|in (?:the |a )?\w+ box)[^()]*\)")


_REQUEST = re.compile(
    r"(?:please |kindly )?(?:select|choose|pick|answer|estimate|respond|think|reply|give|options?|note|hint)\b", re.I
)


_LEAD = re.compile(
    r"(?P<lead>(?:in|on|at|after|before|when|while|during|from|if|according|based|considering|judging|given|looking|"
    r"with|for|refer|referring|relative|compared|among|of)\b[^?]*?), (?P<core>(?:(?:in|on|at|to|by|from|of) )?"
    r"(?:what|which|who|where|when|why|how|is|are|was|were|does|do|did|can|has|have|will|select|choose|determine|find|identify|calculate)\b.*)",
    re.I,
)


_BACKGROUND = re.compile(
    r"(?:according|based|considering|judging|given|looking|relative|compared|refer|referring)\b", re.I
)


def question_proper(question: str) -> tuple[str, str | None]:
    """Return what is said before the question proper, and the question without its question mark."""
    text = " ".join(_MARK.sub(" ", question).split())
    parts = re.findall(r".+?[.?!](?=\s|$)|.+$", text)
    while len(parts) > 1 and _REQUEST.match(parts[-1].strip()) and "?" not in parts[-1]:
        parts.pop()
    if any("?" in part for part in parts[:-1]):
        return "", None  # two questions
    core = _ASIDE.sub("", parts[-1].strip()) if parts else ""
    core = re.sub(r"^(?:complete the (?:sentence|statement)|fill in the blanks?)\W+", "", core, flags=re.I)
    core = re.sub(r"^((?:which|what|who)\b[^:]*): (?=.+ or )", r"\1, ", core, flags=re.I)
    if re.match(r"(?:which|what|who)\b.*: ", core, re.I):
        return "", None
    core = re.sub(r" ?\(\)", "", core)
    if not core or len(core) > 300 or "```" in core or re.search(r"\((?!\w+\))|[\[\]\"“;]|\?.", core):
        return "", None
    core = core if not core.endswith(".") else core.rstrip(" .")
    core = re.sub(r"^(what|who|where|how|when)'s ", r"\1 is ", core.rstrip(" ?"), flags=re.I)
    core = re.sub(r"^(?:so|and|now|then|please),? ", "", core, flags=re.I)
    if found := _LEAD.fullmatch(core):
        return "" if _BACKGROUND.match(found["lead"]) else found["lead"], found["core"]
    return "", core


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
        if (fact := _explained(question, core)) is not None:
            written = f"{fact}, for some reason" if said is None else f"{fact} because {lowered(written)}"
        else:
            lead = ""
    elif core is not None:
        written = next((text for rule in _RULES if (text := rule(core, said, choices))), None)
    if written is None or "?" in written:
        return None
    written = capitalised(f"{lead}, {lowered(written)}" if lead else written)
    return written if written.endswith((".", "!")) else f"{written}."


def _explained(question: str, core: str | None) -> str | None:
    """Return what a question asks the reason for, which may be a sentence before it ("The gate is shut. Why?")."""
    if (before := re.fullmatch(r"(.+)\. Why\?", " ".join(_MARK.sub(" ", question).split()))) is not None:
        fact = re.split(r"(?<=[.!?])\s", before[1])[-1]
        return fact if re.search(rf"\w (?:{AUXILIARY})\b", fact) else None
    return None if core is None else asked_why(core)


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
