"""One sentence of a thought: which option it speaks for, which it rejects, and in which way."""

import re
from typing import NamedTuple

from ..prompting.claims import Claim, bare_claim, claims, polarities
from ..prompting.mentions import LIST_JOIN, Mention
from ..prompting.words import WORDS, plain_form
from . import phrases as say
from .thoughts import Thought, plain_words

__all__ = ["Said", "Sentence"]

_LONGEST = 2_000  # characters of a sentence that are read, its last ones


class Said(NamedTuple):
    """What one sentence says.

    Attributes:
        option: the option that it speaks for; None = none.
        kind: in which way, see `concluded_option`; "listed" is a line of a list of the options, "described" names one
            option in passing.
        unsure: it says that it does not know, or leaves the choice open.
        pending: it begins to conclude something, and names no option.
        reopens: it starts over ("Wait, …").
        rejected: the options that it says are not it.
        named: all options that it names in full.
        partial: it names the option by some of its words alone.
    """

    option: int | None = None
    kind: str = ""
    unsure: bool = False
    pending: bool = False
    reopens: bool = False
    rejected: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()
    partial: bool = False


class Sentence:
    """A sentence of a thought, from `start` to `end`."""

    def __init__(self, thought: Thought, start: int, end: int) -> None:
        self._thought, self._reading, self._asked = thought, thought.reading, thought.asked
        self._start, self._end = max(start, end - _LONGEST), end
        self._folded = thought.reading.folded
        self._text = self._folded[self._start : end]
        self._statement = self._asked.statement.search(self._text) if self._asked.statement else None

    def _before(self, mention: Mention, reach: int) -> str:
        return self._folded[max(self._start, mention.start - reach) : mention.start]

    def says_nothing(self) -> bool:
        """Whether it announces an answer, lists the options, confirms what was said or is a remark in brackets."""
        text = self._text.strip("*_ \n")
        if self._statement:
            return False
        if text.endswith(":") or say.ANNOUNCEMENT.fullmatch(text) or say.THE_ONE.search(text):
            return True
        if text.startswith("(") and text.endswith(")") and len(text) > 40:
            return True
        named = {mention.option for mention in self._thought.mentions_in(self._start, self._end)}
        if named:
            return len(named) > 1 and say.RESTATED.search(text) is not None
        return say.CONFIRMATION.search(text) is not None and say.REVISION.search(text) is None

    def read(self, *, unfinished: bool = False) -> Said:
        """Return what it says; `unfinished`: the text breaks off in it."""
        reopens = say.REVISION.search(self._text) is not None
        if self._text.rstrip("'*) \n").endswith("?"):
            return Said(reopens=reopens or self._text.lstrip().startswith(("or ", "but ")))
        if say.LABELLED.match(self._text) and (line := self._bare_line(self._start, self._end)) is not None:
            return self._listed(line)
        claims = self._own_claims()
        claim = next((claim for claim in reversed(claims) if claim.option is not None or claim.ambiguous), None)
        if claim is not None and claim.option is not None and not say.TURN.search(self._folded, claim.end, self._end):
            return Said(claim.option, "stated")
        if (affirmed := self._affirmed()) is not None:
            return Said(self._asked.polar[not affirmed], "affirmed", reopens=reopens)
        found = self._reading.named(self._start, self._end, bare=not self._thought.lettered)
        letters = [mention for mention in found if mention.letter]
        named = frozenset(mention.option for mention in found if mention.option is not None)
        partial = not found and claim is None
        if claim is None and (partial or len(self._reading.options) == 2):
            # Of two options one word is enough to tell that the other one is meant: "the red cube, not the blue one".
            words = [word for word in self._distinctive(self._start) if word.option not in named]
            found += [word for word in words if partial or self._stands_for_option(word)]
        found.sort(key=lambda mention: mention.start)
        flags = dict(zip(found, polarities(self._reading, found, self._start, self._end), strict=True))
        rejected = {option for each in claims for option in each.rejected}
        rejected |= {mention.option for mention, flag in flags.items() if not flag and mention.option is not None}
        said = Said(reopens=reopens, rejected=frozenset(rejected), named=named, partial=partial)
        positive = [
            m for m in found if flags[m] and m.option is not None and not say.SUPPOSED.search(self._before(m, 80))
        ]
        if claim is not None:
            return self._stated(said, claim, positive)
        if say.THE_OTHERS.match(self._text):
            return said._replace(named=frozenset())
        if say.REPORTED.search(self._text):
            positive = self._after(say.CONTRAST, positive)  # "The caption says red, but the image shows blue."
            if not positive:
                return said._replace(named=frozenset())
        return self._in_words(said, positive, letters, unfinished=unfinished)

    def _own_claims(self) -> list[Claim]:
        """Return what it says of the answer itself: nothing that it only supposes, takes back or reports."""
        begin = self._start
        if reported := say.REPORTED.search(self._text):
            turn = say.CONTRAST.search(self._text, reported.end())  # "The caption says A, but the answer is B."
            if turn is None:
                return []
            begin += turn.end()
        found = list(claims(self._reading, begin, self._end))
        return [] if found and (say.HYPOTHETICAL.search(self._text) or say.DISOWNED.search(self._text)) else found

    def _affirmed(self) -> bool | None:
        """Return whether it says that the statement is so that was asked about; None = it does not speak of it."""
        match = self._statement
        if (
            match is None
            or say.SUPPOSED.search(self._text[max(0, match.start() - 80) : match.start()])
            or self._doubt() is not None
        ):
            return None
        before, said, after = self._text[: match.start()], match[0], self._text[match.end() :]
        before = before[max((turn.end() for turn in say.CONTRAST.finditer(before)), default=0) :]
        if say.NOT.search(said) or say.DENIED_BEFORE.search(before) or say.DENIED_AFTER.match(after):
            return False
        if say.NOT.search(before + after) or say.REPORTED.search(self._text) or say.UNREAL.search(before + said):
            return None  # something is denied, and perhaps not this
        return True

    def _bare_line(self, start: int, end: int) -> int | None:
        """Return the option of a line that is a letter, or a letter and its option, and nothing else."""
        bare = bare_claim(self._reading, start, end) if 0 < end - start < 160 else None
        return None if bare is None or bare.letter is None else bare.option

    def _listed(self, option: int) -> Said:
        """Read a line that is a letter and its option: an answer, unless it is one of a list."""
        above, below = self._folded[: self._start].rstrip(), self._folded[self._end :].lstrip()
        first, last = above.rfind("\n") + 1, len(self._folded) - len(below)
        near = self._bare_line(first, len(above)), self._bare_line(last, last + len(below.split("\n", 1)[0]))
        if any(other not in (None, option) for other in near):
            return Said(kind="listed")
        return Said(option, "named", named=frozenset({option}))

    def _stated(self, said: Said, claim: Claim, positive: list[Mention]) -> Said:
        """Read an explicit clause that is doubted, or turned from ("…, but I think it is blue"), in its sentence."""
        turned = _only(self._predicates(self._after(say.CONTRAST, positive, claim.end)))
        option = claim.option if turned is None else turned
        doubt = self._doubt()
        if option is None or (doubt is not None and doubt > claim.end):
            return said._replace(unsure=True)
        return Said(option, "stated")

    def _in_words(self, said: Said, positive: list[Mention], letters: list[Mention], *, unfinished: bool) -> Said:
        """Read a sentence without an explicit clause."""
        cue = say.CUE.search(self._text)
        item = None if said.partial else self._item()
        if item is not None and item.option is not None:
            verdicts = list(say.VERDICT.finditer(self._folded, item.end, self._end))
            if not verdicts:
                return said
            if verdicts[-1].lastgroup == "yes":
                return said._replace(option=item.option, kind="weighed")
            return said._replace(rejected=said.rejected | {item.option})
        if self._asked.poles and not said.partial:
            yes, no = self._compared(positive)
            said = said._replace(rejected=said.rejected | no)
            if len(yes) == 1 and not unfinished and (cue or not say.UNREAL.search(self._text)):
                return said._replace(option=next(iter(yes)), kind="concluded" if cue else "compared")
            if yes or no:
                return said
        option = self._asserted(positive, partial=said.partial)
        doubt = self._doubt()
        last = max((mention.end for mention in positive), default=self._start)
        if doubt is not None and (option is None or doubt > last):
            return said._replace(unsure=True)
        if option is None:
            first = max(self._start, positive[0].start - 12) if positive else last
            choice = 1 < len(said.named) <= 4 and say.EITHER.search(self._folded, first, last) is not None
            return said._replace(unsure=choice, pending=cue is not None and not said.named)
        mention = next(mention for mention in reversed(positive) if mention.option == option)
        kind = self._kind(mention, said, letters, cue)
        if unfinished and kind not in ("named", "concluded"):
            kind = ""
        return said._replace(option=option if kind else None, kind=kind, rejected=said.rejected - {option})

    def _kind(self, mention: Mention, said: Said, letters: list[Mention], cue: re.Match[str] | None) -> str:
        """Return in which way it speaks for the option that it mentions, empty for none that counts."""
        if _only(letters) == mention.option and any(
            say.NAMED_BEFORE.search(self._before(letter, 40))
            or say.NAMED_AFTER.match(self._folded, letter.end, self._end)
            for letter in letters
        ):
            return "named"
        if say.CUE.search(self._folded, mention.end, self._end) and not self._distinctive(mention.end):
            return ""  # what it concludes comes after, and is not understood
        predicate = say.PREDICATE.search(self._before(mention, 64)) is not None
        of_it = predicate or not say.SUBJECT.match(self._folded, mention.end, self._end)
        words = plain_words(self._text)
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
        if said.partial:
            return "restated" if of_it and (more > 1 or (asked and more)) else ""
        if say.EQUALS.search(self._before(mention, 16)):
            return "computed"
        if 0 < min(2, len(self._asked.content)) <= asked or (of_it and say.ABOUT_IT.match(self._text)):
            return "restated"
        return "described" if of_it else ""

    def _doubt(self) -> int | None:
        """Where it says for the last time that it does not know, outside of an option's own text."""
        inside = self._thought.mentions_in(self._start, self._end)
        places = [match.start() for match in say.DOUBT.finditer(self._folded, self._start, self._end)]
        places = [place for place in places if not any(m.start <= place < m.end for m in inside)]
        return places[-1] if places else None

    def _distinctive(self, start: int) -> list[Mention]:
        """Return its words, from a position on, that only one option has."""
        own = self._asked.distinctive
        words = WORDS.finditer(self._folded, start, self._end) if own else ()
        return [Mention(*word.span(), own[form]) for word in words if (form := plain_form(word[0])) in own]

    def _stands_for_option(self, word: Mention) -> bool:
        after = say.ONE.match(self._folded, word.end, self._end)
        return after is not None or say.COPULA.search(self._before(word, 64)) is not None

    def _item(self) -> Mention | None:
        """Return the option that it is about as an item of a list."""
        item = say.ITEM.match(self._folded, self._start, self._end)
        at = item.end() if item else self._start
        named = self._reading.named_at(at, self._end)
        if named is None or named.start > at + 4:
            return None
        end = named.letter[1] if named.letter else named.end
        if not say.ITEM_SAYS.match(self._folded, end, self._end):
            return None
        return Mention(named.start, named.end, named.option)

    def _compared(self, positive: list[Mention]) -> tuple[frozenset[int], frozenset[int]]:
        """Return the options that it calls what is asked for, and those that it calls the opposite."""
        sides: tuple[set[int], set[int]] = set(), set()
        ends = [*(mention.start for mention in positive[1:]), self._end]
        for mention, stop in zip(positive, ends, strict=False):
            before = self._before(mention, 48)
            if mention.option is None or say.COMPARED.search(before) or say.REFERENCE.search(before):
                continue
            said = self._folded[mention.end : stop]
            matches = [pattern.search(said) for pattern in self._asked.poles or ()]
            places = [(match.start(), side) for side, match in enumerate(matches) if match]
            if places:
                place, side = min(places)
                sides[side ^ (say.NEGATED_WORD.search(said[:place]) is not None)].add(mention.option)
        yes, no = sides
        return frozenset(yes - no), frozenset(no - yes)

    def _asserted(self, mentions: list[Mention], *, partial: bool) -> int | None:
        """Return the one option that it speaks for, less what it compares with, concedes or gives as a reason."""
        mentions = [mention for mention in mentions if not say.COMPARED.search(self._before(mention, 48))]
        asides = [match.span() for match in say.ASIDE.finditer(self._text)]
        main = [m for m in mentions if not any(first <= m.start - self._start < last for first, last in asides)]
        if partial or _only(mentions) is not None:
            return _only(main if partial else mentions)
        mentions = main or mentions
        for narrowed in (
            mentions,
            *(self._after(cue, mentions) for cue in (say.CONTRAST, say.CUE, say.WEAK_CUE)),
            self._predicates(mentions),
        ):
            if (option := _only(narrowed)) is not None:
                return option
        return None

    def _after(self, cue: re.Pattern[str], mentions: list[Mention], start: int | None = None) -> list[Mention]:
        """Return the mentions after the last cue of a kind."""
        turns = [turn.end() for turn in cue.finditer(self._folded, self._start if start is None else start, self._end)]
        return [mention for mention in mentions if turns and mention.start >= turns[-1]]

    def _predicates(self, mentions: list[Mention]) -> list[Mention]:
        """Return the mentions that something is said to be; a list ("is red or blue") is one predicate."""
        predicates: list[Mention] = []
        for mention in mentions:
            follows = predicates and LIST_JOIN.fullmatch(self._folded, predicates[-1].end, mention.start)
            if follows or say.COPULA.search(self._before(mention, 64)):
                predicates.append(mention)
        return predicates


def _only(mentions: list[Mention]) -> int | None:
    options = {mention.option for mention in mentions}
    return options.pop() if len(options) == 1 else None
