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
from .words import NUMBER_ALIASES, WORD, fold, stands_alone

__all__ = ["Mention", "Named", "Reading", "whole_option"]


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
# What may follow a letter that is meant as one, where "A red cube" and "I see" are not.
_AFTER_LETTER = re.compile(
    rf"[ \n]+(?:is|are|was|and|or|but|because|since|as|matches|fits|seems|which|not|instead|rather|with|und|oder|ou"
    rf"|et|y|o)\b|[ \n]*+(?!{WORD})| *+\n"
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


@lru_cache(maxsize=4096)
def _needles(options: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Map what an option may be written like to the options that it could be; an exact form outranks a looser one."""
    ranked: list[dict[str, list[int]]] = [{}, {}, {}]
    labels = [re.match(r"\(?([a-z])[).:] *(?=\S)", fold(option)) for option in options]
    labelled = all(label and label[1] == LETTERS[index].lower() for index, label in enumerate(labels[:26]))

    def add(rank: int, needle: str, option: int) -> None:
        owners = ranked[rank].setdefault(needle, [])
        if option not in owners:
            owners.append(option)

    for index, option in enumerate(options):
        folded = fold(option)
        plain = " ".join(folded.replace("<image>", " ").split())
        add(0, folded.strip(), index)
        add(0, plain, index)
        label = labels[index]
        if labelled and label:
            plain = plain[label.end() :].strip()
        bare = plain.rstrip(".").strip()
        add(1, plain, index)
        add(1, bare, index)
        add(2, re.sub(r"^(?:an?|the) (?=\S)", "", bare), index)
        add(2, NUMBER_ALIASES.get(bare, bare), index)
    for index, rest in enumerate(_without_common_beginning([" ".join(fold(option).split()) for option in options])):
        add(2, rest.rstrip("."), index)
    found: dict[str, tuple[int, ...]] = {}
    for rank in ranked:
        for needle, owners in rank.items():
            if needle:
                found.setdefault(needle, tuple(owners))
    return found


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
    same = [owner for owner in owners if options[owner].strip() == raw]
    return same[0] if len(same) == 1 else None


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
        """Fold a text."""
        return cls(text, fold(text), tuple(options), letters, by)

    def mentions(self, start: int, end: int) -> list[Mention]:
        """Return where options' texts stand between `start` and `end`, in order, without overlaps; the longest counts.

        Example:
            >>> Reading.of("A dark red cube", ("red", "dark red")).mentions(0, 15)
            [Mention(start=2, end=10, option=1)]
        """
        hits = []
        for needle, owners in _needles(self.options).items():
            at = self.folded.find(needle, start, end)
            while at >= 0:
                if stands_alone(self.folded, at, at + len(needle)) and (
                    len(needle) > 1 or not "a" <= needle <= "z" or self.letter_at(at, end) is not None
                ):
                    hits.append((at, -at - len(needle), owners))
                at = self.folded.find(needle, at + 1, end)
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
        article = _ARTICLE.match(self.folded, at, end) if letter is None else None
        reach = article.end() if article else at
        longest = max(map(len, _needles(self.options)), default=0)
        mentions = self.mentions(position, min(end, reach + longest))
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
    exact = [index for index, option in enumerate(options) if option.strip() == text.strip()]
    if len(exact) == 1:
        return exact[0]
    needles = _needles(options)
    folded = fold(text).strip()
    plain = " ".join(folded.split())
    bare = plain.strip("*_'#>~$:,;!()[]{}\\ ").rstrip(".").strip("*_'#>~$:,;!()[]{}\\ ")
    for form in (folded, plain, plain.rstrip("."), bare, re.sub(r"^(?:an?|the) (?=\S)", "", bare)):
        if form in needles:
            return _owner(text.strip().strip("*_'\"`. "), needles[form], options)
    return None
