"""Find mentions of options in a text, by letter or by text.

Options are found with `str.find` in the folded text instead of patterns: their texts may contain anything, and nothing
has to be compiled per sample.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

from .units import Unit, has_smaller_part, same_unit, unit_at
from .words import LETTERS, WORD, Squeezed, fold, squeeze, stands_alone

__all__ = ["LIST_JOIN", "OUTER_WORDS", "Mention", "Reading", "whole_option"]

_LEAD = re.compile(
    r"(?:[\s*_'#>~$|:=\-.,;!({\[\\]|\\?\b(?:boxed|text(?:bf|it|rm)?|math(?:rm|bf|sf))\s*\{"
    r"|\b(?:options?|choice|letter|answer|alternative|the|an|that|to be|it is|it's|i think|i believe|i'd say"
    r"|probably|clearly|obviously|definitely|certainly|surely|most likely|likely|maybe|perhaps|possibly|indeed"
    r"|actually|simply|just|therefore|thus|so|then|hence|still|now|indicated by|given by|number"
    r"|opción|opção|opzione|alternativa|letra|lettre|lettera|opsi|pilihan|вариант|الخيار|विकल्प)\b(?!')"
    r"|选项|選項|选择|選擇|是|为|為|は|보기|선택지|選択肢)*+"
)
_LETTER = re.compile(
    rf"(?<!{WORD})(?:(?<!{WORD}['-])[a-z](?!{WORD}|'{WORD}|-{WORD})|(?<![\d.,:/-])\d(?!{WORD}|[.,:/]\d|[%°]))"
)
# The context after a letter that is meant as an option, unlike "A red cube" and "I see".
_AFTER_LETTER = re.compile(
    r"[ \n'*)\]]+(?:is|are|was|and|or|nor|but|because|since|as|remains?|fits?|matches|works|seems|looks|appears"
    r"|describes|agrees|corresponds|satisfies|applies|holds|stands|has|does|doesn't|isn't|which|not|instead|rather|with|out"
    r"|und|oder|ou|et|y|o|(?<!i )(?:can|can't|cannot|could|must|would))\b"
    rf"|[ \n]+(?:while|whereas|though|although) [(*]*[a-z]\b|[ \n]*+(?!{WORD})| *+\n"
)
# Letters certainly meant as options: after one of these words, in brackets or in bold; or bare, before `_AFTER_LETTER`.
_LETTERS = re.compile(
    rf"(?:\b(?:options?|choices?|answers?|letter|candidates?|alternative)|选项|選項|보기)[\s:'*(_\[]*"
    rf"(?<!{WORD})([a-z0-9])(?!{WORD}|'{WORD})|(?<!{WORD})([a-z])(?=选项|選項)|[(\[]\s*([a-z])\s*[)\]]|\*\*?\(?([a-z])[.):]?\*\*?"
    r"|(?:(?:^|(?<=[.!?\n] )|(?<=[\n>→])|[,;:>→] |\b(?:so|thus|therefore|hence|that|and|but|only|or|not|nor|neither"
    r"|it's|that's|matches|fits|means|than|leaves|leaving|eliminates?|with|out|excludes?|of|is|are|be|choose|pick|say|both"
    rf"|either|between|\w+ly),? )[\s'*]*)([a-z])(?![-.)]?{WORD}|'{WORD}|\. [A-Z])"
)
# Other things labelled with letters; matched in the original text.
_POINTS = re.compile(
    r"\b(?i:points?|vertex|vertices|line|segment|angle|triangle|arc|side|chord|ray|node|vitamin|type|plan|grade|gate|team"
    r"|platform|building|block|exit|circle|label(?:l?ed)?|marked|letters?) ['\"$]?[A-Z]{1,4}(?![A-Za-z'])|∠|△"
)
# A letter with its text: "B. red", "red (B)".
_TEXT_AFTER_LETTER = re.compile(r"[\s'*)\]}_]*[.:)=,-]*[\s'*(\[_]*")
_LETTER_AFTER_TEXT = re.compile(
    r"[\s'*_.,]*(?:which is |that is |that's )?(?:[(\[]\s*(?:(?:option|choice|answer|letter) )?"
    r"|(?:option|choice|answer|letter) |[-=] )(?=[a-z](?![\w']))"
)
_ENDS = re.compile(r"[\s'*)\]}_$\\]*(?:[.,;:!)\]|\n]|<|$|\b(?:or|and|because|since|as|but)\b|或|和)")
LIST_JOIN = re.compile(r"[\s'*(),]*(?:\b(?:or|nor|and)\b)?[\s'*(]*(?:\b(?:option|a|an|the|in|on|at|to)\b ?)*['(*]*$")
# Optional words at the beginning of an option.
OUTER_WORDS = """
a an the in on at to of for with from by into onto towards toward under over beside behind near inside outside between
along around against as is are it he she they its his her their there this that be was were has have
"""
_OUTER = re.compile(rf"(?:['(]*(?:{'|'.join(OUTER_WORDS.split())})\b['(]* )+(?=\S)")
# The number of a squeezed option, before a unit: "12 cm", but neither "12π" nor "12x".
_NUMBER = re.compile(r"(?:#-?[\d.]+/)?#-?[\d.]+(?![\d./√π^]|(?:pi|sqrt|[abknxyz])(?![a-z]))")
_SINGLE = re.compile(rf"(?<!{WORD})\w(?!{WORD})")
_BREAK = re.compile(r"[.!?;] |\n")
_HEAD = re.compile(r"(.{3,}?)(?: +-+ +| *: +| *\()\S")
_LABEL = re.compile(r"\(?([a-z])[).:] *(?=\S)")


class Mention(NamedTuple):
    """A mention of an option in a text.

    Attributes:
        start, end: the span of the mention.
        option: the option; None = ambiguous, or a letter of no option.
        letter: the span of the letter that names it; None = it is named by its text.
    """

    start: int
    end: int
    option: int | None
    letter: tuple[int, int] | None = None


class Forms(NamedTuple):
    """The spellings by which the options of a question are recognised.

    Attributes:
        keys: squeezed text → the options it may refer to; an exact form takes precedence over a looser one.
        letters: the same for options that are a single letter.
        inflected: whether the options differ only in inflection, so that inflections must match.
        single: characters that are separate words in an option.
        broken: whether an option contains a sentence break.
        units: for each option, its unit if it is a number with a known unit.
        numbers: squeezed number of such options → the options.
    """

    keys: dict[str, list[int]]
    letters: dict[str, list[int]]
    inflected: bool
    single: frozenset[str]
    broken: bool
    units: tuple[Unit | None, ...]
    numbers: dict[str, list[int]]

    def in_unit(self, candidates: list[int], unit: Unit, in_parts: bool) -> list[int]:
        """Return the candidates without those in another unit: "1.5 cm" is not "1.5 m", nor "2 h 30 min" "2 h"."""
        units = ((index, self.units[index]) for index in candidates)
        return [index for index, own in units if own is None or (not in_parts and same_unit(own, unit) is not False)]

    def in_equal_unit(self, candidates: list[int], unit: Unit) -> list[int]:
        """Return the candidates in the same unit, or else those in one that equals it ("30°" and "30°C")."""
        units = [(index, own) for index in candidates if (own := self.units[index])]
        same = [index for index, own in units if own.powers == unit.powers]
        return same or [index for index, own in units if same_unit(own, unit)]

    def key(self, folded: str) -> str:
        """Return the key of a text; a text without words is its own key."""
        return squeeze(folded, inflected=self.inflected).text or folded


@lru_cache(maxsize=4096)
def _forms(options: tuple[str, ...]) -> Forms:
    folded = [" ".join(fold(option).replace("<image>", " ").split()) for option in options]
    listing = "\n".join(folded)
    labels = [_LABEL.match(option) for option in folded]
    if all(label and label[1] == letter.lower() for label, letter in zip(labels, LETTERS, strict=False)):
        folded = [option[label.end() if label else 0 :] for option, label in zip(folded, labels, strict=True)]
    whole = [squeeze(option) for option in folded]
    squeezed = [form.text for form in whole]
    inflected = len(set(squeezed)) < len(set(folded))
    numbers = [_NUMBER.match(form) for form in squeezed]
    in_one_unit = len({form[number.end() :] for form, number in zip(squeezed, numbers, strict=True) if number}) == 1
    units = tuple(map(_unit_of, folded, whole, numbers))
    single, broken = frozenset(_SINGLE.findall(listing)), any(map(_BREAK.search, folded))
    forms = Forms({}, {}, inflected, single, broken, units, {})
    for index, (number, unit) in enumerate(zip(numbers, units, strict=True)):
        if number and unit:
            forms.numbers.setdefault(number[0], []).append(index)
    # Strip the words that all options begin with ("the man is"), if at least two words remain.
    words = [option.split() for option in folded]
    common = takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
    shared = min([len(list(common)), *(len(each) - 2 for each in words)])
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


def _unit_of(option: str, whole: Squeezed, number: re.Match[str] | None) -> Unit | None:
    """Return the unit of an option that is a number with a known unit and nothing else."""
    position = whole.ends.get(number.end()) if number else None
    unit = None if position is None else unit_at(option, position, len(option))
    return unit if unit and not option[unit.end :].strip(" .$}{)\\") else None


def _best_match(raw: str, candidates: Sequence[int], options: Sequence[str]) -> int | None:
    """Return the one candidate option that `raw` refers to; None = ambiguous."""
    same = candidates if len(candidates) == 1 else [index for index in candidates if options[index].strip() == raw]
    same = same or [index for index in candidates if fold(options[index]).strip() == fold(raw)]
    return same[0] if len(same) == 1 else None


@dataclass(frozen=True, slots=True)
class Reading:
    """A text to search for options.

    Attributes:
        text: the original text.
        folded: `fold(text)`.
        options: the options' texts.
        letters: their letters, in the same order; there may be more.
        by: how to read a single letter that is also another option's text: as the "letter", as the "text", or as
            "either" (as the text in quotation marks, ambiguous without them).
    """

    text: str
    folded: str
    options: tuple[str, ...]
    letters: str = LETTERS
    by: str = "letter"

    @classmethod
    def of(cls, text: str, options: Sequence[str], letters: str = LETTERS, by: str = "letter") -> "Reading":
        """Fold a text; GLM's tokens for a boxed answer are converted to LaTeX's box."""
        folded = fold(text)
        if "<|begin_of_box|>" in folded:
            folded = folded.replace("<|begin_of_box|>", "          boxed{").replace("<|end_of_box|>", "}             ")
        return cls(text, folded, tuple(options), letters, by)

    def mentions(self, start: int, end: int) -> list[Mention]:
        """Return the mentions by text in a span, in order and without overlaps; the longest wins."""
        forms = _forms(self.options)
        squeezed = squeeze(self.folded, start, end, inflected=forms.inflected)
        measured = {
            at: (unit, candidates)
            for number, candidates in forms.numbers.items()
            if number in squeezed.text
            for at, stop in squeezed.find(number)
            if (unit := unit_at(self.folded, stop, end))
        }
        in_parts = {at for at, (unit, _) in measured.items() if has_smaller_part(unit, self.folded, end)}
        found = [(at, unit.end, forms.in_equal_unit(candidates, unit)) for at, (unit, candidates) in measured.items()]
        found += [
            (*span, named) for key, named in forms.keys.items() if key in squeezed.text for span in squeezed.find(key)
        ]
        hits = [
            (at, -stop, candidates)
            for at, stop, named in found
            if (candidates := forms.in_unit(named, measured[at][0], at in in_parts) if at in measured else named)
            if stands_alone(self.folded, at, stop) and (forms.broken or not _BREAK.search(self.folded, at, stop))
        ]
        for letter, candidates in forms.letters.items():
            positions = (start + match.start() for match in re.finditer(letter, self.folded[start:end]))
            hits += [(at, -at - 1, candidates) for at in positions if self.letter_at(at, end)]
        mentions: list[Mention] = []
        for at, minus_end, candidates in sorted(hits):
            last = mentions[-1] if mentions else None
            option = _best_match(self.text[at:-minus_end], candidates, self.options)
            if last is None or at >= last.end:
                mentions.append(Mention(at, -minus_end, option))
            elif -minus_end > last.end:
                mentions[-1] = Mention(last.start, -minus_end, option if option == last.option else None)
        return mentions

    def named(self, start: int, end: int) -> list[Mention]:
        """Return the mentions by text or by a certain letter; in "B. blue" only the text counts."""
        texts, letters = self.mentions(start, end), []
        text_starts = {text.start for text in texts}
        for match in _LETTERS.finditer(self.folded, start, end):
            group = match.lastindex or 0
            letter = self._letter_mention(match.start(group))
            is_capital = self.text[letter.start].isupper()
            has_context = _AFTER_LETTER.match(self.folded, letter.end, end) is not None
            if group == 1:
                is_certain = is_capital or match[group] not in "ai" or has_context
            else:
                near = max(0, letter.start - 400), letter.end + 400
                is_certain = is_capital and (group < 5 or (has_context and not _POINTS.search(self.text, *near)))
            if is_certain and letter.option is not None and text_starts.isdisjoint(range(letter.end, letter.end + 5)):
                letters.append(letter)
        # An option's text may be its letter, or another's.
        compared = slice(2 if self.by == "letter" else 3)
        duplicates = {letter[compared] for letter in letters}
        texts = [text for text in texts if text[compared] not in duplicates]
        return sorted([*letters, *texts], key=lambda mention: mention.start)

    def letter_at(self, position: int, end: int) -> str | None:
        """Return the standalone letter or digit at `position`, folded; None for articles and pronouns."""
        match = _LETTER.match(self.folded, position, end)
        if match is None or (match[0].isdecimal() and not self.letters[:1].isdecimal()):
            return None
        may_be_a_word = match[0] in "ai" or (match[0].isalpha() and not self.text[position].isupper())
        return match[0] if not may_be_a_word or _AFTER_LETTER.match(self.folded, position + 1, end) else None

    def ends_at(self, position: int, end: int) -> bool:
        """Return whether a mention ends at `position`: a stop, a bracket, or a reason follows."""
        return _ENDS.match(self.folded, position, end) is not None

    def _letter_mention(self, at: int) -> Mention:
        option = self.letters.find(self.folded[at].upper(), 0, len(self.options))
        return Mention(at, at + 1, None if option < 0 else option, (at, at + 1))

    def named_at(self, position: int, end: int) -> Mention | None:
        """Return the option named at `position`, after brackets, markdown and words such as "option".

        Letter and text together ("B. blue", "blue (B)") are one mention; its option is None if they contradict.

        Example:
            >>> Reading.of("**(B)**", ("red", "blue")).named_at(0, 7)
            Mention(start=3, end=4, option=1, letter=(3, 4))
        """
        lead = _LEAD.match(self.folded, position, min(end, position + 256))
        at = lead.end() if lead else position
        letter = self.letter_at(at, end)
        by_letter = None if letter is None else self._letter_mention(at)
        if by_letter and letter not in _forms(self.options).single:  # it cannot be the beginning of an option's text
            return self._with_text(by_letter, end)
        longest = max(map(len, self.options), default=0)
        mentions = self.mentions(position, min(end, at + 2 * longest + 16))
        mention = next((mention for mention in mentions if mention.start <= at), None)
        if mention and (by_letter is None or mention.end > at + 1):
            return self._with_letter(mention, end)
        if mention and by_letter and by_letter.option != mention.option:
            quoted = self.folded[at - 1 : at] == "'" == self.folded[at + 1 : at + 2]
            if by_letter.option is None or self.by == "text" or (self.by == "either" and quoted):
                return mention
            if self.by == "either":
                return Mention(at, at + 1, None)
        return self._with_text(by_letter, end) if by_letter else None

    def _with_text(self, letter: Mention, end: int) -> Mention:
        """Extend the mention of a letter by the option's text after it."""
        label = _TEXT_AFTER_LETTER.match(self.folded, letter.end, end)
        at = label.end() if label else letter.end
        text = next(iter(self.mentions(at, min(end, at + 240))), None)
        if text is None or text.start > at + 4 or "\n" in self.folded[letter.end : text.start]:
            return letter
        if text.option == letter.option:
            return letter._replace(end=text.end)
        # "B. The red cube is …" continues with a sentence.
        return letter._replace(option=None) if self.ends_at(text.end, end) else letter

    def _with_letter(self, text: Mention, end: int) -> Mention:
        """Extend the mention of a text by the letter after it."""
        label = _LETTER_AFTER_TEXT.match(self.folded, text.end, end)
        if label is None or self.letter_at(label.end(), end) is None:
            return text
        letter = self._letter_mention(label.end())
        return letter._replace(start=text.start) if letter.option == text.option else text._replace(option=None)


def whole_option(text: str, options: Sequence[str]) -> int | None:
    """Return the option whose text equals `text`, up to case, quotes, brackets, markdown and a final stop."""
    forms, folded = _forms(tuple(options)), fold(text).strip()
    bare = folded.strip("*_'#>~$:,;!()[]{}\\ ").rstrip(".").strip("*_'#>~$:,;!()[]{}\\ ")
    candidates = forms.letters.get(bare) or forms.keys.get(forms.key(folded), [])
    return _best_match(text.strip().strip("*_'\"`. "), candidates, options) if candidates else None
