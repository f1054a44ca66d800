"""One sentence of a thought: the option it asserts or rejects, its doubt, and whether it starts over."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..prompting import LETTERS
from ..prompting.claims import LIST_JOIN, claims_of, unnegated
from ..prompting.clauses import Clause, clauses
from ..prompting.mentions import Mention, Reading
from .phrases import (
    ABBREVIATIONS,
    ABOUT_IT,
    ASIDE,
    BREAKS_OFF,
    CONCLUSIVE,
    CONFIRMATION,
    CONTRAST,
    COPULA,
    DOUBT,
    EITHER,
    LABEL,
    LETTER_NAMED,
    LETTER_VERB,
    LONE_CAPITAL,
    PREDICATE,
    REFERENCE,
    REPORTED,
    RESULT,
    REVISION,
    SENTENCE_BREAK,
    STARTS_OVER,
    SUBJECT_VERB,
    SUPPOSED,
    Cues,
)

__all__ = ["Frame", "Said", "Thought"]


class Said(NamedTuple):
    """What one sentence says.

    Attributes:
        option: the option that it asserts; None = none.
        firm: by a conclusion, not in passing.
        of_it: of what is asked about ("It is …"), not of anything.
        unsure: it says that it does not know, or leaves the choice open.
        several: it mentions several options, and asserts none.
        reopens, confirms: it starts over ("Wait, …"), or confirms what was said ("Yes, …").
        reported: it says what somebody else says, such as a caption.
        rejected: the options that it says are not it.
    """

    option: int | None = None
    firm: bool = False
    of_it: bool = False
    unsure: bool = False
    several: bool = False
    reopens: bool = False
    confirms: bool = False
    reported: bool = False
    rejected: tuple[int, ...] = ()


class Frame(NamedTuple):
    """A sentence without the options that it mentions: its words, and those options."""

    words: frozenset[str]
    options: frozenset[int | None]

    def recurs_in(self, other: "Frame") -> bool:
        """Whether another sentence says the same of another option: then both describe, and neither concludes."""
        if not other.options or other.options == self.options:
            return False
        return len(self.words & other.words) >= 0.5 * max(len(self.words | other.words), 1)


def _only(mentions: list[Mention]) -> int | None:
    options = {mention.option for mention in mentions}
    return options.pop() if len(options) == 1 else None


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought, with all that is looked up once: where options' texts, clauses, capitals and cues stand.

    Attributes:
        reading: the thought's text.
        mentions: the options' texts in it.
        clauses: its clauses about the answer, by where they end.
        capitals: where capitals stand that may be an option's letter.
        cues: its words that may begin a phrase of some kind.
    """

    reading: Reading
    mentions: list[Mention]
    clauses: list[Clause]
    capitals: list[int]
    cues: Cues

    @classmethod
    def of(cls, text: str, options: Sequence[str], letters: str = LETTERS) -> "Thought":
        """Look all of it up."""
        reading = Reading.of(text, options, letters, by="either")
        length = len(text)
        capitals = [
            match.start()
            for match in LONE_CAPITAL.finditer(text)
            if reading.letter_at(match.start(), length) is not None
        ]
        found = sorted(clauses(reading.folded, 0, length), key=lambda clause: clause.end)
        return cls(reading, reading.mentions(0, length), found, capitals, Cues(reading.folded))

    def mentions_in(self, start: int, end: int) -> list[Mention]:
        """Return the options' texts between two positions."""
        first = bisect_left(self.mentions, (start,))
        return self.mentions[first : bisect_left(self.mentions, (end,))]

    def sentences(self) -> Iterator[tuple[int, int]]:
        """Yield the sentences from the last to the first; no break falls inside an option's text or after "B."."""
        folded, text = self.reading.folded, self.reading.text
        named = {mention.start for mention in self.mentions}
        end = len(folded)
        for match in reversed(list(SENTENCE_BREAK.finditer(folded))):
            stop, resume = match.start() + (match[1] is None), match.end()
            if "\n" not in match[0]:
                # "B. red" is a label, "So it is B. Wait, …" ends a sentence.
                labels = resume in named or text[resume : resume + 1].islower()
                labels = labels and LABEL.search(folded[max(0, stop - 8) : stop]) is not None
                if labels or folded.endswith(ABBREVIATIONS, 0, stop):
                    continue
            position = bisect_left(self.mentions, (resume,))
            if position and self.mentions[position - 1].end > stop:
                continue
            if not folded[resume:end].isspace() and resume < end:
                yield resume, end
            end = stop
        if folded[:end].strip():
            yield 0, end

    def read(self, start: int, end: int, *, firmly: bool = False) -> Said:
        """Read one sentence; `firmly`: what is only said in passing may be left out."""
        folded = self.reading.folded
        marks = Said(
            reopens=bool(self.cues.phrases("revision", REVISION, start, end) or STARTS_OVER.match(folded, start, end)),
            confirms=bool(self.cues.phrases("confirmation", CONFIRMATION, start, end)),
        )
        sentence = folded[start:end]
        if sentence.rstrip("'*) \n").endswith("?"):
            return marks._replace(reopens=marks.reopens or sentence.lstrip().startswith(("or ", "but ")))
        first = bisect_left(self.clauses, start, key=lambda clause: clause.end)
        heads = self.clauses[first : bisect_left(self.clauses, end + 1, key=lambda clause: clause.end)]
        if firmly and not heads and not self._may_decide(start, end):
            return marks
        inside = self.mentions_in(start, end)
        doubt = self._last_doubt(inside, start, end)
        letters = self._letters(start, end)
        if letters:
            # In "B. blue: …" the text says all that the letter says.
            labels = {mention.start for mention in inside}
            letters = [letter for letter in letters if labels.isdisjoint(range(letter.end, letter.end + 4))]
        found = sorted(inside + letters) if letters else inside
        if not heads and not found:
            return marks._replace(unsure=doubt is not None)
        marks = marks._replace(reported=bool(self.cues.phrases("report", REPORTED, start, end)))
        said = list(claims_of(self.reading, heads, start, end)) if heads else []
        negated = self.cues.between("negation", start, end)
        flags = unnegated(self.reading, found, start, end) if negated else [True] * len(found)
        supposed = bool(self.cues.between("supposition", start, end))
        positive = [
            mention
            for mention, flag in zip(found, flags, strict=True)
            if flag and not (supposed and SUPPOSED.search(folded[max(start, mention.start - 80) : mention.start]))
        ]
        rejected = {option for claim in said for option in claim.rejected}
        rejected |= {
            mention.option
            for mention, flag in zip(found, flags, strict=True)
            if not flag and mention.option is not None
        }
        last = next((claim for claim in reversed(said) if claim.option is not None or claim.ambiguous), None)
        if last is not None and last.option is not None:
            rejected.discard(last.option)
        marks = marks._replace(rejected=tuple(sorted(rejected)))
        if last is None and end == len(folded) and self.breaks_off():
            positive = self._predicates(positive, start, COPULA)
        if last is None:
            return self._in_passing(positive, marks, doubt, start, end)
        revised = self._revised(positive, last.end, end)
        if revised is not None:
            return marks._replace(option=revised, firm=True, reported=False)
        if last.option is None or (doubt is not None and doubt > last.end):
            return marks._replace(unsure=True)
        return marks._replace(option=last.option, firm=True)

    def _may_decide(self, start: int, end: int) -> bool:
        return any(self.cues.between(kind, start, end) for kind in ("conclusion", "report", "negation"))

    def _last_doubt(self, inside: list[Mention], start: int, end: int) -> int | None:
        """Where the sentence says for the last time that it does not know, outside of an option's own text."""
        for match in reversed(self.cues.phrases("doubt", DOUBT, start, end)):
            if not any(mention.start <= match.start() < mention.end for mention in inside):
                return match.start()
        return None

    def _letters(self, start: int, end: int) -> list[Mention]:
        """Return the options that a sentence names by letter in an unmistakable way; bare letters may be anything."""
        first = bisect_left(self.capitals, start)
        has_capital = first < len(self.capitals) and self.capitals[first] < end
        if not has_capital and not self.cues.between("label", start, end):
            return []
        letters = []
        for match in LETTER_NAMED.finditer(self.reading.folded, start, end):
            group = match.lastindex or 0
            at = match.start(group)
            option = self.reading.lettered(match[group])
            if option is None or (group > 1 and not self.reading.text[at].isupper()):
                continue
            if group == 4 and (match[group] == "i" or not LETTER_VERB.match(self.reading.folded, at + 1, end)):
                continue
            if group == 1 and match[group] in "ai" and self.reading.letter_at(at, end) is None:
                continue
            letters.append(Mention(at, at + 1, option))
        return letters

    def _predicates(self, mentions: list[Mention], start: int, verb: re.Pattern[str] = PREDICATE) -> list[Mention]:
        """Return the mentions that something is said to be; a list ("is red or blue") is one predicate."""
        folded = self.reading.folded
        predicates: list[Mention] = []
        for mention in mentions:
            before = folded[max(start, mention.start - 64) : mention.start]
            follows = predicates and LIST_JOIN.fullmatch(folded, predicates[-1].end, mention.start)
            if follows or verb.search(before):
                predicates.append(mention)
        return predicates

    def _without_asides(self, mentions: list[Mention], start: int, end: int) -> list[Mention]:
        """Leave out what a sentence concedes or compares with ("although …", "than the red one"), if more is said."""
        folded = self.reading.folded
        asides = [(start + match.start(), start + match.end()) for match in ASIDE.finditer(folded[start:end])]
        main = [m for m in mentions if not any(first <= m.start < last for first, last in asides)] or mentions
        own = [m for m in main if not REFERENCE.search(folded[max(start, m.start - 24) : m.start])]
        # "The sofa is nearer than the lamp" is about the sofa; "the red cube is nearer than the blue one" about none.
        subjects = all(SUBJECT_VERB.match(folded, m.end, end) for m in own)
        return own if own and (subjects or len(self._predicates(own, start, COPULA)) == len(own)) else main

    def _revised(self, positive: list[Mention], tail: int, end: int) -> int | None:
        """Return the option that a sentence turns to after its conclusion: "…, but I think it is blue"."""
        contrasts = self.cues.phrases("contrast", CONTRAST, tail, end)
        if not contrasts:
            return None
        later = [mention for mention in positive if mention.start >= contrasts[-1].end()]
        return _only(self._predicates(later, contrasts[-1].start()))

    def _in_passing(self, positive: list[Mention], marks: Said, doubt: int | None, start: int, end: int) -> Said:
        """Read a sentence without an explicit conclusion by the options that it mentions."""
        folded = self.reading.folded
        if _only(positive) is None:
            positive = self._without_asides(positive, start, end)
        option = _only(positive)
        if positive and (marks.reported or option is None):
            contrasts = [match.end() for match in self.cues.phrases("contrast", CONTRAST, start, end)]
            turned = [mention for mention in positive if contrasts and mention.start >= contrasts[-1]]
            if marks.reported and turned:
                # "The caption says red, but the image shows blue."
                positive, option = turned, _only(turned)
                marks = marks._replace(reported=False, reopens=True)
            if option is None:
                predicates = self._predicates(positive, start, COPULA)
                option = _only(predicates)
                if option is None and turned:
                    option = _only([mention for mention in predicates if mention.start >= contrasts[-1]])
                if option is None and (results := self.cues.phrases("result", RESULT, start, end)):
                    option = _only([mention for mention in positive if mention.start >= results[-1].end()])
        last = max((mention.end for mention in positive), default=start)
        if doubt is not None and (option is None or doubt > last):
            return marks._replace(unsure=True)
        if option is None:
            several = len({mention.option for mention in positive}) > 1
            lead = folded[max(start, positive[0].start - 12) : last] if several else ""
            return marks._replace(several=several, unsure=len(positive) <= 4 and EITHER.search(lead) is not None)
        firm = CONCLUSIVE.search(folded[start:end]) is not None
        firm = firm and (end - start < 40 or bool(self._predicates(positive, start)))
        return marks._replace(option=option, firm=firm, of_it=ABOUT_IT.match(folded, start, end) is not None)

    def breaks_off(self) -> bool:
        """Whether the text ends in the middle of a sentence."""
        return BREAKS_OFF.search(self.reading.folded, max(0, len(self.reading.folded) - 40)) is not None

    def frame(self, start: int, end: int) -> Frame:
        """Return what a sentence says around the options that it mentions."""
        inside = self.mentions_in(start, end)
        edges = [start, *(edge for mention in inside for edge in mention[:2]), end]
        rest = " ".join(self.reading.folded[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2))
        return Frame(frozenset(re.findall(r"\w+", rest)), frozenset(mention.option for mention in inside))
