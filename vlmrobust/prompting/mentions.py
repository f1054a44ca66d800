"""Where a text names an option: by its letter, or by its text.

Options are found by `str.find` in the folded text, not by patterns made from them: their texts may hold anything, and
nothing has to be compiled per sample.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

from .words import LETTERS, WORD, fold, squeeze, stands_alone

__all__ = ["LIST_JOIN", "OUTER_WORDS", "Mention", "Reading", "whole_option"]

_LEAD = re.compile(
    r"(?:[\s*_'#>~$|:=\-.,;!({\[\\]|\\?\b(?:boxed|text(?:bf|it|rm)?|math(?:rm|bf|sf))\s*\{"
    r"|\b(?:options?|choice|letter|answer|alternative|the|an|that|to be|it is|it's|i think|i believe|i'd say"
    r"|probably|clearly|obviously|definitely|certainly|surely|most likely|likely|maybe|perhaps|possibly|indeed"
    r"|actually|simply|just|therefore|thus|so|then|hence|still|now|indicated by|given by|number"
    r"|opción|вариант)\b(?!')|选项|選項|选择|選擇|是|为|為|は|보기)*+"
)
_LETTER = re.compile(
    rf"(?<!{WORD})(?:(?<!{WORD}['-])[a-z](?!{WORD}|'{WORD}|-{WORD})|(?<![\d.,:/-])\d(?!{WORD}|[.,:/]\d|[%°]))"
)
# What may follow a letter that is meant as one, where "A red cube" and "I see" are not.
_AFTER_LETTER = re.compile(
    r"[ \n'*)\]]+(?:is|are|was|and|or|nor|but|because|since|as|remains?|fits?|matches|works|seems|looks|appears"
    r"|describes|agrees|corresponds|satisfies|applies|holds|stands|has|does|doesn't|isn't|which|not|instead|rather|with|out"
    r"|und|oder|ou|et|y|o|(?<!i )(?:can|can't|cannot|could|must|would))\b"
    rf"|[ \n]+(?:while|whereas|though|although) [(*]*[a-z]\b|[ \n]*+(?!{WORD})| *+\n"
)
# Letters that are surely meant as options: after such a word, in brackets or in bold; or bare, before `_AFTER_LETTER`.
_LETTERS = re.compile(
    rf"(?:\b(?:options?|choices?|answers?|letter|candidates?|alternative)|选项|選項|보기)[\s:'*(_\[]*"
    rf"(?<!{WORD})([a-z0-9])(?!{WORD}|'{WORD})|[(\[]\s*([a-z])\s*[)\]]|\*\*?\(?([a-z])[.):]?\*\*?"
    r"|(?:(?:^|(?<=[.!?\n] )|(?<=[\n>→])|[,;:>→] |\b(?:so|thus|therefore|hence|that|and|but|only|or|not|nor|neither"
    r"|it's|that's|matches|fits|means|than|leaves|leaving|eliminates?|with|out|excludes?|of|is|be|choose|pick|say|both"
    rf"|either|between|\w+ly),? )[\s'*]*)([a-z])(?![-.)]?{WORD}|'{WORD}|\. [A-Z])"
)
# Other things that have letters; in the text as it is written.
_POINTS = re.compile(
    r"\b(?i:points?|vertex|vertices|line|segment|angle|triangle|arc|side|chord|ray|node|vitamin|type|plan|grade|gate|team"
    r"|platform|building|block|exit|circle|label(?:l?ed)?|marked|letters?) ['\"$]?[A-Z]{1,4}(?![A-Za-z'])|∠|△"
)
# A letter and its text, or the other way round: "B. red", "red (B)".
_TEXT_AFTER_LETTER = re.compile(r"[\s'*)\]}_]*[.:)=,-]*[\s'*(\[_]*")
_LETTER_AFTER_TEXT = re.compile(
    r"[\s'*_.,]*(?:which is |that is |that's )?(?:[(\[]\s*(?:(?:option|choice|answer|letter) )?"
    r"|(?:option|choice|answer|letter) |[-=] )(?=[a-z](?![\w']))"
)
_ENDS = re.compile(r"[\s'*)\]}_$\\]*(?:[.,;:!)\]|\n]|<|$|\b(?:or|and|because|since|as|but)\b|或|和)")
LIST_JOIN = re.compile(r"[\s'*(),]*(?:\b(?:or|nor|and)\b)?[\s'*(]*(?:\b(?:option|a|an|the|in|on|at|to)\b ?)*['(*]*$")
# Words that an option may begin with, and that may be left out.
OUTER_WORDS = """
a an the in on at to of for with from by into onto towards toward under over beside behind near inside outside between
along around against as is are it he she they its his her their there this that be was were has have
"""
_OUTER = re.compile(rf"(?:['(]*(?:{'|'.join(OUTER_WORDS.split())})\b['(]* )+(?=\S)")
# The number of a squeezed option, where a unit follows: "12 cm", but neither "12π" nor "12x".
_NUMBER = re.compile(r"(?:#-?[\d.]+/)?#-?[\d.]+(?![\d./√π^]|(?:pi|sqrt|[abknxyz])(?![a-z]))")
_SINGLE = re.compile(rf"(?<!{WORD})\w(?!{WORD})")
_BREAK = re.compile(r"[.!?;] |\n")
_HEAD = re.compile(r"(.{3,}?)(?: +-+ +| *: +| *\()\S")
_LABEL = re.compile(r"\(?([a-z])[).:] *(?=\S)")


class Mention(NamedTuple):
    """An option that is named in a text.

    Attributes:
        start, end: where it is named.
        option: None where it could be several, or none has that letter.
        letter: where the letter stands that names it; None = its text does.
    """

    start: int
    end: int
    option: int | None
    letter: tuple[int, int] | None = None


class Forms(NamedTuple):
    """What the options of a question may be written like.

    Attributes:
        keys: squeezed text → the options that it could be; an exact form outranks a looser one.
        letters: the same for options that are a single letter.
        inflected: whether the options differ in their inflection alone, so that it has to be heeded.
        single: characters that are a word of their own in an option.
        broken: whether an option has a sentence break inside.
    """

    keys: dict[str, list[int]]
    letters: dict[str, list[int]]
    inflected: bool
    single: frozenset[str]
    broken: bool

    def key(self, folded: str) -> str:
        """Return a text as a key; what has no words is its own."""
        return squeeze(folded, inflected=self.inflected).text or folded


@lru_cache(maxsize=4096)
def _forms(options: tuple[str, ...]) -> Forms:
    folded = [" ".join(fold(option).replace("<image>", " ").split()) for option in options]
    shown = "\n".join(folded)
    labels = [_LABEL.match(option) for option in folded]
    if all(label and label[1] == letter.lower() for label, letter in zip(labels, LETTERS, strict=False)):
        folded = [option[label.end() if label else 0 :] for option, label in zip(folded, labels, strict=True)]
    squeezed = [squeeze(option).text for option in folded]
    inflected = len(set(squeezed)) < len(set(folded))
    forms = Forms({}, {}, inflected, frozenset(_SINGLE.findall(shown)), any(map(_BREAK.search, folded)))
    numbers = [_NUMBER.match(form) for form in squeezed]
    in_one_unit = len({form[number.end() :] for form, number in zip(squeezed, numbers, strict=True) if number}) == 1
    # What options say after the words that they all begin with ("the man is"), where that is a phrase.
    words = [option.split() for option in folded]
    alike = takewhile(lambda each: len(set(each)) == 1, zip(*words, strict=False))
    shared = min([len(list(alike)), *(len(each) - 2 for each in words)])
    ranks: tuple[dict[str, list[int]], ...] = ({}, {}, {})
    for index, option in enumerate(folded):
        bare, head, number = option.strip(".$ "), _HEAD.match(option), numbers[index]
        if len(bare) == 1 and "a" <= bare <= "z":
            forms.letters.setdefault(bare, []).append(index)
            continue
        looser = [head[1]] if head else []
        if shared > 0:
            looser.append(" ".join(words[index][shared:]).rstrip("."))
        loosest = [_OUTER.sub("", option.rstrip("."), count=1) if _OUTER.match(option) else option]
        if number and in_one_unit:
            loosest.append(number[0])
        for rank, texts in zip(ranks, ([option], looser, loosest), strict=True):
            for key in {forms.key(text) for text in texts} - {""}:
                rank.setdefault(key, []).append(index)
    for rank in reversed(ranks):
        forms.keys.update(rank)
    return forms


def _owner(raw: str, owners: Sequence[int], options: Sequence[str]) -> int | None:
    same = owners if len(owners) == 1 else [owner for owner in owners if options[owner].strip() == raw]
    same = same or [owner for owner in owners if fold(options[owner]).strip() == fold(raw)]
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
        """Fold a text; the tokens by which GLM models box an answer read as LaTeX's box."""
        folded = fold(text)
        if "<|begin_of_box|>" in folded:
            folded = folded.replace("<|begin_of_box|>", "          boxed{").replace("<|end_of_box|>", "}             ")
        return cls(text, folded, tuple(options), letters, by)

    def mentions(self, start: int, end: int) -> list[Mention]:
        """Return where options' texts stand in a part, in order and without overlaps; the longest counts."""
        forms = _forms(self.options)
        squeezed = squeeze(self.folded, start, end, inflected=forms.inflected)
        hits = [
            (at, -stop, owners)
            for key, owners in forms.keys.items()
            if key in squeezed.text
            for at, stop in squeezed.find(key)
            if stands_alone(self.folded, at, stop) and (forms.broken or not _BREAK.search(self.folded, at, stop))
        ]
        for letter, owners in forms.letters.items():
            places = (start + match.start() for match in re.finditer(letter, self.folded[start:end]))
            hits += [(at, -at - 1, owners) for at in places if self.letter_at(at, end)]
        mentions: list[Mention] = []
        for at, minus_end, owners in sorted(hits):
            last = mentions[-1] if mentions else None
            owner = _owner(self.text[at:-minus_end], owners, self.options)
            if last is None or at >= last.end:
                mentions.append(Mention(at, -minus_end, owner))
            elif -minus_end > last.end:
                mentions[-1] = Mention(last.start, -minus_end, owner if owner == last.option else None)
        return mentions

    def named(self, start: int, end: int) -> list[Mention]:
        """Return where options are named by text or surely by letter; in "B. blue" the text says all of it."""
        texts, letters = self.mentions(start, end), []
        begun = {text.start for text in texts}
        for match in _LETTERS.finditer(self.folded, start, end):
            group = match.lastindex or 0
            letter = self._lettered(match.start(group))
            capital = self.text[letter.start].isupper()
            meant = _AFTER_LETTER.match(self.folded, letter.end, end) is not None
            if group == 1:
                sure = capital or match[group] not in "ai" or meant
            else:
                near = max(0, letter.start - 400), letter.end + 400
                sure = capital and (group < 4 or (meant and not _POINTS.search(self.text, *near)))
            if sure and letter.option is not None and begun.isdisjoint(range(letter.end, letter.end + 5)):
                letters.append(letter)
        spots = {letter[:3] for letter in letters}  # an option's text may be its letter
        return sorted([*letters, *(m for m in texts if m[:3] not in spots)], key=lambda mention: mention.start)

    def letter_at(self, position: int, end: int) -> str | None:
        """Return the letter or digit, folded, that stands alone at `position`; articles and pronouns are none."""
        match = _LETTER.match(self.folded, position, end)
        if match is None or (match[0].isdecimal() and not self.letters[:1].isdecimal()):
            return None
        may_be_a_word = match[0] in "ai" or (match[0].isalpha() and not self.text[position].isupper())
        return match[0] if not may_be_a_word or _AFTER_LETTER.match(self.folded, position + 1, end) else None

    def ends_at(self, position: int, end: int) -> bool:
        """Whether what is named ends at `position`: a stop, a bracket, or a reason follows."""
        return _ENDS.match(self.folded, position, end) is not None

    def _lettered(self, at: int) -> Mention:
        option = self.letters.find(self.folded[at].upper(), 0, len(self.options))
        return Mention(at, at + 1, None if option < 0 else option, (at, at + 1))

    def named_at(self, position: int, end: int) -> Mention | None:
        """Return the option named right at `position`, after brackets, markdown and words such as "option".

        Letter and text together ("B. blue", "blue (B)") are one mention, of no option where they contradict.

        Example:
            >>> Reading.of("**(B)**", ("red", "blue")).named_at(0, 7)
            Mention(start=3, end=4, option=1, letter=(3, 4))
        """
        lead = _LEAD.match(self.folded, position, min(end, position + 256))
        at = lead.end() if lead else position
        letter = self.letter_at(at, end)
        lettered = None if letter is None else self._lettered(at)
        if lettered and letter not in _forms(self.options).single:  # no text begins so: nothing competes
            return self._with_text(lettered, end)
        longest = max(map(len, self.options), default=0)
        mentions = self.mentions(position, min(end, at + 2 * longest + 16))
        mention = next((mention for mention in mentions if mention.start <= at), None)
        if mention and (lettered is None or mention.end > at + 1):
            return self._with_letter(mention, end)
        if mention and lettered and lettered.option != mention.option:
            quoted = self.folded[at - 1 : at] == "'" == self.folded[at + 1 : at + 2]
            if lettered.option is None or self.by == "text" or (self.by == "either" and quoted):
                return mention
            if self.by == "either":
                return Mention(at, at + 1, None)
        return self._with_text(lettered, end) if lettered else None

    def _with_text(self, letter: Mention, end: int) -> Mention:
        """Return a letter with the text behind it."""
        label = _TEXT_AFTER_LETTER.match(self.folded, letter.end, end)
        at = label.end() if label else letter.end
        text = next(iter(self.mentions(at, min(end, at + 240))), None)
        if text is None or text.start > at + 4 or "\n" in self.folded[letter.end : text.start]:
            return letter
        if text.option == letter.option:
            return letter._replace(end=text.end)
        # "B. The red cube is …" goes on with a sentence.
        return letter._replace(option=None) if self.ends_at(text.end, end) else letter

    def _with_letter(self, text: Mention, end: int) -> Mention:
        """Return a text with the letter behind it."""
        label = _LETTER_AFTER_TEXT.match(self.folded, text.end, end)
        if label is None or self.letter_at(label.end(), end) is None:
            return text
        letter = self._lettered(label.end())
        return letter._replace(start=text.start) if letter.option == text.option else text._replace(option=None)


def whole_option(text: str, options: Sequence[str]) -> int | None:
    """Return the option whose text is the whole of `text`, up to case, quotes, brackets, markdown and a final stop."""
    forms, folded = _forms(tuple(options)), fold(text).strip()
    bare = folded.strip("*_'#>~$:,;!()[]{}\\ ").rstrip(".").strip("*_'#>~$:,;!()[]{}\\ ")
    owners = forms.letters.get(bare) or forms.keys.get(forms.key(folded), [])
    return _owner(text.strip().strip("*_'\"`. "), owners, options) if owners else None
