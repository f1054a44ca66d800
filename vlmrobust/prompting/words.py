r"""Normalise text for matching, and find words that stand alone in it; define the letters of options.

A *folded* text is in lower case, with plain quotes, dashes and brackets, and has the length of the original, so that
positions are valid in both. A *squeezed* text is the concatenation of its words' normal forms: "Ice-creams",
"ice cream" and "icecream" are equal, and so are "$15^{\circ}$", "15°" and "fifteen degrees".
"""

import re
import string
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "LETTERS",
    "MARKS",
    "WORD",
    "WORDS",
    "Squeezed",
    "fold",
    "letter_columns",
    "plain_form",
    "squeeze",
    "stands_alone",
    "without_labels",
]


LETTERS = string.ascii_uppercase
MARKS = LETTERS + string.digits


def letter_columns(letters: str) -> list[int]:
    """Return the positions of letters or digits in `MARKS`, the columns of a table of their log-probabilities.

    Example:
        >>> letter_columns("PQ")
        [15, 16]
    """
    return [MARKS.index(letter) for letter in letters]


_UNSPACED = (
    r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
# A letter or digit of a script with spaces between words; "答案是B" has no boundary before B, and needs none.
WORD = rf"[^\W_{_UNSPACED}]"
WORDS = re.compile(rf"{WORD}+(?:'{WORD}+)*")
# "A. red", "(a) red", "A) red", "A.红色"; not "A.D.", "A:B" or "A.png". "(A) only" and "(A) → (B)" speak of an option.
_SPEAKS_ON = r"\s*(?:(?:and|or|nor|only|is|are)\b|[-=]+>|<[-=]+|[←-⇿➔-➾=≠≈≤≥>]|<(?!\w))"
_STOP = rf"[.:](?=[\s{_UNSPACED}])"
_LABEL = re.compile(rf"\(?([A-Za-z])(?:\)(?!{_SPEAKS_ON})|{_STOP})\s*(?=[^\s,&/])")
_LABEL_WITHIN = re.compile(rf"(?<!{WORD})(?<!\()\(?([A-Za-z])(?:\)|{_STOP})")


def without_labels(options: Sequence[str]) -> tuple[str, ...]:
    """Return options without their letters if each begins with its own and the remaining texts differ.

    They are kept, too, if a remaining text names another option: "A: left, B: right".

    Example:
        >>> without_labels(["A. red", "B. blue"]), without_labels(["A. Lincoln", "J. Adams"])
        (('red', 'blue'), ('A. Lincoln', 'J. Adams'))
    """
    texts = []
    letters = LETTERS[: len(options)]
    for option, letter in zip(options, letters, strict=False):
        label = _LABEL.match(option)
        if label is None or label[1].upper() != letter:
            return tuple(options)
        text = option[label.end() :]
        named = {text.strip(" ().:"), *_LABEL_WITHIN.findall(text)}
        if any(name.upper() in set(letters) - {letter} for name in named):
            return tuple(options)
        texts.append(text)
    return tuple(texts) if len(set(texts)) == len(options) else tuple(options)


_FOLDS = str.maketrans(
    {
        **dict.fromkeys('"“”„‟«»‹›‘’‚‛′`´', "'"),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("\t\u00a0\u2002\u2003\u2009\u202f\u3000", " "),
        **dict(zip("（）【】「」『』《》〈〉〔〕［］｛｝", "()[][][][][]()[]{}", strict=True)),
        **dict(zip("。、，：；！？", ".,,:;!?", strict=True)),
        **{chr(0xFEE0 + code): chr(code).lower() for code in range(0x21, 0x7F)},
        **{chr(0x24D0 + index): letter for index, letter in enumerate(string.ascii_lowercase)},
    }
)
_NUMBER_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty
"""
_NUMBERS = {name: str(value) for value, name in enumerate(_NUMBER_WORDS.split())}

_TOKEN = re.compile(
    rf"[^\W\d_{_UNSPACED}]+(?:'[^\W\d_{_UNSPACED}]+)*"
    r"|(?<![^\W_])-?\d+(?:,\d{3})+(?:\.\d+)?(?!\d)|(?:(?<![^\W_)])-)?(?:\d+(?:\.\d+)?|\.\d+)"
    r"|\\[dt]?frac *(?:\{[^{}]{1,12}\}|\d) *(?:\{[^{}]{1,12}\}|\d)"
    r"|\^? ?\{? ?\\circ\b ?\}?|\\[a-z]+|\\."
    r"|[+=<>^%°×÷±≤≥≠√∞/$€£]|(?<=[\^{])-|(?<=\d)-(?=\d)|[^\W\d_]"
)
_FRACTION = re.compile(r"\\[dt]?frac *\{?([^{}]+?)\}? *\{?([^{}]+?)\}?")
_ARTICLES = frozenset({"a", "an", "the"})
# LaTeX commands for layout only.
_LAYOUT = r"""
\text \textbf \textit \textrm \mathrm \mathbf \mathit \mathsf \operatorname \boxed \left \right \big \bigl \bigr
\displaystyle \quad \qquad \, \; \! \: \( \) \[ \] \{ \} \\ \_ \& \# \n
"""
_VOWEL = re.compile(r"[aeiouyäöü]")
_DIRECTION = re.compile(r"(left|right|up|down|back)wards?")


def _stem(word: str) -> str:
    """Return a rough stem of a word, usually equal for all of its inflections."""
    if word.endswith("ly") and len(word) > 5:
        word = word[:-2]
    if word.endswith("s") and word[-2] not in "sui'":
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    for ending in ("ing", "ed"):
        rest = word[: -len(ending)]
        if word.endswith(ending) and len(rest) > 2 and rest[-1] != "e" and _VOWEL.search(rest):
            word = rest[:-1] if rest[-1] == rest[-2] and rest[-1] not in "ls" else rest
            break
    word = word[:-1] if word.endswith("e") and len(word) > 3 else word
    return word[:-1] + "v" if word.endswith("f") else word  # "shelf" and "shelves"


_SAME = {
    **dict.fromkeys((*_LAYOUT.split(), "\\ ", "$"), ""),
    **{"degree": "°", "\\circ": "°", "percent": "%", "percentage": "%", "\\%": "%", "per": "/", "\\$": "$"},
    **{"\\times": "×", "\\cdot": "×", "kilometer": "km", "kilogram": "kg"},
    **{"centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "millimetre": "mm"},
    **{"grey": "gray", "colour": "color", "children": "child", "men": "man", "women": "woman", "people": "person"},
}
_SAME_STEMS = {_stem(word): form for word, form in _SAME.items() if word.isalpha()}


@lru_cache(maxsize=50_000)
def plain_form(token: str, inflected: bool = False) -> str:
    """Return the normal form of a folded word or number, empty for articles. `inflected`: words are not stemmed.

    Example:
        >>> plain_form("rightward"), plain_form("moved"), plain_form("three"), plain_form("the")
        ('right', 'mov', '#3', '')
    """
    if token.lstrip("-.")[:1].isdecimal():
        number = token.replace(",", "")
        return "#" + (number.rstrip("0").rstrip(".") if "." in number else number).replace("#.", "#0.")
    if "\\circ" in token:
        return "°"
    if fraction := _FRACTION.fullmatch(token):
        return squeeze("/".join(fraction.groups())).text
    if token.startswith("\\"):
        return _SAME.get(token, token.lstrip("\\"))
    token = token.removesuffix("'s")
    if token in _NUMBERS:
        return "#" + _NUMBERS[token]
    if token in _ARTICLES:
        return token if inflected else ""
    if token in _SAME or inflected or len(token) < 4:
        return _SAME.get(token, token)
    direction = _DIRECTION.fullmatch(token)
    stem = direction[1] if direction else _stem(token)
    return _SAME_STEMS.get(stem, stem)


class Squeezed(NamedTuple):
    """A span of a folded text without spaces and punctuation, with its words in their normal forms.

    Attributes:
        text: the normal forms, concatenated.
        starts, ends: offsets in `text` where a form starts (ends) → offsets in the folded text.
    """

    text: str
    starts: dict[int, int]
    ends: dict[int, int]

    def find(self, part: str) -> Iterator[tuple[int, int]]:
        """Yield the spans of a squeezed part in the folded text; they begin and end at word boundaries."""
        at = self.text.find(part)
        while at >= 0:
            start, end = self.starts.get(at), self.ends.get(at + len(part))
            if start is not None and end is not None:
                yield start, end
            at = self.text.find(part, at + 1)


def squeeze(folded: str, start: int = 0, end: int | None = None, *, inflected: bool = False) -> Squeezed:
    r"""Squeeze a folded text from `start` to `end`; `inflected`: words are not stemmed.

    Example:
        >>> squeeze("the ice-creams").text, squeeze(r"$15^{\circ}$").text, squeeze("fifteen degrees").text
        ('icecream', '#15°', '#15°')
    """
    parts: list[str] = []
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    at = 0
    for match in _TOKEN.finditer(folded, start, len(folded) if end is None else end):
        form = plain_form(match[0], inflected)
        if not form and match[0] in _ARTICLES and not folded.startswith(" ", match.end()):
            form = match[0]  # "a" of "point A", not an article
        if form:
            parts.append(form)
            starts[at], at = match.start(), at + len(form)
            ends[at] = match.end()
    return Squeezed("".join(parts), starts, ends)


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
    return lowered.translate(_FOLDS)


_STARTS_ALONE = re.compile(rf"(?!{WORD})|(?<!{WORD})(?<!{WORD}['-])")
_ENDS_ALONE = re.compile(
    rf"(?<!{WORD})|(?!{WORD}|'(?!s\b){WORD}|-(?!hand|most|side|ward|colou?red|shaped|looking){WORD})"
)
# Contexts in which a word, between ‹ and ›, has another meaning: a number, a calculation, a list marker, an idiom.
_COUNT = "|".join(("\\d+", *_NUMBERS))
_NOT_ITSELF = re.compile(
    rf"""(?:\d[.,:/]|-|[\d°)²]\ ?[-+×*·/÷]\ ?|[a-z)]\ ?[/^]
      |\b(?:step|image|figure|fig\.|point|case|picture|view|frame)\ ?\#?)‹\d
    |\d›(?:[.,:/^]\d|\ ?[-+×*·÷/=]\ ?\d|\)?\ ?[x×]\d|(?:st|nd|rd|th)\b)
    |(?:\d|‹(?:{_COUNT}))›\ (?:and\ an?\ (?:half|quarter|third)|hundred|thousand|million|point|out\ of|times)\b
    |(?:^|\n|[.!?]\ )[\ *\#]*\(?‹\d+›[.):]\ +\S
    |\b(?:the|these|those|between|other)\ ‹(?!one›|1›)(?:{_COUNT})›|\bbetween\ (?:{_COUNT})\ and\ ‹(?:{_COUNT})›
    |(?<!\bis)(?<!\bare)(?<!\bbe)(?<!only)(?<!exactly)(?<!just)(?<!see)(?<!ha[sd])(?<!have)(?<!shows)(?<!answer)(?<!to)
      (?<!of)(?<!or)(?<!and)(?<!option)(?<!not)(?<!find)(?<![^\w\s])\ ‹one› | ‹one›\ (?:of|by|that|which|who|is|can)\b
    |‹(?:yes|no|all)›(?!['*).,!;:<}}\]]|\s*$|\ (?:and|or)\ (?:yes|no)\b|\ (?:-|because\b|since\b))
    |‹none›\ of\b | ‹(?:other|both)›\ \w
    |\b(?:that's|that\ is|all|sounds|i'm|am)\ ‹right› | ‹right›\ (?:answers?|options?|choices?|one|now|away)\b
    |\b(?:options?|choices?|one|what's)\ ‹left› | ‹left›\ (?:over|out|unanswered|with)\b
    |\b(?:the|as|mentioned|described|listed|noted|stated|discussed|analysis|reasoning|options|given)\ ‹(?:above|below)›
    """,
    re.VERBOSE,
)


def stands_alone(folded: str, start: int, end: int) -> bool:
    """Return whether the span from `start` to `end` is a separate word, in its literal meaning.

    "red" is not in "dark-red" or "hundred", "2" not in "2.5" or "step 2", "right" not in "the right answer".
    """
    if not _STARTS_ALONE.match(folded, start) or not _ENDS_ALONE.match(folded, end):
        return False
    context = f"{folded[max(0, start - 24) : start]}‹{folded[start:end]}›{folded[end : end + 24]}"
    return _NOT_ITSELF.search(context) is None
