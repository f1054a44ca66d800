"""Find the conclusion of a thought by rules, with the kind of evidence and its reliability on labelled thoughts.

A sentence rejects (`SentenceContent.rejected`) each option that it mentions with a negation or denies in a clause, both
by the words in `prompting.claims`; that is an item of a list followed by a word of `sentences.NOT`; or that it compares
as the opposite of what the question asks for (`sentences.POLES`).
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..prompting import LETTERS
from ..prompting.claims import Claim, bare_mention, by_polarity, claims
from ..prompting.mentions import LIST_JOIN, Mention, Reading
from . import sentences as say
from .sentences import QuestionContext, breaks_off, plain_words, sentences

__all__ = ["RELIABILITY", "Evidence", "concluded_option"]

_LONGEST = 2_000  # number of last characters of a sentence that are read


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

    def __init__(self, thought: Reading, context: QuestionContext, start: int, end: int, *, unfinished: bool) -> None:
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
        found = self._mentions or self._context.distinctive_words(self._folded, self._start, self._end)
        positive, negative = by_polarity(self._reading, found, self._start, self._end)
        rejected = _options(negative).union(*(each.rejected for each in found_claims))
        named, partial = _options(self._mentions), not self._mentions
        known = SentenceContent(reopens=reopens, rejected=rejected, named=named, partial=partial)
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
        if {*near} - {None, option}:
            return SentenceContent(kind="nothing")
        return SentenceContent(option, "named", named=frozenset({option}))

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
        if _only(letters) == mention.option and any(map(self._is_named_as_fitting, letters)):
            return "named"
        predicate = say.PREDICATE.search(self._before(mention, 64)) is not None
        is_answer = predicate or not say.SUBJECT.match(self._folded, mention.end, self._end)
        words = plain_words(self._text)
        question_words = len(words & self._context.content)
        if content.partial and not (predicate and cue) and not words & self._context.shared[mention.option or 0]:
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

    def _is_named_as_fitting(self, letter: Mention) -> bool:
        before = self._before(letter, 40)
        return bool(say.NAMED_AFTER.match(self._folded, letter.end, self._end) or say.NAMED_BEFORE.search(before))

    def _doubt(self) -> int | None:
        """Return the position of the last expression of doubt outside of options' texts."""
        positions = (match.start() for match in say.DOUBT.finditer(self._folded, self._start, self._end))
        inside = {position for mention in self._mentions for position in range(mention.start, mention.end)}
        return max((position for position in positions if position not in inside), default=None)

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


# The conclusion is near the end of a thought, which is read in growing parts from there; the rest is ignored.
_PARTS = (160, 500, 2_000, 20_000)
# The kinds of evidence, with counts on labelled responses of real models: (right, all). The first five are firm: they
# decide without further evidence.
_COUNTS = {
    "stated": (14, 14),  # an explicit clause: "the answer is B", "(B) is correct"
    "named": (11, 11),  # one option is named by letter as fitting: "only option B shows it"
    "concluded": (48, 49),  # one option is asserted after "therefore", "so", "I think"
    "inferred": (24, 24),  # the same after "this suggests", "which indicates"
    "affirmed": (20, 21),  # for yes-no options: the statement of the question is affirmed or denied
    "compared": (11, 11),  # one option has the property that the question asks for: "nearer"
    "restated": (12, 13),  # an answer in the question's words: "The cube on the left is red."
    "eliminated": (4, 5),  # all options but one are rejected
    "weighed": (2, 3),  # one item of a list is found right
    "computed": (1, 1),  # a calculation ends with it
}
RELIABILITY = {kind: (right + 1) / (count + 2) for kind, (right, count) in _COUNTS.items()}
_FIRM = tuple(_COUNTS)[:5]
# The maximum number of later sentences; other kinds count at any position.
_REACH_OF = {"concluded": 1, "inferred": 1, "affirmed": 3, "computed": 0, "compared": 2, "restated": 1}
_HORIZON = 4  # stop reading after this many undecided sentences and one more
_SHORT = 3  # in longer thoughts, a sentence in the question's words is as often a step as a conclusion


class Evidence(NamedTuple):
    """The conclusion of a thought, with its evidence.

    Attributes:
        option: index of the option as shown; None = none.
        unsure: whether the thought leaves it open, or its evidence is unreliable.
        kind: the kind of evidence, a key of `RELIABILITY`; empty without an option.
    """

    option: int | None = None
    unsure: bool = False
    kind: str = ""


_NOTHING, _OPEN = Evidence(), Evidence(unsure=True)


def concluded_option(thought: str, options: Sequence[str], letters: str = LETTERS, question: str = "") -> Evidence:
    """Return the option that a thought finally concludes, with the kind of evidence.

    Sentences are read from the last to the first, until one is firm evidence: an explicit clause, or a conclusion. It
    does not count if a later sentence retracts it, starts over or supports another option. Without firm evidence,
    weaker kinds count: a comparison, an answer in the question's words, a calculation, elimination.

    A mention alone is no evidence, nor is a question, a hypothesis, or a claim attributed to a caption. In a sentence
    that is cut off, only firm evidence counts.

    Args:
        thought: the thought.
        options: the options' texts as shown.
        letters: their letters, in the same order; there may be more.
        question: the question; comparisons ("closer") depend on it.

    Example:
        >>> concluded_option("It looks red at first. Wait, no, it is blue. So the answer is B.", ("red", "blue"))
        Evidence(option=1, unsure=False, kind='stated')
        >>> concluded_option("The kettle is farther away.", ("mug", "kettle"), question="Which is nearer?")
        Evidence(option=0, unsure=False, kind='eliminated')
    """
    if not thought.strip():
        return _NOTHING
    text, options = thought[-_PARTS[-1] :], tuple(options)
    context, backward, end = QuestionContext.of(question, options), _BackwardReading(len(options)), len(text)
    for begin in dict.fromkeys(max(0, len(text) - reach) for reach in _PARTS):
        part = Reading.of(text[begin:end], options, letters, by="either")
        for start, stop in sentences(part, context):
            if begin and not start:
                break  # the sentence may begin before this part
            if (verdict := backward.add(part, context, start, stop)) is not None:
                return verdict
            end = begin + start
    return backward.final_verdict()


class _BackwardReading:
    """The content of the sentences read so far, from the last one backwards."""

    def __init__(self, count: int) -> None:
        self._remaining = set(range(count))
        self._later: list[SentenceContent] = []
        self._is_cut: bool | None = None

    def add(self, thought: Reading, context: QuestionContext, start: int, end: int) -> Evidence | None:
        """Read the preceding sentence; return the verdict if it decides."""
        if self._is_cut is None:
            self._is_cut = breaks_off(thought.folded)
        content = Sentence(thought, context, start, end, unfinished=self._is_cut and not self._later).read()
        if content.kind == "nothing":
            self._is_cut = self._is_cut and bool(self._later)
            return None
        if content.unsure and not any(later.kind in RELIABILITY for later in self._later):
            return _OPEN
        if content.kind in _FIRM or (content.reopens and content.kind in RELIABILITY):  # "No, it is blue."
            return self._verdict(content, len(self._later))
        self._later.append(content)
        self._remaining -= content.rejected
        return self.final_verdict() if len(self._later) > _HORIZON else None

    def _verdict(self, content: SentenceContent, later: int) -> Evidence:
        """Return the evidence of a sentence, unless the `later` ones are too many or contradict it."""
        reach = 0 if content.partial and content.kind != "inferred" else _REACH_OF.get(content.kind, _HORIZON)
        is_contradicted = (
            later > reach
            or content.option not in self._remaining
            or (later and self._is_cut)
            or any(self._contradicts(other, content.option) for other in self._later[:later])
        )
        return _OPEN if is_contradicted else Evidence(content.option, kind=content.kind)

    def _contradicts(self, other: SentenceContent, option: int | None) -> bool:
        """Return whether a later sentence retracts an option, or supports another one."""
        is_evidence = other.kind in RELIABILITY
        if other.unsure or other.reopens or (is_evidence and other.option != option):
            return True
        # Several other options are usually the rejected rest; a single one is a change of mind.
        others = other.named & self._remaining - {option}
        return bool(others) and (is_evidence or option in other.named or len(other.named) < 2)

    def final_verdict(self) -> Evidence:
        """Return the verdict if no sentence has decided."""
        if [content.kind for content in self._later] == ["described"] and not self._is_cut:
            return Evidence(self._later[0].option, kind="restated")
        kinds = ("weighed", "computed", "compared", *(("restated",) if len(self._later) <= _SHORT else ()))
        for later, content in enumerate(self._later):
            if content.kind in kinds:
                agree = all(other.option == content.option for other in self._later if other.kind == content.kind)
                return self._verdict(content, later) if agree else _OPEN
        if len(self._remaining) == 1 and not self._is_cut and not any(content.unsure for content in self._later):
            return Evidence(next(iter(self._remaining)), kind="eliminated")
        return _OPEN if any(content.named for content in self._later) else _NOTHING
