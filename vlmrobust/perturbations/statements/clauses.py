"""Find the end of a question's subject, which determines the word order of the statement."""

import re
from typing import NamedTuple

from .words import (
    BE,
    COLOURS,
    DETERMINERS,
    LY_NOUNS,
    MODALS,
    PAST,
    POSITIONS,
    PREPOSITIONS,
    PRONOUNS,
    VERBS,
    base_verb,
    inflected,
    is_adjective,
    is_ing,
    is_participle,
    is_plural,
    third_person,
)

__all__ = ["Clause", "clause", "declared", "is_sentence"]


class Clause(NamedTuple):
    """A question's words behind its auxiliary, split where the subject ends."""

    subject: str
    rest: str


def is_sentence(text: str) -> bool:
    """Return whether a text is a main clause: it begins with a subject, and a finite verb follows."""
    words = re.findall(r"[\w'’-]+", text.casefold())
    if len(words) < 3 or text.rstrip().endswith("?"):
        return False
    if words[0] in PRONOUNS and words[1] not in PREPOSITIONS and not is_ing(words[1]):
        return True
    finite = BE | MODALS | {"has", "have", "had", "does", "do", "did", "doesn't", "don't", "isn't", "aren't"}
    found = next((place for place, word in enumerate(words[1:], 1) if word in finite), None)
    if found is not None and found < len(words) - 1 and words[0] not in PREPOSITIONS | {"because", "which", "who"}:
        return not {"who", "that", "which", "where", "when"} & set(words[:found]) or words[0] in ("this", "that")
    moved = set(map(third_person, VERBS)) | PAST - {"left", "cut", "put", "set", "hit", "read", "felt"}
    return words[0] in ("the", "this", "there", "a", "an", "two", "three") and any(
        word in moved for word in words[2:-1]
    )


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
    ends = _be_ends(words) if auxiliary in BE | {"has", "have", "had"} else _verb_ends(words)
    if len(ends) != 1 or not 0 < ends[0] < len(words):
        return None
    return Clause(" ".join(words[: ends[0]]), " ".join(words[ends[0] :]))


def declared(auxiliary: str, rest: str, right: bool) -> str | None:
    """Return a yes-or-no question as a statement, or its negation."""
    if (there := re.match(r"there (?:(an?|any|some) )?", rest)) and auxiliary in BE:
        behind = rest[there.end() :]
        if not right and re.search(r" and (?:an?|the|some)\b", behind):
            return None
        if right:
            behind = re.sub(r"^any(?=thing|one|body)", "some", behind)
            return f"there {auxiliary} {'' if there[1] in (None, 'any') else there[1] + ' '}{behind}"
        return f"there {auxiliary} {'no' if there[1] else 'not'} {behind}"
    parts = clause(rest, auxiliary)
    if parts is None:
        return None
    subject, behind = parts
    if re.match(r"any(?:one|body|thing)\b", subject, re.I):
        return None
    if auxiliary not in ("do", "does", "did"):
        if not right and (every := re.match(r"(?:all|every|everyone|each|both|any)\b", subject)):
            return f"not {subject} {auxiliary} {behind}" if every[0] in ("all", "every", "everyone") else None
        said = f"{subject} {auxiliary} {'' if right else 'not '}{behind}"
        return said.replace(f"{subject} can not ", f"{subject} cannot ")
    if not right and re.match(r"(?:all|every|everyone|each|both|any)\b", subject):
        return None
    if not right:
        return f"{subject} {auxiliary} not {behind.replace('some ', 'any ')}"
    verb, _, objects = behind.partition(" ")
    return f"{subject} {inflected(verb, auxiliary)} {re.sub(r'^any ', '', objects)}".rstrip()


def _verb_ends(words: list[str]) -> list[int]:
    start = 1 if words[0].casefold() in PRONOUNS else 2 if words[0].casefold() in DETERMINERS else 1
    return [place for place, word in enumerate(words) if place >= start and base_verb(word)][:1]


def _begins_predicate(words: list[str], place: int) -> bool:
    word, before = words[place].casefold(), words[place - 1].casefold()
    after = words[place + 1].casefold() if place + 1 < len(words) else ""
    if word in PREPOSITIONS | DETERMINERS:
        return True
    if word.endswith("ly") and word not in LY_NOUNS:
        return bool(after)
    attributive = before in DETERMINERS or (is_adjective(before) and before not in POSITIONS)
    if after == "than" and word.endswith("er"):
        return True
    if is_ing(word) or is_participle(word):
        return not attributive
    closed = not after or after in PREPOSITIONS | DETERMINERS | {"and", "or", "to", "enough", "of"} or after[0] in ",("
    grade = word in ("more", "less", "very", "not", "there", "here", "also", "still", "currently", "both", "half")
    return is_adjective(word) and (grade or closed or is_participle(after) or is_ing(after))


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
    start = place = 2 if first in DETERMINERS and words[1] != "of" else 1
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
    if words[place].casefold() not in PREPOSITIONS:
        return [place]
    later = [
        other
        for other in range(place + 2, len(words))
        if words[other].casefold() not in PREPOSITIONS | DETERMINERS and _begins_predicate(words, other)
    ]
    compared = [other for other in later if "than" in words[other + 1 : other + 3]]
    if len(compared) == 1:
        return compared
    return [aside or place] if not later else later if later == [len(words) - 1] and later[0] > place + 2 else []
