"""Find the end of a question's subject: "(the cat) on the mat", "(the woman in the car) asleep".

It is not sure where two places follow ("the man in the red shirt to the left of the woman"), or two participles.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from .words import (
    BE,
    COLOURS,
    DETERMINERS,
    LY_NOUNS,
    POSITIONS,
    PREPOSITIONS,
    PRONOUNS,
    base_verb,
    is_adjective,
    is_ing,
    is_participle,
    is_plural,
)

__all__ = ["Clause", "clause"]


class Clause(NamedTuple):
    """A question's words behind its auxiliary, split where the subject ends."""

    subject: str
    rest: str


_FINITE = BE | {"has", "have", "had", "does", "do", "did"}


def clause(text: str, auxiliary: str) -> Clause | None:
    """Return subject and rest of what follows an auxiliary, None where it is not sure where the subject ends.

    Example:
        >>> clause("the old man on the left wearing a hat", "is")
        Clause(subject='the old man on the left', rest='wearing a hat')
        >>> clause("the cat next to the man wearing a hat", "is")
    """
    words = text.split()
    if len(words) < 2 or any(word in ("that", "which", "who", "whose") for word in words[2:]):
        return None
    if auxiliary in BE and any(word in _FINITE and before != "to" for before, word in pairwise(words)):
        return None  # "(the hat) the man is wearing"
    ends = _be_ends(words) if auxiliary in BE | {"has", "have", "had"} else _verb_ends(words)
    if len(ends) != 1 or not 0 < ends[0] < len(words):
        return None
    return Clause(" ".join(words[: ends[0]]), " ".join(words[ends[0] :]))


def _verb_ends(words: list[str]) -> list[int]:
    start = 2 if words[0].casefold() in DETERMINERS - PRONOUNS else 1
    ends = [place for place, word in enumerate(words) if place >= start and base_verb(word)][:1]
    # A verb that is not known may come before: "the girl stuff her face".
    return [place for place in ends if words[place - 1].casefold() not in DETERMINERS | PREPOSITIONS | {"and", "or"}]


def _begins_predicate(words: list[str], place: int) -> bool:
    word, before = words[place].casefold(), words[place - 1].casefold()
    after = words[place + 1].casefold() if place + 1 < len(words) else ""
    if word in PREPOSITIONS | DETERMINERS:
        return True
    if word.endswith("ly") and word not in LY_NOUNS:
        return bool(after)
    in_colour = before in COLOURS and place > 1 and words[place - 2] == "in"
    attributive = before in DETERMINERS or (is_adjective(before) and before not in POSITIONS and not in_colour)
    if after == "than" and word.endswith("er"):
        return True
    if word in ("much", "far", "even") and after.endswith(("er", "more", "less")):
        return True
    if is_ing(word) or is_participle(word):
        return not attributive
    if before in ("the", "a", "an"):
        return False  # "the right"
    closed = not after or after in PREPOSITIONS | DETERMINERS | {"and", "or", "to", "enough", "of"} or after[0] in ",("
    grade = word in ("more", "less", "very", "not", "there", "here", "also", "still", "currently", "both", "half")
    grade = grade or f"{word} {after}" == "most likely"
    return is_adjective(word) and (grade or closed or is_participle(after) or is_ing(after))


# Before a word in "-ing" that may also be a noun: "the man painting a wall", but "the brick building a school".
_PERSON = re.compile(
    r"(?:man|men|boys?|girls?|child|children|persons?|people|lady|ladies|guys?|kids?|players?|students?)$"
)
_PLACES = re.compile(
    r"(?:on|in|at|to) the (?:far |very |upper |lower |top |bottom )?(?:left|right|middle|center|centre|front|back|"
    r"image|picture|photo|background|foreground|top|bottom|video|scene)(?: side| corner)?(?= )"
    rf"|in (?:the )?(?:{'|'.join(COLOURS)})(?= )(?! \w+s?\b(?! ?$))"
)


def _be_ends(words: list[str]) -> list[int]:
    first = words[0].casefold()
    if first in PRONOUNS or (first in ("this", "these", "those", "that") and _begins_predicate(["", *words[1:]], 1)):
        return [1]
    named = words[0][:1].isupper() or words[0].endswith("'s") or is_plural(words[0])
    if first not in DETERMINERS and not named:
        return []
    start = 2 if first in DETERMINERS and words[1] != "of" else 1
    while words[0][:1].isupper() and start < len(words) - 1 and words[start][:1].isupper():
        start += 1  # "Light Sky Blue"
    place = start
    owned = False  # the last words belong to "of"
    aside = 0  # where a place that goes with the noun, or is said of it, begins
    while place < len(words):
        owned = words[place] in ("of", "and", "or")
        if owned:
            place += 3 if place + 1 < len(words) and words[place + 1] in DETERMINERS else 2
        elif found := _PLACES.match(" ".join(words[place:])):
            aside = aside or place
            place += len(found[0].split())
        elif _begins_predicate(words, place):
            break
        else:
            place += 1
    if place >= len(words):
        if aside or owned:
            return [aside] if aside else []
        last = len(words) - 1
        while last - 1 >= start and is_adjective(words[last - 1]):
            last -= 1
        return [last] if last >= start else []
    acts = place > start and words[place - 1].endswith("ing") and _PERSON.search(words[place - 2])
    if acts and words[place] in DETERMINERS:
        place -= 1  # "(the man) reading a book"
    if words[place].casefold() not in PREPOSITIONS:
        return [] if _may_qualify(words, place) else [place]
    later = [
        other
        for other in range(place + 2, len(words))
        if words[other].casefold() not in PREPOSITIONS | DETERMINERS and _begins_predicate(words, other)
    ]
    if later[:1] == [place + 2] and words[place] == "in" and words[place + 1] in COLOURS:
        return later[:1]  # "(the woman in blue) holding a bag"
    compared = [other for other in later if "than" in words[other + 1 : other + 3]]
    if len(compared) == 1:
        return compared
    if any(words[other - 1].casefold() in PREPOSITIONS for other in later):
        return []  # "the woman in blue"
    if later:
        return later if later == [len(words) - 1] and later[0] > place + 2 else []
    if nouns := [other for other in range(place + 2, len(words)) if _begins_noun(words, other)]:
        # "the object on the plate a fork", but "the man on the bench reading a book"
        return nouns if len(nouns) == 1 and not words[nouns[0] - 1].endswith("ing") else []
    rest = _IN_THE_IMAGE.sub("", " ".join(words[place:]))
    return [] if (aside and _RELATION.match(rest)) or _has_two_places(rest) else [aside or place]


_IN_THE_IMAGE = re.compile(
    r"(?: (?:at|in|near|towards) the (?:start|end|beginning|middle))?"
    r"(?: (?:in|of) (?:the|this) (?:image|picture|photo\w*|scene|video|figure|diagram|map|graph))?$"
)
_PREDICATE = re.compile(r"(?:(?:on|to) the |)(?:left|right)(?: side)? of\b|between\b|about to\b")
_RELATION = re.compile(
    r"behind|beside|next to|near|in front of|above|below|under|over|left of|right of|to the (?:left|right) of"
)
_BETWEEN_THINGS = re.compile(r" to the (?:left|right) of ")
# Words that a preposition behind them belongs to: "next to", "about to", "up to".
_COMPOUND = {
    "next",
    "close",
    "opposite",
    "out",
    "up",
    "down",
    "away",
    "off",
    "along",
    "inside",
    "outside",
    "from",
    "about",
}


def _has_two_places(rest: str) -> bool:
    """Return whether a first place may belong to the subject: "(the man) in the red shirt to the left of the woman"."""
    if _PREDICATE.match(rest):
        return False  # a relation between two things; what follows belongs to the other (or to a verb)
    words = rest.casefold().split()
    relation = re.search(r" (?:left|right) of | behind | in order", rest)
    if words[0] not in ("in", "with", "for", "from", "at") and not relation:
        return False  # "(the cup) on the table next to the plate": one place
    places = [place for place in range(1, len(words)) if words[place] in PREPOSITIONS - {"of", "like", "than", "as"}]
    return any(words[place - 1] not in _COMPOUND for place in places)


def _may_qualify(words: list[str], place: int) -> bool:
    """Return whether what looks like the predicate may belong to the subject: "(the man) riding the horse …"."""
    behind = [word.casefold() for word in words[place + 2 :]]
    if not words[place].endswith("ing") or place + 1 >= len(words):
        return False
    known = DETERMINERS | PREPOSITIONS | {"and", "while", "when"}
    again = any(is_ing(word) and before not in known for before, word in pairwise(behind))
    return again or (words[place + 1] == "the" and _BETWEEN_THINGS.search(" ".join(behind)) is not None)


def _begins_noun(words: list[str], place: int) -> bool:
    """Return whether an article follows a noun, and not a preposition or another article."""
    before = words[place - 1].casefold()
    return words[place] in ("a", "an") and before not in PREPOSITIONS | DETERMINERS | {"and", "or", "of"}
