"""Convert the questions whose statement is determined by the end of their subject.

These are closed questions (yes or no, one or the other, which of those named) and questions for a number.
"""

import re
from collections.abc import Sequence

from .subjects import clause
from .words import (
    AUXILIARY,
    BE,
    DETERMINERS,
    MODALS,
    NUMBER,
    PAST,
    PREPOSITIONS,
    PRONOUNS,
    VERBS,
    base_verb,
    inflected,
    is_adjectival,
    is_adjective,
    is_ing,
    is_participle,
    is_plural,
    lowered,
    singular,
    third_person,
)

__all__ = [
    "declared",
    "how_many",
    "how_much",
    "is_sentence",
    "one_or_other",
    "which_of_them",
    "yes_or_no",
]


def is_sentence(text: str) -> bool:
    """Return whether a text is a main clause: it begins with a subject, and a finite verb follows."""
    words = re.findall(r"[\w'’-]+", text.casefold())
    if len(words) < 3 or text.rstrip().endswith("?") or text == text.upper():
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
    words = behind.split()
    if auxiliary in BE and len(words) > 2 and {words[0], words[-1]} <= PREPOSITIONS and words[-2] not in DETERMINERS:
        return None  # "(the lamp on the wall) on"
    if auxiliary not in ("do", "does", "did"):
        if not right and (every := re.match(r"(?:all|every|everyone|each|both|any)\b", subject)):
            return f"not {subject} {auxiliary} {behind}" if every[0] in ("all", "every", "everyone") else None
        said = f"{subject} {auxiliary} {'' if right else 'not '}{behind}"
        return said.replace(f"{subject} can not ", f"{subject} cannot ")
    if not right:
        every = re.match(r"(?:all|every|everyone|each|both|any)\b", subject)
        return None if every else f"{subject} {auxiliary} not {behind.replace('some ', 'any ')}"
    verb, _, objects = behind.partition(" ")
    # "stand and look", "open the door and walk out", but not "sell food and drink"
    if auxiliary != "do" and any(base_verb(word) for word in re.findall(r"(?:^and|\band(?= \w+ \w)) (\w+)", objects)):
        return None
    return f"{subject} {inflected(verb, auxiliary)} {re.sub(r'^any ', '', objects)}".rstrip()


def yes_or_no(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """Is the door open? yes: The door is open. no: The door is not open."""
    answers = [re.match(r"(yes|no|true|false)(?:[,;:]? (?:because )?(.*))?$", text, re.I) for text in options]
    found = re.fullmatch(rf"({AUXILIARY}) (.+)", core, re.I)
    if not all(answers) or re.search(r"\b(?:and|or) (?:is|are|was|were|does|do|did|can)\b|: ", core):
        return None
    if not found and is_sentence(core) and all(text.casefold() in ("true", "false") for text in options):
        if option is None:
            return f"it can be seen whether {lowered(core)}"
        return core if option.casefold() == "true" else f"it is not true that {lowered(core)}"
    if not found or re.search(r"\bnot?\b", found[2]):
        return None
    answer = None if option is None else answers[list(options).index(option)]
    said = declared(found[1].lower(), found[2], answer is None or answer[1].casefold() in ("yes", "true"))
    if said is None or answer is None:
        return said and f"it can be seen whether {said}"
    if not answer[2]:
        return said
    because = re.search(r"[,;:]? because ", answer.string, re.I)
    return f"{said}, because {answer[2]}" if because else f"{said}: {lowered(answer[2])}"


_BEFORE_NOUN = r"(?:(?:an?|the|on|in|to) )*"


def one_or_other(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """Is the ball left or right of the box? left: The ball is left of the box."""
    found = re.fullmatch(rf"({AUXILIARY}) (.+)", core, re.I)
    words = rf"{_BEFORE_NOUN}(?:{'|'.join(sorted(map(re.escape, options), key=len, reverse=True))})"
    listed = found and re.search(rf"\b{words}(?:,? or |, ){words}(?:,? or {words})?(?!\w)", found[2], re.I)
    if not (found and listed):
        return None
    parts = re.split(r",? or |, ", listed[0])
    noun, *nouns = (re.sub(rf"^{_BEFORE_NOUN}", "", text, flags=re.I).casefold() for text in (option or "", *parts))
    if option is not None and nouns.count(noun) != 1:
        return None
    chosen = listed[0] if option is None else parts[nouns.index(noun)]
    begins = re.match(r"(?:on|in|to) |(an?|the) ", chosen, re.I)
    # "on the left or right", "on the mat or the sofa"; not "in front of or behind"
    pattern = _BEFORE_NOUN if begins is None else "(?:(?:on|in|to) )*" if begins[1] else ""
    if parts[0].casefold() not in map(str.casefold, options) and (shared := re.match(pattern, parts[0], re.I)):
        chosen = f"{shared[0]}{chosen}"
    before, behind = found[2][: listed.start()], found[2][listed.end() :]
    if re.fullmatch(r"closer|nearer", chosen, re.I):
        behind = re.sub(r"^ from\b", " to", behind)
    elif re.fullmatch(r"farther|further", chosen, re.I):
        behind = re.sub(r"^ to\b", " from", behind)
    auxiliary, told = found[1].lower(), "it can be seen whether " if option is None else ""
    # The list begins the predicate, unless something else does before.
    if auxiliary in BE and (parts_before := clause(f"{before.strip()} there", "is")) and parts_before.rest == "there":
        return f"{told}{before.strip()} {auxiliary} {chosen}{behind}"
    said = declared(auxiliary, f"{before}{chosen}{behind}", True)
    return said and f"{told}{said}"


def which_of_them(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """Which is nearer, the lamp or the table? the lamp: The lamp is nearer than the table."""
    found = re.fullmatch(
        r"(?:which|who|what)(?: [\w ]+?)? ((?:is|are|was|were|has|have|looks?|appears?)\b.+?), (.+)", core, re.I
    )
    if not found:
        return None
    named = re.split(r",? or |, ", found[2])
    own = [name for name in named if option is not None and _bare(name) == _bare(option)]
    if len(named) != len(options) or {*map(_bare, named)} != {*map(_bare, options)} or (option and len(own) != 1):
        return None
    graded = re.search(r"\b(?:\w+er|more|less|fewer)\b", found[1]) and len(named) == 2
    if option is None:
        number = {2: "two", 3: "three", 4: "four"}.get(len(named), "several")
        return f"one of {number} things {_agreeing(found[1], plural=False)}"
    name = own[0]
    others = [other for other in named if other != name]
    than = f" than {others[0]}" if graded and " than " not in found[1] else ""
    return f"{name} {_agreeing(found[1], plural=is_plural(name))}{than}"


def _bare(text: str) -> str:
    return re.sub(r"^(?:the|an?) ", "", text.strip().casefold())


def _agreeing(predicate: str, *, plural: bool) -> str:
    """Return a predicate whose verb agrees with its subject in number."""
    verb, _, rest = predicate.partition(" ")
    pairs = [pair.split() for pair in ("is are", "was were", "has have", "looks look", "appears appear")]
    forms = {form: pair[plural] for pair in pairs for form in pair}
    return f"{forms.get(verb, verb)} {rest}".rstrip()


def how_many(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """How many stars are there? 4: There are 4 stars."""
    found = re.fullmatch(
        rf"how many (?P<noun>.+?)(?: (?P<aux>{AUXILIARY})(?: (?P<rest>.+))?| (?P<where>(?:in|on|at|of) .+))?",
        core,
        re.I,
    )
    if not found or "," in core:
        return None
    noun = found["noun"]
    part = noun.startswith("of ")
    if any(map(base_verb, noun.split()[1:])):
        return None  # "how many people wear hats"
    if not (part or is_plural(noun) or noun.split()[-1] in ("sheep", "fish", "deer")):
        return None
    number = "" if noun.startswith("more ") else "a number" if part else "a number of"
    if option is not None:
        count = re.match(rf"(?:{NUMBER.pattern}|none|no)(?!\w)", option, re.I)
        trailing = option[count.end() :].strip().casefold() if count else "?"
        if not count or (trailing and singular(trailing) != singular(noun.split()[-1].casefold())):
            return None
        number = "no" if count[0].casefold() in ("none", "no") else count[0].casefold()
    one = number in ("1", "one", "exactly one", "exactly 1")
    thing = f"{number} {singular(noun) if one and not part and not noun.startswith('more ') else noun}".lstrip()
    aux, rest = (found["aux"] or "").lower(), found["rest"] or ""
    if found["where"] or aux in BE:
        be = ("was" if one else "were") if aux in ("was", "were") else "is" if one else "are"
        rest = found["where"] or re.sub(r"^there\b ?", "", rest)
        first = rest.split(" ")[0]
        if not rest or rest != (found["rest"] or "") or first in PREPOSITIONS:
            return f"there {be} {thing} {rest}".rstrip()
        return f"{thing} {be} {rest}" if is_participle(first) or is_ing(first) or is_adjective(first) else None
    if aux in ("have", "has", "had"):
        return f"{thing} {'has' if one and aux != 'had' else aux} {rest}"
    if aux and rest.startswith("be ") and aux not in ("do", "does", "did"):
        return f"{thing} {aux} {rest}"
    if not aux:
        return f"there {'is' if one else 'are'} {thing}"
    parts = clause(rest, aux)
    if parts is None:
        return None
    verb, _, behind = parts.rest.partition(" ")
    head = inflected(verb, aux) if aux in ("do", "does", "did") else f"{aux} {verb}"
    return f"{parts.subject} {head} {thing} {behind}".rstrip()


_MEASURE = re.compile(r"(?:about |around )?\d[\d,.]* ?[a-zA-Z]+(?: [a-z]+)?")


def how_much(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """How tall is the tower? 30 m: The tower is 30 m tall. How is the weather? sunny: The weather is sunny."""
    if found := re.fullmatch(r"how (is|are|was|were) (.+)", core, re.I):
        if not all(map(is_adjectival, options)) or is_participle(found[2].split()[-1]) or is_ing(found[2].split()[-1]):
            return None
        return f"{found[2]} {found[1].lower()} {'of some kind' if option is None else option}"
    if found := re.fullmatch(r"how much (does|do) (.+) (cost|weigh|measure)", core, re.I):
        return f"{found[2]} {inflected(found[3], found[1])} {'something' if option is None else option}"
    found = re.fullmatch(r"how (old|tall|high|long|wide|deep|thick|far) (is|are|was|were) (.+)", core, re.I)
    if not found or not all(map(_MEASURE.fullmatch, options)):
        return None
    said, be, rest = "some way" if option is None else option, found[2].lower(), found[3]
    if found[1].casefold() == "far":
        parts = clause(rest, be)
        away = parts is not None and parts.rest.startswith(("from", "away"))
        return f"{parts.subject} {be} {said} {parts.rest}" if parts and away else None
    said = "somewhat" if option is None else option
    adjective = "" if found[1] in said else f" {found[1]}"
    return None if is_participle(rest.split()[-1]) else f"{rest} {be} {said}{adjective}"
