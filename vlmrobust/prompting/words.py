r"""Folded text, its words in their plain form, and where a word in it stands alone.

A *folded* text is in lower case, with plain quotes, dashes and brackets, and as long as the original, so that positions
hold for both. A *squeezed* text is made of its words' plain forms without anything between them: "Ice-creams",
"ice cream" and "icecream" are the same, and so are "$15^{\circ}$", "15°" and "fifteen degrees".
"""

import re
import string
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["NUMBER_ALIASES", "WORD", "WORDS", "Squeezed", "fold", "plain_form", "squeeze", "stands_alone"]

_UNSPACED = (
    r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
# A letter or digit of a script that puts spaces between words; "答案是B" has no boundary in front of B, and needs none.
WORD = rf"[^\W_{_UNSPACED}]"
WORDS = re.compile(rf"{WORD}+(?:'{WORD}+)*")
_FOLDS = {
    **dict.fromkeys('"“”„‟«»‹›‘’‚‛′`´', "'"),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("\t\u00a0\u2002\u2003\u2009\u202f\u3000", " "),
    **dict(zip("（）【】「」『』《》〈〉〔〕［］｛｝", "()[][][][][]()[]{}", strict=True)),
    **dict(zip("。、，：；！？", ".,,:;!?", strict=True)),
    **{chr(0xFEE0 + code): chr(code).lower() for code in range(0x21, 0x7F)},
    **{chr(0x24D0 + index): letter for index, letter in enumerate(string.ascii_lowercase)},
}
_FOLD_TABLE = str.maketrans(_FOLDS)

_NUMBER_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty
"""
_NUMBERS = _NUMBER_WORDS.split()
_NUMBER_NAMES = {str(value): name for value, name in enumerate(_NUMBERS)}
NUMBER_ALIASES = _NUMBER_NAMES | {name: digits for digits, name in _NUMBER_NAMES.items()}

_TOKEN = re.compile(
    rf"[^\W\d_{_UNSPACED}]+(?:'[^\W\d_{_UNSPACED}]+)*"
    r"|(?<![^\W_])-?\d+(?:,\d{3})+(?:\.\d+)?(?!\d)|(?:(?<![^\W_)])-)?(?:\d+(?:\.\d+)?|\.\d+)"
    r"|\\[dt]?frac *(?:\{[^{}]{1,12}\}|\d) *(?:\{[^{}]{1,12}\}|\d)"
    r"|\^? ?\{? ?\\circ\b ?\}?|\\[a-z]+|\\."
    r"|[+=<>^%°×÷±≤≥≠√∞/$€£]|(?<=[\^{])-|(?<=\d)-(?=\d)|[^\W\d_]"
)
_FRACTION = re.compile(r"\\[dt]?frac *(?:\{([^{}]+)\}|(\d)) *(?:\{([^{}]+)\}|(\d))")
_ARTICLES = frozenset({"a", "an", "the"})
_SAME = {
    **dict.fromkeys(_ARTICLES, ""),
    **dict.fromkeys(("degree", "degrees", "circ"), "°"),
    **dict.fromkeys(("percent", "percentage", "\\%"), "%"),
    **dict.fromkeys(("centimeter", "centimeters", "centimetre", "centimetres"), "cm"),
    **dict.fromkeys(("millimeter", "millimeters", "millimetre", "millimetres"), "mm"),
    **dict.fromkeys(("kilometer", "kilometers", "kilometre", "kilometres"), "km"),
    **dict.fromkeys(("kilogram", "kilograms"), "kg"),
    **dict.fromkeys(("\\times", "\\cdot"), "×"),
    **{"per": "/", "grey": "gray", "colour": "color", "colours": "color", "children": "child", "men": "man"},
    **{"women": "woman", "people": "person", "\\$": "$", "$": "", "evening": "evening"},
    **{"does": "do", "leaves": "leaf", "knives": "knife", "shelves": "shelf"},
    **{f"{way}{ending}": way for way in ("left", "right", "up", "down", "back") for ending in ("ward", "wards")},
}
_VOWEL = re.compile(r"[aeiouyäöü]")
_DIRECTION = re.compile(r"(?:left|right|up|down|back)(?=wards?(?:ly)?$)")


def _stem(word: str) -> str:
    """Return a word without its inflection; rough, and the same for all of a word's forms more often than not."""
    if word.endswith("ly") and len(word) > 5:
        word = word[:-2]
    if word.endswith("s") and word[-2] not in "sui'":
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    for ending in ("ing", "ed"):
        rest = word[: -len(ending)]
        if word.endswith(ending) and len(rest) > 2 and rest[-1] != "e" and _VOWEL.search(rest):
            word = rest[:-1] if rest[-1] == rest[-2] and rest[-1] not in "ls" else rest
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


class _PlainForms(dict[str, str]):
    """The plain form of every token that was met, up to a limit."""

    _TOKENS = 50_000

    def __init__(self, *, inflected: bool) -> None:
        super().__init__()
        self._inflected = inflected

    def __missing__(self, token: str) -> str:
        form = self._form(token)
        if len(self) < self._TOKENS and len(token) < 40:
            self[token] = form
        return form

    def _form(self, token: str) -> str:
        if token.lstrip("-.")[:1].isdecimal():
            number = token.replace(",", "")
            return "#" + (number.rstrip("0").rstrip(".") if "." in number else number).replace("#.", "#0.")
        if token.startswith("\\") or "circ" in token:
            if fraction := _FRACTION.fullmatch(token):
                above, below = (part for part in fraction.groups() if part is not None)
                return squeeze(f"{above}/{below}").text
            return _SAME.get(token) or ("°" if "circ" in token else "" if token in _LAYOUT else token.lstrip("\\"))
        if token.endswith("'s"):
            token = token[:-2]
        if token in NUMBER_ALIASES:
            return "#" + NUMBER_ALIASES[token]
        if token in _SAME and not (self._inflected and token in _ARTICLES):
            return _SAME[token]
        if self._inflected or len(token) < 4:
            return token
        direction = _DIRECTION.match(token)
        return direction[0] if direction else _stem(token)


# LaTeX that says how something looks, not what it is.
_LAYOUT_COMMANDS = r"""
\text \textbf \textit \textrm \mathrm \mathbf \mathit \mathsf \operatorname \boxed \left \right \big \bigl \bigr
\displaystyle \quad \qquad \, \; \! \: \( \) \[ \] \{ \} \\ \_ \& \# \n
"""
_LAYOUT = frozenset([*_LAYOUT_COMMANDS.split(), "\\ "])
_PLAIN, _INFLECTED = _PlainForms(inflected=False), _PlainForms(inflected=True)


class Squeezed(NamedTuple):
    """A part of a folded text without spaces and punctuation, its words in their plain forms.

    Attributes:
        text: the plain forms, one behind the other.
        starts, ends: where each of them begins and ends in `text`, and in the folded text.
    """

    text: str
    starts: dict[int, int]
    ends: dict[int, int]

    def find(self, part: str) -> Iterator[tuple[int, int]]:
        """Yield where a squeezed part stands in the folded text: (start, end), at the edges of words alone."""
        at = self.text.find(part)
        while at >= 0:
            start, end = self.starts.get(at), self.ends.get(at + len(part))
            if start is not None and end is not None:
                yield start, end
            at = self.text.find(part, at + 1)


def plain_form(word: str) -> str:
    """Return a folded word without inflection; articles have none.

    Example:
        >>> plain_form("rightward"), plain_form("moved"), plain_form("three"), plain_form("the")
        ('right', 'mov', '#3', '')
    """
    return _PLAIN[word]


def squeeze(folded: str, start: int = 0, end: int | None = None, *, inflected: bool = False) -> Squeezed:
    r"""Return a part of a folded text squeezed.

    Args:
        folded: the text.
        start: where the part begins.
        end: where it ends.
        inflected: keep words as they are, where their forms make a difference.

    Example:
        >>> squeeze("the ice-creams").text, squeeze(r"$15^{\circ}$").text, squeeze("fifteen degrees").text
        ('icecream', '#15°', '#15°')
    """
    forms = _INFLECTED if inflected else _PLAIN
    parts: list[str] = []
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    at = 0
    for match in _TOKEN.finditer(folded, start, len(folded) if end is None else end):
        form = forms[match[0]]
        if not form and match[0] in _ARTICLES and not folded.startswith(" ", match.end()):
            form = match[0]  # "a" of "point A", and no article
        if form:
            parts.append(form)
            starts[at], at = match.start(), at + len(form)
            ends[at] = match.end()
    return Squeezed("".join(parts), starts, ends)


_IS_WORD = re.compile(WORD)
_STARTS_ALONE = re.compile(rf"(?<!{WORD})(?<!{WORD}['-])")
_ENDS_ALONE = re.compile(rf"(?!{WORD}|'(?!s\b){WORD}|-(?!hand|most|side|ward|colou?red|shaped|looking){WORD})")
_IN_A_NUMBER_BEFORE = re.compile(
    r"(?:\d[.,:/]|-|[\d°)²] ?[-+×*·/÷] ?|[a-z)] ?[/^]|\b(?:step|image|figure|fig\.|point|case|picture|view|frame) ?#?)$"
)
_IN_A_NUMBER_AFTER = re.compile(
    r"[.,:/^]\d| ?[-+×*·÷/=] ?\d|\)? ?[x×]\d|(?:st|nd|rd|th)\b| and an? (?:half|quarter|third)\b| (?:hundred"
    r"|thousand|million|point|out of|times)\b"
)
_LIST_MARK_BEFORE = re.compile(r"(?:^|\n|[.!?] )[ *#]*\(?$")
_LIST_MARK_AFTER = re.compile(r"[.):] +\S")

# Everyday words that are an option only where they stand like one: (not after, not before, only before).
_COMMON = {
    "no": (r"", r"", r"['*).,!;:]|\s*$"),
    "yes": (r"", r"", r"['*).,!;:]|\s*$"),
    "all": (r"", r"", r"['*).,!;:]|\s*$"),
    "none": (r"", r" of\b", r""),
    "one": (r"(?<!\bis)(?<!\bare)(?<!\bbe)(?<!only)(?<!exactly)(?<!just)(?<!see)(?<!has)(?<!have)(?<!shows)"
            r"(?<!answer)(?<!there's)(?<!to)(?<!of)(?<!or)(?<!and)(?<!option)(?<!not)(?<!find)(?<![^\w\s]) $",
            r" (?:of|by|that|which|who|is|can|could|should)\b", r""),
    "right": (r"(?:\bthat's|\bthat is|\ball|sounds|\bi'm|\bam) $",
              r" (?:answers?|options?|choices?|one|now|away)\b", r""),
    "left": (r"\b(?:options?|choices?|one|possibility|candidates?|what's) $", r" (?:over|out|unanswered|with)\b", r""),
    "above": (r"\b(?:the|as|mentioned|described|listed|noted|stated|discussed|analysis|reasoning|options|given) $",
              r"", r""),
    "below": (r"\b(?:the|as|mentioned|described|listed|noted|stated|options|given) $", r"", r""),
    "other": (r"", r" \w", r""),
    "both": (r"", r" \w", r""),
}  # fmt: skip
_COMMON_RULES = {word: tuple(re.compile(rule) if rule else None for rule in rules) for word, rules in _COMMON.items()}
_COUNTS_BEFORE = re.compile(r"\b(?:the|these|those|between|other) $")


def fold(text: str) -> str:
    """Return the text in lower case, with plain quotes, dashes, brackets and full-width letters; its length stays.

    Example:
        >>> fold("（Ｂ） “Red”")
        "(b) 'red'"
    """
    lowered = text.lower()
    if len(lowered) != len(text):
        lowered = "".join(char.lower() if len(char.lower()) == 1 else char for char in text)
    if lowered.isascii():
        return lowered.replace('"', "'").replace("`", "'").replace("\t", " ")
    return lowered.translate(_FOLD_TABLE)


def stands_alone(folded: str, start: int, end: int) -> bool:
    """Whether what stands from `start` to `end` is a word of its own, meant as itself.

    "red" is not in "dark-red" or "hundred", "2" not in "2.5" or "step 2", "right" not in "the right answer".
    """
    needle = folded[start:end]
    if _IS_WORD.match(needle[0]) and not _STARTS_ALONE.match(folded, start):
        return False
    if _IS_WORD.match(needle[-1]) and not _ENDS_ALONE.match(folded, end):
        return False
    before = folded[max(0, start - 24) : start]
    if needle[0].isdigit() and _IN_A_NUMBER_BEFORE.search(before):
        return False
    if (needle[-1].isdigit() or needle in NUMBER_ALIASES) and _IN_A_NUMBER_AFTER.match(folded, end):
        return False
    if needle[-1].isdigit() and _LIST_MARK_BEFORE.search(before) and _LIST_MARK_AFTER.match(folded, end):
        return False
    if needle in NUMBER_ALIASES and needle not in ("one", "1") and _COUNTS_BEFORE.search(before):
        return False
    if needle in _COMMON_RULES:
        not_after, not_before, only_before = _COMMON_RULES[needle]
        if not_after and not_after.search(before):
            return False
        if not_before and not_before.match(folded, end):
            return False
        return only_before is None or only_before.match(folded, end) is not None
    return True
