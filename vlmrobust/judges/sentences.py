"""The sentences of a thought: which option each speaks for, which it rejects, and in which way."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from ..prompting.claims import Claim, bare_mention, by_polarity, claims
from ..prompting.mentions import LIST_JOIN, OUTER_WORDS, Mention, Reading
from ..prompting.words import WORD, WORDS, fold, plain_form
from . import phrases as say

__all__ = ["Asked", "Said", "Sentence", "breaks_off", "sentences"]

_LONGEST = 2_000  # characters of a sentence that are read, its last ones
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


def _plain_words(folded: str) -> set[str]:
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
        shown, words = " ".join(each), _plain_words(folded)
        poles = (
            (said, opposite)
            for pair in say.POLES
            for (asks, said), (denies, opposite) in (pair, pair[::-1])
            if asks.search(folded) and not denies.search(folded)
            if not said.search(shown) and not opposite.search(shown)
        )
        own_words = [_plain_words(option) for option in each]
        owners = Counter(word for own in own_words for word in own)
        own = {word: option for option, all_words in enumerate(own_words) for word in all_words if owners[word] == 1}
        if len({option for word, option in own.items() if word in words}) < 2:
            # One option's word in the question is what is asked about; those of several are the choice.
            own = {word: option for word, option in own.items() if word not in words}
        polar = [_POLAR.get(option.strip(".")) for option in each]
        is_polar = len(each) == 2 and {*polar} == {True, False}
        content = _plain_words(folded[-240:]) - _plain_words(shown)
        # Of "which colour" and "what kind of animal" the noun says what options are, and is not repeated.
        sorts = re.findall(r"\b(?:which|what)(?: (?:kind|type|sort)s? of)? (\w+)", folded)
        return cls(
            frozenset(content.difference(map(plain_form, sorts)) or content),
            next(poles, None),
            {word: option for word, option in own.items() if not say.NOT.search(each[option])},
            tuple(frozenset(word for word in each_words if owners[word] > 1) for each_words in own_words),
            any(map(say.SENTENCE_BREAK.search, each)),
            _statement([folded, *re.findall(r"[^.?!\n]+\?", folded)][-1]) if is_polar else None,
            (polar.index(True), polar.index(False)) if is_polar else (0, 0),
        )


def _statement(folded: str) -> re.Pattern[str] | None:
    """Return what finds a statement, or that of a question ("is the cat on the mat?"), with words in between."""
    parts = [
        [word for word in WORDS.findall(part) if not _UNSTATED.fullmatch(word)] for part in folded.split(" is ", 1)
    ]
    between = rf"\W+(?:{WORD}+\W+){{0,5}}?"
    named, *said = (between.join(re.escape(word) + WORD + "{0,3}" for word in words) for words in parts)
    if len(parts[-1]) > 1 and said:
        named = f"(?:{named}|it)"  # "… the cat, and it is on the mat"
    return re.compile(rf"\b{between.join([named, *said])}\b") if 2 < sum(map(len, parts)) <= 12 else None


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


class Said(NamedTuple):
    """What one sentence says.

    Attributes:
        option: the option that it speaks for; None = none.
        kind: in which way, see `concluded_option`; "nothing" of its own; "described" in passing.
        unsure: it says that it does not know, or names no option where it begins to conclude.
        reopens: it starts over ("Wait, …").
        rejected: the options that it says are not it.
        named: all options that it names in full.
        partial: it names the option by some of its words alone.
    """

    option: int | None = None
    kind: str = ""
    unsure: bool = False
    reopens: bool = False
    rejected: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()
    partial: bool = False


class Sentence:
    """A sentence of a thought, from `start` to `end`; `unfinished`: the thought breaks off in it."""

    def __init__(self, thought: Reading, asked: Asked, start: int, end: int, *, unfinished: bool = False) -> None:
        self._reading, self._folded, self._asked, self._unfinished = thought, thought.folded, asked, unfinished
        self._cut(max(start, end - _LONGEST), end)

    def _cut(self, start: int, end: int) -> None:
        self._start, self._end = start, end
        self._text = self._folded[start:end]
        self._mentions = self._reading.named(start, end)

    def _before(self, mention: Mention, reach: int) -> str:
        return self._folded[max(self._start, mention.start - reach) : mention.start]

    def read(self) -> Said:
        """Return what it says."""
        text = self._text.strip("*_ \n")
        reopens = say.REVISION.search(self._text) is not None
        if self._says_nothing(text):
            return Said(kind="nothing")
        if text.rstrip("')").endswith("?"):
            return Said(reopens=reopens or text.startswith(("or ", "but ")))
        if (line := self._line(self._start, self._end)) is not None:
            return self._listed(line)
        if reported := say.NOT_ITS_OWN.search(self._text):
            turn = say.CONTRAST.search(self._folded, self._start + reported.end(), self._end)
            if turn is None:
                return Said(reopens=reopens)
            self._cut(turn.end(), self._end)  # "The caption says red, but the image shows blue."
        if (holds := self._affirmed()) is not None:
            return Said(self._asked.polar[not holds], "affirmed", reopens=reopens)
        said = list(claims(self._reading, self._start, self._end))
        claim = next((each for each in reversed(said) if each.option is not None or each.ambiguous), None)
        found = self._mentions or self._distinctive()
        positive, negative = by_polarity(self._reading, found, self._start, self._end)
        rejected = _options(negative).union(*(each.rejected for each in said))
        known = Said(reopens=reopens, rejected=rejected, named=_options(self._mentions), partial=not self._mentions)
        if claim is not None:
            return self._stated(known, claim, positive)
        if say.THE_OTHERS.match(self._text):
            return known._replace(named=frozenset())
        return self._in_words(known, [mention for mention in positive if mention.option is not None])

    def _says_nothing(self, text: str) -> bool:
        """Whether it announces an answer, lists the options, confirms what was said or is a remark in brackets."""
        listed = len(_options(self._mentions)) > 1 and say.RESTATED.search(text)
        confirms = not self._mentions and say.CONFIRMATION.search(text)
        return not self._statement() and bool(say.ANNOUNCEMENT.fullmatch(text) or listed or confirms)

    def _statement(self) -> re.Match[str] | None:
        return self._asked.statement.search(self._text) if self._asked.statement else None

    def _affirmed(self) -> bool | None:
        """Return whether it says that what was asked about is so; None = it does not say."""
        statement = self._statement()
        if statement is None:
            return None
        place = Mention(self._start + statement.start(), self._start + statement.end(), None)
        before, after = self._text[: statement.start()], self._text[statement.end() :]
        before = before[max((turn.end() for turn in say.CONTRAST.finditer(before)), default=0) :]
        if self._doubt() is not None or say.UNREAL.search(before + statement[0]):
            return None
        if say.NOT.search(statement[0]) or by_polarity(self._reading, [place], self._start, self._end)[1]:
            return False
        # Something is denied, and perhaps not this.
        return None if say.NOT.search(before + after) else True

    def _line(self, start: int, end: int) -> int | None:
        """Return the option of a line that is a letter, or a letter and its option, and nothing else."""
        bare = bare_mention(self._reading, start, end) if 0 < end - start < 160 else None
        return bare.option if bare and bare.letter else None

    def _listed(self, option: int) -> Said:
        """Read a line that is a letter and its option: an answer, unless it is one of a list."""
        above, below = self._folded[: self._start].rstrip(), self._folded[self._end :].lstrip()
        first, last = above.rfind("\n") + 1, len(self._folded) - len(below)
        near = self._line(first, len(above)), self._line(last, last + len(below.split("\n", 1)[0]))
        is_item = bool({*near} - {None, option})
        return Said(kind="nothing") if is_item else Said(option, "named", named=frozenset({option}))

    def _stated(self, said: Said, claim: Claim, positive: list[Mention]) -> Said:
        """Read an explicit clause that is doubted, or turned from ("…, but I think it is blue"), in its sentence."""
        turned = _only(self._predicates(self._after(say.CONTRAST, positive, claim.end)))
        option = claim.option if turned is None else turned
        if option is None or ((doubt := self._doubt()) is not None and doubt > claim.end):
            return said._replace(unsure=True)
        return Said(option, "stated", reopens=said.reopens)

    def _in_words(self, said: Said, positive: list[Mention]) -> Said:
        """Read a sentence without an explicit clause."""
        cue = say.CUE.search(self._text)
        if (item := self._item()) is not None:
            if say.NOT.search(self._folded, item.end, self._end):
                return said._replace(rejected=said.rejected | _options([item]))
            fits = say.FITS.search(self._folded, item.end, self._end)
            return said._replace(option=item.option, kind="weighed") if fits else said
        if self._asked.poles and not said.partial:
            yes, no = self._compared(positive)
            said = said._replace(rejected=said.rejected | no)
            if len(yes) == 1 and not self._unfinished and (cue or not say.UNREAL.search(self._text)):
                return said._replace(option=next(iter(yes)), kind="concluded" if cue else "compared")
            if yes or no:
                return said
        option = self._asserted(positive)
        if (doubt := self._doubt()) is not None and (option is None or doubt > positive[-1].end):
            return said._replace(unsure=True)
        if option is None:
            return said._replace(unsure=cue is not None and not said.named)
        mention = next(mention for mention in reversed(positive) if mention.option == option)
        kind = self._kind(mention, said, cue)
        if self._unfinished and kind not in ("named", "concluded"):
            kind = ""
        return said._replace(option=option if kind else None, kind=kind, rejected=said.rejected - {option})

    def _kind(self, mention: Mention, said: Said, cue: re.Match[str] | None) -> str:
        """Return in which way it speaks for the option that it mentions, empty for none that counts."""
        letters = [each for each in self._mentions if each.letter]
        fits = (say.NAMED_AFTER.match(self._folded, letter.end, self._end) for letter in letters)
        if _only(letters) == mention.option and (
            any(fits) or any(say.NAMED_BEFORE.search(self._before(letter, 40)) for letter in letters)
        ):
            return "named"
        predicate = say.PREDICATE.search(self._before(mention, 64)) is not None
        of_it = predicate or not say.SUBJECT.match(self._folded, mention.end, self._end)
        words = _plain_words(self._text)
        asked = len(words & self._asked.content)
        more = len(words & self._asked.shared[mention.option or 0])
        if said.partial and not (predicate and cue) and not more:
            return ""
        if cue and cue.start() <= mention.start - self._start and (cue.start() == 0 or cue["strong"] or predicate):
            return "concluded" if of_it or asked > 1 or (asked and self._asked.poles) else ""
        if say.UNREAL.search(self._folded, self._start, mention.start):
            return ""
        if say.WEAK_CUE.search(self._folded, self._start, mention.start):
            return "inferred" if of_it or asked else ""
        number = self._reading.options[mention.option or 0].rstrip(". ")[-1:].isdecimal()
        if say.UNREAL.search(self._text) or said.named - {mention.option} or (number and not predicate):
            return ""
        if say.EQUALS.search(self._before(mention, 16)):
            return "computed"
        if 0 < min(2, len(self._asked.content)) <= asked or (of_it and say.ABOUT_IT.match(self._text)):
            return "restated"
        return "described" if of_it else ""

    def _doubt(self) -> int | None:
        """Where it says for the last time that it does not know, outside of an option's own text."""
        places = (match.start() for match in say.DOUBT.finditer(self._folded, self._start, self._end))
        inside = {place for mention in self._mentions for place in range(mention.start, mention.end)}
        return max((place for place in places if place not in inside), default=None)

    def _distinctive(self) -> list[Mention]:
        """Return its words that only one option has."""
        own = self._asked.distinctive
        words = WORDS.finditer(self._folded, self._start, self._end) if own else ()
        return [Mention(*word.span(), own[form]) for word in words if (form := plain_form(word[0])) in own]

    def _item(self) -> Mention | None:
        """Return the option that it is about as an item of a list."""
        item = say.ITEM.match(self._folded, self._start, self._end)
        at = item.end() if item else self._start
        is_near = any(mention.start <= at + 8 for mention in self._mentions[:1])
        named = self._reading.named_at(at, self._end) if is_near else None
        if named is None or named.option is None or named.start > at + 4:
            return None
        label = named.letter[1] if named.letter else named.end
        return named if say.ITEM_SAYS.match(self._folded, label, self._end) else None

    def _compared(self, positive: list[Mention]) -> tuple[frozenset[int], frozenset[int]]:
        """Return the options that it calls what is asked for, and those that it calls the opposite."""
        sides: tuple[list[Mention], list[Mention]] = ([], [])
        ends = [*(mention.start for mention in positive[1:]), self._end]
        for mention, stop in zip(positive, ends, strict=False):
            before = self._before(mention, 48)
            matches = [pattern.search(self._folded, mention.end, stop) for pattern in self._asked.poles or ()]
            places = [(match.start(), side) for side, match in enumerate(matches) if match]
            if places and not say.COMPARED.search(before) and not say.REFERENCE.search(before):
                sides[min(places)[1]].append(mention)
        yes, no = map(_options, sides)
        return yes - no, no - yes

    def _asserted(self, mentions: list[Mention]) -> int | None:
        """Return the one option that it speaks for, less what it compares with, concedes or gives as a reason."""
        mentions = [mention for mention in mentions if not say.COMPARED.search(self._before(mention, 48))]
        asides = [match.span() for match in say.ASIDE.finditer(self._text)]
        mentions = [m for m in mentions if not any(a <= m.start - self._start < b for a, b in asides)] or mentions
        if len(_options(mentions)) < 2:
            return _only(mentions)
        turns = (self._after(cue, mentions) for cue in (say.CONTRAST, say.CUE, say.WEAK_CUE))
        parts = (*turns, self._predicates(mentions))
        return next((option for part in parts if (option := _only(part)) is not None), None)

    def _after(self, cue: re.Pattern[str], mentions: list[Mention], start: int | None = None) -> list[Mention]:
        """Return the mentions after the last cue of a kind."""
        turns = [turn.end() for turn in cue.finditer(self._folded, self._start if start is None else start, self._end)]
        return [mention for mention in mentions if turns and mention.start >= turns[-1]]

    def _predicates(self, mentions: list[Mention]) -> list[Mention]:
        """Return the mentions that something is said to be; a list ("is red or blue") is one predicate."""
        predicates: list[Mention] = []
        for mention in mentions:
            follows = predicates and LIST_JOIN.fullmatch(self._folded, predicates[-1].end, mention.start)
            if follows or say.PREDICATE.search(self._before(mention, 64)):
                predicates.append(mention)
        return predicates


def _options(mentions: Iterable[Mention]) -> frozenset[int]:
    return frozenset(mention.option for mention in mentions if mention.option is not None)


def _only(mentions: Sequence[Mention]) -> int | None:
    options = {mention.option for mention in mentions}
    return options.pop() if len(options) == 1 else None
