"""What a thought concludes, by which kind of evidence, and how reliable that kind was on labelled thoughts."""

from collections.abc import Sequence
from typing import NamedTuple

from ..prompting import LETTERS
from ..prompting.mentions import Reading
from .sentences import Asked, Said, Sentence, breaks_off, sentences

__all__ = ["RELIABILITY", "Evidence", "concluded_option"]

# A thought's verdict stands near its end: it is read in parts from there, and what stands before the last is not read.
_PARTS = (160, 500, 2_000, 20_000)
# The kinds of evidence, and how often each named the option that labelled responses of real models conclude: (right,
# all). The first five are firm: they decide where they stand.
_COUNTS = {
    "stated": (14, 14),  # an explicit clause: "the answer is B", "(B) is correct"
    "named": (11, 11),  # one option is named by its letter as fitting: "only option B shows it"
    "concluded": (48, 49),  # one option is said after "therefore", "so", "I think"
    "inferred": (24, 24),  # the same after "this suggests", "which indicates"
    "affirmed": (20, 21),  # where the options are yes and no: what was asked about is said or denied
    "compared": (11, 11),  # one option is said to be what the question asks for: "nearer"
    "restated": (12, 13),  # an answer in the question's words: "The cube on the left is red."
    "eliminated": (4, 5),  # all options but one are rejected
    "weighed": (2, 3),  # of a list's items, one is found right
    "computed": (1, 1),  # a calculation ends in it
}
RELIABILITY = {kind: (right + 1) / (count + 2) for kind, (right, count) in _COUNTS.items()}
_FIRM = tuple(_COUNTS)[:5]
# How many sentences may follow such a one; the others count wherever they are read.
_REACH_OF = {"concluded": 1, "inferred": 1, "affirmed": 3, "computed": 0, "compared": 2, "restated": 1}
_HORIZON = 4  # where so many sentences have decided nothing and another one does not either, no further one is read
_SHORT = 3  # what longer thoughts say in the question's words is as often a step as a conclusion


class Evidence(NamedTuple):
    """What a thought concludes, and what says so.

    Attributes:
        option: index of the option as shown; None = none.
        unsure: whether the thought leaves it open, or says it in a way that is not reliable.
        kind: the kind of evidence, a key of `RELIABILITY`; empty without an option.
    """

    option: int | None = None
    unsure: bool = False
    kind: str = ""


_NOTHING, _OPEN = Evidence(), Evidence(unsure=True)


def concluded_option(thought: str, options: Sequence[str], letters: str = LETTERS, question: str = "") -> Evidence:
    """Return the option that a thought finally concludes, and by which kind of evidence.

    Sentences are read from the last to the first, until one is firm evidence: an explicit clause, or a sentence that
    concludes. It does not count where a later sentence takes it back, starts over or speaks for another option. Without
    firm evidence, another kind counts: a comparison, an answer in the question's words, a calculation, elimination.

    A mention alone is no evidence, nor is a question, a supposition, or what a caption is said to claim. A thought that
    breaks off in the middle of a sentence says in that sentence only what it says firmly.

    Args:
        thought: the thought.
        options: the options' texts as shown.
        letters: their letters, in the same order; there may be more.
        question: what was asked; it tells which way "closer" points.

    Example:
        >>> concluded_option("It looks red at first. Wait, no, it is blue. So the answer is B.", ("red", "blue"))
        Evidence(option=1, unsure=False, kind='stated')
        >>> concluded_option("The kettle is farther away.", ("mug", "kettle"), question="Which is nearer?")
        Evidence(option=0, unsure=False, kind='eliminated')
    """
    if not thought.strip():
        return _NOTHING
    text, options = thought[-_PARTS[-1] :], tuple(options)
    asked, course, end = Asked.of(question, options), _Course(len(options)), len(text)
    for begin in dict.fromkeys(max(0, len(text) - reach) for reach in _PARTS):
        part = Reading.of(text[begin:end], options, letters, by="either")
        for start, stop in sentences(part, asked):
            if begin and not start:
                break  # it may begin further back
            if (verdict := course.turn(part, asked, start, stop)) is not None:
                return verdict
            end = begin + start
    return course.end()


class _Course:
    """What the sentences said that were read so far, from the last on."""

    def __init__(self, count: int) -> None:
        self._remaining = set(range(count))
        self._later: list[Said] = []
        self._broken: bool | None = None

    def turn(self, thought: Reading, asked: Asked, start: int, end: int) -> Evidence | None:
        """Read the sentence before those that were read; return the verdict if it decides."""
        if self._broken is None:
            self._broken = breaks_off(thought.folded)
        said = Sentence(thought, asked, start, end, unfinished=self._broken and not self._later).read()
        if said.kind == "nothing":
            self._broken = self._broken and bool(self._later)
            return None
        if said.unsure and not any(later.kind in RELIABILITY for later in self._later):
            return _OPEN
        if said.kind in _FIRM or (said.reopens and said.kind in RELIABILITY):  # "No, it is blue."
            return self._verdict(said, len(self._later))
        self._later.append(said)
        self._remaining -= said.rejected
        return self.end() if len(self._later) > _HORIZON else None

    def _verdict(self, said: Said, place: int) -> Evidence:
        """Return what a sentence says if `place` later ones are not too many, and neither take it back nor go on."""
        reach = 0 if said.partial and said.kind != "inferred" else _REACH_OF.get(said.kind, _HORIZON)
        disturbed = (
            place > reach
            or said.option not in self._remaining
            or (place and self._broken)
            or any(self._disturbs(other, said.option) for other in self._later[:place])
        )
        return _OPEN if disturbed else Evidence(said.option, kind=said.kind)

    def _disturbs(self, other: Said, option: int | None) -> bool:
        """Whether a sentence takes back what one before it says for an option, or speaks for another one."""
        speaks = other.kind in RELIABILITY
        if other.unsure or other.reopens or (speaks and other.option != option):
            return True
        # Several other options at once are the rest; a single one is a second thought.
        others = other.named & self._remaining - {option}
        return bool(others) and (speaks or option in other.named or len(other.named) < 2)

    def end(self) -> Evidence:
        """Return the verdict of a thought of which no sentence decided."""
        if [said.kind for said in self._later] == ["described"] and not self._broken:
            return Evidence(self._later[0].option, kind="restated")
        kinds = ("weighed", "computed", "compared", *(("restated",) if len(self._later) <= _SHORT else ()))
        for place, said in enumerate(self._later):
            if said.kind in kinds:
                agree = all(other.option == said.option for other in self._later if other.kind == said.kind)
                return self._verdict(said, place) if agree else _OPEN
        if len(self._remaining) == 1 and not self._broken and not any(said.unsure for said in self._later):
            return Evidence(next(iter(self._remaining)), kind="eliminated")
        return _OPEN if any(said.named for said in self._later) else _NOTHING
