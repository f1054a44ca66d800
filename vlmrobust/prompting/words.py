"""Folded text, and where a word in it stands alone.

A *folded* text is in lower case, with plain quotes, dashes and brackets, and as long as the original, so that positions
hold for both.
"""

import re
import string
from collections.abc import Iterable, Iterator

__all__ = ["NUMBER_ALIASES", "WORD", "Stems", "fold", "occurrences", "stands_alone"]

# A letter or digit of a script that puts spaces between words; "答案是B" has no boundary in front of B, and needs none.
WORD = (
    r"[^\W_\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af"
    r"\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff]"
)
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

_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_NUMBER_NAMES = {str(value): name for value, name in enumerate(_NUMBERS)}
NUMBER_ALIASES = _NUMBER_NAMES | {name: digits for digits, name in _NUMBER_NAMES.items()}

_IS_WORD = re.compile(WORD)
_STARTS_ALONE = re.compile(rf"(?<!{WORD})(?<!{WORD}['-])")
_ENDS_ALONE = re.compile(rf"(?!{WORD}|'{WORD}|-(?!hand|most|side|ward|colou?red|shaped){WORD})")
_IN_A_NUMBER_BEFORE = re.compile(r"(?:\d[.,:/]|-|\b(?:step|image|figure|fig\.|point|case|picture|view|frame) ?#?)$")
_IN_A_NUMBER_AFTER = re.compile(r"[.,:/]\d|%|°|\)? ?[x×]\d|(?:st|nd|rd|th)\b")
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
    if needle[-1].isdigit():
        if _IN_A_NUMBER_AFTER.match(folded, end):
            return False
        if _LIST_MARK_BEFORE.search(before) and _LIST_MARK_AFTER.match(folded, end):
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


def occurrences(text: str, part: str, start: int = 0, end: int | None = None) -> Iterator[int]:
    """Yield where a part stands in a text, without overlaps.

    Example:
        >>> list(occurrences("red, dark red", "red"))
        [0, 10]
    """
    at = text.find(part, start, end)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part), end)


class Stems:
    """Tells which of many words, or parts of words, a text holds.

    What a token holds is looked up once per token, and texts are made of few: that is several times faster than looking
    for every stem in every text.

    Args:
        stems: words, beginnings of words, or several words ("hold on").

    Example:
        >>> sorted(Stems(["therefore", "conclu", "hold on"]).present("hold on, i conclude that"))
        ['conclu', 'hold on']
    """

    def __init__(self, stems: Iterable[str]) -> None:
        self._held = _Held(dict.fromkeys(stems))

    def present(self, folded: str) -> set[str]:
        """Return the stems that occur in a folded text, of those of several words perhaps more."""
        return set().union(*map(self._held.__getitem__, set(folded.split())))


class _Held(dict[str, frozenset[str]]):
    """The stems that a token holds."""

    _TOKENS = 50_000  # that are remembered
    _LENGTH = 24  # of those; texts without spaces are made of long ones that never come again

    def __init__(self, stems: Iterable[str]) -> None:
        super().__init__()
        self._single = [stem for stem in stems if " " not in stem]
        self._several = [(stem, stem[: stem.index(" ")]) for stem in stems if " " in stem]

    def __missing__(self, token: str) -> frozenset[str]:
        held = {stem for stem in self._single if stem in token}
        held |= {stem for stem, first in self._several if token.endswith(first)}
        found = frozenset(held)
        if len(token) <= self._LENGTH and len(self) < self._TOKENS:
            self[token] = found
        return found
