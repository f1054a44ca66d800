"""Where a text names an option: by its letter, or by its text.

Options are found by `str.find` in the folded text, not by patterns made from them: their texts may hold anything, and
nothing has to be compiled per sample.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from .letters import LETTERS
from .words import WORD, WORDS, fold, plain_form, squeeze, stands_alone

__all__ = ["FUNCTION_FORMS", "Mention", "Named", "Reading", "distinctive_words", "whole_option"]


_LEAD_REACH = 256
_DECORATION = r"\s*_'#>~$|:=\-.,;!({\[\\"
_LEAD = re.compile(
    rf"(?:[{_DECORATION}]|\\?\b(?:boxed|text(?:bf|it|rm)?|math(?:rm|bf|sf))\s*\{{"
    r"|\b(?:options?|choice|letter|answer|alternative|the|an|that|to be|it is|it's|i think|i believe|i'd say"
    r"|probably|clearly|obviously|definitely|certainly|surely|most likely|likely|maybe|perhaps|possibly|indeed"
    r"|actually|simply|just|therefore|thus|so|then|hence|still|now|indicated by|given by|number|opción|opzione"
    r"|opção|вариант|variante)\b(?!')|选项|選項|选择|選擇|是|为|為|は|보기)*+"
)
_ARTICLE = re.compile(r"an? (?=\S)")
_LETTER = re.compile(rf"(?<!{WORD})(?<!{WORD}['-])([a-z])(?!{WORD}|'{WORD}|-{WORD})")
_DIGIT = re.compile(rf"(?<!{WORD})(?<![\d.,:/-])(\d)(?!{WORD}|[.,:/]\d|[%°])")
# What may follow a letter that is meant as one, where "A red cube" and "I see" are not.
_AFTER_LETTER = re.compile(
    rf"[ \n]+(?:is|are|was|and|or|but|because|since|as|matches|fits|seems|which|not|instead|rather|with|und|oder|ou"
    rf"|et|y|o)\b|[ \n]+(?:while|whereas|though|although) [(*]*[a-z]\b|[ \n]*+(?!{WORD})| *+\n"
)


class Mention(NamedTuple):
    """An option's text within a text; `option` is None where it could be the text of several."""

    start: int
    end: int
    option: int | None


class Named(NamedTuple):
    """What is named at a place: `option` (None = a letter of no option, or ambiguous), by `letter` or by text."""

    start: int
    end: int
    option: int | None
    letter: tuple[int, int] | None


_FUNCTION_WORDS = """
in on at to of for with from by into onto toward towards over under beside behind near inside outside between along
around against as is are was were be been am have has had do does did can could will would should may might must it its
he she they them his her their there this that these those and or but not no nor so if then than which who what when
where why how very more most some any all both each other another one because while during about after before through
just only also too i you we my your our me us him s t yes
"""
FUNCTION_FORMS = frozenset(map(plain_form, _FUNCTION_WORDS.split()))
# The number of a squeezed option, where a unit follows: "12 cm", but neither "12π" nor "12x".
_NUMBER = re.compile(r"(?:#-?[\d.]+/)?#-?[\d.]+(?![\d./√π^]|(?:pi|sqrt|[abknxyz])(?![a-z]))")
_SINGLE = re.compile(rf"(?<!{WORD})\w(?!{WORD})")
_BREAK = re.compile(r"[.!?;] |\n")
_HEAD = re.compile(r"(.{3,}?)(?: +-+ +| *: +| *\()\S")
_OUTER_WORDS = """
a an the in on at to of for with from by into onto towards toward under over beside behind near inside outside between
along around against as is are it he she they its his her their there this that be was were has have
"""
_OUTER = frozenset(_OUTER_WORDS.split())


class Forms(NamedTuple):
    """What the options of a question may be written like.

    Attributes:
        keys: squeezed text → the options that it could be; an exact form outranks a looser one.
        letters: options that are a single letter: letter → the options that it could be.
        inflected: whether the options differ in their inflection alone, so that it has to be heeded.
        folded: the options, folded.
        shortest: the length of the shortest key.
        single: characters that are a word of their own in an option.
    """

    keys: dict[str, tuple[int, ...]]
    letters: dict[str, tuple[int, ...]]
    inflected: bool
    folded: tuple[str, ...]
    shortest: int
    single: frozenset[str]


@lru_cache(maxsize=4096)
def _forms(options: tuple[str, ...]) -> Forms:
    folded = [" ".join(fold(option).replace("<image>", " ").split()) for option in options]
    labels = [re.match(r"\(?([a-z])[).:] *(?=\S)", option) for option in folded]
    if all(label and label[1] == LETTERS[index].lower() for index, label in enumerate(labels[:26])):
        folded = [option[label.end() :].strip() for option, label in zip(folded, labels, strict=True) if label]
    whole = [squeeze(option).text for option in folded]
    inflected = len(set(whole)) < len(set(folded))
    letters: dict[str, list[int]] = {}
    ranked: list[dict[str, list[int]]] = [{}, {}, {}]

    def add(rank: int, text: str, option: int) -> None:
        key = squeeze(text, inflected=inflected).text
        owners = ranked[rank].setdefault(key, [])
        if option not in owners:
            owners.append(option)

    rests = _without_common_beginning(folded)
    numbers = [_NUMBER.match(form) for form in whole]
    in_one_unit = len({form[number.end() :] for form, number in zip(whole, numbers, strict=True) if number}) == 1
    for index, option in enumerate(folded):
        bare = option.strip(".$ ")
        if len(bare) == 1 and "a" <= bare <= "z":
            letters.setdefault(bare, []).append(index)
            continue
        add(0, option, index)
        if head := _HEAD.match(option):
            add(1, head[1], index)
        if in_one_unit and (number := numbers[index]):
            ranked[2].setdefault(number[0], []).append(index)
        if rests:
            add(1, rests[index].rstrip("."), index)
        words = option.rstrip(".").split()
        while len(words) > 1 and words[0].strip("'(") in _OUTER:
            words = words[1:]
        add(2, " ".join(words), index)
    found: dict[str, tuple[int, ...]] = {}
    for rank in ranked:
        for key, owners in rank.items():
            if key:
                found.setdefault(key, tuple(owners))
    owners_of = {letter: tuple(owners) for letter, owners in letters.items()}
    stripped = tuple(fold(option).strip() for option in options)
    single = frozenset(_SINGLE.findall("\n".join(stripped)))
    return Forms(found, owners_of, inflected, stripped, min(map(len, found), default=0), single)


@lru_cache(maxsize=4096)
def distinctive_words(options: tuple[str, ...]) -> dict[str, int]:
    """Map plain forms of words to the one option that has them."""
    owners: dict[str, set[int]] = {}
    for index, option in enumerate(options):
        for word in WORDS.findall(fold(option)):
            owners.setdefault(plain_form(word), set()).add(index)
    return {
        word: next(iter(own))
        for word, own in owners.items()
        if len(own) == 1 and len(word) > 1 and word not in FUNCTION_FORMS
    }


def _without_common_beginning(options: Sequence[str]) -> list[str]:
    """Return what options say after the words that they all begin with ("the man is"), where that is a phrase."""
    words = [option.split() for option in options]
    shared = 0
    while all(len(each) > shared + 2 for each in words) and len({each[shared] for each in words}) == 1:
        shared += 1
    return [" ".join(each[shared:]) for each in words] if shared else []


def _owner(raw: str, owners: tuple[int, ...], options: tuple[str, ...]) -> int | None:
    if len(owners) == 1:
        return owners[0]
    for spelled in (str, fold):
        same = [owner for owner in owners if spelled(options[owner]).strip() == spelled(raw)]
        if len(same) == 1:
            return same[0]
    return None


@dataclass(frozen=True, slots=True)
class Reading:
    """A text that is read for the options it names.

    Attributes:
        text: as it is written.
        folded: `fold(text)`.
        options: the options' texts.
        letters: their letters, in the same order; there may be more.
        by: how a single letter is read that is also another option's text: as the "letter", as the "text", or as
            "either": the text in quotation marks, ambiguous without.
    """

    text: str
    folded: str
    options: tuple[str, ...]
    letters: str = LETTERS
    by: str = "letter"

    @classmethod
    def of(cls, text: str, options: Sequence[str], letters: str = LETTERS, by: str = "letter") -> "Reading":
        """Fold a text; the tokens by which GLM models box an answer read as LaTeX's box."""
        folded = fold(text)
        if "<|begin_of_box|>" in folded:
            folded = folded.replace("<|begin_of_box|>", "          boxed{").replace("<|end_of_box|>", "}             ")
        return cls(text, folded, tuple(options), letters, by)

    def mentions(self, start: int, end: int) -> list[Mention]:
        """Return where options' texts stand between `start` and `end`, in order, without overlaps; the longest counts.

        Example:
            >>> Reading.of("A dark red cube", ("red", "dark red")).mentions(0, 15)
            [Mention(start=2, end=10, option=1)]
        """
        forms = _forms(self.options)
        hits = []
        if 2 * (end - start) >= forms.shortest:
            squeezed = squeeze(self.folded, start, end, inflected=forms.inflected)
            hits = [
                (at, -stop, owners)
                for key, owners in forms.keys.items()
                if key in squeezed.text
                for at, stop in squeezed.find(key)
                if stands_alone(self.folded, at, stop)
                and (_BREAK.search(self.folded, at, stop) is None or _BREAK.search(forms.folded[owners[0]]) is not None)
            ]
        for letter, owners in forms.letters.items():
            at = self.folded.find(letter, start, end)
            while at >= 0:
                if self.letter_at(at, end) is not None:
                    hits.append((at, -at - 1, owners))
                at = self.folded.find(letter, at + 1, end)
        hits.sort()
        mentions: list[Mention] = []
        for at, minus_end, owners in hits:
            last = mentions[-1] if mentions else None
            owner = _owner(self.text[at:-minus_end], owners, self.options)
            if last is None or at >= last.end:
                mentions.append(Mention(at, -minus_end, owner))
            elif -minus_end > last.end:
                mentions[-1] = Mention(last.start, -minus_end, owner if owner == last.option else None)
        return mentions

    def letter_at(self, position: int, end: int) -> str | None:
        """Return the letter, folded, that stands alone at `position`; articles and pronouns are none."""
        if self.folded[position : position + 1].isdecimal():
            digit = _DIGIT.match(self.folded, position, end) if self.letters[:1].isdecimal() else None
            return digit and digit[1]
        match = _LETTER.match(self.folded, position, end)
        if match is None:
            return None
        may_be_a_word = match[1] in "ai" or not self.text[position].isupper()
        if may_be_a_word and not _AFTER_LETTER.match(self.folded, position + 1, end):
            return None
        return match[1]

    def lettered(self, letter: str) -> int | None:
        """Return the option that has a folded letter, None if none of them has."""
        index = self.letters.find(letter.upper(), 0, len(self.options))
        return None if index < 0 else index

    def named_at(self, position: int, end: int) -> Named | None:
        """Return the option named right at `position`, after brackets, markdown and words such as "option".

        Example:
            >>> Reading.of("**(B)**", ("red", "blue")).named_at(0, 7)
            Named(start=3, end=4, option=1, letter=(3, 4))
        """
        lead = _LEAD.match(self.folded, position, min(end, position + _LEAD_REACH))
        at = lead.end() if lead else position
        letter = self.letter_at(at, end)
        if letter is not None and letter not in _forms(self.options).single:  # no text begins so: nothing competes
            own = self.lettered(letter)
            return Named(at, at + 1, own, None if own is None else (at, at + 1))
        article = _ARTICLE.match(self.folded, at, end) if letter is None else None
        reach = article.end() if article else at
        longest = max(map(len, self.options), default=0)
        mentions = self.mentions(position, min(end, reach + 2 * longest + 16))
        mention = next((mention for mention in mentions if mention.start <= reach), None)
        if letter is not None and (mention is None or mention.start > at or mention.end <= at + 1):
            own = self.lettered(letter)
            if mention is not None and mention.start == at and own != mention.option:
                quoted = self.folded[at - 1 : at] == "'" == self.folded[at + 1 : at + 2]
                if own is None or self.by == "text" or (self.by == "either" and quoted):
                    return Named(at, at + 1, mention.option, None)
                own = own if self.by == "letter" else None
            return Named(at, at + 1, own, None if own is None else (at, at + 1))
        return None if mention is None else Named(mention.start, mention.end, mention.option, None)


def whole_option(text: str, options: Sequence[str]) -> int | None:
    """Return the option whose text is the whole of `text`, up to case, quotes, brackets, markdown and a final stop.

    Example:
        >>> whole_option(' "The red cube." ', ("red cube", "blue cube"))
        0
    """
    options = tuple(options)
    forms = _forms(options)
    folded = fold(text).strip()
    same = [index for index, option in enumerate(forms.folded) if option == folded]
    bare = folded.strip("*_'#>~$:,;!()[]{}\\ ").rstrip(".").strip("*_'#>~$:,;!()[]{}\\ ")
    owners = (
        tuple(same) or forms.letters.get(bare) or forms.keys.get(squeeze(folded, inflected=forms.inflected).text, ())
    )
    return _owner(text.strip().strip("*_'\"`. "), owners, options) if owners else None
