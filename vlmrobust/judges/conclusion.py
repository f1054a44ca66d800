"""Which option a thought asserts in the end, read by rules from its own words."""

from collections.abc import Sequence

from .sentences import Said, Thought

__all__ = ["concluded_option"]

# What a thought finally asserts stands at its end.
_REACH = 20_000
_TAIL = 400


def concluded_option(thought: str, options: Sequence[str]) -> tuple[int | None, bool]:
    """Return the option that a thought finally asserts, and whether it stays in doubt.

    Sentences are read from the last to the first, until one decides:

    1. An explicit conclusion ("the answer is B", "so it is red", "(B) is correct") is the verdict. A revision inside
       the same sentence ("…, but I think it is blue") wins over it.
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
    if not thought.strip():
        return None, False
    options = tuple(options)
    # Most thoughts conclude in their last sentences; then the rest need not be read.
    if len(thought) > _TAIL:
        verdict = _read_backwards(Thought.of(thought[-_TAIL:], options), whole=False)
        if verdict is not None:
            return verdict
    return _read_backwards(Thought.of(thought[-_REACH:], options), whole=True) or (None, False)


def _read_backwards(thought: Thought, *, whole: bool) -> tuple[int | None, bool] | None:
    """Read the sentences from the last on until one decides; None where what stands before has to be read as well."""
    passing: Said | None = None
    passing_span = (0, 0)
    confirmed = reopened = False
    rejected: set[int] = set()
    for start, end in thought.sentences():
        if start == 0 and not whole:
            return None
        said = thought.read(start, end, firmly=passing is not None)
        if said.option is not None and said.firm and not said.reported:
            taken_back = said.option in rejected or (reopened and not confirmed and not said.reopens)
            return (None, True) if taken_back else (said.option, False)
        rejected.update(said.rejected)
        if said.unsure and passing is None:
            return None, True
        if passing is None and (said.option is not None or said.several) and not said.reported:
            passing, passing_span = said, (start, end)
        if said.reopens:
            if passing is not None and passing.option is not None:
                return passing.option, False
            reopened = True
        confirmed = confirmed or said.confirms
    if not whole:
        return None
    if passing is not None and passing.option is not None:
        doubtful = passing.option in rejected or thought.repeats_its_frame(*passing_span)
        return (None, True) if doubtful else (passing.option, False)
    remaining = set(range(len(thought.reading.options))) - rejected
    if len(remaining) == 1 and rejected:
        return remaining.pop(), False
    return None, passing is not None or (reopened and not confirmed and bool(thought.mentions))
