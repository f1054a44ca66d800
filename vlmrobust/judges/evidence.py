"""Find the conclusion of a thought by rules, with the kind of evidence and its reliability on labelled thoughts."""

from collections.abc import Sequence
from typing import NamedTuple

from ..prompting import LETTERS
from ..prompting.mentions import Reading
from .sentences import QuestionContext, Sentence, SentenceContent, breaks_off, sentences

__all__ = ["RELIABILITY", "Evidence", "concluded_option"]

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
