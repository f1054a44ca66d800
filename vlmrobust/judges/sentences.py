"""Parse the sentences of a thought: the option each one supports, those it rejects, and the kind of evidence."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from ..prompting.claims import Claim, bare_mention, by_polarity, claims
from ..prompting.mentions import LIST_JOIN, OUTER_WORDS, Mention, Reading
from ..prompting.words import WORD, WORDS, fold, plain_form
from . import phrases as say

__all__ = ["QuestionContext", "Sentence", "SentenceContent", "breaks_off", "sentences"]

_LONGEST = 2_000  # number of last characters of a sentence that are read
_COMMON_WORDS = """
been am had do does did can could will would should may might must them these those and or but not no nor so if then
than which who what when where why how very more most some any all both each other another one because while during
about after before through just only also too i you we my your our me us him s t yes image picture photo video show
shown follow question option answer object look seem appear
"""
_COMMON_FORMS = frozenset(map(plain_form, (OUTER_WORDS + _COMMON_WORDS).split()))
_POLAR = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
# Words of a statement that may be missing or differ.
_UNSTATED = re.compile("an?|the|is|are|was|were|be|being|do|does|did|can|has|have|there|this|that|statement")


def _plain_words(folded: str) -> set[str]:
    """Return the normal forms of a text's words, without function words."""
    return {form for word in WORDS.findall(folded) if (form := plain_form(word)) and form not in _COMMON_FORMS}


class QuestionContext(NamedTuple):
    """The features of a question and its options that are needed to parse thoughts about them.

    Attributes:
        content: normal forms of the question's words, without those of the options.
        poles: patterns for the property that the question asks for ("nearer"), and its opposite; None = no comparison.
        distinctive: normal form of a word → the only option that contains it.
        shared: for each option, its words that other options also contain.
        broken: an option contains a sentence break.
        statement: the statement in question, where the options are yes and no or true and false.
        polar: the options that affirm and deny it.
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
    def of(cls, question: str, options: tuple[str, ...]) -> "QuestionContext":
        """Parse a question."""
        folded, texts = fold(question), [fold(option.strip()) for option in options]
        all_options, words = " ".join(texts), _plain_words(folded)
        poles = (
            (stated, opposite)
            for pair in say.POLES
            for (asked, stated), (denied, opposite) in (pair, pair[::-1])
            if asked.search(folded) and not denied.search(folded)
            if not stated.search(all_options) and not opposite.search(all_options)
        )
        option_words = [_plain_words(text) for text in texts]
        counts = Counter(word for words_of_one in option_words for word in words_of_one)
        distinctive = {
            word: option
            for option, words_of_one in enumerate(option_words)
            for word in words_of_one
            if counts[word] == 1
        }
        if len({option for word, option in distinctive.items() if word in words}) < 2:
            # A question that contains words of one option is about that option; words of several are the choice.
            distinctive = {word: option for word, option in distinctive.items() if word not in words}
        polar = [_POLAR.get(text.strip(".")) for text in texts]
        is_polar = len(texts) == 2 and {*polar} == {True, False}
        content = _plain_words(folded[-240:]) - _plain_words(all_options)
        # The noun of "which colour" and "what kind of animal" is the category of the options, and rarely repeated.
        categories = re.findall(r"\b(?:which|what)(?: (?:kind|type|sort)s? of)? (\w+)", folded)
        return cls(
            frozenset(content.difference(map(plain_form, categories)) or content),
            next(poles, None),
            {word: option for word, option in distinctive.items() if not say.NOT.search(texts[option])},
            tuple(frozenset(word for word in words_of_one if counts[word] > 1) for words_of_one in option_words),
            any(map(say.SENTENCE_BREAK.search, texts)),
            _statement([folded, *re.findall(r"[^.?!\n]+\?", folded)][-1]) if is_polar else None,
            (polar.index(True), polar.index(False)) if is_polar else (0, 0),
        )


def _statement(folded: str) -> re.Pattern[str] | None:
    """Return a pattern for a statement, or that of a question ("is the cat on the mat?"), with words in between."""
    parts = [
        [word for word in WORDS.findall(part) if not _UNSTATED.fullmatch(word)] for part in folded.split(" is ", 1)
    ]
    between = rf"\W+(?:{WORD}+\W+){{0,5}}?"
    subject, *rest = (between.join(re.escape(word) + WORD + "{0,3}" for word in words) for words in parts)
    if len(parts[-1]) > 1 and rest:
        subject = f"(?:{subject}|it)"  # "… the cat, and it is on the mat"
    return re.compile(rf"\b{between.join([subject, *rest])}\b") if 2 < sum(map(len, parts)) <= 12 else None


def sentences(reading: Reading, context: QuestionContext) -> Iterator[tuple[int, int]]:
    """Yield the sentences of a text from the last to the first.

    There is no break inside an option's text, after "B.", or inside a list item that begins with a letter.
    """
    folded = reading.folded
    end = len(folded)
    for match in reversed(list(say.SENTENCE_BREAK.finditer(folded))):
        stop, resume = match.start() + (match[1] is None), match.end()
        near = reading.mentions(max(0, stop - 400), resume + 400) if context.broken else []
        if any(mention.start < stop < mention.end for mention in near):
            continue
        if "\n" in match[0] or not _continues(reading, stop, resume):
            if resume < end and not folded[resume:end].isspace():
                yield resume, end
            end = stop
    if folded[:end].strip():
        yield 0, end


def _continues(reading: Reading, stop: int, resume: int) -> bool:
    """Return whether a sentence continues after a mark that looks like its end."""
    folded = reading.folded
    item = say.ITEM.match(folded, folded.rfind("\n", 0, stop) + 1, stop)
    if item is not None and say.ITEM_LETTER.match(folded, item.end(), stop):
        return True
    if not say.LABEL.search(folded[max(0, stop - 8) : stop]):
        return folded.endswith(say.ABBREVIATIONS, 0, stop)
    named = reading.named_at(resume, len(folded))
    return reading.text[resume : resume + 1].islower() or (named is not None and named.start <= resume + 3)


def breaks_off(text: str) -> bool:
    """Return whether a text ends in the middle of a sentence; a single sentence may lack its stop."""
    text = text.rstrip("*_' \n)]}$\\")
    return ". " in text and (text[-1] in ";-" or text[-1].isalnum())


class SentenceContent(NamedTuple):
    """The content of one sentence.

    Attributes:
        option: the option that it supports; None = none.
        kind: the kind of evidence, see `concluded_option`; or "nothing" (no content), "described" (in passing).
        unsure: it expresses doubt, or concludes without naming an option.
        reopens: it starts over ("Wait, …").
        rejected: the options that it rejects.
        named: all options that it names in full.
        partial: it names the option only by some of its words.
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

    def __init__(
        self, thought: Reading, context: QuestionContext, start: int, end: int, *, unfinished: bool = False
    ) -> None:
        self._reading, self._folded, self._context, self._unfinished = thought, thought.folded, context, unfinished
        self._set_span(max(start, end - _LONGEST), end)

    def _set_span(self, start: int, end: int) -> None:
        self._start, self._end = start, end
        self._text = self._folded[start:end]
        self._mentions = self._reading.named(start, end)

    def _before(self, mention: Mention, reach: int) -> str:
        return self._folded[max(self._start, mention.start - reach) : mention.start]

    def read(self) -> SentenceContent:
        """Return the content of the sentence."""
        text = self._text.strip("*_ \n")
        reopens = say.REVISION.search(self._text) is not None
        if self._is_empty(text):
            return SentenceContent(kind="nothing")
        if text.rstrip("')").endswith("?"):
            return SentenceContent(reopens=reopens or text.startswith(("or ", "but ")))
        if (line := self._line(self._start, self._end)) is not None:
            return self._read_line(line)
        if reported := say.NOT_ITS_OWN.search(self._text):
            contrast = say.CONTRAST.search(self._folded, self._start + reported.end(), self._end)
            if contrast is None:
                return SentenceContent(reopens=reopens)
            self._set_span(contrast.end(), self._end)  # "The caption says red, but the image shows blue."
        if (is_affirmed := self._affirms_statement()) is not None:
            return SentenceContent(self._context.polar[not is_affirmed], "affirmed", reopens=reopens)
        found_claims = list(claims(self._reading, self._start, self._end))
        claim = next((each for each in reversed(found_claims) if each.option is not None or each.ambiguous), None)
        found = self._mentions or self._distinctive_words()
        positive, negative = by_polarity(self._reading, found, self._start, self._end)
        rejected = _options(negative).union(*(each.rejected for each in found_claims))
        known = SentenceContent(
            reopens=reopens, rejected=rejected, named=_options(self._mentions), partial=not self._mentions
        )
        if claim is not None:
            return self._read_claim(known, claim, positive)
        if say.THE_OTHERS.match(self._text):
            return known._replace(named=frozenset())
        return self._read_implicit(known, [mention for mention in positive if mention.option is not None])

    def _is_empty(self, text: str) -> bool:
        """Return whether it only announces an answer, lists the options, confirms, or is a remark in brackets."""
        lists_options = len(_options(self._mentions)) > 1 and say.RESTATED.search(text)
        confirms = not self._mentions and say.CONFIRMATION.search(text)
        return not self._statement() and bool(say.ANNOUNCEMENT.fullmatch(text) or lists_options or confirms)

    def _statement(self) -> re.Match[str] | None:
        return self._context.statement.search(self._text) if self._context.statement else None

    def _affirms_statement(self) -> bool | None:
        """Return whether it affirms (True) or denies (False) the statement in question; None = neither."""
        statement = self._statement()
        if statement is None:
            return None
        mention = Mention(self._start + statement.start(), self._start + statement.end(), None)
        before, after = self._text[: statement.start()], self._text[statement.end() :]
        before = before[max((contrast.end() for contrast in say.CONTRAST.finditer(before)), default=0) :]
        if self._doubt() is not None or say.UNREAL.search(before + statement[0]):
            return None
        if say.NOT.search(statement[0]) or by_polarity(self._reading, [mention], self._start, self._end)[1]:
            return False
        # A negation elsewhere may or may not refer to the statement.
        return None if say.NOT.search(before + after) else True

    def _line(self, start: int, end: int) -> int | None:
        """Return the option of a line that consists of a letter, or a letter and its option."""
        bare = bare_mention(self._reading, start, end) if 0 < end - start < 160 else None
        return bare.option if bare and bare.letter else None

    def _read_line(self, option: int) -> SentenceContent:
        """Read a line of a letter and its option: an answer, unless it is an item of a list."""
        above, below = self._folded[: self._start].rstrip(), self._folded[self._end :].lstrip()
        first, last = above.rfind("\n") + 1, len(self._folded) - len(below)
        near = self._line(first, len(above)), self._line(last, last + len(below.split("\n", 1)[0]))
        is_item = bool({*near} - {None, option})
        return (
            SentenceContent(kind="nothing") if is_item else SentenceContent(option, "named", named=frozenset({option}))
        )

    def _read_claim(self, content: SentenceContent, claim: Claim, positive: list[Mention]) -> SentenceContent:
        """Read a sentence with an explicit clause, which may be doubted or contrasted ("…, but I think it is blue")."""
        contrasted = _only(self._predicates(self._after(say.CONTRAST, positive, claim.end)))
        option = claim.option if contrasted is None else contrasted
        if option is None or ((doubt := self._doubt()) is not None and doubt > claim.end):
            return content._replace(unsure=True)
        return SentenceContent(option, "stated", reopens=content.reopens)

    def _read_implicit(self, content: SentenceContent, positive: list[Mention]) -> SentenceContent:
        """Read a sentence without an explicit clause."""
        cue = say.CUE.search(self._text)
        if (item := self._item()) is not None:
            if say.NOT.search(self._folded, item.end, self._end):
                return content._replace(rejected=content.rejected | _options([item]))
            fits = say.FITS.search(self._folded, item.end, self._end)
            return content._replace(option=item.option, kind="weighed") if fits else content
        if self._context.poles and not content.partial:
            yes, no = self._compared(positive)
            content = content._replace(rejected=content.rejected | no)
            if len(yes) == 1 and not self._unfinished and (cue or not say.UNREAL.search(self._text)):
                return content._replace(option=next(iter(yes)), kind="concluded" if cue else "compared")
            if yes or no:
                return content
        option = self._asserted(positive)
        if (doubt := self._doubt()) is not None and (option is None or doubt > positive[-1].end):
            return content._replace(unsure=True)
        if option is None:
            return content._replace(unsure=cue is not None and not content.named)
        mention = next(mention for mention in reversed(positive) if mention.option == option)
        kind = self._kind(mention, content, cue)
        if self._unfinished and kind not in ("named", "concluded"):
            kind = ""
        return content._replace(option=option if kind else None, kind=kind, rejected=content.rejected - {option})

    def _kind(self, mention: Mention, content: SentenceContent, cue: re.Match[str] | None) -> str:
        """Return the kind of evidence for the mentioned option, empty if it is none."""
        letters = [each for each in self._mentions if each.letter]
        fits = (say.NAMED_AFTER.match(self._folded, letter.end, self._end) for letter in letters)
        if _only(letters) == mention.option and (
            any(fits) or any(say.NAMED_BEFORE.search(self._before(letter, 40)) for letter in letters)
        ):
            return "named"
        predicate = say.PREDICATE.search(self._before(mention, 64)) is not None
        is_answer = predicate or not say.SUBJECT.match(self._folded, mention.end, self._end)
        words = _plain_words(self._text)
        question_words = len(words & self._context.content)
        shared_words = len(words & self._context.shared[mention.option or 0])
        if content.partial and not (predicate and cue) and not shared_words:
            return ""
        if cue and cue.start() <= mention.start - self._start and (cue.start() == 0 or cue["strong"] or predicate):
            follows = is_answer or question_words > 1 or (question_words and self._context.poles)
            return "concluded" if follows else ""
        if say.UNREAL.search(self._folded, self._start, mention.start):
            return ""
        if say.WEAK_CUE.search(self._folded, self._start, mention.start):
            return "inferred" if is_answer or question_words else ""
        is_number = self._reading.options[mention.option or 0].rstrip(". ")[-1:].isdecimal()
        if say.UNREAL.search(self._text) or content.named - {mention.option} or (is_number and not predicate):
            return ""
        if say.EQUALS.search(self._before(mention, 16)):
            return "computed"
        is_restated = 0 < min(2, len(self._context.content)) <= question_words
        if is_restated or (is_answer and say.ABOUT_IT.match(self._text)):
            return "restated"
        return "described" if is_answer else ""

    def _doubt(self) -> int | None:
        """Return the position of the last expression of doubt outside of options' texts."""
        positions = (match.start() for match in say.DOUBT.finditer(self._folded, self._start, self._end))
        inside = {position for mention in self._mentions for position in range(mention.start, mention.end)}
        return max((position for position in positions if position not in inside), default=None)

    def _distinctive_words(self) -> list[Mention]:
        """Return mentions by words that only one option contains."""
        distinctive = self._context.distinctive
        words = WORDS.finditer(self._folded, self._start, self._end) if distinctive else ()
        return [
            Mention(*word.span(), distinctive[form]) for word in words if (form := plain_form(word[0])) in distinctive
        ]

    def _item(self) -> Mention | None:
        """Return the option that the sentence assesses, if it is an item of a list."""
        item = say.ITEM.match(self._folded, self._start, self._end)
        at = item.end() if item else self._start
        is_near = any(mention.start <= at + 8 for mention in self._mentions[:1])
        named = self._reading.named_at(at, self._end) if is_near else None
        if named is None or named.option is None or named.start > at + 4:
            return None
        label = named.letter[1] if named.letter else named.end
        return named if say.ITEM_SAYS.match(self._folded, label, self._end) else None

    def _compared(self, positive: list[Mention]) -> tuple[frozenset[int], frozenset[int]]:
        """Return the options with the property that the question asks for, and those with the opposite."""
        sides: tuple[list[Mention], list[Mention]] = ([], [])
        ends = [*(mention.start for mention in positive[1:]), self._end]
        for mention, stop in zip(positive, ends, strict=False):
            before = self._before(mention, 48)
            matches = [pattern.search(self._folded, mention.end, stop) for pattern in self._context.poles or ()]
            places = [(match.start(), side) for side, match in enumerate(matches) if match]
            if places and not say.COMPARED.search(before) and not say.REFERENCE.search(before):
                sides[min(places)[1]].append(mention)
        yes, no = map(_options, sides)
        return yes - no, no - yes

    def _asserted(self, mentions: list[Mention]) -> int | None:
        """Return the one option that it supports, ignoring comparisons, concessions and reasons."""
        mentions = [mention for mention in mentions if not say.COMPARED.search(self._before(mention, 48))]
        asides = [match.span() for match in say.ASIDE.finditer(self._text)]
        mentions = [m for m in mentions if not any(a <= m.start - self._start < b for a, b in asides)] or mentions
        if len(_options(mentions)) < 2:
            return _only(mentions)
        after_cues = (self._after(cue, mentions) for cue in (say.CONTRAST, say.CUE, say.WEAK_CUE))
        parts = (*after_cues, self._predicates(mentions))
        return next((option for part in parts if (option := _only(part)) is not None), None)

    def _after(self, cue: re.Pattern[str], mentions: list[Mention], start: int | None = None) -> list[Mention]:
        """Return the mentions after the last cue of a kind."""
        ends = [match.end() for match in cue.finditer(self._folded, self._start if start is None else start, self._end)]
        return [mention for mention in mentions if ends and mention.start >= ends[-1]]

    def _predicates(self, mentions: list[Mention]) -> list[Mention]:
        """Return the mentions that are predicates; a list ("is red or blue") is one predicate."""
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
