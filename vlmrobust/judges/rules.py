"""A judge that works by rules: which option a thought asserts in the end, read from its own words."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from ..prompting.claims import LIST_JOIN, claims, unnegated
from ..prompting.mentions import WORD, Mention, Reading
from ..types import Responses
from .base import Judge, Verdicts

__all__ = ["RuleJudge", "concluded_option"]

# What a thought finally asserts stands at its end.
_REACH = 20_000

_REVISION = re.compile(
    r"\b(?:wait|hmm+|hold on|on second thought|on closer (?:look|inspection)|let me (?:re-?\w+|double|look again|check again)"
    r"|scratch that|correction|i was wrong|that's (?:wrong|not right|incorrect)|that is (?:wrong|not right|incorrect)"
    r"|i made a mistake|upon (?:re-?\w+|closer))\b|^['*\s]*(?:no|actually|nope)\b[,.! ]|等等|不对|moment mal|attends|espera"
)
_CONFIRMATION = re.compile(
    r"\b(?:yes|yep|yeah|confirmed|confirms|indeed|that's (?:right|correct)|that is (?:right|correct)|makes sense|checks out"
    r"|stands|stick with|still (?:holds|correct|right)|consistent with)\b|没错|确实"
)
_DOUBT = re.compile(
    r"\b(?:not (?:\w+ )?(?:sure|certain|clear)|unsure|uncertain|unclear|(?:can't|cannot|can not|couldn't|could not|unable to"
    r"|hard to|difficult to|impossible to|not possible to) (?:\w+ )?(?:tell|say|determine|decide|know|see|identify|distinguish)"
    r"|no idea|don't know|do not know|it's a toss-?up|either way|i'm guessing|ambiguous)\b|不确定|无法确定|nicht sicher"
)
_EITHER = re.compile(r"\b(?:either|or|maybe|might|could|may|between)\b|还是|或")
_CONTRAST = re.compile(
    r"\b(?:but(?! rather)|however|although|though|actually|while|whereas|yet|on second thought|no wait|wait)\b|但|而"
)
_CONCLUSIVE = re.compile(
    r"^[\s*'#_>-]*(?:and |but )?(?:so|thus|therefore|hence|consequently|accordingly|in conclusion|overall|to conclude|in summary"
    r"|as a result|ultimately|finally|i conclude|we conclude|this means|that means|which means|clearly|definitely|also|daher"
    r"|donc|por lo tanto|por tanto|quindi|portanto|所以|因此|故)\b"
    r"|\b(?:it|this|that|the \w+) (?:must|has to|should|would have to) be\b|\b(?:i think|i believe|i conclude|i'd say|i would say)"
    r" (?:that )?(?:it|this|that|the \w+)?|\b(?:so|therefore|thus|hence),? (?:it|this|that|the)\b|所以|因此"
)
_REPORTED = re.compile(
    r"\b(?:caption|description|hint|user|prompt|someone|text|note|statement)\b[^.]{0,40}\b(?:says?|said|claims?|states?|stated"
    r"|suggests?|asserts?|mentions?|implies|according)\b|\baccording to the (?:caption|description|hint|text)"
)
_PREDICATE = re.compile(
    r"(?:\b(?:is|are|was|were|be|been|as|looks?|looking|appears?|seems?|shows?|showing|see|sees|has|have|contains?|equals?|reads?"
    r"|says?|depicts?|displays?|leaves|leaving|remains|namely|like|facing|faces|only|exactly|points?|indicates?|total|count"
    r"|matches|fits|means|becomes|makes|gives|get|find|counted|counting|stands|sits|lies|ist|sind|est|sont|es|son|está)\b"
    r"|(?<=[a-z])'(?:s|re)\b|[=:→]|是|为|有)"
    r"(?:\s*\b(?:a|an|the|to|in|on|at|of|be|clearly|most|likely|\w+ly|option|located|positioned|placed|standing|sitting|lying"
    r"|colou?red|painted|still|also|just|indeed|un|une|ein|eine|el|la|le|der|die|das)\b)*[\s'*(_]*$"
)
_LETTER_NAMED = re.compile(
    rf"(?:\b(?:options?|choices?|answers?|letter|candidates?|alternative)|选项|選項|보기)[\s:'*(_\[]*(?<!{WORD})([a-z])(?!{WORD}|'{WORD})"
    r"|[(\[]\s*([a-z])\s*[)\]]|\*\*?\(?([a-z])[.):]?\*\*?"
    rf"|(?:(?:^|[,;:.] |\b(?:so|thus|therefore|hence|that|and|but|only|or|not|nor|neither|than|leaves|leaving|eliminates?|with|out"
    rf"|exclude|excludes|of|is|be|choose|pick|say|both|either|between),?) [\s'*]*)([a-z])(?![-.)]?{WORD}|'{WORD}|\. [A-Z])"
)
_LETTER_VERB = re.compile(
    rf"[\s'*)\]]*(?:,|;|\.|$|(?:is|are|remains?|fits?|matches|works|seems|looks|does|can|could|must|would|isn't|doesn't|can't"
    rf"|cannot|and|or|nor|but|as|because|since|out)\b)(?!{WORD})"
)
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])['*)\]]*\s+|\n+|(?<=[.!?;])(?=[\u2e80-\u9fff\uac00-\ud7af])|;\s+")
_ABBREVIATION = re.compile(r"(?:^|[\s(*'])(?:e\.g|i\.e|vs|fig)\.['*)\]]*$")
_LABEL = re.compile(r"(?:^|[\s(*'])(?:[a-z]|\d{1,2})\.['*)\]]*$")
_SUPPOSED = re.compile(r"\b(?:if|whether|suppose|supposing|assuming|unless)\b[^,.;:]*$")


class _Said(NamedTuple):
    """What one sentence says: an option, firmly or in passing; options it rejects; doubt; that it starts over."""

    option: int | None = None
    firm: bool = False
    unsure: bool = False
    several: bool = False
    reopens: bool = False
    confirms: bool = False
    reported: bool = False
    rejected: tuple[int, ...] = ()


def concluded_option(thought: str, options: Sequence[str]) -> tuple[int | None, bool]:
    """Return the option that a thought finally asserts, and whether it stays in doubt.

    Sentences are read from the last to the first, until one decides:

    1. An explicit conclusion ("the answer is B", "so it is red", "(B) is correct") is the verdict. A revision inside the
       same sentence ("…, but I think it is blue") wins over it.
    2. Doubt after the last conclusion ("either B or C", "I'm not sure") makes it unsure; so does a conclusion that is
       taken back or questioned ("Wait, …", "it is not red") and neither confirmed nor replaced by another.
    3. Without any conclusion the last sentence that mentions options counts ("The cube at the left is red."), if it
       mentions exactly one un-negated, or one as its predicate; not if it is one item of a description that goes
       through several things in the same words. If it mentions several, the thought is unsure.
    4. If every option but one is rejected, that one is asserted.

    A question, a supposition ("if it were red") and what a caption is said to claim assert nothing.

    Args:
        thought: the thought.
        options: the options' texts as shown; letters in the thought refer to this order.

    Returns:
        Index in `options` or None, and whether the thought is unsure; `(None, False)` if it asserts nothing.

    Example:
        >>> concluded_option("It looks red at first. Wait, no, the cube is blue. So the answer is B.", ("red", "blue"))
        (1, False)
        >>> concluded_option("It could be A or B, I'm not sure.", ("red", "blue"))
        (None, True)
        >>> concluded_option("Okay let's see. This should be the final answer.", ("red", "blue"))
        (None, False)
    """
    reading = Reading.of(thought[-_REACH:], options, by="either")
    length = len(reading.text)
    if not reading.text.strip():
        return None, False
    mentions = reading.mentions(0, length)
    weak: _Said | None = None
    weak_span = (0, 0)
    confirmed = reopened = False
    rejected: set[int] = set()
    for start, end in _sentences(reading, mentions):
        said = _read_sentence(reading, mentions, start, end)
        rejected.update(said.rejected)
        if said.option is not None and said.firm and not said.reported:
            if said.option in rejected - set(said.rejected):
                return None, True
            if reopened and not confirmed and not said.reopens:
                return (weak.option, False) if weak and weak.option is not None else (None, True)
            return said.option, False
        if said.unsure and weak is None:
            return None, True
        if weak is None and (said.option is not None or said.several) and not said.reported:
            weak, weak_span = said, (start, end)
        if said.reopens:
            if weak is not None and weak.option is not None:
                return weak.option, False
            reopened = True
        confirmed = confirmed or said.confirms
    if weak is not None and weak.option is not None:
        listed = _is_listed(reading, mentions, *weak_span)
        return (None, True) if listed or weak.option in rejected else (weak.option, False)
    remaining = set(range(len(reading.options))) - rejected
    if len(remaining) == 1 and len(reading.options) > 1:
        return remaining.pop(), False
    return None, weak is not None or (reopened and not confirmed and bool(mentions))


def _sentences(reading: Reading, mentions: list[Mention]) -> Iterator[tuple[int, int]]:
    """Yield the sentences from the last to the first; no break falls inside an option's text or after "B."."""
    folded = reading.folded
    named = {mention.start for mention in mentions}

    def breaks(match: re.Match[str]) -> bool:
        if "\n" in match[0]:
            return True
        before = folded[max(0, match.start() - 6) : match.start()]
        following = match.end()
        # "B. red" is a label, "So it is B. Wait, …" ends a sentence.
        labels = following in named or reading.text[following : following + 1].islower()
        return not (_ABBREVIATION.search(before) or (labels and _LABEL.search(before)))

    ends = [(match.start(), match.end()) for match in _SENTENCE_BREAK.finditer(folded) if breaks(match)]
    inside = iter(reversed(mentions))
    mention = next(inside, None)
    end = len(folded)
    for stop, resume in reversed(ends):
        while mention is not None and mention.start >= resume:
            mention = next(inside, None)
        if mention is not None and mention.start < stop < mention.end:
            continue
        if folded[resume:end].strip():
            yield resume, end
        end = stop
    if folded[:end].strip():
        yield 0, end


def _read_sentence(reading: Reading, mentions: list[Mention], start: int, end: int) -> _Said:
    folded = reading.folded
    sentence = folded[start:end]
    inside = [mention for mention in mentions if start <= mention.start < end]
    question = sentence.rstrip("'*) \n").endswith("?")
    marks = _Said(
        reopens=_REVISION.search(sentence) is not None,
        confirms=_CONFIRMATION.search(sentence) is not None,
        reported=_REPORTED.search(sentence) is not None,
    )
    if question:
        return marks._replace(reopens=marks.reopens or sentence.lstrip().startswith(("or ", "but ")))
    said = list(claims(reading, start, end))
    strong = [claim for claim in said if claim.option is not None or claim.ambiguous]
    rejected = {option for claim in said for option in claim.rejected}
    last = strong[-1] if strong else None
    tail = last.end if last else start
    found = sorted(inside + _letters(reading, start, end))
    flags = unnegated(reading, found, start, end)
    rejected |= {
        mention.option
        for mention, positive in zip(found, flags, strict=True)
        if not positive and mention.option is not None
    }
    positive = [
        mention
        for mention, flag in zip(found, flags, strict=True)
        if flag and not _SUPPOSED.search(folded[max(start, mention.start - 80) : mention.start])
    ]
    doubt = _last_doubt(reading, inside, start, end)
    marks = marks._replace(rejected=tuple(sorted(rejected - ({last.option} if last else set()))))
    if last is not None:
        revised = _revised(reading, positive, tail, end)
        if revised is not None:
            return marks._replace(option=revised, firm=True, reported=False)
        if last.option is None or (doubt is not None and doubt > last.end):
            return marks._replace(unsure=True)
        return marks._replace(option=last.option, firm=True)
    return _in_passing(reading, positive, marks, doubt, start, end)


def _last_doubt(reading: Reading, inside: list[Mention], start: int, end: int) -> int | None:
    """Where the sentence says for the last time that it does not know, outside of an option's own text."""
    places = [
        match.start()
        for match in _DOUBT.finditer(reading.folded, start, end)
        if not any(mention.start <= match.start() < mention.end for mention in inside)
    ]
    return places[-1] if places else None


def _letters(reading: Reading, start: int, end: int) -> list[Mention]:
    """Return the options that a sentence names by letter in an unmistakable way; bare letters may be anything."""
    letters = []
    for match in _LETTER_NAMED.finditer(reading.folded, start, end):
        group = match.lastindex or 0
        at = match.start(group)
        index = ord(match[group]) - ord("a")
        if index >= len(reading.options) or (group > 1 and not reading.text[at].isupper()):
            continue
        if group == 4 and (match[group] == "i" or not _LETTER_VERB.match(reading.folded, at + 1, end)):
            continue
        if group == 1 and match[group] in "ai" and reading.letter_at(at, end) is None:
            continue
        letters.append(Mention(at, at + 1, index))
    return letters


def _only(mentions: list[Mention]) -> int | None:
    options = {mention.option for mention in mentions}
    return options.pop() if len(options) == 1 else None


def _predicates(reading: Reading, mentions: list[Mention], start: int) -> list[Mention]:
    """Return the mentions that something is said to be; a list ("is red or blue") is one predicate."""
    folded = reading.folded
    predicates: list[Mention] = []
    for mention in mentions:
        before = folded[max(start, mention.start - 64) : mention.start]
        follows = predicates and LIST_JOIN.fullmatch(folded, predicates[-1].end, mention.start)
        if follows or _PREDICATE.search(before):
            predicates.append(mention)
    return predicates


def _revised(reading: Reading, positive: list[Mention], tail: int, end: int) -> int | None:
    """Return the option that a sentence turns to after its conclusion: "…, but I think it is blue"."""
    contrast = None
    for contrast in _CONTRAST.finditer(reading.folded, tail, end):
        pass
    if contrast is None:
        return None
    return _only(_predicates(reading, [m for m in positive if m.start >= contrast.end()], contrast.start()))


def _in_passing(
    reading: Reading, positive: list[Mention], marks: _Said, doubt: int | None, start: int, end: int
) -> _Said:
    folded = reading.folded
    contrasts = [match.end() for match in _CONTRAST.finditer(folded, start, end)]
    if contrasts and marks.reported and any(mention.start >= contrasts[-1] for mention in positive):
        # "The caption says red, but the image shows blue."
        positive = [mention for mention in positive if mention.start >= contrasts[-1]]
        marks = marks._replace(reported=False, reopens=True)
    option = _only(positive)
    if option is None and positive:
        predicates = _predicates(reading, positive, start)
        option = _only(predicates)
        if option is None and contrasts:
            option = _only([mention for mention in predicates if mention.start >= contrasts[-1]])
    last = max((mention.end for mention in positive), default=start)
    if doubt is not None and (option is None or doubt > last):
        return marks._replace(unsure=True)
    if option is None and len({mention.option for mention in positive}) > 1:
        between = folded[positive[0].start - min(12, positive[0].start - start) : last]
        if _EITHER.search(between) and len(positive) <= 4:
            return marks._replace(unsure=bool(re.search(r"\b(?:or|either|between)\b|还是|或", between)), several=True)
        return marks._replace(several=True)
    if option is None:
        return marks
    sentence = folded[start:end]
    firm = _CONCLUSIVE.search(sentence) is not None and bool(
        _predicates(reading, positive, start) or len(sentence) < 40
    )
    return marks._replace(option=option, firm=firm)


def _is_listed(reading: Reading, mentions: list[Mention], start: int, end: int) -> bool:
    """Whether the sentence before says the same of another option: then both describe, and neither concludes."""
    folded = reading.folded
    before = folded[:start].rstrip()
    previous_start = max((match.end() for match in _SENTENCE_BREAK.finditer(before)), default=0)

    def frame(first: int, last: int) -> tuple[set[str], set[int | None]]:
        inside = [mention for mention in mentions if first <= mention.start < last]
        rest = "".join(" " if any(m.start <= i < m.end for m in inside) else folded[i] for i in range(first, last))
        return set(re.findall(r"\w+", rest)), {mention.option for mention in inside}

    words, options = frame(start, end)
    other_words, other_options = frame(previous_start, len(before))
    if not other_options or other_options == options:
        return False
    return len(words & other_words) >= 0.5 * max(len(words | other_words), 1)


class RuleJudge(Judge):
    """Reads what a thought finally asserts by rules, without any model; see `concluded_option`.

    It is precise rather than complete: what is said in a way it does not know is "asserts nothing" or "unsure", and so
    undefined, not inconsistent.

    Example:
        >>> RuleJudge().title
        'RuleJudge'
    """

    def conclude(self, responses: Responses) -> Verdicts:
        """Read every thought."""
        options, unsure = [], []
        for thought, shown, order in zip(responses.think, responses.options, responses.order, strict=True):
            index, doubtful = concluded_option(thought, shown)
            own = None if index is None else order[index]
            options.append(-1 if own is None else own)
            unsure.append(doubtful)
        return Verdicts.of(torch.tensor(options, dtype=torch.int64), torch.tensor(unsure, dtype=torch.bool))
