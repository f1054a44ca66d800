"""Classify and inflect English words, as far as statements need it: word lists, endings, articles."""

import re

__all__ = [
    "AUXILIARY",
    "BE",
    "COLOURS",
    "DETERMINERS",
    "LY_NOUNS",
    "MODALS",
    "NUMBER",
    "PAST",
    "POSITIONS",
    "PREPOSITIONS",
    "PRONOUNS",
    "VERBS",
    "all_lowered",
    "as_thing",
    "as_value",
    "base_verb",
    "inflected",
    "is_adjectival",
    "is_adjective",
    "is_ing",
    "is_noun_phrase",
    "is_participle",
    "is_plural",
    "is_proper",
    "lowered",
    "one_of",
    "singular",
    "third_person",
    "with_article",
]


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


BE = _listed("is are was were")
MODALS = _listed("can could will would should may might must")
AUXILIARY = r"is|are|was|were|does|do|did|can|could|will|would|should|may|might|must|has|have|had"
DETERMINERS = _listed(
    "the a an this that these those his her its their my your our each every some any no all both one two three "
    "another other"
)
PRONOUNS = _listed("it he she they we you i there")
PREPOSITIONS = _listed(
    "in on at under below above over behind beside besides near by with from to into onto inside outside between "
    "among around across along against through toward towards up down underneath beneath within without before "
    "after during for about off next opposite for like than as upon past"
)
POSITIONS = _listed(
    "left right top bottom upper lower middle center central centre front back rear first second third fourth last "
    "leftmost rightmost topmost bottommost inner outer nearest farthest down"
)
COLOURS = _listed(
    "red blue green yellow black white brown orange purple pink gray grey silver gold golden beige cyan teal tan"
)
_ADJECTIVES = COLOURS | _listed(
    "open closed full empty visible clean dirty wet dry dark bright light big small large tall short long wide "
    "narrow round square striped plain old young new hot cold warm happy sad angry sunny cloudy rainy parallel "
    "perpendicular equal similar different same broken ready available present absent alone asleep awake alive dead "
    "identical symmetric symmetrical true false able unable likely possible facing higher lower closer nearer farther "
    "further taller shorter longer bigger smaller larger wider heavier lighter older younger darker brighter "
    "thicker thinner hotter colder faster slower more less left right on off ahead transparent wooden vertical "
    "horizontal diagonal there here indoors outdoors outside inside still also currently very completely partially "
    "fully both not together away upside steady busy crowded occupied safe dangerous edible ripe natural artificial "
    "anxious calm excited bored scared surprised tired peaceful joyful serious playful lonely tense romantic "
    "nostalgic neutral cheerful modern traditional soft hard rough smooth flexible rigid fragile sticky stretchy "
    "shiny sharp blunt most least best half"
)
_NOUNS_IN_ING = _listed(
    "building ceiling painting railing clothing thing string ring king wing morning evening something anything "
    "nothing everything lighting drawing swing spring sling landing parking wedding meeting crossing lightning "
    "earring awning paving flooring pudding icing frosting stuffing dressing siding sting bring sibling dumpling "
    "reading writing setting covering heading marking opening sing shading"
)
LY_NOUNS = _listed("family fly belly jelly lily butterfly dragonfly assembly italy supply ally bully july")
_IRREGULAR = {
    "have": "had", "hold": "held", "wear": "wore", "sit": "sat", "stand": "stood", "lie": "lay", "eat": "ate",
    "drink": "drank", "ride": "rode", "drive": "drove", "make": "made", "take": "took", "give": "gave", "go": "went",
    "come": "came", "run": "ran", "throw": "threw", "catch": "caught", "see": "saw", "say": "said", "get": "got",
    "put": "put", "leave": "left", "fall": "fell", "win": "won", "lose": "lost", "find": "found", "hit": "hit",
    "become": "became", "begin": "began", "write": "wrote", "read": "read", "sleep": "slept", "fly": "flew",
    "swim": "swam", "cut": "cut", "buy": "bought", "sell": "sold", "think": "thought", "feel": "felt", "keep": "kept",
    "know": "knew", "mean": "meant", "do": "did", "speak": "spoke", "hang": "hung", "grow": "grew", "break": "broke",
    "tell": "told", "meet": "met", "let": "let",
}  # fmt: skip
VERBS = frozenset(_IRREGULAR) | _listed(
    "seem look appear show contain need use include belong touch want like carry play point cover match fit exceed "
    "equal turn move walk jump resemble represent indicate convey depict describe suggest imply share cross reach "
    "open close enter cook serve work live stay happen occur start stop follow lead push pull lift drop pick kick "
    "pass help try talk ask answer watch listen smile laugh cry consist depend require produce cause allow prevent "
    "protect increase decrease change connect support face overlap intersect surround border sound taste smell "
    "weigh cost measure rest lean arrive return prefer feature belong express relate refer correspond step place "
    "visit land park paint play score discover invent build direct design photograph"
)
_PARTICIPLES = _listed(
    "made worn held shown seen taken written drawn given hung built found known cut put set bent broken left kept "
    "sold eaten driven ridden thrown caught hidden frozen torn won lit grown flown done used being"
)
_MASS = _listed(
    "reading writing "
    "water food grass sand snow hair milk coffee tea bread meat rice cheese fruit wood metal glass plastic cream "
    "furniture clothing equipment winter summer spring autumn joy anger sadness fear surprise disgust happiness "
    "noon midnight daytime pizza pasta salad sushi traffic paper cloth leather stone steel gold silver juice wine "
    "beer soup sugar salt butter ice fire smoke dirt mud gravel concrete asphalt brick cotton wool underwear "
    "jewelry luggage fabric rubber ice-cream pasta sauce corn soil dust rain luck hay straw ketchup mustard "
    "chocolate cash chess poker money music sunlight air gas oil fuel tattoo-ink electricity broccoli lettuce "
    "spinach yolk tennis soccer baseball football basketball hockey golf rugby cricket volleyball breakfast lunch "
    "dinner surfing skiing transport information control"
)
_IRREGULAR_PLURALS = {
    "buses": "bus", "gases": "gas", "lenses": "lens", "people": "person", "men": "man", "women": "woman",
    "children": "child", "feet": "foot", "teeth": "tooth", "geese": "goose", "mice": "mouse", "knives": "knife",
    "shelves": "shelf", "leaves": "leaf", "wolves": "wolf", "loaves": "loaf", "firemen": "fireman",
    "policemen": "policeman",
}  # fmt: skip
_UNCHANGED = _listed("sheep fish deer skis series species aircraft scissors glasses pants jeans shorts")
_SINGULAR_IN_S = _listed("tennis gas lens rabies diabetes measles news mathematics physics series species")
_SUPERLATIVE = re.compile(r"(?!(?:fo|inte|ha|re|qu|gu|pri|p|b|w|v|ch|t|n|cr|z|con|arr|requ|prot)+r?v?est$)[a-z]{3,}est")
_COMPOUND = re.compile(
    r"(?:passing|parking|swimming|dining|living|shopping|sleeping|washing|cutting|frying|flying|ironing|filling|waiting"
    r"|boxing|fishing|sewing|rocking|sailing|walking|racing) [a-z]+",
    re.IGNORECASE,
)
_ADJECTIVAL = re.compile(
    r"(?:[a-z]{2,}(?:al|ory|ive|ous|ic|ful|less|able|ible|ary|ish)|[a-z]+-[a-z]+ed)", re.IGNORECASE
)
_OF_A_PEOPLE = re.compile(r"[A-Z][a-z]+(?:ian|ese|ish|ican)|Dutch|French|Greek|Thai|Swiss|Czech|German")
_COUNTS = _listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty several many few"
)
NUMBER = re.compile(
    rf"(?:(?:more|less|fewer) than |about |around |at least |at most |exactly |over )?"
    rf"(?:\d[\d,]*(?:\.\d+)?|{'|'.join(sorted(_COUNTS, key=len, reverse=True))}|a dozen|a few)",
    re.IGNORECASE,
)


def lowered(text: str, *, adjectives: bool = False) -> str:
    """Return a text whose first word is lower-cased where it is a function word, or an adjective if those are too."""
    first = text.split(maxsplit=1)[0] if text else ""
    plain = first.casefold().rstrip(",.")
    content = adjectives and (plain in _ADJECTIVES | POSITIONS or is_ing(plain))
    if plain not in ("i", "a") and (plain in DETERMINERS | PRONOUNS | PREPOSITIONS or content):
        return text[:1].lower() + text[1:]
    return f"a{text[1:]}" if re.match(r"A (?!(?:and|or)\b)", text) else text  # "A and B" are names


def all_lowered(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return texts that begin alike: in lower case if none of them may be a name."""
    low = tuple(lowered(text, adjectives=True) for text in texts)
    return low if not any(text[:1].isupper() for text in low) else tuple(map(lowered, texts))


def one_of(text: str, words: frozenset[str]) -> bool:
    """Return whether every word of a text is one of these."""
    return bool(text.split()) and all(re.sub(r"\W", "", word).casefold() in words for word in text.split())


def is_adjective(word: str) -> bool:
    """Return whether a word is one of the known adjectives or adverbs."""
    word = word.casefold()
    return word in _ADJECTIVES or bool(_SUPERLATIVE.fullmatch(word))


def is_adjectival(text: str) -> bool:
    """Return whether a text looks like an adjective: one of the known ones, or a single word with such an ending."""
    return is_adjective(text) or bool(_ADJECTIVAL.fullmatch(text))


def is_ing(word: str) -> bool:
    """Return whether a word is a present participle, such as "holding"."""
    return len(word) > 4 and word[0].islower() and word.endswith("ing") and word.casefold() not in _NOUNS_IN_ING


def is_participle(word: str) -> bool:
    """Return whether a word may be a past participle, such as "parked" or "worn"."""
    word = word.casefold()
    return word in _PARTICIPLES or (len(word) > 4 and word.endswith("ed") and not word.endswith(("eed", "bed")))


def is_proper(text: str) -> bool:
    """Return whether a text looks like a name: a capital beyond its first letter, or a digit."""
    return bool(re.search(r"\d|\b\w+ [A-Z]|[a-z][A-Z]|\b[A-Z]{2}", text))


def is_noun_phrase(text: str) -> bool:
    """Return whether a short text may stand for a thing: nothing in it is a verb, and it does not end in an adjective.

    Example:
        >>> [is_noun_phrase(text) for text in ("the cold wind", "too cold", "wind blowing", "catching fish", "he won")]
        [True, False, False, False, False]
    """
    words = [word.casefold() for word in re.findall(r"[\w'-]+", text)]
    if not 0 < len(words) < 6 or words[0] in PRONOUNS | PREPOSITIONS | {"too", "so", "very", "because"}:
        return False
    verbs = any(is_ing(word) or word in BE | MODALS | PAST - {"left", "cut"} for word in words)
    last = words[-1]
    if len(words) > 1 and (words[0] in VERBS or (is_participle(words[0]) and words[1] in PREPOSITIONS)):
        return False  # "catch fish", "distracted by a dog"
    return not (verbs or is_adjectival(last) or is_participle(last) or last.endswith("ly") or last in PREPOSITIONS)


def as_value(option: str) -> str:
    """Return an option that says how something is, such as a camera's angle, in lower case unless it is a name.

    Example:
        >>> as_value("High Angle"), as_value("Dutch angle"), as_value("HDR look")
        ('high angle', 'Dutch angle', 'HDR look')
    """
    kept = re.compile(rf"{_OF_A_PEOPLE.pattern}|.*(?:\d|[A-Z]{{2}}|[a-z][A-Z]).*")
    return " ".join(word if kept.fullmatch(word) else word.lower() for word in option.split(" "))


def is_plural(text: str) -> bool:
    """Return whether the head of a noun phrase is plural."""
    head = re.split(rf" (?:of|{'|'.join(PREPOSITIONS)}|that|who|where|which)\b", text.strip())[0]
    words = head.split()
    while len(words) > 1 and any(is_ing(word) or is_participle(word) for word in words[2:]):
        words.pop()  # "stresses acting over it"
    last = words[-1].casefold() if words else ""
    return (
        " and " in head
        or last in _IRREGULAR_PLURALS
        or last in _UNCHANGED - {"sheep", "fish", "deer", "series", "species", "aircraft"}
        or (last.endswith("s") and not last.endswith(("ss", "us", "is", "'s")) and last not in _SINGULAR_IN_S)
    )


def singular(noun: str) -> str:
    """Return a noun phrase whose last word is singular."""
    *rest, last = noun.split(" ")
    low = last.casefold()
    if low in _IRREGULAR_PLURALS:
        last = _IRREGULAR_PLURALS[low]
    elif low.endswith("ies") and len(low) > 4 and low not in _UNCHANGED:
        last = f"{last[:-3]}y"
    elif low not in _UNCHANGED and low.endswith("s") and not low.endswith(("ss", "us")):
        last = last[:-2] if low.endswith(("ches", "shes", "sses", "xes", "oes")) and low != "shoes" else last[:-1]
    return " ".join((*rest, last))


def with_article(noun: str) -> str:
    """Return a noun phrase as it stands in a sentence: "a cat", but "cats", "water", "the cat", "Anna's cat"."""
    words = noun.split()
    first = words[0].casefold()
    head = re.split(rf" (?:of|{'|'.join(PREPOSITIONS)})\b", noun)[0].split()[-1].casefold()
    if (
        first in DETERMINERS | PRONOUNS | {"something", "someone", "nothing", "nobody", "none"}
        or NUMBER.fullmatch(words[0])
        or words[0].endswith("'s")
        or is_plural(noun)
        or head in _MASS
        or (is_ing(first) and not _COMPOUND.fullmatch(noun))
        or is_ing(words[-1].casefold())
        or noun[:1].isupper()
        or is_proper(noun)
        or not noun[:1].isalpha()
        or all(map(is_adjective, words))
    ):
        return noun
    vowel = re.match(r"(?!one\b|one-|euro|ewe|uni(?!n)|us[aeiu]|uten)[aeiou]|hour|honest|heir", first)
    return f"{'an' if vowel else 'a'} {noun}"


def as_thing(option: str | None) -> str:
    """Return an option as it stands in the place of a noun."""
    return "something" if option is None else with_article(lowered(option))


def third_person(verb: str) -> str:
    """Return the third person singular of a verb, in the present."""
    if verb == "have":
        return "has"
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else f"{verb}s"


def _past(verb: str) -> str:
    """Return the past tense of a known verb."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb.endswith("e"):
        return f"{verb}d"
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ied"
    if verb in ("stop", "drop", "step", "hug", "grab", "prefer", "refer", "fit"):
        return f"{verb}{verb[-1]}ed"
    return f"{verb}ed"


PAST = frozenset(map(_past, VERBS))


def base_verb(word: str) -> bool:
    """Return whether a word is the base form of a known verb."""
    return word in VERBS or word == "be"


def inflected(verb: str, auxiliary: str) -> str:
    """Return a verb as it stands without its auxiliary: "does hold" is "holds"."""
    return {"does": third_person, "did": _past}.get(auxiliary, str)(verb)
