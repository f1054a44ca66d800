"""Which option a thought asserts in the end, read by rules from its own words."""

from collections.abc import Sequence

from ..prompting import LETTERS
from .sentences import Frame, Said, Thought

Verdict = tuple[int | None, bool]

__all__ = ["concluded_option"]

# What a thought finally asserts stands at its end.
_REACH = 20_000
_TAIL = 400


def concluded_option(thought: str, options: Sequence[str], letters: str = LETTERS) -> Verdict:
    """Return the option that a thought finally asserts, and whether it stays in doubt.

    Sentences are read from the last to the first, until one decides:

    1. An explicit conclusion ("the answer is B", "so it is red", "(B) is correct") is the verdict. A revision inside
       the same sentence ("…, but I think it is blue") wins over it.
    2. Doubt after the last conclusion ("either B or C", "I'm not sure") makes it unsure; so does a conclusion that is
       taken back or questioned ("Wait, …", "it is not red") and neither confirmed nor replaced by another.
    3. Without any conclusion the last sentence that mentions options counts ("The cube at the left is red."), if it
       mentions exactly one un-negated, or one as its predicate; not if it is one item of a description that goes
       through several things in the same words. If it mentions several, the thought is unsure; so it is where the
       thought breaks off, unless that sentence says it of what is asked about ("It is red, and the").
    4. If every option but one is rejected, that one is asserted.

    A question, a supposition ("if it were red") and what a caption is said to claim assert nothing.

    Args:
        thought: the thought.
        options: the options' texts as shown.
        letters: their letters, in the same order; there may be more.

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
    if not thought.strip():
        return None, False
    options = tuple(options)
    text = thought[-_REACH:]
    course, end = _Course(), len(text)
    # Most thoughts conclude in their last sentences; then the rest need not be read.
    for begin in (len(text) - _TAIL, 0) if len(text) > _TAIL else (0,):
        part = Thought.of(text[begin:end], options, letters)
        for start, stop in part.sentences():
            if begin and not start:
                break  # it may begin further back
            if (verdict := course.turn(part, start, stop)) is not None:
                return verdict
            end = begin + start
    return course.end(len(options))


class _Course:
    """What the sentences said that were read so far, from the last on."""

    def __init__(self) -> None:
        self._passing: Said | None = None  # the last sentence that mentions options, if none decided
        self._frame: Frame | None = None  # its frame, until the sentence before it is read
        self._repeats = False
        self._reopened = self._confirmed = self._mentions = False
        self._broken: bool | None = None  # whether the thought breaks off
        self._rejected: set[int] = set()

    def turn(self, thought: Thought, start: int, end: int) -> Verdict | None:
        """Read the sentence before those that were read; return the verdict if it decides."""
        if self._broken is None:
            self._broken = thought.breaks_off()
        said = thought.read(start, end, firmly=self._passing is not None)
        if self._broken and said.option is not None and not said.firm and not said.of_it:
            said = said._replace(option=None, several=True)
        self._mentions = self._mentions or bool(thought.mentions)
        if self._frame is not None:
            self._repeats = self._frame.recurs_in(thought.frame(start, end))
            self._frame = None
        if said.option is not None and said.firm and not said.reported:
            taken_back = said.option in self._rejected or (self._reopened and not self._confirmed and not said.reopens)
            return (None, True) if taken_back else (said.option, False)
        self._rejected.update(said.rejected)
        if said.unsure and self._passing is None:
            return None, True
        if self._passing is None and (said.option is not None or said.several) and not said.reported:
            self._passing = said
            self._frame = thought.frame(start, end) if said.option is not None else None
        if said.reopens:
            if self._passing is not None and self._passing.option is not None:
                return self._passing.option, False
            self._reopened = True
        self._confirmed = self._confirmed or said.confirms
        return None

    def end(self, count: int) -> Verdict:
        """Return the verdict of a thought of which no sentence decided, on so many options."""
        passing = self._passing
        if passing is not None and passing.option is not None:
            return (None, True) if passing.option in self._rejected or self._repeats else (passing.option, False)
        remaining = set(range(count)) - self._rejected
        if len(remaining) == 1 and self._rejected:
            return remaining.pop(), False
        return None, passing is not None or (self._reopened and not self._confirmed and self._mentions)
