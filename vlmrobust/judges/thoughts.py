"""A thought and what was asked: its sentences, and where in it options are named."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ..prompting.mentions import OUTER_WORDS, Reading
from ..prompting.words import WORD, WORDS, fold, plain_form
from . import phrases as say

__all__ = ["Asked", "breaks_off", "plain_words", "sentences"]

_COMMON_WORDS = """
been am had do does did can could will would should may might must them these those and or but not no nor so if then
than which who what when where why how very more most some any all both each other another one because while during
about after before through just only also too i you we my your our me us him s t yes image picture photo video show
shown follow question option answer object look seem appear
"""
_COMMON_FORMS = frozenset(map(plain_form, (OUTER_WORDS + _COMMON_WORDS).split()))
_POLAR = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
# Words of a statement that may be left out, or differ.
_UNSTATED = re.compile("an?|the|is|are|was|were|be|being|do|does|did|can|has|have|there|this|that|statement")


def plain_words(folded: str) -> set[str]:
    """Return the plain forms of a text's words, without function words."""
    return {form for word in WORDS.findall(folded) if (form := plain_form(word)) and form not in _COMMON_FORMS}


class Asked(NamedTuple):
    """What of a question and its options helps to read a thought about it.

    Attributes:
        content: plain forms of the words of what is asked, without the options'.
        poles: what says that something is what is asked for ("nearer"), and the opposite; None = no comparison.
        distinctive: plain forms of words → the only option that has them.
        shared: for each option, its words that others have as well.
        broken: an option has a sentence break inside.
        statement: what is said or asked to be so, where the options are yes and no or true and false.
        polar: the options that say that it is so, and that it is not.
    """

    content: frozenset[str]
    poles: tuple[re.Pattern[str], re.Pattern[str]] | None
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
        shown, words = " ".join(each), plain_words(folded)
        poles = (
            (said, opposite)
            for pair in say.POLES
            for (asks, said), (denies, opposite) in (pair, pair[::-1])
            if asks.search(folded) and not denies.search(folded)
            if not said.search(shown) and not opposite.search(shown)
        )
        own_words = [plain_words(option) for option in each]
        owners = Counter(word for own in own_words for word in own)
        own = {word: option for option, all_words in enumerate(own_words) for word in all_words if owners[word] == 1}
        if len({option for word, option in own.items() if word in words}) < 2:
            # One option's word in the question is what is asked about; those of several are the choice.
            own = {word: option for word, option in own.items() if word not in words}
        polar = [_POLAR.get(option.strip(".")) for option in each]
        is_polar = len(each) == 2 and {*polar} == {True, False}
        return cls(
            frozenset(plain_words(folded[-240:]) - plain_words(shown)),
            next(poles, None),
            {word: option for word, option in own.items() if not say.NOT.search(each[option])},
            tuple(frozenset(word for word in each_words if owners[word] > 1) for each_words in own_words),
            any(map(say.SENTENCE_BREAK.search, each)),
            _statement([folded, *re.findall(r"[^.?!\n]+\?", folded)][-1]) if is_polar else None,
            (polar.index(True), polar.index(False)) if is_polar else (0, 0),
        )


def _statement(folded: str) -> re.Pattern[str] | None:
    """Return what finds a statement, or that of a question ("is the cat on the mat?"), with words in between."""
    subject, _, said = folded.partition(" is ")
    parts = [[word for word in WORDS.findall(part) if not _UNSTATED.fullmatch(word)] for part in (subject, said)]
    between = rf"\W+(?:{WORD}+\W+){{0,5}}?"
    first, second = (between.join(re.escape(word) + WORD + "{0,3}" for word in words) for words in parts)
    named = f"(?:{first}|it)" if len(parts[1]) > 1 else first  # "… the cat, and it is on the mat"
    words = between.join(filter(None, (named, second)))
    return re.compile(rf"\b{words}\b") if 2 < len(parts[0]) + len(parts[1]) <= 12 else None


def sentences(reading: Reading, asked: Asked) -> Iterator[tuple[int, int]]:
    """Yield the sentences of a text from the last to the first.

    No break falls inside an option's text, after "B.", or inside an item of a list that begins with a letter.
    """
    folded = reading.folded
    end = len(folded)
    for match in reversed(list(say.SENTENCE_BREAK.finditer(folded))):
        stop, resume = match.start() + (match[1] is None), match.end()
        near = reading.mentions(max(0, stop - 400), resume + 400) if asked.broken else []
        if any(mention.start < stop < mention.end for mention in near):
            continue
        if "\n" in match[0] or not _goes_on(reading, stop, resume):
            if resume < end and not folded[resume:end].isspace():
                yield resume, end
            end = stop
    if folded[:end].strip():
        yield 0, end


def _goes_on(reading: Reading, stop: int, resume: int) -> bool:
    """Whether a sentence goes on after a mark that stands like its stop."""
    folded = reading.folded
    item = say.ITEM.match(folded, folded.rfind("\n", 0, stop) + 1, stop)
    if item is not None and say.ITEM_LETTER.match(folded, item.end(), stop):
        return True
    if not say.LABEL.search(folded[max(0, stop - 8) : stop]):
        return folded.endswith(say.ABBREVIATIONS, 0, stop)
    named = reading.named_at(resume, len(folded))
    return reading.text[resume : resume + 1].islower() or (named is not None and named.start <= resume + 3)


def breaks_off(text: str) -> bool:
    """Whether a text ends in the middle of a sentence; one sentence alone may lack its stop."""
    text = text.rstrip("*_' \n)]}$\\")
    return ". " in text and (text[-1] in ";-" or text[-1].isalnum())
