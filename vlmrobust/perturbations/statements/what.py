"""Convert questions with "what", "who" and "which" as the subject, the object or the predicate."""

import re
from collections.abc import Sequence

from .subjects import clause
from .words import (
    AUXILIARY,
    BE,
    DETERMINERS,
    MODALS,
    PAST,
    POSITIONS,
    PREPOSITIONS,
    PRONOUNS,
    as_thing,
    as_value,
    base_verb,
    inflected,
    is_adjectival,
    is_adjective,
    is_ing,
    is_participle,
    is_plural,
    is_proper,
    lowered,
    one_of,
    singular,
    with_article,
)

__all__ = ["what_or_who", "which_one"]

_ATTRIBUTE = re.compile(
    r"(?:main |primary |dominant |predominant |overall |approximate |exact )?(?:colou?rs?|shape|size|gender|sex|breed|"
    r"nationality|age|height|width|length|price|cost|name|title|brand|number|temperature|speed|profession|occupation|"
    r"material|texture|pattern|style|year|language|mood|emotion)",
    re.I,
)


_NAMED_ATTRIBUTE = re.compile(
    r"number|name|title|brand|year|language|breed|temperature|price|cost|age$|height|width|length|speed", re.I
)
_KIND = re.compile(
    r"(?:main |primary |dominant )?(?:type|kind|sort|style|form|category|color|colour|shape|size)s? of\b"
)
_UNCOUNTED = re.compile(
    r"\b(?:colou?r|shape|weather|angle|type|scheme|movement|composition|theme|mood|style|status|state|genre|layout|season"
    r"|sport|direction|condition|topic|subject|material|language|relationship|position|orientation|activity|result|sum"
    r"|value|ratio|emotion|purpose|reason|cause|meaning|function|job|profession|occupation|role|food|music|art|fabric|total|difference|average|time|date|year|day|month)\b",
    re.I,
)
_INFINITIVE = re.compile(
    r" (?:about|able|trying|there|likely|supposed|instructed|told|asked|used|going|ready|needed|allowed) to \w"
)
_NEGATED = re.compile(r"\b(?:not|never|except|missing|absent|lacks?|lacking|happens?|happened)\b|n't\b", re.I)


def what_or_who(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """What is the man holding? umbrella: The man is holding an umbrella."""
    if _NEGATED.search(core) or re.match(r"what\b.*\b(?:doing|to do)\b", core, re.I):
        return None
    if found := re.fullmatch(r"(?:what|which|who) (is|are|was|were) (.+)", core, re.I):
        return _what_is(found[1].lower(), found[2], option, options, person=core[:3].casefold() == "who")
    if (found := re.fullmatch(r"(?:what|who) (?P<verb>\w+) (?P<rest>.+)", core, re.I)) and not re.search(
        r"happen", core
    ):
        verb = found["verb"].lower()
        if (verb in PAST and verb not in ("had", "did")) or (
            base_verb(_stem(verb)) and verb != _stem(verb) and verb not in ("does", "has")
        ):
            said = "someone" if option is None and core[:3].casefold() == "who" else as_thing(option)
            return None if is_plural(said) and verb.endswith("s") else f"{said} {verb} {found['rest']}"
    if found := re.fullmatch(r"(?:what|who) does (.+) (say|read)", core, re.I):
        return f"{found[1]} {found[2]}s {'something' if option is None else chr(34) + option + chr(34)}"
    if found := re.fullmatch(r"(?:what|who) (does|do|did|can|could|will|would|should|has|have|had) (.+)", core, re.I):
        aux, rest = found[1].lower(), found[2]
        does, first = aux in ("do", "does", "did"), rest.split()[0]
        if rest.startswith("be ") or (not does and (first in ("a", "an", "been") or base_verb(first))):
            return f"{as_thing(option)} {aux} {rest}"
        parts = clause(rest, aux)
        if parts is None or re.search(r"\bdo\b|\bsay\b|\bmean\b", parts.rest):
            return None
        if does:
            verb, _, behind = parts.rest.partition(" ")
            return _gap(parts.subject, f"{inflected(verb, aux)} {behind}".strip(), option)
        return _gap(f"{parts.subject} {aux}", parts.rest, option)
    return None


def _what_is(be: str, rest: str, option: str | None, options: Sequence[str], *, person: bool) -> str | None:
    words = rest.split()
    if re.search(
        r"[a-z](?<!\bthe)(?<!\ba)(?<!\ban) (?:reading|writing|drawing|painting|setting|opening|landing)$", rest
    ):
        return None  # a noun, or what somebody does
    first = words[len(words) > 1 and words[0].endswith("ly")].casefold()
    if len(words) > 1 and (first in PREPOSITIONS or is_ing(first) or is_participle(first) or is_adjective(first)):
        if any(one_of(text, POSITIONS) or is_adjective(text) for text in options):
            return None
        said = "someone" if option is None and person else as_thing(option)
        number = ("was", "were") if be in ("was", "were") else ("is", "are")
        return f"{said} {number[option is not None and is_plural(option)]} {re.sub(r'^usually', 'usually', rest)}"
    if first in ("there", "it", "this", "that", "they", "these", "those") and len(words) == 1:
        return None if first == "there" else f"{rest} {be} {as_thing(option)}"
    if is_adjective(first) and len(words) == 1:
        return f"{as_thing(option)} {be} {rest}"
    named = r"(?:\w+ )?(?:text|words?|letters?|message|phrase|slogan|number|name|title|brand)(?= |$)"
    kind = r"[\w ]+? (?:type|kind|colou?r|angle|movement|scheme|theme) (?:of|in)\b"
    if re.match(rf"(?:the |its |his |her )?(?:{_ATTRIBUTE.pattern} of\b|{kind}|{named})", rest, re.I) and not is_ing(
        words[-1]
    ):
        return f"{rest} {be} {'something' if option is None else _as_value(rest, option)}"
    if rest.endswith(" like"):
        return f"{rest.removesuffix(' like')} {be} {'something' if option is None else option}"
    if made := re.fullmatch(r"(.+) (made (?:of|from|out of))", rest):
        return f"{made[1]} {be} {made[2]} {'something' if option is None else option}"
    if (
        any(is_ing(word) for word in words[1 + (first in DETERMINERS) :])
        or words[-1] in PREPOSITIONS
        or _INFINITIVE.search(rest)
    ):
        parts = clause(rest, be)
        return parts and _gap(f"{parts.subject} {be}", parts.rest, option)
    if (is_participle(words[-1]) and words[-2:-1] != ["the"]) or all(is_ing(text.split()[0]) for text in options):
        return None
    said = "something" if option is None else option
    plain = _UNCOUNTED.search(rest)
    return f"{rest} {be} {said if plain or option is None else as_thing(option)}"


def _as_value(asked: str, option: str) -> str:
    """Return what the angle, the movement, … of something is: "a high angle", "a move to the right", "static"."""
    if not (of := _SEEN_FROM.search(asked)):
        return lowered(option)
    value = as_value(option)
    words = value.split()
    moves = of[0] == "movement" and words[-1] in PREPOSITIONS | POSITIONS | {"out", "away", "forward", "backward"}
    if len(words) == 1 or words[0] in DETERMINERS or not (moves or words[-1] in ("angle", "shot", "view")):
        return value
    return f"{'an' if value[0].casefold() in 'aeiou' else 'a'} {value}"


_SEEN_FROM = re.compile(r"\b(?:angle|movement|composition|framing|perspective|lighting|mood|weather|season)\b")


def _gap(subject: str, verbs: str, option: str | None) -> str | None:
    """Return a sentence with its object in place: behind its verb, or behind the preposition that it ends with."""
    words = verbs.split()
    if words[-1] == "do":
        return None
    said = as_thing(option)
    adverb = words[-1] in ("most", "least", "best", "here", "there", "now", "next") or words[-1].endswith("ly")
    if len(words) > 1 and adverb:
        return f"{subject} {' '.join(words[:-1])} {said} {words[-1]}"
    if words[0] in ("wearing", "holding", "using", "carrying") and words[1:2] == ["to"]:
        return f"{subject} {words[0]} {said} {' '.join(words[1:])}"
    if len(words) == 1 or words[-1] in PREPOSITIONS or "to" in words[:-1]:
        return f"{subject} {verbs} {said}"
    if words[1] in PREPOSITIONS:
        return f"{subject} {words[0]} {said} {' '.join(words[1:])}"
    return None


def which_one(core: str, option: str | None, options: Sequence[str]) -> str | None:
    """Which animal is asleep? the cat: The cat is asleep."""
    found = re.fullmatch(
        r"(?:in )?(?:what|which) (?P<following>(?:one )?of (?:the following|these|the) )?(?P<behind>.+)", core, re.I
    )
    if not found:
        return None
    words = found["behind"].split()
    if not found["following"] and (words[0] in PAST or (base_verb(_stem(words[0])) and words[0] != _stem(words[0]))):
        return None  # "what happens"
    if words[-1] == "doing" and any(is_ing(text.split()[0]) for text in options):
        return None  # "what sport is he doing"
    place = next((place for place in range(len(words)) if _is_verb(words, place)), 0)
    if not place and words[0].lower() in BE and len(words) > 1 and core[:5].casefold() == "which":
        if _NEGATED.search(core) or not (found["following"] or _begins(words[1])):
            return None
        return _chosen("one", f"{words[0].lower()} {' '.join(words[1:])}", option, options)
    if (
        not place
        or _NEGATED.search(core)
        or words[0] in ("best", "most", "correctly")
        or (place == len(words) - 1 and words[place] in BE)
    ):
        return None
    how = place - 1 if place > 1 and words[place - 1] in ("best", "most", "probably", "usually", "correctly") else place
    noun, verb, rest = " ".join(words[:how]), words[place].lower(), " ".join(words[place + 1 :])
    placed = all(one_of(text, POSITIONS) for text in options)
    if "," in noun or {"that", "who"} & set(words[:how]) or ("of" in words[:how] and not (placed or _KIND.match(noun))):
        return None
    if re.search(r"\b(?:direction|way)$", noun):
        parts = clause(rest, verb) if verb in BE else None
        if parts is None or " " in parts.rest or not is_ing(parts.rest):
            return None
        return f"{parts.subject} {verb} {parts.rest} {'some way' if option is None else option}"
    if found["following"]:
        noun = singular(noun)
    if core[:3].casefold() == "in ":
        return f"it {verb} {'some time' if option is None else lowered(option)}" if rest == "it" else None
    if verb in BE:
        return _which_is(noun, verb, rest, option, options)
    if verb in ("does", "do", "did"):
        parts = clause(rest, verb)
        if parts is None:
            return None
        head, _, behind = parts.rest.partition(" ")
        said = f"{parts.subject} {inflected(head, verb)} {behind}".rstrip()
        thing = "something" if option is None else option if _UNCOUNTED.search(noun) else as_thing(option)
        if option is not None and placed:
            thing = f"the {option} one"
        return f"the {noun} that {said} {'are' if is_plural(noun) else 'is'} {thing}"
    if not (base_verb(_stem(verb)) or verb in PAST) and verb not in ("has", "can", "could", "will", "would"):
        return None
    if verb in MODALS and rest.split(" ")[0].casefold() in DETERMINERS | PRONOUNS:
        return None  # "which activity could this be"
    return _chosen(noun, " ".join((*words[how:place], verb, rest)).rstrip(), option, options)


def _is_verb(words: list[str], place: int) -> bool:
    word, after = words[place].lower(), words[place + 1] if place + 1 < len(words) else ""
    if re.fullmatch(AUXILIARY, word):
        return True
    if place > 0 and word in PAST and not any(re.fullmatch(AUXILIARY, other) for other in words[place:]):
        return True
    if place == 0 and (word in PAST or base_verb(_stem(word))):
        return False
    return place > 0 and word.endswith("s") and base_verb(_stem(word)) and not re.fullmatch(AUXILIARY, after)


def _stem(verb: str) -> str:
    return next((stem for stem in (verb[:-1], verb[:-2], f"{verb[:-3]}y") if base_verb(stem)), verb)


def _which_is(noun: str, be: str, rest: str, option: str | None, options: Sequence[str]) -> str | None:
    first = rest.split()[0].casefold()
    if is_adjective(rest) and noun in ("shape", "object", "item", "thing") and not all(map(is_adjective, options)):
        return f"the {rest} {noun} {be} {_as_answer(option)}"
    if _ATTRIBUTE.fullmatch(noun) and first not in PREPOSITIONS and first != "there" and not is_participle(first):
        if is_participle(rest.split()[-1]) or (rest.split()[-1] in PREPOSITIONS and noun != "material"):
            return None  # "what language is the sign written in"
        said = f"of some {noun}" if option is None else option
        if _NAMED_ATTRIBUTE.search(noun):
            return f"the {noun} of {rest} {be} {'something' if option is None else option}"
        if noun == "shape" and option is not None and not all(map(is_adjective, options)):
            return f"{rest} {be} {_as_answer(option)}"
        if noun == "material":
            return f"{re.sub(r' made (?:of|from)$', '', rest)} {be} made of {'something' if option is None else said}"
        return f"{rest} {be} {said}"
    if first == "there" or rest.split()[-1] == "there":
        behind = rest.removeprefix("there").strip()
        if option is not None and option.casefold() in ("none", "no", "nothing"):
            return f"there {be} no {noun} {behind}".rstrip()
        return f"there {be} {as_thing(option)} {behind}".rstrip()
    raw = _UNCOUNTED.search(_KIND.sub("", noun))
    said = "something" if option is None else option if raw else as_thing(option)
    if rest in ("it", "this", "that"):
        return f"{rest} {be} {said}"
    if " " not in rest and is_participle(rest):
        return f"the {noun} {rest} {be} {said}"
    if _begins(first):
        if re.search(r"\b(?:\w+er|more|most|\w+est|ahead|first|last)\b", rest.split(" to ")[0]) and not _KIND.match(
            noun
        ):
            return _chosen(noun, f"{be} {rest}", option, options)
        return _of_kind(
            noun,
            f"{'' if first in PREPOSITIONS else be} {rest}".strip(),
            option,
            bool(raw) or any(map(is_adjectival, options)),
        )
    if re.match(r"the (?:\w{3,}est|most|least|first|last|only)\b", rest):
        return _chosen(noun, f"{be} {rest}", option, options)
    parts = clause(rest, be)
    verbs = parts.rest.split() if parts else [""]
    if not (is_ing(verbs[0]) or is_participle(verbs[0]) or "to" in verbs or verbs[-1] in PREPOSITIONS):
        return _chosen(noun, f"{be} {rest}", option, options) if rest.startswith(("the ", "a ", "an ")) else None
    if parts is None:
        return None
    if re.match(r"colou?r ", noun):
        said = "coloured" if option is None else option.casefold()
        gap = noun.split(maxsplit=1)[1].removeprefix("of ")
        thing = f"{said} {gap}"
        if not is_plural(gap):
            thing = f"a {thing}" if said == "coloured" else with_article(thing)
        return f"{parts.subject} {be} {parts.rest} {thing}" if " " not in parts.rest else None
    if _KIND.match(noun) or " " in parts.rest:
        named = "something" if option is None else option if any(map(is_adjectival, options)) else as_thing(option)
        if option is not None and all(one_of(text, POSITIONS) for text in options):
            named = f"the {option} one"
        return f"the {noun} that {parts.subject} {be} {parts.rest} is {named}"
    if option is not None and all(one_of(text, POSITIONS) or is_adjective(text) for text in options):
        return f"{parts.subject} {be} {parts.rest} the {option} {noun}"
    return _gap(f"{parts.subject} {be}", parts.rest, option)


def _as_answer(option: str | None) -> str:
    if option is None or re.fullmatch(r"[A-Z]|\d+", option):
        return "something" if option is None else option
    return with_article(f"{option} thing").removesuffix(" thing")  # "a square", which could be an adjective


def _begins(word: str) -> bool:
    return word in PREPOSITIONS or is_ing(word) or is_participle(word) or is_adjective(word)


def _chosen(noun: str, predicate: str, option: str | None, options: Sequence[str]) -> str | None:
    """Return "The zebra has stripes.", "The upper left image shows …", "Object B is nearer."."""
    if _UNCOUNTED.search(noun) or re.search(
        r"\b(?:property|adjective|term|word|phrase|statement|option|emotion)\b", noun
    ):
        return f"the {noun} that {predicate} is {'something' if option is None else option}"
    if option is None:
        return f"something {predicate}"
    if all(one_of(text, POSITIONS) for text in options) or all(map(is_adjective, options)):
        return f"the {option.casefold()} {noun} {predicate}"
    if all(re.fullmatch(r"[A-Z]|\d{1,2}", text) for text in options):
        return f"{option} {predicate}" if noun == "one" else f"{noun} {option} {predicate}"
    if any(is_adjective(text.split()[-1]) or text.split()[0] in PREPOSITIONS for text in options):
        return None
    if any(is_plural(text) for text in options) and not is_plural(noun):
        plain = re.search(r"\b(?:term|word|phrase|name|category|genre|part|group|food|item|kind|type)\b", noun)
        return f"the {noun} that {predicate} is {option}" if plain else None
    named = is_proper(option) or option[:1].isupper() or with_article(lowered(option)) == lowered(option)
    return f"{option if named else 'the ' + option} {predicate}"


def _of_kind(noun: str, behind: str, option: str | None, adjectives: bool) -> str:
    """Return "The kind of sign that hangs there is …"."""
    person = re.search(r"\b(?:man|woman|person|people|boy|girl|child|player|jockey|rider)\b", noun)
    said = "something" if option is None else option if _KIND.match(noun) and adjectives else as_thing(option)
    if option is not None and one_of(option, POSITIONS):
        said = f"the {option}"
    who = " who" if person and "animal" not in noun else " that"
    link = "" if behind.split(" ")[0] in PREPOSITIONS or not behind else who
    return f"the {noun}{link} {behind}".rstrip() + f" {'are' if is_plural(noun) else 'is'} {said}"
