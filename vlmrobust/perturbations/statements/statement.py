"""Convert questions and options to statements by rules: "Which colour is it?" and "red" become "It is red".

Each rule parses one kind of question and writes the statement that asserts an option. The result is None if no rule is
certain: another kind of question, an option that does not fit the question's grammar, formulas, code. Either all
options of a sample have statements or none, so that its wrong and its correct texts have the same form.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from .clauses import declared, how_many, how_much, is_sentence, one_or_other, which_of_them, yes_or_no
from .subjects import clause
from .what import what_or_who, which_one
from .words import (
    AUXILIARY,
    BE,
    POSITIONS,
    PREPOSITIONS,
    all_lowered,
    as_thing,
    is_ing,
    is_noun_phrase,
    is_participle,
    is_plural,
    lowered,
    one_of,
    with_article,
)

__all__ = ["statement", "statements"]


_MARK = re.compile(r"<image[ _]?\d*>")
# An image that is named in a sentence: "the author of <image 1>", "<image 2> shows".
_NAMED_IMAGE = re.compile(
    rf"(\b(?:{'|'.join(PREPOSITIONS)}|of|and|or|does|do|did|can|painted|shows?) )<image[ _]?(\d*)>", re.I
)
# Questions for an option that does not hold: its statement would assert it.
_ASKS_FOR_FALSE = re.compile(
    r"\b(?:false|incorrect|untrue|except|least likely)\b|\bNOT\b"
    r"|^(?:[Ww]hich|[Ww]hat (?:is|are))\b[^,]*?(?:\bnot\b|n't\b|\b(?:is|are) wrong\b)"
)
_ASKS_FOR_TEXT = re.compile(
    r"\b(?:say|read|written|called|title|name|text|words?|message|slogan|phrase|caption|song|film|movie)\b", re.I
)
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
_OPEN = re.compile(
    r"(?:none of|all of (?:the above|them)|(?:i'?m |i am )?not? sure|(?:unsure|unknown|unclear|uncertain)$"
    r"|(?:it |this )?(?:cannot|can't|can not)|n/a|not enough|insufficient|(?:i )?don't know|not given|undetermined"
    r"|(?:it(?:'s| is) )?(?:impossible to|not possible)|no answer|both\b|neither\b|either\b|other$|others$)"
    r"|.*\bof the above",
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
    written = (statement(question, option, options) for option in options)
    sure = tuple(text for text in written if text is not None)
    return sure if len(set(map(str.casefold, sure))) == len(options) else None


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
    lead, core = _question_proper(question)
    written: str | None = None
    if all(map(is_sentence, sentences := tuple(map(_unlabelled, choices)))):
        written = "what is asked about can be seen" if said is None else sentences[choices.index(said)]
        if (fact := _explained(question, core)) is not None:
            written = f"{fact}, for some reason" if said is None else f"{fact} because {lowered(written)}"
        else:
            lead = ""
            written = None if core and _ASKS_FOR_FALSE.search(core) else written
    elif core is not None:
        # A sentence does not stand in the place of a noun, only after "because" or "yes", and as a text or a title.
        rules = (yes_or_no, why) if any(map(is_sentence, choices)) and not _ASKS_FOR_TEXT.search(core) else _RULES
        written = next((text for rule in rules if (text := rule(core, said, choices))), None)
    if written is None or "?" in written:
        return None
    written = f"{lead}, {lowered(written)}" if lead else written
    written = written[:1].upper() + written[1:]
    return written if written.endswith((".", "!")) else f"{written}."


def _question_proper(question: str) -> tuple[str, str | None]:
    """Return what is said before the question proper, and the question without its question mark."""
    named = _NAMED_IMAGE.sub(lambda found: f"{found[1]}{f'image {found[2]}' if found[2] else 'the image'}", question)
    text = " ".join(_MARK.sub(" ", named).split())
    parts = re.findall(r".+?[.?!](?=\s|$)|.+$", text)
    while len(parts) > 1 and _REQUEST.match(parts[-1].strip()) and "?" not in parts[-1]:
        parts.pop()
    if any("?" in part for part in parts[:-1]):
        return "", None  # two questions
    core = _ASIDE.sub("", parts[-1].strip()) if parts else ""
    task = r"complete the (?:sentence|statement)|fill in the blanks?|true or false:|yes or no:"
    core = re.sub(rf"^(?:{task})\W+", "", core, flags=re.I)
    core = re.sub(r"^((?:which|what|who)\b[^:]*): (?=.+ or )", r"\1, ", core, flags=re.I)
    if re.match(r"(?:which|what|who)\b.*: ", core, re.I):
        return "", None
    core = re.sub(r" ?\(\)", "", core)
    if not core or len(core) > 300 or "```" in core or re.search(r"\((?!\w+\))|[\[\]\"“;]|\?.", core):
        return "", None
    core = core if not core.endswith(".") else core.rstrip(" .")
    core = re.sub(r"^(what|who|where|how|when)'s ", r"\1 is ", core.rstrip(" ?:"), flags=re.I)
    core = re.sub(r"^(?:so|and|but|however|now|then|please),? ", "", core, flags=re.I)
    if re.search(r"\b(?:and|or) (?:what|which|who|where|when|why|how)\b", core, re.I):
        return "", None  # two questions in one
    if found := _LEAD.fullmatch(core):
        return "" if _BACKGROUND.match(found["lead"]) else found["lead"], found["core"]
    return "", core


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


# "the product of 2, 3 and 4" and "the mean, and round it", but not "the height, given that it is 2 and a half times …".
_LISTS = re.compile(
    r",(?! (?:given|if|when|where|assuming|using|in|to|based|which|whose|with|for)\b).*\b(?:and|or)\b|, *[-$(]?\d"
)


def asked_for(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """Find the height of the tree. 5 m: The height of the tree is 5 m."""
    found = re.fullmatch(
        r"(?:please )?(?:select|choose|pick|determine|find|identify|calculate|name|compute) (the [^,]+)(?:,.*)?",
        core,
        re.I,
    )
    if not found or _LISTS.search(core) or re.search(r"\b(?:statement|option|answer|one|that|which|best)\b", found[1]):
        return None
    if any(with_article(text) != text for text in options):
        return None  # "the animal is cow"
    return f"{found[1]} {'are' if is_plural(found[1]) else 'is'} {'something' if option is None else option}"


def what_is_shown(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """What can be seen in the image? a dog: The image shows a dog."""
    found = re.fullmatch(
        r"what (?:is|are|can be) (?:(?:shown|seen|visible|depicted|displayed|present) )?"
        r"in (th(?:e|is) (?:image|picture|photo\w*|scene|video))",
        core,
        re.I,
    )
    return f"{found[1]} shows {as_thing(option)}" if found else None


def blank_filled(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """Return a cloze that is filled, or a sentence that is gone on with."""
    said = "something" if option is None else lowered(option)
    if len(core.split()) < 4:
        return None
    if len(re.findall(r"_{2,}", core)) == 1:
        core = re.sub(r"\b(?:the|an?) (?=__)", "", core) if option is None else core
        return re.sub(r"_{2,}", lambda _: said, core).rstrip(".")
    if (ends := re.fullmatch(r"(?P<said>[A-Z].+) an?", core)) and not re.match(rf"(?:{AUXILIARY})\b", core, re.I):
        return f"{ends['said']} {as_thing(option)}"
    ends = re.fullmatch(
        r"(?P<said>.*\b(?:is|are|was|were|as|by|because|called|named|than|of|then|shows|equals?))\s*:?", core
    )
    if ends and not re.match(rf"(?:{AUXILIARY}|what|which|who|where|when|why|how)\b", core, re.I):
        return f"{ends['said']} {said}"
    return None


def which_caption(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """Which caption fits the image best? a dog on a sofa: The image shows a dog on a sofa."""
    asked = (
        r"(?:which|what) (?:one )?(?:of the following )?(?:is )?(?:the )?(?:best |correct |right )?"
        r"(?:caption|description|sentence|statement)s?\b"
    )
    if not (re.match(asked, core, re.I) and re.search(r"\b(?:image|picture|photo|scene|shown)\b", core)):
        return None
    return f"the image shows {'something' if option is None else lowered(option)}"


_SIDES = POSITIONS | {"north", "south", "east", "west", "northeast", "northwest", "southeast", "southwest"}
_SIDES |= {"corner", "side", "half", "third", "quarter"}
_BESIDE = re.compile(
    r"above|below|behind|beside|under|over|near|next to|in front of|on|on top of|to the (?:left|right) of|inside"
    r"|outside",
    re.I,
)


def where(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """Where is the cat? on the mat: The cat is on the mat."""
    found = re.fullmatch(r"(where|when) (is|are|was|were) (.+)", core, re.I)
    if not found:
        return None
    be, rest = found[2].lower(), found[3]
    if found[1].casefold() == "when" and not re.search(r"(?:ed|en|made|shot|built)$", rest):
        return None
    related = re.fullmatch(
        r"(?P<subject>.+?)(?: (?:located|positioned|placed|situated))?"
        r" (?:with respect to|relative to|in relation to|compared to)"
        r" (?P<other>.+)",
        rest,
        re.I,
    )
    said = ("somewhere" if found[1].casefold() == "where" else "at some time") if option is None else lowered(option)
    if related:
        side = re.sub(r"^(?:(?:on|to) the )?(left|right)$", r"to the \1 of", said)
        side = re.sub(r"^(?:in front|front)$", "in front of", re.sub(r"^on top$", "on top of", side))
        if option is not None and not _BESIDE.fullmatch(side):
            return None
        return f"{related['subject']} {be} {'somewhere near' if option is None else side} {related['other']}"
    if option is not None and all(one_of(text, _SIDES) for text in options):
        last = said.split()[-1]
        place = "on" if said in ("left", "right") else "at" if said in ("top", "bottom") else "in"
        return f"{rest} {be} {place} the {said}" if last not in ("first", "second") else None
    adverbs = ["somewhere", "outside", "inside", "upstairs", "downstairs", "outdoors", "indoors"]
    alone = said in PREPOSITIONS and said not in adverbs
    if alone or not (said.split()[0] in PREPOSITIONS or said in adverbs):
        return None
    words = rest.split()
    if is_ing(words[-1]) or is_participle(words[-1]):
        parts = clause(rest, be)
        if parts is None or " " in parts.rest:
            return None
        return f"{parts.subject} {be} {parts.rest} {said}"
    if any(is_ing(word) for word in words[1:]):
        return None
    return f"{rest} {be} {said}"


def asked_why(core: str) -> str | None:
    """Return what a question asks the reason for: "why is the gate shut" says that the gate is shut."""
    found = re.fullmatch(rf"why ({AUXILIARY}) (.+)", core, re.I)
    return declared(found[1].lower(), found[2], True) if found and "n't" not in found[1] else None


def why(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """Why is the gate shut? the wind: The reason the gate is shut is the wind."""
    said = asked_why(core)
    if said is None:
        return None
    if all(map(is_noun_phrase, options)):
        return f"there is a reason why {said}" if option is None else f"the reason {said} is {lowered(option)}"
    if option is None:
        return f"{said}, for some reason"
    if re.match(r"(?:because|to|for|since|due to|so that|as|in order to) ", option, re.I):
        return f"{said} {lowered(option)}"
    return f'{said}, and the reason is "{option}"'


def what_is_done(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """What is the woman doing? reading a book: The woman is reading a book."""
    found = re.fullmatch(
        rf"what ({AUXILIARY}) (.+?) (doing|do)((?: (?:here|next|now|in|on|at|with|to) ?.*)?)", core, re.I
    )
    if not found:
        return None
    aux, subject, verb, behind = found[1].lower(), found[2], found[3].lower(), found[4]
    if option is None:
        if aux in BE and verb == "doing":
            return f"{subject} {aux} doing something{behind}"
        if aux in ("does", "did", "do"):
            return f"{subject} {aux} something{behind}"
        parts = clause(subject, aux) if aux in BE else None
        return parts and f"{parts.subject} {aux} {parts.rest} do something{behind}"
    words = [text.split()[0].casefold() for text in options]
    if verb == "doing":
        return f"{subject} {aux} {lowered(option)}{behind}" if all(w.endswith("ing") for w in words) else None
    if aux in BE and re.search(r" (?:to|about to|able to)$", subject) and not any(map(is_ing, words)):
        parts = clause(subject, aux)
        return parts and f"{parts.subject} {aux} {parts.rest} {lowered(option)}{behind}"
    if aux in ("does", "did") and all(w.endswith("s" if aux == "does" else "ed") for w in words):
        return f"{subject} {lowered(option)}{behind}"
    return None


def what_in_place(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """The sign tells drivers to what? stop: The sign tells drivers to stop."""
    found = re.fullmatch(
        r"(?P<said>(?!what|which|who)\w.+ (?:by|to|of|with|from|for|in|on|at|into)) (?:what|which|whom)(?: [\w]+)?",
        core,
        re.I,
    )
    if not found or re.match(rf"(?:{AUXILIARY})\b", core, re.I):
        return None
    return f"{found['said']} {as_thing(option)}"


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
