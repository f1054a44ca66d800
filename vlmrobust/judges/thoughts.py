"""A thought and what was asked: its sentences, and where in it options are named."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from ..prompting.mentions import Mention, Reading, distinctive_words
from ..prompting.words import WORD, WORDS, fold, plain_form
from . import phrases as say

__all__ = ["Asked", "Thought", "plain_words"]


def plain_words(folded: str, start: int = 0, end: int | None = None) -> set[str]:
    """Return the plain forms of a text's words, without function words."""
    words = WORDS.findall(folded, start, len(folded) if end is None else end)
    return {form for word in words if (form := plain_form(word)) and form not in say.FUNCTION_WORDS}


class Asked(NamedTuple):
    """What of a question and its options helps to read a thought about it.

    Attributes:
        content: plain forms of the words of what is asked, without the options'.
        poles: what says that something is what is asked for ("nearer"), and the opposite; None = no comparison.
        lettered: the question speaks of points or lines that are named by letters.
        distinctive: plain forms of words → the only option that has them.
        shared: for each option, its words that others have as well.
        broken: an option has a sentence break inside.
        statement: what is said or asked to be so, where the options are yes and no or true and false.
        polar: the options that say that it is so, and that it is not.
    """

    content: frozenset[str]
    poles: tuple[re.Pattern[str], re.Pattern[str]] | None
    lettered: bool
    distinctive: dict[str, int]
    shared: tuple[frozenset[str], ...]
    broken: bool
    statement: re.Pattern[str] | None
    polar: tuple[int, int]

    @classmethod
    @lru_cache(maxsize=4096)
    def of(cls, question: str, options: tuple[str, ...]) -> "Asked":
        """Read a question."""
        folded, each = fold(question), [fold(option.strip()) for option in options]
        shown = " ".join(each)
        asks = [*say.ASKS.findall(folded), folded[-240:]][-2:][0]
        sides = [(one, other) for pair in say.POLES for one, other in (pair, pair[::-1])]
        poles = (
            (one.said, other.said)
            for one, other in sides
            if one.asked.search(folded) and not other.asked.search(folded) and not other.said.search(shown)
            if not one.said.search(shown)
        )
        own = distinctive_words(options)
        words = plain_words(folded)
        if len({option for word, option in own.items() if word in words}) < 2:
            # One option's word in the question is what is asked about; those of several are the choice.
            own = {word: option for word, option in own.items() if word not in words}
        polar = [say.POLAR.get(option.strip(".")) for option in each]
        is_polar = len(each) == 2 and None not in polar and polar[0] != polar[1]
        content = plain_words(asks) - plain_words(shown)
        # Of "which colour" and "what kind of animal" the noun says what options are, and is not repeated.
        content = content - set(map(plain_form, say.SORT.findall(asks))) or content
        return cls(
            frozenset(content),
            next(poles, None),
            say.NAMED_POINT.search(say.OTHER_CAPITAL.sub(" ", question)) is not None,
            {word: option for word, option in own.items() if not say.NO.search(each[option])},
            tuple(frozenset(plain_words(option) - distinctive_words(options).keys()) for option in each),
            any(map(say.SENTENCE_BREAK.search, each)),
            _statement(asks if "?" in asks else folded) if is_polar else None,
            (polar.index(True), polar.index(False)) if is_polar else (0, 0),
        )


def _statement(folded: str) -> re.Pattern[str] | None:
    """Return what finds a statement, or that of a question ("is the cat on the mat?"), with words in between."""
    subject, _, said = folded.partition(" is ")
    parts = [[word for word in WORDS.findall(part) if word not in say.UNSTATED] for part in (subject, said)]
    if not 2 < len(parts[0]) + len(parts[1]) <= 12:
        return None
    near, far = (rf"\W+(?:{WORD}+\W+){{0,{most}}}?" for most in (3, 5))
    first, second = (near.join(rf"{re.escape(word)}{WORD}{{0,3}}" for word in words) for words in parts)
    named = f"(?:{first}|it)" if len(parts[1]) > 1 else first  # "… the cat, and it is on the mat"
    return re.compile(rf"\b{far.join(filter(None, (named, second)))}\b")


@dataclass(frozen=True)
class Thought:
    """A thought, with what is looked up once.

    Attributes:
        reading: the thought's text.
        asked: what was asked.
    """

    reading: Reading
    asked: Asked

    @classmethod
    def of(cls, text: str, options: tuple[str, ...], letters: str, question: str) -> "Thought":
        """Fold the text and read the question; the rest is looked up when it is needed."""
        return cls(Reading.of(text, options, letters, by="either"), Asked.of(question, options))

    @cached_property
    def mentions(self) -> list[Mention]:
        """The options' texts in it."""
        return self.reading.mentions(0, len(self.reading.text))

    @cached_property
    def lettered(self) -> bool:
        """Whether letters in it may name points."""
        return self.asked.lettered or say.POINTS.search(self.reading.folded) is not None

    def mentions_in(self, start: int, end: int) -> list[Mention]:
        """Return the options' texts between two positions."""
        first = bisect_left(self.mentions, (start,))
        return self.mentions[first : bisect_left(self.mentions, (end,))]

    def sentences(self) -> Iterator[tuple[int, int]]:
        """Yield the sentences from the last to the first.

        No break falls inside an option's text, after "B.", or inside an item of a list that begins with a letter.
        """
        folded, text = self.reading.folded, self.reading.text
        end = len(folded)
        for match in reversed(list(say.SENTENCE_BREAK.finditer(folded))):
            stop, resume = match.start() + (match[1] is None), match.end()
            if "\n" not in match[0]:
                item = say.ITEM.match(folded, folded.rfind("\n", 0, stop) + 1, stop)
                in_item = item is not None and say.ITEM_LETTER.match(folded, item.end(), stop) is not None
                if in_item or folded.endswith(say.ABBREVIATIONS, 0, stop):
                    continue
                if say.LABEL.search(folded[max(0, stop - 8) : stop]) and (
                    text[resume : resume + 1].islower() or self.mentions_in(resume, resume + 3)
                ):
                    continue
            if self.asked.broken and any(m.start < stop < m.end for m in self.mentions_in(max(0, stop - 400), stop)):
                continue
            if resume < end and not folded[resume:end].isspace():
                yield resume, end
            end = stop
        if folded[:end].strip():
            yield 0, end

    def breaks_off(self) -> bool:
        """Whether the text ends in the middle of a sentence; one sentence alone may lack its stop."""
        folded = self.reading.folded.rstrip("*_' \n)]}$\\")
        return ". " in folded and (folded[-1] in ";-" or folded[-1].isalnum())
