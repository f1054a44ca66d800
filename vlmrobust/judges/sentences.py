"""One sentence of a thought: the option it asserts or rejects, its doubt, and whether it starts over."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..prompting.claims import LIST_JOIN, claims_of, unnegated
from ..prompting.clauses import Clause, clauses
from ..prompting.mentions import Mention, Reading
from .phrases import (
    ABBREVIATION,
    ASIDE,
    CONCLUSIVE,
    CONFIRMATION,
    CONTRAST,
    COPULA,
    CUES,
    DOUBT,
    EITHER,
    LABEL,
    LETTER_NAMED,
    LETTER_VERB,
    LONE_CAPITAL,
    PREDICATE,
    REFERENCE,
    REPORTED,
    REVISION,
    SENTENCE_BREAK,
    STARTS_OVER,
    SUBJECT_VERB,
    SUPPOSED,
)

__all__ = ["Said", "Thought"]


class Said(NamedTuple):
    """What one sentence says.

    Attributes:
        option: the option that it asserts; None = none.
        firm: by a conclusion, not in passing.
        unsure: it says that it does not know, or leaves the choice open.
        several: it mentions several options, and asserts none.
        reopens, confirms: it starts over ("Wait, …"), or confirms what was said ("Yes, …").
        reported: it says what somebody else says, such as a caption.
        rejected: the options that it says are not it.
    """

    option: int | None = None
    firm: bool = False
    unsure: bool = False
    several: bool = False
    reopens: bool = False
    confirms: bool = False
    reported: bool = False
    rejected: tuple[int, ...] = ()


def _only(mentions: list[Mention]) -> int | None:
    options = {mention.option for mention in mentions}
    return options.pop() if len(options) == 1 else None


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought, with all that is looked up once: where options' texts, clauses about the answer and capitals stand."""

    reading: Reading
    mentions: list[Mention]
    clauses: list[Clause]
    capitals: list[int]
    words: dict[str, list[str]]

    @classmethod
    def of(cls, text: str, options: Sequence[str]) -> "Thought":
        """Look all of it up."""
        reading = Reading.of(text, options, by="either")
        length = len(text)
        capitals = [
            match.start()
            for match in LONE_CAPITAL.finditer(text)
            if reading.letter_at(match.start(), length) is not None
        ]
        found = sorted(clauses(reading.folded, 0, length), key=lambda clause: clause.end)
        words = {kind: [word for word in some if word in reading.folded] for kind, some in CUES.items()}
        return cls(reading, reading.mentions(0, length), found, capitals, words)

    def _has_word(self, kind: str, start: int, end: int) -> bool:
        return any(self.reading.folded.find(word, start, end) >= 0 for word in self.words[kind])

    def _has(self, pattern: re.Pattern[str], kind: str, start: int, end: int) -> bool:
        return self._has_word(kind, start, end) and pattern.search(self.reading.folded, start, end) is not None

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
            stop, resume = match.span()
            if "\n" not in match[0]:
                before = folded[max(0, stop - 6) : stop]
                # "B. red" is a label, "So it is B. Wait, …" ends a sentence.
                labels = resume in named or text[resume : resume + 1].islower()
                if ABBREVIATION.search(before) or (labels and LABEL.search(before)):
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
            reopens=self._has(REVISION, "revision", start, end) or STARTS_OVER.match(folded, start, end) is not None,
            confirms=self._has(CONFIRMATION, "confirmation", start, end),
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
        labels = {mention.start for mention in inside}
        letters = self._letters(start, end)
        # In "B. blue: …" the text says all that the letter says.
        letters = [letter for letter in letters if labels.isdisjoint(range(letter.end, letter.end + 4))]
        found = sorted(inside + letters)
        if not heads and not found:
            return marks._replace(unsure=doubt is not None)
        marks = marks._replace(reported=self._has(REPORTED, "report", start, end))
        said = list(claims_of(self.reading, heads, start, end)) if heads else []
        flags = unnegated(self.reading, found, start, end)
        supposed = self._has_word("supposition", start, end)
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
        if last is None:
            return self._in_passing(positive, marks, doubt, start, end)
        revised = self._revised(positive, last.end, end)
        if revised is not None:
            return marks._replace(option=revised, firm=True, reported=False)
        if last.option is None or (doubt is not None and doubt > last.end):
            return marks._replace(unsure=True)
        return marks._replace(option=last.option, firm=True)

    def _may_decide(self, start: int, end: int) -> bool:
        return any(self._has_word(kind, start, end) for kind in ("conclusion", "report", "negation"))

    def _last_doubt(self, inside: list[Mention], start: int, end: int) -> int | None:
        """Where the sentence says for the last time that it does not know, outside of an option's own text."""
        folded = self.reading.folded
        if not self._has_word("doubt", start, end):
            return None
        places = [
            match.start()
            for match in DOUBT.finditer(folded, start, end)
            if not any(mention.start <= match.start() < mention.end for mention in inside)
        ]
        return places[-1] if places else None

    def _letters(self, start: int, end: int) -> list[Mention]:
        """Return the options that a sentence names by letter in an unmistakable way; bare letters may be anything."""
        first = bisect_left(self.capitals, start)
        has_capital = first < len(self.capitals) and self.capitals[first] < end
        if not has_capital and not self._has_word("label", start, end):
            return []
        letters = []
        for match in LETTER_NAMED.finditer(self.reading.folded, start, end):
            group = match.lastindex or 0
            at = match.start(group)
            index = ord(match[group]) - ord("a")
            if index >= len(self.reading.options) or (group > 1 and not self.reading.text[at].isupper()):
                continue
            if group == 4 and (match[group] == "i" or not LETTER_VERB.match(self.reading.folded, at + 1, end)):
                continue
            if group == 1 and match[group] in "ai" and self.reading.letter_at(at, end) is None:
                continue
            letters.append(Mention(at, at + 1, index))
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
        contrasts = list(CONTRAST.finditer(self.reading.folded, tail, end))
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
            contrasts = [match.end() for match in CONTRAST.finditer(folded, start, end)]
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
        last = max((mention.end for mention in positive), default=start)
        if doubt is not None and (option is None or doubt > last):
            return marks._replace(unsure=True)
        if option is None:
            several = len({mention.option for mention in positive}) > 1
            lead = folded[max(start, positive[0].start - 12) : last] if several else ""
            return marks._replace(several=several, unsure=len(positive) <= 4 and EITHER.search(lead) is not None)
        firm = CONCLUSIVE.search(folded[start:end]) is not None
        firm = firm and (end - start < 40 or bool(self._predicates(positive, start)))
        return marks._replace(option=option, firm=firm)

    def repeats_its_frame(self, start: int, end: int) -> bool:
        """Whether the sentence before says the same of another option: then both describe, and neither concludes."""
        folded = self.reading.folded
        stop = len(folded[:start].rstrip())
        previous = next((begin for begin, _ in self._before(stop)), 0)

        def frame(first: int, last: int) -> tuple[set[str], set[int | None]]:
            inside = self.mentions_in(first, last)
            edges = [first, *(edge for mention in inside for edge in mention[:2]), last]
            rest = " ".join(folded[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2))
            return set(re.findall(r"\w+", rest)), {mention.option for mention in inside}

        words, options = frame(start, end)
        other_words, other_options = frame(previous, stop)
        if not other_options or other_options == options:
            return False
        return len(words & other_words) >= 0.5 * max(len(words | other_words), 1)

    def _before(self, stop: int) -> Iterator[tuple[int, int]]:
        return (span for span in self.sentences() if span[0] < stop)
